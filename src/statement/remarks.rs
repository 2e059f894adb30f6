//! What planning has to say to whoever waits for a statement.

use std::sync::Arc;

use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;

/// The remarks of one statement; planners find them in its configuration.
#[derive(Debug, Default)]
pub struct Remarks(Mutex<Vec<String>>);

impl Remarks {
    /// Puts fresh ones into a statement's configuration.
    pub(super) fn install(config: &mut SessionConfig) -> Arc<Self> {
        let remarks = Arc::<Remarks>::default();
        config.set_extension(Arc::clone(&remarks));
        remarks
    }

    /// Makes one, where the configuration is that of a statement somebody waits for; once, however often it is made.
    pub fn make(config: &SessionConfig, remark: &str) {
        let Some(remarks) = config.get_extension::<Remarks>() else { return };
        let mut remarks = remarks.0.lock();
        if !remarks.iter().any(|known| known == remark) {
            remarks.push(remark.to_owned());
        }
    }

    /// All of them as one notice.
    pub(super) fn notice(&self) -> Option<String> {
        let remarks = std::mem::take(&mut *self.0.lock());
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}
