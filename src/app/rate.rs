//! How many statements a second the users of a role may start.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::catalog::privileges::Role;
use crate::error::{Error, Kind, Result};
use crate::metrics;

/// A bucket of tokens: it fills steadily, holds those of a second, and each statement takes one.
#[derive(Debug)]
pub(super) struct Rate {
    role: Role,
    per_second: f64,
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    fn new(role: Role, per_second: f64) -> Self {
        Rate { role, per_second, state: Mutex::new((per_second.max(1.0), Instant::now())) }
    }

    /// Takes a token; refuses where there is none.
    pub(super) fn take(&self) -> Result<()> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Result<()> {
        let mut state = self.state.lock();
        let (tokens, last) = *state;
        let filled = now.saturating_duration_since(last).as_secs_f64() * self.per_second;
        let tokens = (tokens + filled).min(self.per_second.max(1.0));
        let enough = tokens >= 1.0;
        *state = (if enough { tokens - 1.0 } else { tokens }, last.max(now));
        drop(state);
        if !enough {
            metrics::refused("rate");
        }
        match enough {
            true => Ok(()),
            false => Err(Error::new(
                Kind::TooManyRequests,
                format!("the role {} may start {} statements a second", self.role.name(), self.per_second),
            )
            .with_hint("try again in a moment, or raise statements_per_second in the limits of the role")),
        }
    }
}

/// The rates of all roles; those without one are not limited.
#[derive(Debug, Clone, Default)]
pub struct Rates(Vec<Arc<Rate>>);

impl Rates {
    /// So many a second of each role.
    pub fn new(rates: impl IntoIterator<Item = (Role, f64)>) -> Self {
        Rates(rates.into_iter().map(|(role, per_second)| Arc::new(Rate::new(role, per_second))).collect())
    }

    pub(super) fn of(&self, role: Role) -> Option<Arc<Rate>> {
        self.0.iter().find(|rate| rate.role == role).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_has_so_many_and_no_more_are_saved() {
        let rates = Rates::new([(Role::Reader, 3.0)]);
        assert!(rates.of(Role::Admin).is_none());
        let rate = rates.of(Role::Reader).unwrap();
        let start = Instant::now();
        let passed =
            |at: u64| (0..10).filter(|_| rate.take_at(start + Duration::from_millis(at)).is_ok()).count();
        assert_eq!(passed(0), 3);
        assert_eq!(passed(400), 1);
        assert_eq!(passed(60_000), 3);
        assert_eq!(rate.take_at(start).unwrap_err().kind().sqlstate(), "53400");
    }
}
