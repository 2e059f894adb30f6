//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the client proves that it knows the password, and the server that it knows the
//! verifier. Neither says it. What is kept of a password is PostgreSQL's own form of a verifier.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use super::error::Failure;
use crate::error::Error;

/// The mechanism's name.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";

/// Rounds of a new verifier, as in PostgreSQL.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);
/// Bytes of SHA-256.
const LENGTH: usize = 32;

type Key = [u8; LENGTH];

/// What a server keeps of a password. It does not let anybody in who steals it, but for guessing.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    stored: Key,
    server: Key,
}

impl Verifier {
    /// The verifier of a password, with a new salt.
    pub fn of(password: &str) -> Self {
        Self::with(password, &rand::random::<[u8; 16]>(), ROUNDS)
    }

    fn with(password: &str, salt: &[u8], rounds: NonZeroU32) -> Self {
        // As PostgreSQL does: what cannot be normalized is taken as it is.
        let normal = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = [0; LENGTH];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, normal.as_bytes(), &mut salted);
        let stored = sha256(&mac(&salted, b"Client Key"));
        Verifier { rounds, salt: salt.to_vec(), stored, server: mac(&salted, b"Server Key") }
    }

    /// A verifier that no password fits, for a user that does not exist: always the same for a name, and of the same shape
    /// as this one, so that nothing tells it from that of a user.
    pub(super) fn decoy(&self, name: &str) -> Self {
        let secret = mac(&self.server, b"users that do not exist");
        let derived = |what: &str| mac(&secret, format!("{what} {name}").as_bytes());
        let salt = derived("salt").iter().copied().cycle().take(self.salt.len()).collect();
        Verifier { rounds: self.rounds, salt, stored: derived("stored"), server: derived("server") }
    }
}

/// `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored) = (BASE64.encode(&self.salt), BASE64.encode(self.stored));
        write!(f, "{MECHANISM}${}:{salt}${stored}:{}", self.rounds, BASE64.encode(self.server))
    }
}

/// It lets nobody in, and still does not belong into a log.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl FromStr for Verifier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = || {
            let (rounds, rest) = text.strip_prefix(MECHANISM)?.strip_prefix('$')?.split_once(':')?;
            let (salt, keys) = rest.split_once('$')?;
            let (stored, server) = keys.split_once(':')?;
            let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
            Some(Verifier { rounds: rounds.parse().ok()?, salt, stored: key(stored)?, server: key(server)? })
        };
        parts().ok_or_else(|| {
            Error::invalid_input(format!(
                "the verifier is not of the form {MECHANISM}$rounds:salt$StoredKey:ServerKey"
            ))
            .with_hint("toplake user NAME makes one of a password")
        })
    }
}

fn key(text: &str) -> Option<Key> {
    BASE64.decode(text).ok()?.try_into().ok()
}

fn mac(key: &[u8], message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut bytes = [0; LENGTH];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn sha256(bytes: &[u8]) -> Key {
    let mut hash = [0; LENGTH];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// An exchange of which the first half is done.
pub(super) struct Exchange {
    verifier: Verifier,
    /// What the client has to repeat at the end, so that nobody between us took the offer of a better mechanism away.
    binding: String,
    nonce: String,
    /// The client's first message without its header, and the answer to it.
    said: String,
    /// The answer to the client's first message.
    pub(super) answer: String,
}

impl Exchange {
    /// Answers the client's first message: `n,,n=,r=nonce`.
    pub(super) fn begin(verifier: Verifier, first: &[u8]) -> Result<Self, Failure> {
        Self::begin_with(verifier, first, &BASE64.encode(rand::random::<[u8; 18]>()))
    }

    fn begin_with(verifier: Verifier, first: &[u8], nonce: &str) -> Result<Self, Failure> {
        let first = text(first)?;
        let (header, bare) = ["n,,", "y,,"]
            .iter()
            .find_map(|header| Some((header, first.strip_prefix(header)?)))
            .ok_or_else(|| malformed("channel binding and other identities are not supported"))?;
        // The name in it is not looked at, as in PostgreSQL: it is that of the startup message.
        let (_, rest) = bare.strip_prefix("n=").and_then(|b| b.split_once(',')).ok_or_else(no_nonce)?;
        let theirs = rest.split(',').next().and_then(|r| r.strip_prefix("r=")).ok_or_else(no_nonce)?;
        if theirs.is_empty() || !theirs.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(no_nonce());
        }
        let nonce = format!("{theirs}{nonce}");
        let answer = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.rounds);
        let said = format!("{bare},{answer}");
        Ok(Exchange { verifier, binding: BASE64.encode(header), nonce, said, answer })
    }

    /// Checks the client's last message, `c=…,r=nonce,p=proof`. Gives what proves to the client that this is the server, or
    /// none when the password is wrong.
    pub(super) fn end(&self, last: &[u8]) -> Result<Option<String>, Failure> {
        let last = text(last)?;
        let (without_proof, proof) =
            last.rsplit_once(",p=").ok_or_else(|| malformed("the proof is missing"))?;
        let mut parts = without_proof.split(',');
        if parts.next().and_then(|p| p.strip_prefix("c=")) != Some(&self.binding) {
            return Err(malformed("the channel binding is not that of the first message"));
        }
        if parts.next().and_then(|p| p.strip_prefix("r=")) != Some(&self.nonce) {
            return Err(malformed("the nonce is not that of the first message"));
        }
        let proof = key(proof).ok_or_else(|| malformed("the proof cannot be read"))?;
        let message = format!("{},{without_proof}", self.said);
        let mut client = mac(&self.verifier.stored, message.as_bytes());
        client.iter_mut().zip(proof).for_each(|(a, b)| *a ^= b);
        // All of it, however early a difference is found.
        let different = sha256(&client).iter().zip(self.verifier.stored).fold(0, |d, (a, b)| d | (a ^ b));
        let signature = mac(&self.verifier.server, message.as_bytes());
        Ok((std::hint::black_box(different) == 0).then(|| format!("v={}", BASE64.encode(signature))))
    }
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))
}

fn no_nonce() -> Failure {
    malformed("the nonce is missing")
}

fn malformed(why: &str) -> Failure {
    Failure::protocol(format!("malformed SCRAM message: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn pencil() -> Verifier {
        Verifier::with("pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), ROUNDS)
    }

    #[test]
    fn it_is_the_standards_exchange() {
        let exchange = Exchange::begin_with(pencil(), FIRST.as_bytes(), NONCE).unwrap();
        assert_eq!(
            exchange.answer,
            format!("r=rOprNGfwEbeRWgbNEkqO{NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
        );
        let end = exchange.end(LAST.as_bytes()).unwrap();
        assert_eq!(end.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn a_wrong_password_and_a_user_that_does_not_exist_fail_alike() {
        let wrong = Verifier::with("pencil?", &pencil().salt, ROUNDS);
        for verifier in [wrong, pencil().decoy("nobody")] {
            let exchange = Exchange::begin_with(verifier, FIRST.as_bytes(), NONCE).unwrap();
            assert_eq!(exchange.end(LAST.as_bytes()).unwrap(), None);
        }
        let decoy = pencil().decoy("nobody");
        assert_eq!(decoy, pencil().decoy("nobody"));
        assert_ne!(decoy.salt, pencil().decoy("somebody").salt);
        assert_eq!((decoy.salt.len(), decoy.rounds), (pencil().salt.len(), ROUNDS));
    }

    #[test]
    fn a_verifier_is_written_as_postgres_writes_it() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(pencil().to_string(), text);
        assert_eq!(text.parse::<Verifier>().unwrap(), pencil());
        assert_ne!(Verifier::of("a"), Verifier::of("a"), "each has a salt of its own");
        for bad in ["", "md5abc", "SCRAM-SHA-256$0:YQ==$YQ==:YQ==", "SCRAM-SHA-256$4096:$a:b", &text[..90]] {
            assert!(bad.parse::<Verifier>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_does_not_follow_the_standard_is_refused() {
        let begin = |first: &str| Exchange::begin_with(pencil(), first.as_bytes(), NONCE).err();
        for first in [
            "",
            "n,,",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,m=x,n=user,r=abc",
            "n,a=admin,n=user,r=abc",
            "p=tls-server-end-point,,n=,r=abc",
            "n,,n=user,r=a\u{7f}",
        ] {
            assert_eq!(begin(first).map(|f| f.sqlstate), Some("08P01"), "{first}");
        }
        let exchange = Exchange::begin_with(pencil(), FIRST.as_bytes(), NONCE).unwrap();
        for (from, to) in
            [("c=biws", "c=eSws"), ("r=rO", "r=r0"), ("p=dH", "q=dH"), ("p=dH", "p="), ("c=", "")]
        {
            let last = LAST.replacen(from, to, 1);
            assert!(exchange.end(last.as_bytes()).is_err(), "{last}");
        }
    }
}
