//! `toplake token`: a new bearer token, and the entry of `[[tokens]]` that lets it in.

use clap::Args;
use serde::Deserialize;

use super::user::RoleName;
use crate::catalog::privileges::{Role, check_grantee};
use crate::error::Result;
use crate::http::{Tokens, new_token};

/// Arguments of `toplake token`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What the token is called; grants name it like a user
    name: String,
    /// What whoever has it may do
    #[arg(long, value_enum, default_value_t = RoleName::Reader)]
    role: RoleName,
}

/// Prints the entry on standard output, and the token beside it: it is shown once and kept nowhere.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    check_grantee(&arguments.name)?;
    let (token, sha256) = new_token();
    let name = toml::Value::from(arguments.name.as_str());
    eprintln!("The token, which is shown only now:\n\n  {token}\n\nFor the server's configuration:\n");
    println!(
        "[[tokens]]\nname = {name}\nsha256 = \"{sha256}\"\nrole = \"{}\"",
        Role::from(arguments.role).name()
    );
    Ok(())
}

/// An entry of `[[tokens]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenEntry {
    name: String,
    sha256: String,
    role: Role,
}

/// The tokens that entries name.
pub(super) fn tokens(entries: &[TokenEntry]) -> Result<Tokens> {
    let mut tokens = Tokens::new();
    for entry in entries {
        tokens.add(&entry.name, &entry.sha256, entry.role)?;
    }
    Ok(tokens)
}
