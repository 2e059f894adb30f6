//! Distinct counts as a summary, for the accumulators.

use std::borrow::Borrow;
use std::ops::Range;

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{DataFusionError, exec_datafusion_err, exec_err};
use datafusion::error::Result;
use datasketches::hash::value::raw_bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};

use crate::sketch::envelope::{self, Envelope, Header, Kind};
use crate::sketch::item::{ItemBytes, ItemType};
use crate::sketch::state_type::StateType;
use crate::sketch::summary::{Summary, stored};
use crate::sketch::weight::WeightType;

/// The largest number of registers, as a power of two.
pub(crate) const MAX_LG_K: u8 = 21;

/// The parameters of a call.
#[derive(Debug)]
pub(crate) struct DistinctItems {
    pub(crate) item: ItemType,
    pub(crate) state: StateType,
    pub(crate) lg_k: u8,
}

/// The sketch of one group.
#[derive(Debug)]
pub(crate) struct Distinct {
    counted: Counted,
    heap: usize,
    /// Of what was merged.
    item: Option<ItemType>,
}

#[derive(Debug)]
enum Counted {
    Rows(HllSketch),
    /// Once a sketch was merged; rows go in here too.
    Merged(Box<HllUnion>),
}

fn invalid(error: datasketches::error::Error) -> DataFusionError {
    exec_datafusion_err!("the sketch cannot be read: {error}")
}

/// A stored sketch, taken out of its envelope.
pub(crate) fn read(bytes: &[u8]) -> Result<(ItemType, HllSketch)> {
    let envelope = Envelope::read(bytes, Kind::Distinct)?;
    if envelope.taken.is_some() {
        return exec_err!("the sketch is corrupt: a distinct count has one part");
    }
    registers_in_range(envelope.added)?;
    Ok((envelope.header.item, HllSketch::deserialize(envelope.added).map_err(invalid)?))
}

/// Checks what the library takes on trust: that no register is above 63, the zeros that a hash of 64 bits can begin with.
fn registers_in_range(bytes: &[u8]) -> Result<()> {
    // Where these stand in a sketch of registers.
    const SMALLEST: usize = 6;
    const MODE: usize = 7;
    const REGISTERS: usize = 40;
    let Some(mode) = bytes.get(MODE) else { return Ok(()) };
    let (of_registers, width) = (mode & 3 == 2, mode >> 2 & 3);
    let too_large = match width {
        0 => bytes[SMALLEST] > 63 - 15,
        2 => bytes.iter().skip(REGISTERS).any(|register| *register > 63),
        _ => false,
    };
    if of_registers && too_large {
        return exec_err!("the sketch is corrupt: a register is above 63");
    }
    Ok(())
}

impl Summary for DistinctItems {
    type Sketch = Distinct;
    type Rows = ItemBytes;

    fn empty(&self) -> Result<Distinct> {
        let sketch = HllSketch::new(self.lg_k, HllType::Hll8).map_err(invalid)?;
        let heap = sketch.estimated_size();
        Ok(Distinct { counted: Counted::Rows(sketch), heap, item: None })
    }

    fn rows(&self, columns: &[ArrayRef]) -> Result<ItemBytes> {
        ItemBytes::new(self.item, &columns[0])
    }

    fn update(&self, sketch: &mut Distinct, rows: &ItemBytes, range: Range<usize>) -> Result<()> {
        match &mut sketch.counted {
            Counted::Rows(hll) => {
                for row in range {
                    rows.with(row, |item| hll.update(raw_bytes::from_slice(item)));
                }
                sketch.heap = hll.estimated_size();
            }
            Counted::Merged(union) => {
                for row in range {
                    rows.with(row, |item| union.update_value(raw_bytes::from_slice(item)));
                }
            }
        }
        Ok(())
    }

    fn merge(&self, sketch: &mut Distinct, bytes: &[u8]) -> Result<()> {
        let (item, other) = read(bytes)?;
        if item.form() != self.item.form() || sketch.item.is_some_and(|known| known != item) {
            return exec_err!(
                "expected a sketch of {} items, got one of {item}",
                sketch.item.unwrap_or(self.item)
            );
        }
        sketch.item = Some(item);
        // A union takes the registers of the smallest only from sketches that have registers by now; they all have a size.
        let (known, so_far) = match &sketch.counted {
            Counted::Rows(hll) if hll.is_empty() => (None, MAX_LG_K),
            Counted::Rows(hll) => (Some(hll.clone()), hll.lg_config_k()),
            Counted::Merged(union) => (None, union.lg_max_k()),
        };
        let lg_k = so_far.min(other.lg_config_k());
        match &mut sketch.counted {
            Counted::Merged(union) if lg_k == so_far => union.update(&other),
            counted => {
                let mut union = HllUnion::new(lg_k).map_err(invalid)?;
                if let Counted::Merged(larger) = counted {
                    union.update(&larger.to_sketch(HllType::Hll8));
                }
                known.iter().for_each(|hll| union.update(hll));
                union.update(&other);
                *counted = Counted::Merged(Box::new(union));
            }
        }
        if let Counted::Merged(union) = &sketch.counted {
            // A sketch of registers does not grow any more; a copy of a smaller one is cheap.
            let registers = 1 << union.lg_config_k();
            if sketch.heap < registers {
                sketch.heap = union.to_sketch(HllType::Hll8).estimated_size();
            }
        }
        Ok(())
    }

    fn write(&self, sketch: &Distinct, out: &mut Vec<u8>) -> Result<bool> {
        let item = sketch.item.unwrap_or(self.item);
        let header = Header { kind: Kind::Distinct, item, weight: WeightType::One, seed: 0 };
        let bytes = match &sketch.counted {
            Counted::Rows(hll) => hll.serialize(),
            Counted::Merged(union) => union.to_sketch(HllType::Hll8).serialize(),
        };
        envelope::write(&header, out, |out| out.extend(&bytes), None::<fn(&mut Vec<u8>)>)?;
        Ok(true)
    }

    fn heap_size(&self, sketch: &Distinct) -> usize {
        sketch.heap
    }

    fn results<T: Borrow<Distinct>>(&self, sketches: impl ExactSizeIterator<Item = T>) -> Result<ArrayRef> {
        self.state.column(stored(self, sketches)?)
    }
}
