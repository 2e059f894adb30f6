//! Cuts a query string into statements, and a statement's beginning into words.
//!
//! Splitting needs no grammar, only what may hold a semicolon: strings, quoted names, dollar quotes and comments. So
//! it also works for statements that only this front end knows.

/// One statement of a query string.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The statement, without its semicolon and without space or comments in front.
    pub text: &'a str,
    /// How many characters of the query string stand in front of it.
    pub offset: usize,
}

/// The statements of a query string; those without a word in them are left out.
pub fn split(sql: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    // Characters in front of `counted`, so that a long string is counted through once.
    let (mut characters, mut counted) = (0, 0);
    let mut lexer = Lexer { sql, at: 0 };
    let mut start = None;
    loop {
        let token = lexer.next();
        match token {
            Some((begin, Token::Other | Token::Word)) => {
                start.get_or_insert(begin);
            }
            Some((_, Token::Semicolon)) | None => {
                let end = lexer.at - usize::from(token.is_some());
                if let Some(begin) = start.take() {
                    characters += sql[counted..begin].chars().count();
                    counted = begin;
                    pieces.push(Piece { text: sql[begin..end].trim_end(), offset: characters });
                }
                if token.is_none() {
                    return pieces;
                }
            }
        }
    }
}

/// Where the tokens of a text stand; space and comments are passed over.
pub fn tokens(sql: &str) -> Vec<std::ops::Range<usize>> {
    let mut lexer = Lexer { sql, at: 0 };
    let mut found = Vec::new();
    while let Some((begin, _)) = lexer.next() {
        found.push(begin..lexer.at);
    }
    found
}

/// The tokens of a statement as texts: words in lower case, quoted names as they are named, strings as they are
/// meant, everything else one character at a time. Enough to read commands like SET and DEALLOCATE.
pub fn words(statement: &str) -> Vec<Item> {
    let mut lexer = Lexer { sql: statement, at: 0 };
    let mut items = Vec::new();
    while let Some((begin, token)) = lexer.next() {
        let text = &statement[begin..lexer.at];
        items.push(match token {
            Token::Word => Item::Word(text.to_lowercase()),
            _ if text.starts_with('"') => Item::Name(unquote(text, '"')),
            _ if text.starts_with('\'') => Item::Text(unquote(text, '\'')),
            _ => Item::Sign(text.to_owned()),
        });
    }
    items
}

/// A token of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A key word, name or number, in lower case.
    Word(String),
    /// A quoted name.
    Name(String),
    /// A string.
    Text(String),
    /// Anything else.
    Sign(String),
}

impl Item {
    /// Whether it is this key word, written in lower case, or this sign.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Item::Word(w) | Item::Sign(w) if w == word)
    }

    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Item::Word(t) | Item::Name(t) | Item::Text(t) | Item::Sign(t) => t,
        }
    }
}

fn unquote(text: &str, quote: char) -> String {
    let inner = text.strip_prefix(quote).unwrap_or(text);
    let inner = inner.strip_suffix(quote).unwrap_or(inner);
    inner.replace(&format!("{quote}{quote}"), &quote.to_string())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Word,
    Semicolon,
    Other,
}

struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

impl Lexer<'_> {
    /// The next token and where it begins; space and comments are passed over.
    fn next(&mut self) -> Option<(usize, Token)> {
        loop {
            let rest = &self.sql[self.at..];
            let first = rest.chars().next()?;
            if first.is_whitespace() {
                self.at += first.len_utf8();
            } else if rest.starts_with("--") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.at += block_comment(rest);
            } else {
                break;
            }
        }
        let begin = self.at;
        let rest = &self.sql[begin..];
        let bytes = rest.as_bytes();
        let first = rest.chars().next()?;
        let (length, token) = match first {
            ';' => (1, Token::Semicolon),
            '\'' => (quoted(bytes, 0, b'\'', false), Token::Other),
            '"' => (quoted(bytes, 0, b'"', false), Token::Other),
            'e' | 'E' if bytes.get(1) == Some(&b'\'') => (quoted(bytes, 1, b'\'', true), Token::Other),
            '$' => (dollar(rest), Token::Other),
            c if is_word(c) => {
                (rest.find(|c: char| !is_word(c) && c != '$').unwrap_or(rest.len()), Token::Word)
            }
            c => (c.len_utf8(), Token::Other),
        };
        self.at = begin + length;
        Some((begin, token))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || (!c.is_ascii() && !c.is_whitespace())
}

/// The length of a comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut i) = (0, 0);
    while i < bytes.len() {
        match &bytes[i..bytes.len().min(i + 2)] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    bytes.len()
}

/// The end of a text in quotes that begins at `from`; one that is not closed goes to the end.
fn quoted(bytes: &[u8], from: usize, quote: u8, escapes: bool) -> usize {
    let mut i = from + 1;
    while i < bytes.len() {
        if escapes && bytes[i] == b'\\' {
            i += 2;
        } else if bytes[i] == quote {
            if bytes.get(i + 1) != Some(&quote) {
                return i + 1;
            }
            i += 2;
        } else {
            i += 1;
        }
    }
    bytes.len()
}

/// The length of `$tag$…$tag$`, or of the parameter `$1`, or of a lone `$`.
fn dollar(text: &str) -> usize {
    let rest = &text[1..];
    let tag_end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let starts_with_digit = rest.starts_with(|c: char| c.is_ascii_digit());
    if starts_with_digit || !rest[tag_end..].starts_with('$') {
        return 1 + tag_end;
    }
    let tag = &text[..tag_end + 2];
    match text[tag.len()..].find(tag) {
        Some(end) => tag.len() + end + tag.len(),
        None => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql).into_iter().map(|p| p.text).collect()
    }

    #[test]
    fn semicolons_inside_quotes_and_comments_do_not_split() {
        assert_eq!(texts("select ';' ; select \";\""), ["select ';'", "select \";\""]);
        assert_eq!(texts("select 'it''s;' , e'\\';' ; b"), ["select 'it''s;' , e'\\';'", "b"]);
        assert_eq!(texts("a /* ; /* ; */ ; */ b; -- c;\n d"), ["a /* ; /* ; */ ; */ b", "d"]);
        assert_eq!(
            texts("select $x$ ; $y$ ; $x$; select $1; select a$1"),
            ["select $x$ ; $y$ ; $x$", "select $1", "select a$1"]
        );
    }

    #[test]
    fn nothing_is_no_statement() {
        assert_eq!(texts(" ; ;; -- nothing\n/* here */"), Vec::<&str>::new());
        assert_eq!(texts(""), Vec::<&str>::new());
    }

    #[test]
    fn offsets_count_characters() {
        assert_eq!(
            split("select 'é'; select 2"),
            [Piece { text: "select 'é'", offset: 0 }, Piece { text: "select 2", offset: 12 }]
        );
    }

    #[test]
    fn what_is_not_closed_goes_to_the_end() {
        for sql in ["select 'a;b", "select \"a;b", "select $$a;b", "select /* a;b", "select e'a\\"] {
            assert_eq!(texts(sql).len(), 1, "{sql}");
        }
    }

    #[test]
    fn words_of_a_command() {
        assert_eq!(
            words("SET \"My\"\"x\" = 'it''s'"),
            [
                Item::Word("set".into()),
                Item::Name("My\"x".into()),
                Item::Sign("=".into()),
                Item::Text("it's".into()),
            ]
        );
    }
}
