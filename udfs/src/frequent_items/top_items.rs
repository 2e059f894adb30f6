//! Top items as a summary, for the accumulators.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ListArray, StructArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;

use super::key::Key;
use super::signed::{Ranked, Signed};
use super::sketch::{MAX_LG_CAPACITY, MIN_LG_CAPACITY, ranks};
use crate::sketch::envelope::{Envelope, Header, Kind};
use crate::sketch::item::ItemType;
use crate::sketch::state_type::StateType;
use crate::sketch::summary::{Summary, stored};
use crate::sketch::weight::WeightType;

/// How many items are returned where a call does not say.
pub(crate) const DEFAULT_K: usize = 10;

/// Capacity for each item that is asked for, where a call does not say: so much that an item that leads was hardly ever
/// purged, whatever the rest is.
const CAPACITY_PER_ITEM: usize = 64;

/// The capacity where a call names neither it nor k.
const DEFAULT_LG_CAPACITY: u8 = 12;

/// The smallest power of two from `capacity` up.
pub(crate) fn lg_capacity(capacity: Option<i64>, k: Option<usize>, call: &str) -> Result<u8> {
    let lg = match (capacity, k) {
        (Some(capacity), _) => {
            let range = 1 << MIN_LG_CAPACITY..=1 << MAX_LG_CAPACITY;
            if !range.contains(&capacity) {
                return plan_err!(
                    "the capacity of {call} is between {} and {}, not {capacity}",
                    range.start(),
                    range.end()
                );
            }
            (capacity as u64).next_power_of_two().trailing_zeros() as u8
        }
        (None, Some(k)) => {
            let lg = (k as u64 * CAPACITY_PER_ITEM as u64).next_power_of_two().trailing_zeros() as u8;
            lg.clamp(DEFAULT_LG_CAPACITY, MAX_LG_CAPACITY)
        }
        (None, None) => DEFAULT_LG_CAPACITY,
    };
    match k {
        Some(k) => can_rank(lg, k).map(|()| lg),
        None => Ok(lg),
    }
}

/// The number of items that a call asks for.
pub(crate) fn k_of(k: Option<i64>, call: &str) -> Result<usize> {
    match k.unwrap_or(DEFAULT_K as i64) {
        k @ 1..=50_000_000 => Ok(k as usize),
        k => plan_err!("{call} returns between 1 and 50000000 items, not {k}"),
    }
}

/// Whether a sketch holds as many items as are asked for.
pub(crate) fn can_rank(lg_capacity: u8, k: usize) -> Result<()> {
    if k <= ranks(lg_capacity) {
        return Ok(());
    }
    let enough = (lg_capacity..=MAX_LG_CAPACITY).find(|lg| ranks(*lg) >= k).unwrap_or(MAX_LG_CAPACITY);
    exec_err!(
        "a sketch of capacity {} ranks at most {} items, not {k}: make it with a capacity of {} or more",
        1_u64 << lg_capacity,
        ranks(lg_capacity),
        1_u64 << enough
    )
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// The sketch.
    Sketch,
    /// The first k items.
    Top(usize),
}

/// The parameters of a call.
#[derive(Debug)]
pub(crate) struct TopItems<K> {
    pub(crate) item: ItemType,
    pub(crate) state: StateType,
    /// Nothing where sketches are combined and the largest capacity among them holds.
    pub(crate) lg_capacity: Option<u8>,
    pub(crate) output: Output,
    pub(crate) key: std::marker::PhantomData<K>,
}

/// A sketch, and what its items really are.
#[derive(Debug)]
pub(crate) struct Top<K> {
    items: Signed<K>,
    /// Of what was merged; a table may have kept the sketch as another type, such as a wider integer.
    item: Option<ItemType>,
}

impl<K: Key> Top<K> {
    /// Adds a stored sketch whose items are held as `K`.
    pub(crate) fn merge(&mut self, bytes: &[u8], declared: &TopItems<K>) -> Result<()> {
        let envelope = Envelope::read(bytes, Kind::FrequentItems)?;
        let header = envelope.header;
        if header.item.form() != declared.item.form() || self.item.is_some_and(|item| item != header.item) {
            let expected = self.item.unwrap_or(declared.item);
            return exec_err!("expected a sketch of {expected} items, got one of {}", header.item);
        }
        if !header.weight.adds_to(declared.state.weight) {
            return exec_err!(
                "expected a sketch of weights of type {}, got {}",
                declared.state.weight.sum_type(),
                header.weight.sum_type()
            );
        }
        self.item = Some(header.item);
        self.items.merge(&envelope, declared.lg_capacity.is_some())
    }
}

/// Columns of rows: the items, and their weights.
pub(crate) struct TopRows<K: Key> {
    items: K::Column,
    weights: Option<ScalarBuffer<i64>>,
}

impl<K: Key> Summary for TopItems<K> {
    type Sketch = Top<K>;
    type Rows = TopRows<K>;

    fn empty(&self) -> Result<Top<K>> {
        Ok(Top { items: Signed::new(self.lg_capacity.unwrap_or(MIN_LG_CAPACITY)), item: None })
    }

    fn rows(&self, columns: &[ArrayRef]) -> Result<TopRows<K>> {
        let weights = columns.get(1).map(|weights| self.state.weight.digits(weights)).transpose()?;
        Ok(TopRows { items: K::column(self.item, &columns[0])?, weights })
    }

    fn update(&self, sketch: &mut Top<K>, rows: &TopRows<K>, range: Range<usize>) -> Result<()> {
        match &rows.weights {
            None => sketch.items.count_rows(&rows.items, range),
            Some(weights) => sketch.items.add_rows(&rows.items, weights, range),
        }
    }

    fn merge(&self, sketch: &mut Top<K>, bytes: &[u8]) -> Result<()> {
        sketch.merge(bytes, self)
    }

    fn write(&self, sketch: &Top<K>, out: &mut Vec<u8>) -> Result<bool> {
        let item = sketch.item.unwrap_or(self.item);
        let header = Header { kind: Kind::FrequentItems, item, weight: self.state.weight, seed: 0 };
        sketch.items.write(&header, out)?;
        Ok(true)
    }

    fn heap_size(&self, sketch: &Top<K>) -> usize {
        sketch.items.heap_size()
    }

    fn results<T: Borrow<Top<K>>>(&self, sketches: impl ExactSizeIterator<Item = T>) -> Result<ArrayRef> {
        match self.output {
            Output::Sketch => self.state.column(stored(self, sketches)?),
            Output::Top(k) => self.lists(sketches.map(Some), k),
        }
    }
}

impl<K: Key> TopItems<K> {
    /// The first k items of each sketch, best first; ties by item. No sketch, no list.
    pub(crate) fn lists<T: Borrow<Top<K>>>(
        &self,
        sketches: impl ExactSizeIterator<Item = Option<T>>,
        k: usize,
    ) -> Result<ArrayRef> {
        let mut lengths = Vec::with_capacity(sketches.len());
        let mut nulls = Vec::with_capacity(sketches.len());
        let (mut items, mut item_type) = (K::Builder::default(), None);
        let mut estimates = vec![];
        let [mut lower, mut upper, mut added, mut taken] = [const { Column::Same }; 4];
        for sketch in sketches {
            nulls.push(sketch.is_some());
            let Some(sketch) = &sketch else {
                lengths.push(0);
                continue;
            };
            let sketch: &Top<K> = sketch.borrow();
            let of_sketch = sketch.item.unwrap_or(self.item);
            let item_type = *item_type.get_or_insert(of_sketch);
            if of_sketch != item_type {
                return exec_err!("one column has sketches of {item_type} and of {of_sketch} items");
            }
            // A sketch that never dropped anything has all items, be they fewer than asked for.
            if !sketch.items.is_exact() {
                can_rank(sketch.items.lg_capacity(), k)?;
            }
            let order = |a: &Ranked<K::Item<'_>>, b: &Ranked<K::Item<'_>>| {
                b.estimate.cmp(&a.estimate).then_with(|| K::order(item_type, a.item, b.item))
            };
            let mut ranked = sketch.items.ranked();
            if ranked.len() > k {
                ranked.select_nth_unstable_by(k, order);
                ranked.truncate(k);
            }
            ranked.sort_unstable_by(order);
            lengths.push(ranked.len());
            for r in &ranked {
                K::append(&mut items, r.item);
                lower.push(&estimates, r.estimate, r.lower);
                upper.push(&estimates, r.estimate, r.upper);
                if self.state.weight != WeightType::One {
                    added.push(&estimates, r.estimate, r.added);
                    taken.push(&estimates, r.estimate, r.taken);
                }
                estimates.push(r.estimate);
            }
        }
        let weight = match self.state.weight {
            WeightType::One => WeightType::Integer,
            weight => weight,
        };
        let fields = result_fields(&self.state);
        let estimates = weight.sums(estimates)?;
        let mut values =
            vec![K::finish(items, item_type.unwrap_or(self.item), &self.state.item)?, Arc::clone(&estimates)];
        for column in [lower, upper, added, taken].into_iter().take(fields.len() - values.len()) {
            values.push(match column {
                Column::Same => Arc::clone(&estimates),
                Column::Own(column) => weight.sums(column)?,
            });
        }
        let rows = StructArray::try_new(fields, values, None)?;
        let element = Arc::new(Field::new_list_field(rows.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(element, offsets, Arc::new(rows), Some(nulls.into()))?))
    }
}

/// A column beside the estimates: the same as they are while every count is exact, and then not kept twice.
enum Column {
    Same,
    Own(Vec<i64>),
}

impl Column {
    /// Adds a value beside an estimate that is about to be added to `estimates`.
    fn push(&mut self, estimates: &[i64], estimate: i64, value: i64) {
        if let Column::Same = self
            && value != estimate
        {
            *self = Column::Own(estimates.to_vec());
        }
        if let Column::Own(column) = self {
            column.push(value);
        }
    }
}

fn result_fields(state: &StateType) -> Fields {
    let sum = || state.weight.sum_type();
    let names: &[&str] = match state.weight {
        WeightType::One => &["count", "lower", "upper"],
        _ => &["sum", "lower", "upper", "added", "taken"],
    };
    let mut fields = vec![Field::new("item", state.item.clone(), true)];
    fields.extend(names.iter().map(|name| Field::new(*name, sum(), true)));
    fields.into()
}

/// The type of a list of top items.
pub(crate) fn result_type(state: &StateType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(result_fields(state)), true)))
}
