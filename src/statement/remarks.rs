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

    /// Makes one, where the configuration is that of a statement somebody waits for.
    pub fn make(config: &SessionConfig, remark: &str) {
        if let Some(remarks) = config.get_extension::<Remarks>() {
            remarks.add(remark.to_owned());
        }
    }

    /// One more, if it was not made yet.
    pub(super) fn add(&self, remark: String) {
        let mut remarks = self.0.lock();
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }

    /// All of them as one notice.
    pub(super) fn notice(&self) -> Option<String> {
        let remarks = std::mem::take(&mut *self.0.lock());
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}
