//! Whose session it is, and what that one may do.

use super::late;
use super::locations::Locations;
use super::privileges::{Grants, Privilege, Role};
use super::warehouse::Warehouse;
use crate::error::{Error, Kind, Result};

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    user: String,
    role: Role,
    locations: Locations,
}

impl Access {
    /// That of a user; even an admin reaches only these locations.
    pub fn new(user: &str, role: Role, locations: Locations) -> Self {
        Access { user: user.to_owned(), role, locations }
    }

    /// That of whoever runs this process, which may do everything.
    pub fn everything() -> Self {
        Access::new("", Role::Admin, Locations::anywhere())
    }

    /// Whether it may do everything.
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where it may read and write outside of the warehouse.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// Whether it may do this with a table or view, by the grants that this process has seen last; no if there is none.
    pub fn may(&self, privilege: Privilege, warehouse: &Warehouse, name: &str) -> bool {
        self.is_admin() || grants(warehouse, name).is_some_and(|g| g.allow(&self.user, self.role, privilege))
    }

    /// Refuses what it may not do.
    pub fn check(&self, privilege: Privilege, warehouse: &Warehouse, name: &str) -> Result<()> {
        match self.may(privilege, warehouse, name) {
            true => Ok(()),
            false => Err(denied(privilege.name(), name)),
        }
    }

    /// Refuses what is for admins.
    pub fn require_admin(&self, what: &str) -> Result<()> {
        match self.is_admin() {
            true => Ok(()),
            false => Err(Error::new(Kind::InsufficientPrivilege, format!("{what} is for the role admin"))),
        }
    }
}

/// The error of whoever may not do something with a table or view.
pub fn denied(right: &str, name: &str) -> Error {
    Error::new(Kind::InsufficientPrivilege, format!("permission denied: {right} on '{name}'"))
        .with_hint(format!("an admin can GRANT {right} ON it"))
}

/// The grants of a table or view, as this process has seen them last; a table of late rows without any of its own has those
/// of its events.
pub fn grants(warehouse: &Warehouse, name: &str) -> Option<Grants> {
    let snapshot = warehouse.opened(name)?;
    let configuration = &snapshot.metadata.configuration;
    match late::events_of(&snapshot) {
        Some(events) if !Grants::are_in(configuration) => {
            Some(Grants::of(&warehouse.opened(events)?.metadata.configuration))
        }
        _ => Some(Grants::of(configuration)),
    }
}
