//! A plan that is optimised once and run on one batch after another.
//!
//! Polars plans each query anew for the frame that it scans, which takes longer than the work on a thousand rows. What
//! the optimiser does depends on the SQL and the types alone, so the optimised plan is kept, with a hole where that
//! frame was.

use std::sync::Arc;

use polars::prelude::{DataFrame, LazyFrame, PlSmallStr, PolarsResult, Schema};
use polars_expr::state::ExecutionState;
use polars_mem_engine::create_physical_plan;
use polars_plan::plans::prune::prune_plan;
use polars_plan::plans::{ArenaLpIter, IR, IRPlan};
use polars_plan::prelude::Node;

use super::ROW;

/// The frame to plan for: these columns and [`ROW`], and one row, by which it is known again.
pub(crate) fn stand_in(columns: &Schema) -> PolarsResult<DataFrame> {
    DataFrame::full_null(columns, 1).with_row_index(ROW, None)
}

/// An optimised plan with a hole where a frame goes.
pub(crate) struct Compiled {
    plan: IRPlan,
    /// The scans of that frame. None is left where the optimiser saw that nothing is kept, as of `WHERE FALSE`.
    holes: Vec<Node>,
    reads: Vec<PlSmallStr>,
}

impl Compiled {
    /// Optimises a query over [`stand_in`], which stands for all frames of that schema.
    pub(crate) fn new(query: LazyFrame) -> PolarsResult<Self> {
        // Without what the optimiser has replaced.
        let plan = prune_plan(query.to_alp_optimized()?.as_ref());
        let (mut holes, mut reads) = (Vec::new(), Vec::new());
        for (node, ir) in plan.lp_arena.iter(plan.lp_top) {
            match ir {
                // The optimiser puts other frames of so many rows in its place, and one of none where nothing is kept.
                IR::DataFrameScan { df, schema, output_schema }
                    if schema.contains(&ROW) && df.height() == 1 =>
                {
                    holes.push(node);
                    for column in output_schema.as_ref().unwrap_or(schema).iter_names() {
                        if !reads.contains(column) {
                            reads.push(column.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Self { plan, holes, reads })
    }

    /// The columns that a frame must have, in this order.
    pub(crate) fn reads(&self) -> &[PlSmallStr] {
        &self.reads
    }

    /// The result for a frame of the columns that are read.
    pub(crate) fn run(&self, frame: DataFrame) -> PolarsResult<DataFrame> {
        let frame = Arc::new(frame);
        // What runs is made of the nodes, which it takes away.
        let (mut lp_arena, mut expr_arena) = (self.plan.lp_arena.clone(), self.plan.expr_arena.clone());
        for hole in &self.holes {
            if let IR::DataFrameScan { df, .. } = lp_arena.get_mut(*hole) {
                *df = Arc::clone(&frame);
            }
        }
        drop(frame);
        create_physical_plan(self.plan.lp_top, &mut lp_arena, &mut expr_arena, None)?
            .execute(&mut ExecutionState::new())
    }
}
