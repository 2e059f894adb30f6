//! What `COMMENT ON` says of a table or view and of its columns. It stands in the table's own configuration, as grants do, so
//! that it goes where the table goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The option of a table that has its comments.
const COMMENTS: &str = "toplake.comments";

/// The comments on a table or view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comments {
    /// On the table itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// On its columns, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

impl Comments {
    /// Those of a table's configuration; what cannot be read says nothing.
    pub fn of(configuration: &BTreeMap<String, String>) -> Self {
        let text = configuration.get(COMMENTS);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Puts them into a table's configuration.
    pub fn write(&self, configuration: &mut BTreeMap<String, String>) -> Result<()> {
        if *self == Comments::default() {
            configuration.remove(COMMENTS);
            return Ok(());
        }
        let text = serde_json::to_string(self).map_err(|e| Error::internal(format!("comments: {e}")))?;
        configuration.insert(COMMENTS.to_owned(), text);
        Ok(())
    }

    /// Takes over those of a table that another definition is put in the place of.
    pub fn keep(from: &BTreeMap<String, String>, into: &mut BTreeMap<String, String>) {
        if let Some(text) = from.get(COMMENTS) {
            into.insert(COMMENTS.to_owned(), text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_come_back_and_the_last_one_leaves_nothing() {
        let mut configuration = BTreeMap::new();
        let mut comments = Comments::of(&configuration);
        comments.table = Some("what \"sold\"".to_owned());
        comments.columns.insert("price".to_owned(), "in euros".to_owned());
        comments.write(&mut configuration).unwrap();
        assert_eq!(Comments::of(&configuration), comments);
        let mut other = BTreeMap::new();
        Comments::keep(&configuration, &mut other);
        assert_eq!(other, configuration);
        Comments::default().write(&mut configuration).unwrap();
        assert!(configuration.is_empty());
    }
}
