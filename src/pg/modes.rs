//! Modes of a transaction: `ISOLATION LEVEL …`, `READ ONLY`, as they follow BEGIN and SET TRANSACTION.
//!
//! Every transaction reads one version of each table, whatever isolation it asks for; it is told what it asked for.

use pgwire::messages::response::TransactionStatus;

use super::error::{Failure, state};
use super::session::Core;
use super::settings::{Report, Settings};
use super::{Parsed, Part};
use crate::statement::split::{Item, words};

/// Something said of a transaction: the name of a setting, without the prefix, and its value.
pub(super) type Mode = (&'static str, &'static str);

/// Modes, with or without commas between.
const MODES: &[(&[&str], &str, &str)] = &[
    (&["isolation", "level", "serializable"], "isolation", "serializable"),
    (&["isolation", "level", "repeatable", "read"], "isolation", "repeatable read"),
    (&["isolation", "level", "read", "committed"], "isolation", "read committed"),
    (&["isolation", "level", "read", "uncommitted"], "isolation", "read uncommitted"),
    (&["read", "only"], "read_only", "on"),
    (&["read", "write"], "read_only", "off"),
    (&["not", "deferrable"], "deferrable", "off"),
    (&["deferrable"], "deferrable", "on"),
];

/// Reads them.
pub(super) fn modes(mut items: &[Item]) -> Result<Vec<Mode>, Failure> {
    let mut found = vec![];
    while !items.is_empty() {
        let mode = MODES.iter().find(|(words, ..)| {
            items.len() >= words.len() && items.iter().zip(*words).all(|(item, word)| item.is(word))
        });
        let Some((words, name, value)) = mode else {
            return Err(Failure::new(
                state::SYNTAX,
                format!("'{}' is not a mode of a transaction", items[0].text()),
            )
            .with_hint("modes are ISOLATION LEVEL …, READ ONLY, READ WRITE, DEFERRABLE, NOT DEFERRABLE"));
        };
        found.push((*name, *value));
        items = &items[words.len()..];
        if let [comma, more @ ..] = items
            && comma.is(",")
            && !more.is_empty()
        {
            items = more;
        }
    }
    Ok(found)
}

/// Sets them for this transaction, or for those to come; gives what clients have to be told.
pub(super) fn apply(settings: &Settings, prefix: &str, modes: &[Mode]) -> Result<Vec<Report>, Failure> {
    let set = |(name, value): &Mode| {
        settings.set(&format!("{prefix}_{name}"), Some(*value), prefix == "transaction")
    };
    let reports: Vec<Option<Report>> = modes.iter().map(set).collect::<Result<_, _>>()?;
    Ok(reports.into_iter().flatten().collect())
}

/// A transaction begins with the modes that are usual in the session.
pub(super) fn begin(settings: &Settings, modes: &[Mode]) -> Result<(), Failure> {
    for name in ["isolation", "read_only", "deferrable"] {
        let usual = settings.get(&format!("default_transaction_{name}"));
        settings.set(&format!("transaction_{name}"), usual.as_deref(), true)?;
    }
    apply(settings, "transaction", modes).map(drop)
}

impl Core {
    /// A setting's name: that of a mode stands for what is usual, while there is no transaction.
    pub(super) fn in_effect<'a>(&self, name: &'a str) -> &'a str {
        match name {
            _ if self.transaction != TransactionStatus::Idle => name,
            "transaction_isolation" => "default_transaction_isolation",
            "transaction_read_only" => "default_transaction_read_only",
            "transaction_deferrable" => "default_transaction_deferrable",
            _ => name,
        }
    }

    /// Refuses what is more than reading, where only that is allowed.
    pub(super) fn check_read_only(&self, parsed: &Parsed) -> Result<(), Failure> {
        let read_only = self.client.settings.get(self.in_effect("transaction_read_only"));
        if read_only.as_deref() != Some("on") || self.connection.part(parsed) == Part::Reads {
            return Ok(());
        }
        match words(parsed.sql()).first().map(|word| word.text().to_uppercase()).as_deref() {
            // Settings of the engine.
            None | Some("SET" | "RESET") => Ok(()),
            Some(what) => Err(Failure::new(
                state::READ_ONLY,
                format!("cannot execute {what} in a read-only transaction"),
            )
            .with_hint("begin it with READ WRITE, or SET default_transaction_read_only = off")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_in_any_order() {
        let read = |text| modes(&words(text));
        let wanted = vec![("read_only", "on"), ("isolation", "repeatable read"), ("deferrable", "off")];
        assert_eq!(read("READ ONLY, isolation level Repeatable Read NOT DEFERRABLE").unwrap(), wanted);
        assert!(read("").unwrap().is_empty());
        for bad in ["ISOLATION LEVEL", "READ", "READ ONLY,", "SNAPSHOT 'a'", ", READ ONLY"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_transaction_has_modes_of_its_own() {
        let settings = Settings::new("me");
        apply(&settings, "default_transaction", &[("isolation", "serializable")]).unwrap();
        settings.begin();
        begin(&settings, &[("read_only", "on")]).unwrap();
        let get = |name| settings.get(name).unwrap();
        assert_eq!(
            (get("transaction_isolation"), get("transaction_read_only")),
            ("serializable".into(), "on".into())
        );
        settings.end(true);
        assert_eq!(get("transaction_read_only"), "off");
    }
}
