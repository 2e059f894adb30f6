//! `ALTER TABLE t SET (option = value, …)` and `RESET (option, …)`.
//!
//! One commit of the table's metadata. Whoever is about to append to it reads the options again and goes on.

use std::collections::BTreeMap;

use super::run::{Outcome, Session};
use super::split::Item;
use crate::catalog::late;
use crate::catalog::options::{Late, TableOptions};
use crate::catalog::side_table;
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::archived::ARCHIVED_FROM;
use crate::lake::committer::Change;
use crate::lake::snapshot::Snapshot;
use crate::maintain::target::{Kept, Rows, Target};

/// Times that the change is planned again after losing to another.
const TRIES: usize = 20;

/// The statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTable {
    name: String,
    if_exists: bool,
    /// `None` gives an option its default.
    options: BTreeMap<String, Option<String>>,
}

impl AlterTable {
    /// Reads the tokens of a statement; `None` if it is another one.
    pub(super) fn read(words: &[Item]) -> Option<Result<Self>> {
        let [alter, table, rest @ ..] = words else { return None };
        let is_verb = |item: &Item| item.is("set") || item.is("reset");
        let verb = rest.windows(2).position(|pair| is_verb(&pair[0]) && pair[1].is("("));
        if !alter.is("alter") || !table.is("table") {
            return None;
        }
        let (name, rest) = rest.split_at(verb?);
        Some(Self::parts(name, rest).ok_or_else(|| {
            Error::syntax("cannot read the statement")
                .with_hint("write ALTER TABLE t SET (option = 'value', …) or ALTER TABLE t RESET (option, …)")
        }))
    }

    /// The value that it gives an option.
    pub(super) fn option(&self, key: &str) -> Option<String> {
        self.options.get(key).cloned().flatten()
    }

    fn parts(name: &[Item], rest: &[Item]) -> Option<Self> {
        let (if_exists, name) = match name {
            [r#if, exists, name @ ..] if r#if.is("if") && exists.is("exists") => (true, name),
            name => (false, name),
        };
        let name = match name {
            [only, name @ ..] if only.is("only") && !name.is_empty() => name,
            name => name,
        };
        let parts = name.iter().enumerate().map(|(i, item)| match item {
            Item::Word(part) | Item::Name(part) if i % 2 == 0 => Some(part.as_str()),
            Item::Sign(dot) if i % 2 == 1 && dot == "." => Some("."),
            _ => None,
        });
        let name = parts.collect::<Option<String>>().filter(|_| name.len() % 2 == 1)?;
        let [verb, open, inside @ .., close] = rest else { return None };
        if !open.is("(") || !close.is(")") || inside.is_empty() {
            return None;
        }
        let mut options = BTreeMap::new();
        for option in inside.split(|item| item.is(",")) {
            let (key, value) = match option {
                [Item::Word(key) | Item::Name(key)] if verb.is("reset") => (key, None),
                [Item::Word(key) | Item::Name(key), equals, value] if verb.is("set") && equals.is("=") => {
                    (key, Some(value.text().to_owned()))
                }
                _ => return None,
            };
            options.insert(key.clone(), value);
        }
        Some(AlterTable { name, if_exists, options })
    }
}

impl Session {
    /// `ALTER TABLE`
    pub(super) async fn alter(&self, statement: &AlterTable) -> Result<Outcome> {
        let mut lost = None;
        for _ in 0..TRIES {
            let rows = match Target::find(&self.warehouse, &statement.name).await {
                Err(e) if e.kind() == Kind::UndefinedTable && statement.if_exists => {
                    return Ok(Outcome::done("ALTER TABLE"));
                }
                Ok(Target::Rows(rows)) => rows,
                Ok(_) => {
                    return Err(Error::wrong_object_type(format!("'{}' is a view", statement.name))
                        .with_hint("CREATE OR REPLACE gives it other options"));
                }
                Err(e) => return Err(e),
            };
            let done = self.alter_once(&rows, statement).await;
            match done.map_err(|e| e.context(format!("table '{}'", statement.name))) {
                Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
                Err(e) => return Err(e),
                Ok(()) => return Ok(Outcome::done("ALTER TABLE")),
            }
        }
        Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
    }

    async fn alter_once(&self, rows: &Rows, statement: &AlterTable) -> Result<()> {
        let on = rows.table.update().await?;
        let before = TableOptions::from_configuration(&on.metadata.configuration);
        let after = match rows.kept {
            Kept::ByArrival => side_table::altered(&before, &statement.options)?,
            Kept::ByEventTime => before.altered(&statement.options)?,
            Kept::ByWindow => {
                return Err(Error::wrong_object_type("it has no options")
                    .with_hint("what it keeps follows from the guards of the streams"));
            }
        };
        if after == before {
            return Ok(());
        }
        if after.late == Late::Divert {
            self.begin_diverting(&on, rows, &after).await?;
        }
        let mut metadata = on.metadata.as_ref().clone();
        after.write(&mut metadata.configuration);
        if after.archive != before.archive {
            // The new one has nothing of what has left until now.
            metadata.configuration.remove(ARCHIVED_FROM);
        }
        let mut change = Change::new(CommitKind::Metadata, "SET TBLPROPERTIES", &on);
        change.metadata = Some(metadata);
        rows.table.commit(&change).await?;
        // What was diverted until now is in its table before anybody may drop that.
        self.warehouse.follow(&rows.table).await
    }

    async fn begin_diverting(&self, on: &Snapshot, rows: &Rows, options: &TableOptions) -> Result<()> {
        if late::events_of(on).is_some() {
            return Err(Error::invalid_input(
                "it has the late rows of another table, and none are late here",
            ));
        }

        self.warehouse.late_table(rows.table.name(), &on.schema, options).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::split::words;
    use super::*;

    fn read(sql: &str) -> Option<Result<AlterTable>> {
        AlterTable::read(&words(sql))
    }

    #[test]
    fn both_forms_are_read() {
        let set = read("ALTER TABLE IF EXISTS public.sales SET (retention = '30 days', late = divert)");
        let set = set.unwrap().unwrap();
        assert_eq!((set.name.as_str(), set.if_exists), ("public.sales", true));
        let value = |key: &str| set.options[key].clone();
        assert_eq!((value("retention"), value("late")), (Some("30 days".into()), Some("divert".into())));
        let reset = read("alter table only \"Sales\" reset (retention, archive)").unwrap().unwrap();
        assert_eq!((reset.name.as_str(), reset.if_exists), ("Sales", false));
        assert_eq!(reset.options, [("archive".into(), None), ("retention".into(), None)].into());
    }

    #[test]
    fn what_cannot_be_read_is_a_syntax_error_and_other_statements_are_none() {
        for sql in [
            "ALTER TABLE sales SET ()",
            "ALTER TABLE sales SET (retention)",
            "ALTER TABLE sales RESET (retention = '1 day')",
            "ALTER TABLE SET (retention = '1 day')",
            "ALTER TABLE a b SET (retention = '1 day')",
        ] {
            assert!(read(sql).unwrap().is_err(), "{sql}");
        }
        assert!(read("ALTER TABLE sales ADD COLUMN a BIGINT").is_none() && read("SELECT 1").is_none());
    }
}
