//! The statements that concern the connection and not the engine: transactions, settings, prepared statements, cursors.

mod cursors;

use super::cursor::Direction;
use super::error::{Failure, state};
use super::modes::{Mode, modes};
use crate::statement::split::{Item, tokens, words};

pub(super) use self::cursors::Declare;

/// A statement that the front end runs itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `BEGIN`, `START TRANSACTION`, and modes
    Begin(&'static str, Vec<Mode>),
    /// `COMMIT`, `END`
    Commit,
    /// `ROLLBACK`, `ABORT`
    Rollback,
    /// `SAVEPOINT name`
    Savepoint(String),
    /// `RELEASE [SAVEPOINT] name`
    Release(String),
    /// `ROLLBACK TO [SAVEPOINT] name`
    RollbackTo(String),
    /// `SET name = value`; no value is `DEFAULT`. True: until the end of the transaction.
    Set(String, Option<String>, bool),
    /// `SET TRANSACTION …`
    SetTransaction(Vec<Mode>),
    /// `SET SESSION CHARACTERISTICS AS TRANSACTION …`
    SetCharacteristics(Vec<Mode>),
    /// `RESET name`
    Reset(String),
    /// `RESET ALL`
    ResetAll,
    /// `SHOW name`
    Show(String),
    /// `SHOW ALL`
    ShowAll,
    /// `DISCARD what`
    Discard(Discard),
    /// `PREPARE name (types) AS query`
    Prepare {
        /// Its name.
        name: String,
        /// Types of its parameters, as they are written.
        types: Vec<String>,
        /// The statement.
        query: String,
        /// All of it.
        text: String,
    },
    /// `EXECUTE name (arguments)`
    Execute {
        /// Its name.
        name: String,
        /// The expressions, as they are written.
        arguments: String,
    },
    /// `DEALLOCATE name`
    Deallocate(String),
    /// `DEALLOCATE ALL`
    DeallocateAll,
    /// `DECLARE name CURSOR FOR query`
    Declare(Declare),
    /// `FETCH direction FROM name`, `MOVE direction FROM name`
    Fetch {
        /// The cursor.
        name: String,
        /// Where to, from where it is.
        direction: Direction,
        /// Whether the rows are only counted.
        moves: bool,
    },
    /// `CLOSE name`
    Close(String),
    /// `CLOSE ALL`
    CloseAll,
    /// `LISTEN`, `UNLISTEN`: nothing to do, and drivers send them to clean up.
    Nothing(&'static str),
}

/// What to discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discard {
    /// Settings, prepared statements, portals.
    All,
    /// Plans, sequences or temporary tables: we keep none.
    Other(&'static str),
}

impl Command {
    /// Whether a failed transaction lets it through.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Command::Commit | Command::Rollback | Command::RollbackTo(_))
    }

    /// The setting that it is about. One with a dot in its name that we do not know is the engine's.
    pub(super) fn setting(&self) -> Option<&str> {
        match self {
            Command::Set(name, ..) | Command::Reset(name) | Command::Show(name) => Some(name),
            _ => None,
        }
    }
}

/// Reads a statement; none when it is for the engine.
pub(super) fn parse(statement: &str) -> Result<Option<Command>, Failure> {
    // Only the first word of a long statement is looked at.
    let first: String =
        statement.chars().take_while(char::is_ascii_alphabetic).take(12).collect::<String>().to_lowercase();
    let known = [
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
        "set",
        "reset",
        "show",
        "discard",
        "deallocate",
        "prepare",
        "execute",
        "listen",
        "unlisten",
        "close",
        "declare",
        "fetch",
        "move",
    ];
    if !known.contains(&first.as_str()) {
        return Ok(None);
    }
    let items = words(statement);
    let rest = &items[1..];
    let command = match first.as_str() {
        "begin" => {
            let worded = starts(rest, &["work"]) || starts(rest, &["transaction"]);
            Command::Begin("BEGIN", modes(&rest[usize::from(worded)..])?)
        }
        "start" if starts(rest, &["transaction"]) => Command::Begin("START TRANSACTION", modes(&rest[1..])?),
        "commit" | "end" if !starts(rest, &["prepared"]) => Command::Commit,
        "rollback" | "abort" if !starts(rest, &["prepared"]) => match rest.iter().position(|i| i.is("to")) {
            Some(to) => Command::RollbackTo(savepoint(&rest[to + 1..])?),
            None => Command::Rollback,
        },
        "savepoint" => Command::Savepoint(savepoint(rest)?),
        "release" => Command::Release(savepoint(rest)?),
        "set" => set(rest)?,
        "reset" if starts(rest, &["all"]) => Command::ResetAll,
        "reset" => Command::Reset(name(rest)?.0),
        "show" if starts(rest, &["all"]) => Command::ShowAll,
        "show" => match name(rest) {
            // SHOW TABLES, SHOW COLUMNS FROM t and the like are the engine's.
            Ok((name, [])) if !matches!(name.as_str(), "tables" | "functions") => Command::Show(name),
            _ => return Ok(None),
        },
        "discard" => match rest.first().map(Item::text) {
            Some("all") => Command::Discard(Discard::All),
            Some("plans") => Command::Discard(Discard::Other("DISCARD PLANS")),
            Some("sequences") => Command::Discard(Discard::Other("DISCARD SEQUENCES")),
            Some("temp" | "temporary") => Command::Discard(Discard::Other("DISCARD TEMP")),
            _ => return Err(syntax("DISCARD takes ALL, PLANS, SEQUENCES or TEMP")),
        },
        "deallocate" => {
            let rest = if starts(rest, &["prepare"]) { &rest[1..] } else { rest };
            match rest {
                [item] if item.is("all") => Command::DeallocateAll,
                [item] => Command::Deallocate(item.text().to_owned()),
                _ => return Err(syntax("DEALLOCATE takes the name of a prepared statement, or ALL")),
            }
        }
        "prepare" if !starts(rest, &["transaction"]) => prepare(statement)?,
        "execute" => execute(statement)?,
        "prepare" | "commit" | "rollback" => {
            return Err(Failure::new(state::NOT_SUPPORTED, "two-phase commit is not supported")
                .with_hint("use BEGIN and COMMIT"));
        }
        "listen" => Command::Nothing("LISTEN"),
        "unlisten" => Command::Nothing("UNLISTEN"),
        "close" => cursors::close(rest)?,
        "declare" => cursors::declare(statement)?,
        "fetch" => cursors::fetch(statement, false)?,
        "move" => cursors::fetch(statement, true)?,
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn prepare(statement: &str) -> Result<Command, Failure> {
    let usage = || syntax("PREPARE takes a name, types in parentheses if there are any, AS and a statement");
    let tokens = tokens(statement);
    let name = tokens.get(1).and_then(|t| identifier(&statement[t.clone()])).ok_or_else(usage)?;
    let mut rest = 2;
    let mut types = vec![];
    if tokens.get(2).is_some_and(|t| &statement[t.clone()] == "(") {
        let (mut depth, mut begin) = (0, None);
        for (i, token) in tokens.iter().enumerate().skip(2) {
            let text = &statement[token.clone()];
            match text {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            let ends = depth == 0 || (depth == 1 && text == ",");
            match begin {
                Some(begin) if ends => types.push(statement[begin..token.start].trim().to_owned()),
                _ => {}
            }
            begin = if ends || (depth == 1 && text == "(") { Some(token.end) } else { begin };
            if depth == 0 {
                rest = i + 1;
                break;
            }
        }
    }
    match tokens.get(rest) {
        Some(r#as) if statement[r#as.clone()].eq_ignore_ascii_case("as") && tokens.len() > rest + 1 => {
            let query = statement[r#as.end..].trim().to_owned();
            Ok(Command::Prepare { name, types, query, text: statement.to_owned() })
        }
        _ => Err(usage()),
    }
}

fn execute(statement: &str) -> Result<Command, Failure> {
    let usage = || syntax("EXECUTE takes a name, and values in parentheses if there are any");
    let tokens = tokens(statement);
    let text = |i: usize| tokens.get(i).map(|t| &statement[t.clone()]);
    let name = text(1).and_then(identifier).ok_or_else(usage)?;
    let arguments = match (tokens.get(2), tokens.last()) {
        (None, _) => "",
        (Some(open), Some(close)) if text(2) == Some("(") && &statement[close.clone()] == ")" => {
            &statement[open.end..close.start]
        }
        _ => return Err(usage()),
    };
    Ok(Command::Execute { name, arguments: arguments.to_owned() })
}

/// A name as it is meant.
fn identifier(token: &str) -> Option<String> {
    match words(token).as_slice() {
        [Item::Word(name) | Item::Name(name)] => Some(name.clone()),
        _ => None,
    }
}

/// The name of a savepoint.
fn savepoint(items: &[Item]) -> Result<String, Failure> {
    let items = if items.len() > 1 && starts(items, &["savepoint"]) { &items[1..] } else { items };
    match items {
        [Item::Word(name) | Item::Name(name)] => Ok(name.clone()),
        _ => Err(syntax("a savepoint has one name")),
    }
}

fn syntax(message: &str) -> Failure {
    Failure::new(state::SYNTAX, message)
}

fn starts(items: &[Item], words: &[&str]) -> bool {
    items.len() >= words.len() && items.iter().zip(words).all(|(item, word)| item.is(word))
}

/// A setting's name, with dots in it, and what follows. `TIME ZONE` and a few others are spelt in words.
fn name(items: &[Item]) -> Result<(String, &[Item]), Failure> {
    for (words, name) in [
        (["time", "zone"].as_slice(), "timezone"),
        (&["transaction", "isolation", "level"], "transaction_isolation"),
        (&["session", "authorization"], "session_authorization"),
    ] {
        if starts(items, words) {
            return Ok((name.to_owned(), &items[words.len()..]));
        }
    }
    let Some(Item::Word(first) | Item::Name(first)) = items.first() else {
        return Err(syntax("the name of a setting is missing"));
    };
    let (mut name, mut rest) = (first.clone(), &items[1..]);
    while let [dot, Item::Word(next) | Item::Name(next), more @ ..] = rest
        && dot.is(".")
    {
        name = format!("{name}.{next}");
        rest = more;
    }
    Ok((name, rest))
}

fn set(items: &[Item]) -> Result<Command, Failure> {
    let (items, local) = match items.first() {
        Some(first) if first.is("local") => (&items[1..], true),
        Some(first) if first.is("session") && !starts(&items[1..], &["authorization"]) => {
            (&items[1..], false)
        }
        _ => (items, false),
    };
    if starts(items, &["transaction"]) {
        return Ok(Command::SetTransaction(modes(&items[1..])?));
    }
    if starts(items, &["characteristics", "as", "transaction"]) {
        return Ok(Command::SetCharacteristics(modes(&items[3..])?));
    }
    if starts(items, &["names"]) {
        return Ok(Command::Set("client_encoding".to_owned(), value(&items[1..]), local));
    }
    let (name, rest) = name(items)?;
    let spelt = name == "timezone" && items[0].is("time");
    let rest = match rest {
        [sign, rest @ ..] if sign.is("=") || sign.is("to") => rest,
        rest if spelt || name == "session_authorization" || name == "role" => rest,
        _ => return Err(syntax(&format!("expected = or TO after SET {name}"))),
    };
    if rest.is_empty() {
        return Err(syntax(&format!("the value of {name} is missing")));
    }
    Ok(Command::Set(name, value(rest), local))
}

/// A value: texts with a comma between are a list, a minus belongs to its number.
fn value(items: &[Item]) -> Option<String> {
    match items {
        [] => None,
        [only] if only.is("default") || only.is("local") => None,
        _ => {
            let mut text = String::new();
            for item in items {
                match item {
                    Item::Sign(sign) if sign == "," => text.push_str(", "),
                    item => {
                        let joined = text.is_empty() || text.ends_with([' ', '-', '+', '.']);
                        if !joined && !item.is(".") {
                            text.push(' ');
                        }
                        text.push_str(item.text());
                    }
                }
            }
            Some(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Command {
        Command::Set(name.into(), Some(value.into()), false)
    }

    #[test]
    fn the_spellings_of_set() {
        for (sql, command) in [
            ("SET datestyle TO ISO, MDY", set("datestyle", "iso, mdy")),
            ("set session TimeZone = 'Asia/Kolkata'", set("timezone", "Asia/Kolkata")),
            ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("SET SESSION TIME ZONE DEFAULT", Command::Set("timezone".into(), None, false)),
            ("SET extra_float_digits = -3", set("extra_float_digits", "-3")),
            ("SET NAMES 'utf8'", set("client_encoding", "utf8")),
            ("SET datafusion.execution.batch_size = 10", set("datafusion.execution.batch_size", "10")),
            ("SET TRANSACTION READ ONLY", Command::SetTransaction(vec![("read_only", "on")])),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
                Command::SetCharacteristics(vec![("read_only", "off")]),
            ),
            ("SET search_path = \"$user\", public", set("search_path", "$user, public")),
            ("SET statement_timeout = '5 s'", set("statement_timeout", "5 s")),
            ("SET x = 1.5", set("x", "1.5")),
        ] {
            assert_eq!(parse(sql).unwrap(), Some(command), "{sql}");
        }
        assert!(parse("SET x").is_err());
        assert_eq!(parse("SET LOCAL x = 1").unwrap(), Some(Command::Set("x".into(), Some("1".into()), true)));
    }

    #[test]
    fn other_commands() {
        for (sql, command) in [
            (
                "begin isolation level serializable",
                Some(Command::Begin("BEGIN", vec![("isolation", "serializable")])),
            ),
            ("START TRANSACTION", Some(Command::Begin("START TRANSACTION", vec![]))),
            ("END", Some(Command::Commit)),
            ("ROLLBACK TO SAVEPOINT a", Some(Command::RollbackTo("a".into()))),
            ("rollback work to \"A b\"", Some(Command::RollbackTo("A b".into()))),
            ("SAVEPOINT savepoint", Some(Command::Savepoint("savepoint".into()))),
            ("release savepoint a", Some(Command::Release("a".into()))),
            ("SHOW TIME ZONE", Some(Command::Show("timezone".into()))),
            ("SHOW transaction isolation level", Some(Command::Show("transaction_isolation".into()))),
            ("SHOW COLUMNS FROM t", None),
            ("SHOW tables", None),
            ("DEALLOCATE PREPARE \"S_1\"", Some(Command::Deallocate("S_1".into()))),
            (
                "PREPARE q (numeric(10, 2), text) AS SELECT $1, $2",
                Some(Command::Prepare {
                    name: "q".into(),
                    types: vec!["numeric(10, 2)".into(), "text".into()],
                    query: "SELECT $1, $2".into(),
                    text: "PREPARE q (numeric(10, 2), text) AS SELECT $1, $2".into(),
                }),
            ),
            (
                "prepare \"Q\" as select 1",
                Some(Command::Prepare {
                    name: "Q".into(),
                    types: vec![],
                    query: "select 1".into(),
                    text: "prepare \"Q\" as select 1".into(),
                }),
            ),
            (
                "EXECUTE q(1, f('(x'))",
                Some(Command::Execute { name: "q".into(), arguments: "1, f('(x')".into() }),
            ),
            ("DISCARD ALL", Some(Command::Discard(Discard::All))),
            ("SELECT 1", None),
            ("endless", None),
        ] {
            assert_eq!(parse(sql).unwrap(), command, "{sql}");
        }
        for sql in ["PREPARE TRANSACTION 'a'", "COMMIT PREPARED 'a'", "ROLLBACK PREPARED 'a'"] {
            assert_eq!(parse(sql).unwrap_err().sqlstate, state::NOT_SUPPORTED, "{sql}");
        }
    }
}
