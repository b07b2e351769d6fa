//! Which SQL means the same however epochs are cut, and how it runs on one batch after another.
//!
//! SQL without a window sees the rows of one batch. Its answer must not depend on where a batch ends, so each row must
//! be transformed on its own, into at most one row. A logical plan with that property is a chain: from the stream's
//! scan at the bottom, each node takes the rows of the one below it.
//!
//! ```text
//! SELECT ... FROM flights LEFT JOIN airlines ON ... WHERE ...
//!
//!    Select                step 3
//!      Filter              step 2          rows --> step 1 --> step 2 --> step 3 --> rows
//!        Join              step 1                     ^
//!          Scan flights    the hole        airlines --'   computed once, when the SQL is planned
//!          Scan airlines
//! ```
//!
//! [`RowWisePlan`] finds that chain in the plan that Polars makes of the SQL, and refuses what is not on its lists:
//! nodes here and in [`join`], expressions in [`expression`]. They are lists of what is allowed, so that a construct
//! which a later Polars adds is refused until somebody has thought about it.
//! Whatever does not read the stream is not restricted: it is computed once and becomes a table in memory.

mod compiled;
mod conversion;
mod expression;
mod join;
mod origin;
mod refusal;

use std::collections::HashSet;
use std::sync::Arc;

use polars::lazy::dsl::{DslPlan, Expr, col};
use polars::lazy::frame::OptFlags;
use polars::prelude::{
    DataFrame, IntoLazy, LazyFrame, LiteralValue, PlSmallStr, PolarsError, Scalar, SchemaRef,
};

use origin::Origin;

pub(crate) use compiled::{Compiled, stand_in};
pub(crate) use origin::ROW;
pub(crate) use refusal::Refusal;

use crate::engine::guarded;

/// Why SQL cannot be a row-wise plan.
pub(crate) enum Unplannable {
    /// It is not row-wise.
    Refused(Refusal),
    /// Polars cannot plan or run a part of it.
    Failed(PolarsError),
}

impl From<Refusal> for Unplannable {
    fn from(refusal: Refusal) -> Self {
        Unplannable::Refused(refusal)
    }
}

impl From<PolarsError> for Unplannable {
    fn from(error: PolarsError) -> Self {
        Unplannable::Failed(error)
    }
}

/// Puts a node on top of a plan. The expressions are for what is to be carried along, where columns are selected.
type Step = Box<dyn Fn(Arc<DslPlan>, &[Expr]) -> DslPlan + Send + Sync>;

/// A logical plan with a hole where the stream's rows go.
pub(crate) struct RowWisePlan {
    /// From the scan upwards; each puts its node on top of the plan of the steps before it.
    steps: Vec<Step>,
    /// Where the columns of the result come from.
    origin: Origin,
    /// For each conversion in the SQL, a condition that holds where it fails. That it may be about columns which only a
    /// later step makes does not matter: it says where to look first, not what is so.
    failures: Vec<Expr>,
    /// The conditions of the SQL: a record that they leave out may be converted or not.
    conditions: Vec<Expr>,
    /// Whether the engine may count values within lists and structs instead of rows.
    within_rows: bool,
}

impl RowWisePlan {
    /// The chain in this plan, whose stream is the scan of this very frame.
    /// `references` are the frames of the reference tables with their names, for messages.
    pub(crate) fn new(
        plan: &DslPlan,
        stream: &Arc<DataFrame>,
        references: &[(String, Arc<DataFrame>)],
    ) -> Result<Self, Unplannable> {
        let plan_so_far = RowWisePlan {
            steps: Vec::new(),
            origin: Origin::new(stream.schema()),
            failures: Vec::new(),
            conditions: Vec::new(),
            within_rows: false,
        };
        let mut builder = Builder { stream, references, constants: HashSet::new(), plan: plan_so_far };
        if !builder.reads_stream(plan) {
            return Err(Refusal::no_stream().into());
        }
        builder.add(plan)?;
        Ok(builder.plan)
    }

    /// The query for these rows.
    pub(crate) fn over(&self, rows: Arc<DataFrame>) -> LazyFrame {
        self.carrying(&[], rows)
    }

    /// The query for these columns of the result, and [`ROW`], which the rows have.
    pub(crate) fn numbered(&self, rows: Arc<DataFrame>, columns: &[&str]) -> LazyFrame {
        let row = [col(ROW)];
        let columns: Vec<Expr> = columns.iter().map(|column| col(*column)).chain(row.clone()).collect();
        self.carrying(&row, rows).select(columns)
    }

    fn carrying(&self, along: &[Expr], rows: Arc<DataFrame>) -> LazyFrame {
        let plan = self.steps.iter().fold(scan(rows), |plan, step| step(Arc::new(plan), along));
        LazyFrame::from_logical_plan(plan, OptFlags::default())
    }

    /// The column of the records that this column of the result holds, if it is known to.
    pub(crate) fn origin_of(&self, column: &str) -> Option<&PlSmallStr> {
        self.origin.of(column).filter(|_| self.can_carry())
    }

    /// Whether each record becomes a row.
    pub(crate) fn keeps_rows(&self) -> bool {
        self.origin.keeps_rows()
    }

    /// Whether [`numbered`](Self::numbered) may be asked for.
    pub(crate) fn can_carry(&self) -> bool {
        self.origin.can_carry()
    }

    /// Whether a conversion that failed for as many values as there are rows has failed for each of them.
    pub(crate) fn counts_rows(&self) -> bool {
        !self.within_rows
    }

    /// For each row on which a conversion of the SQL seems to fail, which of them do and which conditions it meets, a bit
    /// each; 0 for the other rows.
    pub(crate) fn suspects(&self, rows: &DataFrame) -> Vec<u64> {
        let mut failures = vec![0; rows.height()];
        let mut conditions = failures.clone();
        for (bit, condition) in self.failures.iter().chain(&self.conditions).take(64).enumerate() {
            let marks = if bit < self.failures.len() { &mut failures } else { &mut conditions };
            let found = guarded(|| rows.clone().lazy().select([condition.clone()]).collect());
            let Ok(Ok(found)) = found else { continue };
            let Some(holds) = found.columns().first().and_then(|column| column.bool().ok()) else { continue };
            if holds.len() == marks.len() {
                let bits = holds.iter().map(|holds| u64::from(holds == Some(true)) << bit);
                marks.iter_mut().zip(bits).for_each(|(mark, bit)| *mark |= bit);
            }
        }
        failures.into_iter().zip(conditions).map(|(f, c)| if f == 0 { 0 } else { f | c }).collect()
    }
}

/// A scan of a frame in memory.
pub(crate) fn scan(frame: Arc<DataFrame>) -> DslPlan {
    DslPlan::DataFrameScan { schema: frame.schema().clone(), df: frame }
}

struct Builder<'a> {
    stream: &'a Arc<DataFrame>,
    references: &'a [(String, Arc<DataFrame>)],
    /// Columns that hold the same value in every row.
    constants: HashSet<PlSmallStr>,
    plan: RowWisePlan,
}

impl Builder<'_> {
    /// Adds the steps of this plan, from the scan upwards.
    fn add(&mut self, plan: &DslPlan) -> Result<(), Unplannable> {
        match plan {
            // What Polars has already converted keeps the plan that it came from.
            DslPlan::IR { dsl, .. } => self.add(dsl)?,
            DslPlan::Cache { input, .. } => self.add(input)?,
            DslPlan::DataFrameScan { df, .. } if Arc::ptr_eq(df, self.stream) => {}
            DslPlan::Filter { input, predicate } => {
                self.add(input)?;
                self.check(std::slice::from_ref(predicate))?;
                self.plan.conditions.push(conversion::lenient(predicate.clone()));
                self.plan.origin.read(predicate);
                self.plan.origin.drop_rows();
                let predicate = predicate.clone();
                self.push(move |input, _| DslPlan::Filter { input, predicate: predicate.clone() });
            }
            DslPlan::Select { expr, input, options } => {
                self.add(input)?;
                self.check_columns(expr)?;
                // Constants alone would be one row, however many records there are.
                if !expr.iter().any(expression::reads_column) {
                    return Err(Refusal::constants().into());
                }
                let (expr, options) = (origin::expand(expr, &*self.schema()?)?, *options);
                self.plan.origin.select(&expr);
                self.push(move |input, along| {
                    let expr = expr.iter().chain(along).cloned().collect();
                    DslPlan::Select { expr, input, options }
                });
            }
            DslPlan::HStack { input, exprs, options } => {
                self.add(input)?;
                self.check_columns(exprs)?;
                self.plan.origin.add(exprs, &*self.schema()?)?;
                let (exprs, options) = (exprs.clone(), *options);
                self.push(move |input, _| DslPlan::HStack { input, exprs: exprs.clone(), options });
            }
            // The type of `function` has no public path, so it is known by the name that it prints.
            DslPlan::MapFunction { input, function } if function.to_string() == "RENAME" => {
                self.add(input)?;
                self.plan.origin.forget();
                let function = function.clone();
                self.push(move |input, _| DslPlan::MapFunction { input, function: function.clone() });
            }
            // `WHERE FALSE`, which keeps nothing of any batch.
            DslPlan::Slice { input, offset, len: 0 } => {
                self.add(input)?;
                self.plan.origin.drop_rows();
                let offset = *offset;
                self.push(move |input, _| DslPlan::Slice { input, offset, len: 0 });
            }
            DslPlan::Join { .. } => self.add_join(plan)?,
            DslPlan::GroupBy { .. } => return Err(Refusal::depends_on_cut("GROUP BY", Some("GROUP")).into()),
            DslPlan::Distinct { .. } => {
                return Err(Refusal::depends_on_cut(
                    "DISTINCT (or a UNION, INTERSECT or EXCEPT, which imply it)",
                    Some("DISTINCT"),
                )
                .into());
            }
            DslPlan::Sort { .. } => return Err(Refusal::depends_on_cut("ORDER BY", Some("ORDER")).into()),
            DslPlan::Slice { .. } => {
                return Err(Refusal::depends_on_cut("LIMIT or OFFSET", Some("LIMIT")).into());
            }
            DslPlan::Union { .. } => return Err(Refusal::union().into()),
            DslPlan::HConcat { inputs, .. } => self.add_subqueries(inputs)?,
            DslPlan::MapFunction { function, .. } if function.to_string() == "EXPLODE" => {
                return Err(Refusal::several_rows("UNNEST", Some("UNNEST")).into());
            }
            other => return Err(Refusal::unknown(&node_name(other)).into()),
        }
        Ok(())
    }

    fn check(&mut self, exprs: &[Expr]) -> Result<(), Unplannable> {
        self.plan.failures.extend(exprs.iter().flat_map(conversion::failures));
        self.plan.within_rows |= exprs.iter().any(conversion::within_rows);
        // Only one rare expression asks for the types of its input, so they are looked up when it does.
        let schema = || self.schema();
        let rows = expression::Rows { schema: &schema, constants: &self.constants };
        exprs.iter().try_for_each(|expr| expression::check(expr, &rows))
    }

    /// As [`check`](Self::check), for expressions that become columns.
    fn check_columns(&mut self, exprs: &[Expr]) -> Result<(), Unplannable> {
        // Polars does not repeat a constant list for each row.
        match exprs.iter().any(|expr| !expression::reads_column(expr) && expression::has_list(expr)) {
            true => Err(Refusal::constant_list().into()),
            false => self.check(exprs),
        }
    }

    /// Subqueries of a condition, as in `WHERE x IN (SELECT ...)`. Polars sets their results, a list in one row each,
    /// beside the stream's rows.
    fn add_subqueries(&mut self, inputs: &[DslPlan]) -> Result<(), Unplannable> {
        let Some((stream, subqueries)) = inputs.split_first() else { return Err(Refusal::subquery().into()) };
        self.add(stream)?;
        let mut values = Vec::new();
        for subquery in subqueries {
            if self.reads_stream(subquery) {
                return Err(Refusal::self_join("IN").into());
            }
            let result = compute(subquery)?;
            if result.height() != 1 {
                return Err(Refusal::subquery().into());
            }
            for column in result.columns() {
                let value = Scalar::new(column.dtype().clone(), column.get(0)?.into_static());
                values.push(Expr::Literal(LiteralValue::Scalar(value)).alias(column.name().clone()));
                self.constants.insert(column.name().clone());
            }
        }
        self.plan.origin.add(&values, &*self.schema()?)?;
        self.push(move |input, _| {
            let rows = LazyFrame::from_logical_plan(Arc::unwrap_or_clone(input), OptFlags::default());
            rows.with_columns(&values).logical_plan
        });
        Ok(())
    }

    fn push(&mut self, step: impl Fn(Arc<DslPlan>, &[Expr]) -> DslPlan + Send + Sync + 'static) {
        self.plan.steps.push(Box::new(step));
    }

    /// The columns after the steps so far.
    fn schema(&self) -> Result<SchemaRef, PolarsError> {
        self.plan.over(self.stream.clone()).collect_schema()
    }

    fn reads_stream(&self, plan: &DslPlan) -> bool {
        plan.into_iter()
            .any(|node| matches!(node, DslPlan::DataFrameScan { df, .. } if Arc::ptr_eq(df, self.stream)))
    }

    /// The names of the references that a plan reads, as a list for messages.
    fn references_of(&self, plan: &DslPlan) -> String {
        let names: Vec<&str> = self
            .references
            .iter()
            .filter(|(_, frame)| {
                plan.into_iter()
                    .any(|node| matches!(node, DslPlan::DataFrameScan { df, .. } if Arc::ptr_eq(df, frame)))
            })
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() { "the other table".to_owned() } else { names.join(" and ") }
    }
}

/// A plan that does not read the stream, as a table in memory.
fn compute(plan: &DslPlan) -> Result<Arc<DataFrame>, PolarsError> {
    match plan {
        DslPlan::IR { dsl, .. } => compute(dsl),
        DslPlan::DataFrameScan { df, .. } => Ok(df.clone()),
        plan => LazyFrame::from_logical_plan(plan.clone(), OptFlags::default()).collect().map(Arc::new),
    }
}

fn node_name(plan: &DslPlan) -> String {
    let name: &'static str = plan.into();
    name.to_owned()
}

/// Rows of a frame that are not null in any column.
fn without_nulls(frame: DataFrame) -> LazyFrame {
    frame.lazy().drop_nulls(None)
}
