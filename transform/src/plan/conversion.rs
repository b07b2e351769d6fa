//! Conversions that fail on a value, such as `CAST(name AS BIGINT)` on a name that is no number.

use polars::chunked_array::cast::CastOptions;
use polars::lazy::dsl::{DataTypeExpr, Expr, FunctionExpr, StringFunction};

/// For each conversion within the expression, a condition that holds where it fails.
pub(super) fn failures(expr: &Expr) -> Vec<Expr> {
    expr.into_iter().filter_map(failure).collect()
}

/// Whether a conversion within the expression is of the values within lists or structs.
pub(super) fn within_rows(expr: &Expr) -> bool {
    expr.into_iter().any(|part| match part {
        Expr::Cast { dtype: DataTypeExpr::Literal(dtype), .. } => dtype.is_nested(),
        Expr::Cast { .. } | Expr::Eval { .. } => true,
        _ => false,
    })
}

fn failure(part: &Expr) -> Option<Expr> {
    let input = match part {
        Expr::Cast { expr, options: CastOptions::Strict, .. } => expr,
        Expr::Function {
            input,
            function: FunctionExpr::StringExpr(StringFunction::Strptime(_, options)),
        } if options.strict => input.first()?,
        _ => return None,
    };
    Some(lenient(input.clone()).is_not_null().and(lenient(part.clone()).is_null()))
}

/// The expression with a null wherever one of its conversions would fail.
pub(super) fn lenient(expr: Expr) -> Expr {
    expr.map_expr(|part| match part {
        Expr::Cast { expr, dtype, options: CastOptions::Strict } => {
            Expr::Cast { expr, dtype, options: CastOptions::NonStrict }
        }
        Expr::Function {
            input,
            function: FunctionExpr::StringExpr(StringFunction::Strptime(dtype, mut options)),
        } => {
            options.strict = false;
            let function = FunctionExpr::StringExpr(StringFunction::Strptime(dtype, options));
            Expr::Function { input, function }
        }
        other => other,
    })
}
