//! Who may do what with a table: roles, and the grants that a table carries in its own configuration.

use serde::Deserialize;

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
