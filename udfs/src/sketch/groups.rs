//! The accumulator of an aggregate with GROUP BY, for any kind of sketch.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::summary::{Batch, Input, Summary, kept, stored};

/// A sketch for each group.
#[derive(Debug)]
pub(crate) struct SketchGroups<S: Summary> {
    summary: S,
    input: Input,
    sketches: Vec<S::Sketch>,
    /// Heap bytes of all sketches.
    heap: usize,
}

impl<S: Summary> SketchGroups<S> {
    pub(crate) fn new(summary: S, input: Input) -> Self {
        SketchGroups { summary, input, sketches: vec![], heap: 0 }
    }

    fn add(
        &mut self,
        batch: &Batch,
        groups: &[usize],
        keep: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        while self.sketches.len() < total {
            let sketch = self.summary.empty()?;
            self.heap += self.summary.heap_size(&sketch);
            self.sketches.push(sketch);
        }
        if let Some((columns, chosen)) = batch.rows(keep)? {
            let rows = self.summary.rows(&columns)?;
            let of_chosen: Vec<usize>;
            let groups = match &chosen {
                None => groups,
                Some(chosen) => {
                    of_chosen = chosen.values().set_indices().map(|row| groups[row]).collect();
                    &of_chosen
                }
            };
            // Neighbouring rows of one group, as in rows sorted by time, go in together.
            let mut from = 0;
            for run in groups.chunk_by(|a, b| a == b) {
                let to = from + run.len();
                self.change(run[0], |summary, sketch| summary.update(sketch, &rows, from..to))?;
                from = to;
            }
        }
        if let Some(sketches) = batch.sketches() {
            let keep = keep.map(kept);
            for (row, group) in groups.iter().enumerate() {
                if sketches.is_valid(row) && keep.as_ref().is_none_or(|keep| keep.value(row)) {
                    self.change(*group, |summary, sketch| summary.merge(sketch, sketches.value(row)))?;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn change(&mut self, group: usize, change: impl FnOnce(&S, &mut S::Sketch) -> Result<()>) -> Result<()> {
        let sketch = &mut self.sketches[group];
        let before = self.summary.heap_size(sketch);
        change(&self.summary, sketch)?;
        self.heap = self.heap + self.summary.heap_size(sketch) - before;
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<S::Sketch> {
        let taken = emit_to.take_needed(&mut self.sketches);
        self.heap -= taken.iter().map(|s| self.summary.heap_size(s)).sum::<usize>();
        taken
    }
}

impl<S: Summary> GroupsAccumulator for SketchGroups<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.add(&self.input.of_arguments(values)?, group_indices, opt_filter, total_num_groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.add(&self.input.of_state(values)?, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let taken = self.take(emit_to);
        self.summary.results(taken.into_iter())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let taken = self.take(emit_to);
        Ok(self.input.state_of(stored(&self.summary, taken.into_iter())?))
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.input.passed_on(values, opt_filter)
    }

    fn size(&self) -> usize {
        self.sketches.capacity() * size_of::<S::Sketch>() + self.heap
    }
}
