//! Which columns of the result are columns of the records, as they came.
//!
//! ```text
//! SELECT id, name AS who, price * 2 AS twice FROM t WHERE ...      id <- id, who <- name, twice: computed
//! ```
//!
//! Known for sure or not at all: where a step is not understood, its columns count as computed.

use std::collections::HashMap;

use polars::lazy::dsl::Expr;
use polars::prelude::{PlIndexSet, PlSmallStr, PolarsResult, Schema};

/// The column that numbers the records on their way through a plan. No SQL can write this name.
pub(crate) const ROW: PlSmallStr = PlSmallStr::from_static("\0row");

/// Where the columns of some rows came from.
pub(super) struct Origin {
    /// For a column that holds what a column of the records held, the name of the latter.
    columns: HashMap<PlSmallStr, PlSmallStr>,
    /// Whether all records are still there.
    keeps_rows: bool,
    /// Whether a further column can go along without an expression seeing it.
    can_carry: bool,
}

impl Origin {
    /// The records themselves.
    pub(super) fn new(columns: &Schema) -> Self {
        let can_carry = !columns.contains(&ROW);
        let columns = columns.iter_names_cloned().map(|column| (column.clone(), column)).collect();
        Self { columns, keeps_rows: true, can_carry }
    }

    /// The column of the records that this column holds.
    pub(super) fn of(&self, column: &str) -> Option<&PlSmallStr> {
        self.columns.get(column)
    }

    pub(super) fn keeps_rows(&self) -> bool {
        self.keeps_rows
    }

    pub(super) fn can_carry(&self) -> bool {
        self.can_carry
    }

    /// Some rows may go, others stay as they are.
    pub(super) fn drop_rows(&mut self) {
        self.keeps_rows = false;
    }

    /// Whatever the columns hold, it is not known.
    pub(super) fn forget(&mut self) {
        self.columns.clear();
    }

    /// An expression is evaluated. One that asks for all columns there are would see what is carried along.
    pub(super) fn read(&mut self, expr: &Expr) {
        self.can_carry &= !expr.into_iter().any(|part| matches!(part, Expr::Selector(_)));
    }

    /// These expressions, without selectors, become the columns.
    pub(super) fn select(&mut self, exprs: &[Expr]) {
        exprs.iter().for_each(|expr| self.read(expr));
        self.columns = exprs.iter().filter_map(|expr| self.renamed(expr)).collect();
    }

    /// These expressions become columns beside, or instead of, those of the same name.
    pub(super) fn add(&mut self, exprs: &[Expr], schema: &Schema) -> PolarsResult<()> {
        let mut added = Vec::with_capacity(exprs.len());
        for expr in exprs {
            self.read(expr);
            if !matches!(expr, Expr::Selector(_)) {
                added.push((expr.to_field(schema)?.name, self.renamed(expr)));
            }
        }
        for (name, renamed) in added {
            self.columns.remove(&name);
            self.columns.extend(renamed);
        }
        Ok(())
    }

    /// The column that this expression makes of a column by naming it, and where the latter came from.
    fn renamed(&self, expr: &Expr) -> Option<(PlSmallStr, PlSmallStr)> {
        let (column, name) = match expr {
            Expr::Column(column) => (column, column),
            Expr::Alias(inner, name) => match &**inner {
                Expr::Column(column) => (column, name),
                _ => return None,
            },
            _ => return None,
        };
        Some((name.clone(), self.columns.get(column)?.clone()))
    }
}

/// The expressions with a column for each that a selector among them stands for; selectors within others stay.
pub(super) fn expand(exprs: &[Expr], schema: &Schema) -> PolarsResult<Vec<Expr>> {
    let mut expanded = Vec::with_capacity(exprs.len());
    for expr in exprs {
        match expr {
            Expr::Selector(selector) => {
                let columns = selector.into_columns(schema, &PlIndexSet::default())?;
                expanded.extend(columns.into_iter().map(Expr::Column));
            }
            other => expanded.push(other.clone()),
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use polars::lazy::dsl::{all, col};
    use polars::prelude::DataType;

    use super::*;

    fn origin() -> (Schema, Origin) {
        let schema: Schema =
            ["a", "b"].map(|name| (PlSmallStr::from(name), DataType::Int64)).into_iter().collect();
        let origin = Origin::new(&schema);
        (schema, origin)
    }

    #[test]
    fn a_column_that_another_of_its_name_hides_is_not_what_it_was() {
        let (schema, mut origin) = origin();
        origin.add(&[(col("a") + col("a")).alias("b"), col("b").alias("c")], &schema).unwrap();
        assert_eq!(
            ["a", "b", "c"].map(|name| origin.of(name).map(PlSmallStr::as_str)),
            [Some("a"), None, Some("b")]
        );
    }

    #[test]
    fn nothing_is_carried_past_an_expression_that_asks_for_all_columns() {
        let (_, mut origin) = origin();
        origin.read(&col("a").is_not_null());
        assert!(origin.can_carry());
        origin.read(&all().as_expr().is_not_null());
        assert!(!origin.can_carry());
    }
}
