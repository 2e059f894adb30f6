//! `toplake user`: an entry of `[[users]]` for a password.

use std::io::{BufRead, IsTerminal};

use clap::{Args, ValueEnum};
use console::Term;

use crate::catalog::privileges::{Role, check_grantee};
use crate::error::{Error, Result};
use crate::pg::Verifier;

/// Arguments of `toplake user`. A password is none of them: others on the machine could read it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The user's name
    name: String,
    /// What the user may do
    #[arg(long, value_enum, default_value_t = RoleName::Reader)]
    role: RoleName,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RoleName {
    /// Read
    Reader,
    /// Read, add and delete rows, refresh views
    Writer,
    /// Everything
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Reader => Role::Reader,
            RoleName::Writer => Role::Writer,
            RoleName::Admin => Role::Admin,
        }
    }
}

/// Asks for the password and prints the entry.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    check_grantee(&arguments.name)?;
    let password = password()?;
    if password.is_empty() {
        return Err(Error::invalid_input("the password is empty"));
    }
    let name = toml::Value::from(arguments.name.as_str());
    println!("[[users]]\nname = {name}\nverifier = \"{}\"", Verifier::of(&password));
    println!("role = \"{}\"", Role::from(arguments.role).name());
    Ok(())
}

/// From the terminal, twice and without showing it; else the first line of standard input.
fn password() -> Result<String> {
    let unreadable = |e| Error::invalid_input(format!("cannot read the password: {e}"));
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(unreadable)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let terminal = Term::stderr();
    let ask = |prompt: &str| {
        terminal.write_str(prompt).and_then(|()| terminal.read_secure_line()).map_err(unreadable)
    };
    let password = ask("Password: ")?;
    match ask("Again: ")? == password {
        true => Ok(password),
        false => Err(Error::invalid_input("the passwords differ")),
    }
}
