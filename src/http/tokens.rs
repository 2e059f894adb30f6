//! Bearer tokens: who asks by HTTP. Only their SHA-256 is configured; a token is 32 random bytes, so nothing slower than that
//! is needed to keep it from being guessed.

use std::fmt::Write;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::problem::Problem;
use crate::catalog::access::Access;
use crate::catalog::locations::Locations;
use crate::catalog::privileges::{Role, check_grantee};
use crate::error::{Error, Result};

/// What tokens begin with, so that one that went astray is known for what it is.
const PREFIX: &str = "tl_";

/// Who may ask.
#[derive(Debug, Clone)]
struct Token {
    name: String,
    sha256: Vec<u8>,
    role: Role,
}

/// All tokens of a server. Without any, whoever reaches it may read what an admin may.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    all: Vec<Token>,
    required: bool,
}

impl Tokens {
    /// No tokens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token by the hexadecimal SHA-256 of it. Its name is that of a user in grants.
    pub fn add(&mut self, name: &str, sha256: &str, role: Role) -> Result<()> {
        check_grantee(name)?;
        let bytes = unhex(sha256).filter(|bytes| bytes.len() == 32).ok_or_else(|| {
            Error::invalid_input(format!("token '{name}': its sha256 is not 64 hexadecimal digits"))
                .with_hint("`toplake token NAME` prints a token and its entry")
        })?;
        if self.all.iter().any(|t| t.name == name) {
            return Err(Error::invalid_input(format!("there are two tokens '{name}'")));
        }
        self.all.push(Token { name: name.to_owned(), sha256: bytes, role });
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The same; who has none of them is not let in, even if there are none.
    pub fn required(self) -> Self {
        Tokens { required: true, ..self }
    }

    /// Who sends these headers.
    pub(super) fn who(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        if self.is_empty() && !self.required {
            return Ok(Access::new("", Role::Admin, Locations::nowhere()));
        }
        let sent = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = sent.and_then(|sent| {
            let (scheme, token) = sent.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token else {
            return Err(Problem::Unauthorized("this server wants a bearer token"));
        };
        let sent = digest(&SHA256, token.as_bytes());
        // Of hashes, the time that a comparison takes says nothing.
        match self.all.iter().find(|t| t.sha256 == sent.as_ref()) {
            Some(token) => Ok(Access::new(&token.name, token.role, Locations::nowhere())),
            None => Err(Problem::Unauthorized("this bearer token is not known")),
        }
    }
}

/// A new token, and its SHA-256 in hexadecimal.
pub fn new_token() -> (String, String) {
    let bytes: [u8; 32] = rand::random();
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hex(digest(&SHA256, token.as_bytes()).as_ref());
    (token, hash)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.is_ascii() && text.len().is_multiple_of(2);
    digits
        .then(|| (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn only_who_knows_a_token_gets_in() {
        let (token, hash) = new_token();
        let mut tokens = Tokens::new();
        assert!(tokens.who(&HeaderMap::new()).is_ok_and(|access| access.is_admin()));
        tokens.add("grafana", &hash, Role::Reader).unwrap();
        let access = tokens.who(&headers(&format!("Bearer {token}"))).unwrap();
        assert_eq!(access, Access::new("grafana", Role::Reader, Locations::nowhere()));
        assert!(tokens.who(&headers(&format!("bearer {token}"))).is_ok());
        for wrong in [
            String::new(),
            "Bearer ".into(),
            format!("Basic {token}"),
            format!("Bearer {token}x"),
            hash.clone(),
        ] {
            assert!(matches!(tokens.who(&headers(&wrong)), Err(Problem::Unauthorized(_))), "{wrong}");
        }
        assert!(tokens.add("grafana", &hash, Role::Reader).is_err());
        for bad in ["", "abc", "zz", &hash[1..], "ää"] {
            assert!(tokens.add("other", bad, Role::Reader).is_err(), "{bad}");
        }
        assert!(tokens.add("reader", &hash, Role::Reader).is_err());
    }
}
