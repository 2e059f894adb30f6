//! The accumulator of an aggregate without GROUP BY, for any kind of sketch.

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;

use super::summary::{Batch, Input, Summary, stored};

/// One sketch.
#[derive(Debug)]
pub(crate) struct SketchAccumulator<S: Summary> {
    summary: S,
    input: Input,
    sketch: S::Sketch,
}

impl<S: Summary> SketchAccumulator<S> {
    pub(crate) fn try_new(summary: S, input: Input) -> Result<Self> {
        let sketch = summary.empty()?;
        Ok(SketchAccumulator { summary, input, sketch })
    }

    fn add(&mut self, batch: &Batch) -> Result<()> {
        if let Some((columns, _)) = batch.rows(None)? {
            let rows = self.summary.rows(&columns)?;
            self.summary.update(&mut self.sketch, &rows, 0..columns[0].len())?;
        }
        for bytes in batch.sketches().into_iter().flatten().flatten() {
            self.summary.merge(&mut self.sketch, bytes)?;
        }
        Ok(())
    }
}

impl<S: Summary> Accumulator for SketchAccumulator<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&self.input.of_arguments(values)?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add(&self.input.of_state(states)?)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sketch = stored(&self.summary, std::iter::once(&self.sketch))?;
        self.input.state_of(sketch).iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.summary.results(std::iter::once(&self.sketch))?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.summary.heap_size(&self.sketch)
    }
}
