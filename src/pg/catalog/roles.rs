//! Users and roles, and what they may do: by the rule that statements are checked with.

use super::inventory::Rights;
use super::relations::{Numbers, OWNER, Relation, Seen};
use crate::catalog::privileges::{PUBLIC, Privilege, Role};
use crate::pg::Client;

/// Users and roles. Where users are configured everything belongs to the role admin, and otherwise to whoever connects.
#[derive(Debug)]
pub(super) struct Roles(pub(super) Vec<Member>);

/// A user, or a role that users have.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) oid: i32,
    pub(super) name: String,
    pub(super) role: Role,
    /// It is a user.
    pub(super) login: bool,
}

impl Member {
    /// Whether it may do everything.
    pub(super) fn is_super(&self) -> bool {
        self.role == Role::Admin
    }
}

impl Roles {
    pub(super) fn of(client: &Client) -> Self {
        let open = client.users.is_empty();
        let mut numbers = Numbers::default();
        let mut number = |name: &str, owns: bool| if owns { OWNER } else { numbers.of("role", name) };
        let mut all = vec![];
        for role in Role::ALL {
            let owns = role == Role::Admin && !open;
            all.push(Member {
                oid: number(role.name(), owns),
                name: role.name().to_owned(),
                role,
                login: false,
            });
        }
        if open {
            all.push(Member { oid: OWNER, name: client.user.clone(), role: Role::Admin, login: true });
        }
        for user in client.users.iter() {
            let oid = number(&user.name, false);
            all.push(Member { oid, name: user.name.clone(), role: user.role, login: true });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Roles(all)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Member> {
        self.0.iter().find(|m| m.name == name)
    }

    pub(super) fn numbered(&self, oid: i32) -> Option<&Member> {
        self.0.iter().find(|m| m.oid == oid)
    }

    /// The name of the owner of everything.
    pub(super) fn owner(&self) -> &str {
        self.numbered(OWNER).map_or("", |m| &m.name)
    }

    /// Users and the roles that they have.
    pub(super) fn memberships(&self) -> Vec<(&Member, &Member)> {
        let of = |user: &&Member| user.login;
        let pairs = self.0.iter().filter(of).filter_map(|user| Some((self.named(user.role.name())?, user)));
        pairs.filter(|(role, user)| role.oid != user.oid).collect()
    }
}

impl Seen {
    /// Whether somebody, or everybody, may do this with a table.
    pub(super) fn may(&self, who: Option<&Member>, privilege: Privilege, relation: &Relation) -> bool {
        if who.is_some_and(Member::is_super) {
            return true;
        }
        match (&relation.rights, who) {
            (None, _) => privilege == Privilege::Select,
            (Some(Rights::ReadBy(roles)), Some(who)) => {
                privilege == Privilege::Select && roles.contains(&who.role)
            }
            (Some(Rights::ReadBy(roles)), None) => {
                privilege == Privilege::Select && roles.len() == Role::ALL.len()
            }
            (Some(Rights::Granted(grants)), Some(who)) => grants.allow(&who.name, who.role, privilege),
            (Some(Rights::Granted(grants)), None) => {
                grants.iter().any(|(grantee, rights)| grantee == PUBLIC && rights.contains(&privilege))
            }
        }
    }

    /// Who has which rights on a table, the owner's first: names (none is everybody) and rights.
    pub(super) fn granted<'a>(&'a self, relation: &'a Relation) -> Vec<(Option<&'a str>, Vec<&'static str>)> {
        let owner = (Some(self.roles.owner()), OWNER_RIGHTS.iter().map(|r| r.0).collect());
        let mut all = vec![owner];
        match &relation.rights {
            None => all.push((None, vec!["SELECT"])),
            Some(Rights::ReadBy(roles)) => {
                all.extend(roles.iter().map(|role| (Some(role.name()), vec!["SELECT"])));
            }
            Some(Rights::Granted(grants)) => {
                for (grantee, rights) in grants.iter().filter(|(grantee, _)| *grantee != self.roles.owner()) {
                    let name = (grantee != PUBLIC).then_some(grantee);
                    all.push((name, rights.iter().map(|r| r.name()).collect()));
                }
            }
        }
        all
    }

    /// The same as `relacl` has it: `reader=r/admin`.
    pub(super) fn acl(&self, relation: &Relation) -> Vec<String> {
        let letter = |right: &str| OWNER_RIGHTS.iter().find(|r| r.0 == right).map_or("", |r| r.1);
        let each = self.granted(relation).into_iter().map(|(grantee, rights)| {
            let letters: String =
                OWNER_RIGHTS.iter().filter(|r| rights.contains(&r.0)).map(|r| letter(r.0)).collect();
            format!("{}={letters}/{}", quoted(grantee.unwrap_or_default()), quoted(self.roles.owner()))
        });
        each.collect()
    }
}

/// Rights on tables in the order and with the letters of PostgreSQL's access lists.
pub(super) const OWNER_RIGHTS: [(&str, &str); 7] = [
    ("INSERT", "a"),
    ("SELECT", "r"),
    ("UPDATE", "w"),
    ("DELETE", "d"),
    ("TRUNCATE", "D"),
    ("REFERENCES", "x"),
    ("TRIGGER", "t"),
];

/// The number of a role, or of everybody, in a list of `owner`'s.
pub(super) fn number_of_role(name: &str, owner: &str) -> i32 {
    match name {
        "" => 0,
        name if name == owner => OWNER,
        name => Numbers::default().of("role", name.trim_matches('"')),
    }
}

fn quoted(name: &str) -> String {
    match name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}
