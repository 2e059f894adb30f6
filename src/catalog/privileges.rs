//! Who may do what with a table: roles, and the grants that a table carries in its own configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a user may do where a table has no grants of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Reader,
    /// Reads, adds and deletes rows, and keeps views fresh.
    Writer,
    /// Everything.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Writer, Role::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Admin => "admin",
        }
    }
}

/// Everybody, in GRANT and REVOKE.
pub const PUBLIC: &str = "public";

/// Refuses what cannot be the name of a user, as it means something else in GRANT.
pub fn check_grantee(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 63 || name.contains('\0') {
        return Err(Error::invalid_input(format!("'{name}' cannot be the name of a user"))
            .with_hint("use 1 to 63 bytes"));
    }
    if name == PUBLIC || Role::ALL.iter().any(|role| role.name() == name) {
        return Err(Error::invalid_input(format!("'{name}' cannot be the name of a user"))
            .with_hint("reader, writer and admin are roles, and public is everybody"));
    }
    Ok(())
}

/// A right on a table or view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Privilege {
    /// To read it.
    Select,
    /// To add rows, and to do the work that keeps it fresh.
    Insert,
    /// To delete rows.
    Delete,
}

impl Privilege {
    /// All of them.
    pub const ALL: [Privilege; 3] = [Privilege::Select, Privilege::Insert, Privilege::Delete];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Privilege::Select => "SELECT",
            Privilege::Insert => "INSERT",
            Privilege::Delete => "DELETE",
        }
    }
}

/// The option of a table that has its grants.
const GRANTS: &str = "toplake.grants";

/// Who may do what with a table: rights by the name of a user or role, or [`PUBLIC`]. An admin may do everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants(BTreeMap<String, BTreeSet<Privilege>>);

impl Default for Grants {
    /// Readers read, and writers also add and delete.
    fn default() -> Self {
        let to =
            |role: Role, rights: &[Privilege]| (role.name().to_owned(), rights.iter().copied().collect());
        Grants(BTreeMap::from([to(Role::Reader, &[Privilege::Select]), to(Role::Writer, &Privilege::ALL)]))
    }
}

impl Grants {
    /// Those of a table's configuration; the defaults until somebody grants or revokes. What cannot be read grants nothing.
    pub fn of(configuration: &BTreeMap<String, String>) -> Self {
        match configuration.get(GRANTS) {
            Some(text) => serde_json::from_str(text).unwrap_or(Grants(BTreeMap::new())),
            None => Grants::default(),
        }
    }

    /// Whether a table has grants of its own.
    pub fn are_in(configuration: &BTreeMap<String, String>) -> bool {
        configuration.contains_key(GRANTS)
    }

    /// Puts them into a table's configuration.
    pub fn write(&self, configuration: &mut BTreeMap<String, String>) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|e| Error::internal(format!("grants: {e}")))?;
        configuration.insert(GRANTS.to_owned(), text);
        Ok(())
    }

    /// Takes over those of a table that another definition is put in the place of.
    pub fn keep(from: &BTreeMap<String, String>, into: &mut BTreeMap<String, String>) {
        if let Some(text) = from.get(GRANTS) {
            into.insert(GRANTS.to_owned(), text.clone());
        }
    }

    /// Adds a right.
    pub fn grant(&mut self, to: &str, privilege: Privilege) {
        self.0.entry(to.to_owned()).or_default().insert(privilege);
    }

    /// Takes a right.
    pub fn revoke(&mut self, from: &str, privilege: Privilege) {
        if let Some(rights) = self.0.get_mut(from) {
            rights.remove(&privilege);
        }
        self.0.retain(|_, rights| !rights.is_empty());
    }

    /// Whether this user of this role has a right: by name, by the role, or as everybody has it.
    pub fn allow(&self, user: &str, role: Role, privilege: Privilege) -> bool {
        let has = |grantee: &str| self.0.get(grantee).is_some_and(|rights| rights.contains(&privilege));
        role == Role::Admin || has(user) || has(role.name()) || has(PUBLIC)
    }

    /// Everybody with rights, and which.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<Privilege>)> {
        self.0.iter().map(|(grantee, rights)| (grantee.as_str(), rights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_until_somebody_grants_or_revokes() {
        let mut configuration = BTreeMap::new();
        let mut grants = Grants::of(&configuration);
        assert!(grants.allow("rita", Role::Reader, Privilege::Select));
        assert!(!grants.allow("rita", Role::Reader, Privilege::Insert));
        assert!(Privilege::ALL.iter().all(|p| grants.allow("will", Role::Writer, *p)));
        grants.revoke("reader", Privilege::Select);
        grants.revoke("writer", Privilege::Delete);
        grants.grant("rita", Privilege::Insert);
        grants.write(&mut configuration).unwrap();
        assert_eq!(configuration[GRANTS], r#"{"rita":["INSERT"],"writer":["SELECT","INSERT"]}"#);
        let grants = Grants::of(&configuration);
        assert!(!grants.allow("rita", Role::Reader, Privilege::Select));
        assert!(grants.allow("rita", Role::Reader, Privilege::Insert));
        assert!(!grants.allow("will", Role::Writer, Privilege::Delete));
        assert!(Privilege::ALL.iter().all(|p| grants.allow("ann", Role::Admin, *p)));
    }

    #[test]
    fn all_that_is_revoked_is_not_the_default_again_and_nonsense_grants_nothing() {
        let mut grants = Grants::default();
        for role in Role::ALL {
            Privilege::ALL.iter().for_each(|p| grants.revoke(role.name(), *p));
        }
        let mut configuration = BTreeMap::new();
        grants.write(&mut configuration).unwrap();
        assert!(!Grants::of(&configuration).allow("rita", Role::Reader, Privilege::Select));
        configuration.insert(GRANTS.to_owned(), "nonsense".to_owned());
        assert!(!Grants::of(&configuration).allow("will", Role::Writer, Privilege::Select));
        assert!(Grants::of(&configuration).allow("ann", Role::Admin, Privilege::Select));
    }

    #[test]
    fn names_with_a_meaning_of_their_own_are_no_users() {
        for name in ["reader", "writer", "admin", "public", "", "a\0b", &"x".repeat(64)] {
            assert!(check_grantee(name).is_err(), "{name}");
        }
        assert!(check_grantee("Reader").is_ok() && check_grantee("zoë").is_ok());
    }
}
