//! Whether two sketches of top items may be of the same rows.

use datafusion::error::Result;

use super::key::{Key, Text};
use super::sketch::{Bounds, FrequentItems, Stored};
use crate::sketch::envelope::Envelope;
use crate::sketch::item::Form;

/// Whether the total weights are equal and the bounds of every item that either knows have a value in common.
pub(crate) fn agree(a: &Envelope<'_>, b: &Envelope<'_>) -> Result<bool> {
    let parts = |added, taken| match a.header.item.form() {
        Form::Long => parts_agree::<i64>(added, taken),
        Form::Bytes => parts_agree::<Text>(added, taken),
    };
    Ok(parts(Some(a.added), Some(b.added))? && parts(a.taken, b.taken)?)
}

fn parts_agree<K: Key>(a: Option<&[u8]>, b: Option<&[u8]>) -> Result<bool> {
    let read = |bytes: Option<&[u8]>| -> Result<FrequentItems<K>> {
        let mut sketch = FrequentItems::default();
        if let Some(bytes) = bytes {
            let stored = Stored::read(bytes)?;
            let lg_capacity = stored.lg_capacity;
            stored.merge_into(&mut sketch, lg_capacity)?;
        }
        Ok(sketch)
    };
    let (a, b) = (read(a)?, read(b)?);
    let common = |a: Bounds, b: Bounds| a.lower <= b.upper && b.lower <= a.upper;
    Ok(a.weight() == b.weight()
        && a.items().all(|item| common(a.bounds(item), b.bounds(item)))
        && b.items().all(|item| common(a.bounds(item), b.bounds(item))))
}
