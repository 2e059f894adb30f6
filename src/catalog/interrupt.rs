//! Whether a statement may still be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

/// Of one statement: it may be stopped until it commits. From then on the store decides what becomes of it, so whoever would
/// stop it has to wait and hear.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicU8>);

const RUNNING: u8 = 0;
const COMMITTING: u8 = 1;
const STOPPED: u8 = 2;

impl Interrupt {
    /// Stops the statement; false if it is too late for that.
    pub fn stop(&self) -> bool {
        self.go(STOPPED)
    }

    /// Begins to commit. Fails if the statement was stopped.
    pub fn commit(&self) -> Result<()> {
        if self.go(COMMITTING) { Ok(()) } else { Err(Error::cancelled("the statement was stopped")) }
    }

    /// Whether it was stopped, and may not write any more.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STOPPED
    }

    fn go(&self, to: u8) -> bool {
        match self.0.compare_exchange(RUNNING, to, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(now) => now == to,
        }
    }
}
