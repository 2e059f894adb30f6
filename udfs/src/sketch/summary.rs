//! What the accumulators need to know of a kind of sketch.

use std::borrow::Borrow;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, new_null_array};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::{filter, nullif};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;

use super::state_type::sketch_bytes_of;

/// A kind of sketch with its parameters: how rows go in, how sketches merge, what comes out.
pub(crate) trait Summary: Debug + Send + Sync + 'static {
    /// The sketch of one group.
    type Sketch: Send + Sync + Debug;
    /// A batch of rows, decoded.
    type Rows;

    fn empty(&self) -> Result<Self::Sketch>;

    /// Decodes columns of rows; what is NULL has been left out.
    fn rows(&self, columns: &[ArrayRef]) -> Result<Self::Rows>;

    /// Adds a range of rows.
    fn update(&self, sketch: &mut Self::Sketch, rows: &Self::Rows, range: Range<usize>) -> Result<()>;

    /// Adds a stored sketch.
    fn merge(&self, sketch: &mut Self::Sketch, bytes: &[u8]) -> Result<()>;

    /// Writes the sketch as it is stored. A sketch of nothing at all may have no form; then this is false.
    fn write(&self, sketch: &Self::Sketch, out: &mut Vec<u8>) -> Result<bool>;

    /// Bytes on the heap, in constant time.
    fn heap_size(&self, sketch: &Self::Sketch) -> usize;

    /// The results of sketches. Those that are handed over make room for their results as they go.
    fn results<T: Borrow<Self::Sketch>>(
        &self,
        sketches: impl ExactSizeIterator<Item = T>,
    ) -> Result<ArrayRef>;
}

/// What an aggregate is given.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Rows: these of its arguments, with their types. The others are constants.
    Rows(Vec<(usize, DataType)>),
    /// Sketches, as its first argument.
    Sketches,
}

/// The sketch in an intermediate state.
const SKETCH: &str = "sketch";

impl Input {
    /// The intermediate state: the rows themselves or a sketch, never both. So what is passed on as it came needs no sketch
    /// made for it.
    pub(crate) fn state_fields(&self, name: &str) -> Vec<FieldRef> {
        let field = |what: &str, t: DataType| Arc::new(Field::new(format!("{name}[{what}]"), t, true));
        let mut fields = vec![];
        if let Input::Rows(columns) = self {
            fields.extend(columns.iter().map(|(i, t)| field(&format!("argument {i}"), t.clone())));
        }
        fields.push(field(SKETCH, DataType::Binary));
        fields
    }

    /// The state that holds these sketches.
    pub(crate) fn state_of(&self, sketches: BinaryArray) -> Vec<ArrayRef> {
        let rows = sketches.len();
        let mut state = match self {
            Input::Rows(columns) => columns.iter().map(|(_, t)| new_null_array(t, rows)).collect(),
            Input::Sketches => vec![],
        };
        state.push(Arc::new(sketches));
        state
    }

    /// The state that passes arguments on as they came, for the rows that `keep` has.
    pub(crate) fn passed_on(
        &self,
        arguments: &[ArrayRef],
        keep: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let drop = keep.map(|keep| BooleanArray::new(!&kept(keep), None));
        let keep = |column: &ArrayRef| match &drop {
            None => Ok(Arc::clone(column)),
            Some(drop) => nullif(column, drop),
        };
        Ok(match self {
            Input::Rows(columns) => {
                let rows = arguments[0].len();
                let mut state =
                    columns.iter().map(|(i, _)| keep(&arguments[*i])).collect::<Result<Vec<_>, _>>()?;
                state.push(new_null_array(&DataType::Binary, rows));
                state
            }
            Input::Sketches => vec![keep(&(Arc::new(sketch_bytes_of(&arguments[0])?) as ArrayRef))?],
        })
    }

    /// The arguments that are rows or sketches, in the form of an intermediate state.
    pub(crate) fn of_arguments(&self, arguments: &[ArrayRef]) -> Result<Batch> {
        match self {
            Input::Rows(columns) => {
                let columns = columns.iter().map(|(i, _)| Arc::clone(&arguments[*i])).collect();
                Ok(Batch { columns, sketches: None })
            }
            Input::Sketches => Ok(Batch { columns: vec![], sketches: Some(sketch_bytes_of(&arguments[0])?) }),
        }
    }

    /// Takes an intermediate state apart.
    pub(crate) fn of_state(&self, state: &[ArrayRef]) -> Result<Batch> {
        let Some((sketches, columns)) = state.split_last() else {
            return internal_err!("a sketch's state has no columns");
        };
        let sketches = sketch_bytes_of(sketches)?;
        let columns = if sketches.null_count() == 0 { vec![] } else { columns.to_vec() };
        Ok(Batch { columns, sketches: Some(sketches) })
    }
}

/// Rows and sketches that go in together.
pub(crate) struct Batch {
    columns: Vec<ArrayRef>,
    sketches: Option<BinaryArray>,
}

impl Batch {
    /// The sketches.
    pub(crate) fn sketches(&self) -> Option<&BinaryArray> {
        self.sketches.as_ref().filter(|s| s.null_count() < s.len())
    }

    /// The rows in which nothing is NULL, and which those are; none if there are no rows at all.
    pub(crate) fn rows(
        &self,
        keep: Option<&BooleanArray>,
    ) -> Result<Option<(Vec<ArrayRef>, Option<BooleanArray>)>> {
        let Some(first) = self.columns.first() else { return Ok(None) };
        let nulls = self.columns.iter().fold(None, |nulls, column| {
            NullBuffer::union(nulls.as_ref(), column.logical_nulls().filter(|n| n.null_count() > 0).as_ref())
        });
        let chosen = match (keep.map(kept), nulls) {
            (None, None) => return Ok(Some((self.columns.clone(), None))),
            (Some(keep), None) => keep,
            (None, Some(valid)) => valid.inner().clone(),
            (Some(keep), Some(valid)) => &keep & valid.inner(),
        };
        if chosen.count_set_bits() == first.len() {
            return Ok(Some((self.columns.clone(), None)));
        }
        let chosen = BooleanArray::new(chosen, None);
        let columns = self.columns.iter().map(|c| filter(c, &chosen)).collect::<Result<Vec<_>, _>>()?;
        Ok(Some((columns, Some(chosen))))
    }
}

/// The rows that a FILTER keeps: not those where it is NULL.
pub(crate) fn kept(keep: &BooleanArray) -> BooleanBuffer {
    match keep.nulls() {
        None => keep.values().clone(),
        Some(nulls) => keep.values() & nulls.inner(),
    }
}

/// The stored form of sketches.
pub(crate) fn stored<S: Summary, T: Borrow<S::Sketch>>(
    summary: &S,
    sketches: impl ExactSizeIterator<Item = T>,
) -> Result<BinaryArray> {
    let groups = sketches.len();
    let mut builder = BinaryBuilder::with_capacity(groups, 0);
    let mut bytes = vec![];
    for sketch in sketches {
        bytes.clear();
        let written = summary.write(sketch.borrow(), &mut bytes)?;
        if builder.values_slice().len() + bytes.len() > i32::MAX as usize {
            return exec_err!(
                "the sketches of {groups} groups take more than 2 GiB: use smaller sketches, or fewer groups at a time"
            );
        }
        builder.append_option(written.then_some(&bytes));
    }
    Ok(builder.finish())
}
