//! Reads the statements about cursors.

use super::{Command, identifier, starts, syntax};
use crate::pg::cursor::{Direction, Scroll};
use crate::pg::error::Failure;
use crate::statement::split::{Item, tokens, words};

/// `DECLARE name … CURSOR … FOR query`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pg) struct Declare {
    pub(in crate::pg) name: String,
    /// Rows are given in binary.
    pub(in crate::pg) binary: bool,
    pub(in crate::pg) scroll: Scroll,
    /// It outlives its transaction.
    pub(in crate::pg) hold: bool,
    pub(in crate::pg) query: String,
    /// Characters of the statement in front of the query.
    pub(in crate::pg) offset: usize,
}

pub(super) fn declare(statement: &str) -> Result<Command, Failure> {
    let usage = || syntax("DECLARE takes a name, CURSOR and its options, FOR and a query");
    let tokens = tokens(statement);
    let text = |i: usize| tokens.get(i).map(|t| statement[t.clone()].to_lowercase());
    let name = tokens.get(1).and_then(|t| identifier(&statement[t.clone()])).ok_or_else(usage)?;
    let (mut binary, mut scroll, mut hold) = (false, Scroll::Perhaps, false);
    let mut i = 2;
    while let Some(word) = text(i) {
        i += 1;
        match word.as_str() {
            "binary" => binary = true,
            // Every cursor is: it reads what was there when it was declared.
            "insensitive" | "asensitive" | "cursor" => {}
            "scroll" => scroll = Scroll::Always,
            "no" if text(i).as_deref() == Some("scroll") => {
                scroll = Scroll::Never;
                i += 1;
            }
            "with" | "without" if text(i).as_deref() == Some("hold") => {
                hold = word == "with";
                i += 1;
            }
            "for" => {
                let declared = (2..i - 1).any(|i| text(i).as_deref() == Some("cursor"));
                let query = tokens.get(i).filter(|_| declared).ok_or_else(usage)?;
                let offset = statement[..query.start].chars().count();
                let query = statement[query.start..].to_owned();
                return Ok(Command::Declare(Declare { name, binary, scroll, hold, query, offset }));
            }
            _ => return Err(usage()),
        }
    }
    Err(usage())
}

/// `FETCH [direction] [FROM | IN] name`, and the same for MOVE.
pub(super) fn fetch(statement: &str, moves: bool) -> Result<Command, Failure> {
    let usage = || {
        let verb = if moves { "MOVE" } else { "FETCH" };
        syntax(&format!("{verb} takes a direction, FROM and the name of a cursor"))
    };
    let items = words(statement);
    let (Item::Word(name) | Item::Name(name)) = items.last().filter(|_| items.len() > 1).ok_or_else(usage)?
    else {
        return Err(usage());
    };
    let mut rest = &items[1..items.len() - 1];
    if let [before @ .., last] = rest
        && (last.is("from") || last.is("in"))
    {
        rest = before;
    }
    let direction = direction(rest).ok_or_else(usage)?;
    Ok(Command::Fetch { name: name.clone(), direction, moves })
}

fn direction(words: &[Item]) -> Option<Direction> {
    let Some(first) = words.first() else { return Some(Direction::Forward(Some(1))) };
    let rest = &words[1..];
    let word = |w: &str| first.is(w);
    let steps = |n: i64| match n {
        0 => Direction::Relative(0),
        n if n > 0 => Direction::Forward(Some(n.unsigned_abs())),
        n => Direction::Backward(Some(n.unsigned_abs())),
    };
    if rest.is_empty() {
        let known = [
            ("next", Direction::Forward(Some(1))),
            ("prior", Direction::Backward(Some(1))),
            ("first", Direction::Absolute(1)),
            ("last", Direction::Absolute(-1)),
            ("all", Direction::Forward(None)),
            ("forward", Direction::Forward(Some(1))),
            ("backward", Direction::Backward(Some(1))),
        ];
        if let Some((_, direction)) = known.into_iter().find(|(w, _)| word(w)) {
            return Some(direction);
        }
    }
    if starts(rest, &["all"]) && rest.len() == 1 {
        return match first.text() {
            "forward" => Some(Direction::Forward(None)),
            "backward" => Some(Direction::Backward(None)),
            _ => None,
        };
    }
    match first.text() {
        "absolute" => Some(Direction::Absolute(number(rest)?)),
        "relative" => Some(Direction::Relative(number(rest)?)),
        "forward" => Some(steps(number(rest)?)),
        "backward" => Some(steps(number(rest)?.checked_neg()?)),
        _ => Some(steps(number(words)?)),
    }
}

fn number(items: &[Item]) -> Option<i64> {
    match items {
        [Item::Word(digits)] => digits.parse().ok(),
        [sign, Item::Word(digits)] if sign.is("+") => digits.parse().ok(),
        [sign, Item::Word(digits)] if sign.is("-") => format!("-{digits}").parse().ok(),
        _ => None,
    }
}

/// `CLOSE name | ALL`
pub(super) fn close(rest: &[Item]) -> Result<Command, Failure> {
    match rest {
        [item] if item.is("all") => Ok(Command::CloseAll),
        [Item::Word(name) | Item::Name(name)] => Ok(Command::Close(name.clone())),
        _ => Err(syntax("CLOSE takes the name of a cursor, or ALL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::command::parse;

    #[test]
    fn the_spellings_of_declare() {
        for (sql, name, binary, scroll, hold, query) in [
            ("DECLARE c CURSOR FOR SELECT 1", "c", false, Scroll::Perhaps, false, "SELECT 1"),
            (
                "declare \"A b\" binary no scroll cursor with hold for values (1)",
                "A b",
                true,
                Scroll::Never,
                true,
                "values (1)",
            ),
            (
                "DECLARE x INSENSITIVE SCROLL CURSOR WITHOUT HOLD FOR TABLE t",
                "x",
                false,
                Scroll::Always,
                false,
                "TABLE t",
            ),
        ] {
            let Ok(Some(Command::Declare(d))) = parse(sql) else { panic!("{sql}") };
            assert_eq!(
                (d.name.as_str(), d.binary, d.scroll, d.hold, d.query.as_str()),
                (name, binary, scroll, hold, query)
            );
            assert!(sql.chars().skip(d.offset).collect::<String>() == query);
        }
        for sql in ["DECLARE c FOR SELECT 1", "DECLARE c CURSOR SELECT 1", "DECLARE", "DECLARE c CURSOR FOR"]
        {
            assert!(parse(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn the_spellings_of_fetch() {
        use Direction::*;
        for (sql, direction) in [
            ("FETCH c", Forward(Some(1))),
            ("FETCH FROM c", Forward(Some(1))),
            ("FETCH 100 FROM c", Forward(Some(100))),
            ("FETCH -2 IN c", Backward(Some(2))),
            ("FETCH 0 c", Relative(0)),
            ("FETCH ALL c", Forward(None)),
            ("FETCH FORWARD ALL FROM c", Forward(None)),
            ("FETCH BACKWARD 3 FROM c", Backward(Some(3))),
            ("FETCH BACKWARD ALL IN c", Backward(None)),
            ("FETCH PRIOR c", Backward(Some(1))),
            ("FETCH LAST FROM c", Absolute(-1)),
            ("FETCH ABSOLUTE -3 FROM c", Absolute(-3)),
            ("FETCH RELATIVE 2 FROM c", Relative(2)),
        ] {
            assert_eq!(
                parse(sql).unwrap(),
                Some(Command::Fetch { name: "c".into(), direction, moves: false }),
                "{sql}"
            );
        }
        for sql in ["FETCH", "FETCH x y FROM c", "FETCH 1.5 FROM c", "FETCH NEXT 3 FROM c"] {
            assert!(parse(sql).is_err(), "{sql}");
        }
    }
}
