//! Count-min sketches as a summary, for the accumulators: what was added, and what was taken off again.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::common::exec_err;
use datafusion::error::Result;

use super::table::{Shape, Stored, Table};
use crate::sketch::envelope::{self, Envelope, Header, Kind};
use crate::sketch::item::{ItemBytes, ItemType};
use crate::sketch::state_type::StateType;
use crate::sketch::summary::{Summary, stored};

/// The parameters of a call.
#[derive(Debug)]
pub(crate) struct CountMin {
    pub(crate) item: ItemType,
    pub(crate) state: StateType,
    /// Nothing where sketches are combined; then it is theirs.
    pub(crate) shape: Option<Arc<Shape>>,
}

/// Counters of a difference.
#[derive(Debug)]
pub(crate) struct Weighted {
    shape: Option<Arc<Shape>>,
    added: Table,
    /// Made when the first negative weight comes.
    taken: Option<Box<Table>>,
    /// Of what was merged.
    item: Option<ItemType>,
}

/// Columns of rows: the items, and their weights.
pub(crate) struct WeightedRows {
    items: ItemBytes,
    weights: Option<ScalarBuffer<i64>>,
}

impl Summary for CountMin {
    type Sketch = Weighted;
    type Rows = WeightedRows;

    fn empty(&self) -> Result<Weighted> {
        Ok(Weighted { shape: self.shape.clone(), added: Table::new(), taken: None, item: None })
    }

    fn rows(&self, columns: &[ArrayRef]) -> Result<WeightedRows> {
        let weights = columns.get(1).map(|weights| self.state.weight.digits(weights)).transpose()?;
        Ok(WeightedRows { items: ItemBytes::new(self.item, &columns[0])?, weights })
    }

    fn update(&self, sketch: &mut Weighted, rows: &WeightedRows, range: Range<usize>) -> Result<()> {
        let Some(shape) = &self.shape else { return Ok(()) };
        for row in range {
            let weight = rows.weights.as_ref().map_or(1, |weights| weights[row]);
            let table = match weight {
                0 => continue,
                1.. => &mut sketch.added,
                _ => sketch.taken.get_or_insert_with(|| Box::new(Table::new())),
            };
            rows.items.with(row, |item| table.add(shape, item, weight.unsigned_abs()))?;
        }
        Ok(())
    }

    fn merge(&self, sketch: &mut Weighted, bytes: &[u8]) -> Result<()> {
        let envelope = Envelope::read(bytes, Kind::CountMin)?;
        let header = envelope.header;
        if header.item.form() != self.item.form() || sketch.item.is_some_and(|item| item != header.item) {
            let expected = sketch.item.unwrap_or(self.item);
            return exec_err!("expected a sketch of {expected} items, got one of {}", header.item);
        }
        if !header.weight.adds_to(self.state.weight) {
            return exec_err!("the sketches have weights of different types");
        }
        let like = sketch.shape.as_deref();
        let added = Stored::read(envelope.added, header.seed, like)?;
        let taken =
            envelope.taken.map(|taken| Stored::read(taken, header.seed, Some(&added.shape))).transpose()?;
        if like.is_some_and(|shape| *shape != added.shape)
            || taken.as_ref().is_some_and(|t| t.shape != added.shape)
        {
            return exec_err!("count-min sketches of different eps, confidence or seed cannot be merged");
        }
        added.merge_into(&mut sketch.added)?;
        if let Some(taken) = taken {
            taken.merge_into(sketch.taken.get_or_insert_with(|| Box::new(Table::new())))?;
        }
        sketch.item = Some(header.item);
        sketch.shape.get_or_insert_with(|| Arc::new(added.shape));
        Ok(())
    }

    fn write(&self, sketch: &Weighted, out: &mut Vec<u8>) -> Result<bool> {
        // No sketch was merged, so there is no shape to give it.
        let Some(shape) = &sketch.shape else { return Ok(false) };
        let item = sketch.item.unwrap_or(self.item);
        let header = Header { kind: Kind::CountMin, item, weight: self.state.weight, seed: shape.seed };
        let taken = sketch.taken.as_ref().map(|taken| |out: &mut Vec<u8>| taken.write(shape, out));
        envelope::write(&header, out, |out| sketch.added.write(shape, out), taken)?;
        Ok(true)
    }

    fn heap_size(&self, sketch: &Weighted) -> usize {
        let taken = sketch.taken.as_ref().map(|t| size_of::<Table>() + t.heap_size());
        sketch.added.heap_size() + taken.unwrap_or_default()
    }

    fn results<T: Borrow<Weighted>>(&self, sketches: impl ExactSizeIterator<Item = T>) -> Result<ArrayRef> {
        self.state.column(stored(self, sketches)?)
    }
}

/// A stored sketch, taken apart to be asked.
pub(crate) struct Decoded<'a> {
    pub(crate) item: ItemType,
    pub(crate) added: Stored<'a>,
    taken: Option<Stored<'a>>,
}

impl<'a> Decoded<'a> {
    pub(crate) fn read(bytes: &'a [u8], like: Option<&Shape>) -> Result<Self> {
        let envelope = Envelope::read(bytes, Kind::CountMin)?;
        let seed = envelope.header.seed;
        let added = Stored::read(envelope.added, seed, like)?;
        let taken = envelope.taken.map(|taken| Stored::read(taken, seed, Some(&added.shape))).transpose()?;
        Ok(Decoded { item: envelope.header.item, added, taken })
    }

    pub(crate) fn estimate(&self, item: &[u8]) -> i64 {
        let taken = self.taken.as_ref().map_or(0, |taken| taken.estimate(item));
        self.added.estimate(item) as i64 - taken as i64
    }

    /// How wrong an estimate may be, in digits of the weights.
    pub(crate) fn error(&self) -> f64 {
        let bound = |part: &Stored<'_>| part.shape.eps() * part.weight as f64;
        bound(&self.added) + self.taken.as_ref().map_or(0.0, bound)
    }
}
