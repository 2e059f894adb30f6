//! GRANT and REVOKE: rights on tables and views. Each table keeps its own, in its configuration, so that they are where the
//! table is, for every server, and go with it.

use datafusion::sql::sqlparser::ast::{
    Action, Grant, GrantObjects, Grantee, GranteeName, GranteesType, ObjectName, Privileges, Revoke,
};

use super::parse::{normal, object_name};
use super::run::{Outcome, Session};
use crate::catalog::privileges::{Grants, PUBLIC as EVERYBODY, Privilege};
use crate::catalog::schemas::{CATALOG, PUBLIC};
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;

/// Times that a change is planned again after losing to another.
const TRIES: usize = 20;

/// Rights that are given or taken.
struct Edit {
    grants: bool,
    privileges: Vec<Privilege>,
    grantees: Vec<String>,
}

impl Edit {
    fn of(grants: bool, privileges: &Privileges, grantees: &[Grantee]) -> Result<Self> {
        let privileges = match privileges {
            Privileges::All { .. } => Privilege::ALL.to_vec(),
            Privileges::Actions(actions) => actions.iter().map(privilege).collect::<Result<_>>()?,
        };
        Ok(Edit { grants, privileges, grantees: grantees.iter().map(grantee).collect::<Result<_>>()? })
    }

    fn apply(&self, to: &mut Grants) {
        for grantee in &self.grantees {
            for privilege in &self.privileges {
                match self.grants {
                    true => to.grant(grantee, *privilege),
                    false => to.revoke(grantee, *privilege),
                }
            }
        }
    }

    fn tag(&self) -> &'static str {
        if self.grants { "GRANT" } else { "REVOKE" }
    }
}

impl Session {
    /// `GRANT … ON … TO …`
    pub(super) async fn grant(&self, grant: &Grant) -> Result<Outcome> {
        let Grant {
            privileges,
            objects,
            grantees,
            with_grant_option,
            as_grantor,
            granted_by,
            current_grants,
        } = grant;
        if *with_grant_option || as_grantor.is_some() || granted_by.is_some() || current_grants.is_some() {
            return Err(Error::not_supported("GRANT takes rights, tables and users, and nothing else")
                .with_hint("only admins grant"));
        }
        self.edit(&Edit::of(true, privileges, grantees)?, objects.as_ref()).await
    }

    /// `REVOKE … ON … FROM …`
    pub(super) async fn revoke(&self, revoke: &Revoke) -> Result<Outcome> {
        let Revoke { privileges, objects, grantees, granted_by, cascade: _ } = revoke;
        if granted_by.is_some() {
            return Err(Error::not_supported("REVOKE takes rights, tables and users, and nothing else"));
        }
        self.edit(&Edit::of(false, privileges, grantees)?, objects.as_ref()).await
    }

    async fn edit(&self, edit: &Edit, objects: Option<&GrantObjects>) -> Result<Outcome> {
        let names = match objects {
            Some(GrantObjects::Tables(names)) => names.iter().map(object_name).collect::<Result<Vec<_>>>()?,
            Some(GrantObjects::AllTablesInSchema { schemas }) if schemas.iter().all(is_public) => {
                self.warehouse.list().await?
            }
            _ => {
                return Err(Error::not_supported("rights are on tables and views of the schema public")
                    .with_hint(format!(
                        "write {} SELECT ON a_table, or ON ALL TABLES IN SCHEMA public; roles of users are in the server's configuration",
                        edit.tag()
                    )));
            }
        };
        let mut unchanged = vec![];
        for name in names {
            if !self.edit_one(edit, &name).await.map_err(|e| e.context(edit.tag()))? && !edit.grants {
                unchanged.push(name);
            }
        }
        let notice = (!unchanged.is_empty()).then(|| {
            format!(
                "nothing was revoked on {}: {} had no such right",
                unchanged.join(", "),
                edit.grantees.join(", ")
            )
        });
        Ok(Outcome::Done { tag: edit.tag().to_owned(), rows: None, notice })
    }

    /// Edits the rights on one table; says whether anything changed.
    async fn edit_one(&self, edit: &Edit, name: &str) -> Result<bool> {
        let mut lost = None;
        for _ in 0..TRIES {
            let Some(table) = self.warehouse.table(name).await? else {
                return Err(Error::undefined_table(format!("there is no table or view '{name}'")));
            };
            let on = table.update().await?;
            let mut metadata = on.metadata.as_ref().clone();
            let before = Grants::of(&metadata.configuration);
            let mut after = before.clone();
            edit.apply(&mut after);
            if after == before {
                return Ok(false);
            }
            after.write(&mut metadata.configuration)?;
            let mut change = Change::new(CommitKind::Metadata, edit.tag(), &on);
            change.metadata = Some(metadata);
            match table.commit(&change).await {
                Err(e) if e.kind() == Kind::Conflict => lost = Some(e),
                Err(e) => return Err(e.context(format!("table '{name}'"))),
                Ok(_) => return Ok(true),
            }
        }
        Err(lost.unwrap_or_else(|| Error::internal("no try was made")))
    }
}

fn privilege(action: &Action) -> Result<Privilege> {
    match action {
        Action::Select { columns: None } => Ok(Privilege::Select),
        Action::Insert { columns: None } => Ok(Privilege::Insert),
        Action::Delete => Ok(Privilege::Delete),
        other => Err(Error::not_supported(format!("'{other}' is not a right on a table here"))
            .with_hint("SELECT, INSERT, DELETE and ALL are; rights are on whole tables")),
    }
}

fn grantee(grantee: &Grantee) -> Result<String> {
    match (&grantee.grantee_type, &grantee.name) {
        (GranteesType::Public, _) => Some(EVERYBODY.to_owned()),
        (
            GranteesType::None | GranteesType::User | GranteesType::Role | GranteesType::Group,
            Some(GranteeName::ObjectName(name)),
        ) => match name.0.as_slice() {
            [part] => part.as_ident().map(normal),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| Error::syntax(format!("'{grantee}' is not a user, a role or PUBLIC")))
}

fn is_public(schema: &ObjectName) -> bool {
    let parts: Vec<String> = schema.0.iter().filter_map(|p| p.as_ident().map(normal)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    parts == [PUBLIC] || parts == [CATALOG, PUBLIC]
}
