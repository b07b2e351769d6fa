//! Expressions whose value for a row depends on that row alone.

use std::collections::HashSet;

use polars::lazy::dsl::{
    AggExpr, ArrayFunction, BinaryFunction, BooleanFunction, EvalVariant, Expr, FunctionExpr, ListFunction,
    StringFunction, StructFunction,
};
use polars::prelude::{DataType, LiteralValue, PlSmallStr, PolarsError, SchemaRef};

use super::{Refusal, Unplannable};

/// What is known of the rows that an expression reads.
pub(super) struct Rows<'a> {
    /// Their columns and types.
    pub(super) schema: &'a dyn Fn() -> Result<SchemaRef, PolarsError>,
    /// Columns that hold the same value in every row.
    pub(super) constants: &'a HashSet<PlSmallStr>,
}

/// Passes if the expression, and all that it is made of, is on the list.
pub(super) fn check(expr: &Expr, rows: &Rows) -> Result<(), Unplannable> {
    match expr {
        Expr::Column(_) | Expr::Selector(_) => Ok(()),
        Expr::Literal(literal) => check_literal(literal),
        Expr::Alias(inner, _) | Expr::KeepName(inner) => check(inner, rows),
        Expr::Cast { expr: inner, .. } => check(inner, rows),
        Expr::BinaryExpr { left, right, .. } => check(left, rows).and_then(|()| check(right, rows)),
        Expr::Ternary { predicate, truthy, falsy } => {
            [predicate, truthy, falsy].into_iter().try_for_each(|part| check(part, rows))
        }
        // Whatever it does, it does to the elements of one list.
        Expr::Eval { expr: inner, variant: EvalVariant::List | EvalVariant::ListAgg, .. } => {
            check(inner, rows)
        }
        Expr::Function { input, function: FunctionExpr::Boolean(BooleanFunction::IsIn { .. }) } => {
            check(&input[0], rows)?;
            check_set(&input[1], rows)
        }
        Expr::Agg(AggExpr::First(inner)) if is_constant(inner, rows) => Ok(()),
        Expr::Function { input, function } => {
            check_function(function, input)?;
            input.iter().try_for_each(|argument| check(argument, rows))
        }
        other => Err(refuse(other).into()),
    }
}

/// Whether it reads any column: if not, it is one value and not one for each row.
pub(super) fn reads_column(expr: &Expr) -> bool {
    expr.into_iter().any(|part| matches!(part, Expr::Column(_) | Expr::Selector(_)))
}

/// Whether it holds an `ARRAY[...]` of constants.
pub(super) fn has_list(expr: &Expr) -> bool {
    expr.into_iter().any(|part| matches!(part, Expr::Literal(LiteralValue::Series(_))))
}

/// A short name of an expression for messages.
pub(super) fn name(expr: &Expr) -> String {
    match expr {
        Expr::Column(name) => name.to_string(),
        Expr::Alias(inner, _) => name(inner),
        other => format!("{other:?}"),
    }
}

fn is_constant(expr: &Expr, rows: &Rows) -> bool {
    matches!(expr, Expr::Column(name) if rows.constants.contains(name))
}

fn check_literal(literal: &LiteralValue) -> Result<(), Unplannable> {
    match literal {
        LiteralValue::Dyn(_) | LiteralValue::Scalar(_) => Ok(()),
        // ARRAY[...] is a column of one list.
        LiteralValue::Series(series) if series.len() == 1 => Ok(()),
        _ => Err(Refusal::unknown("a column of constants").into()),
    }
}

/// The right side of IN. Polars takes a plain column for one set made of all its rows.
fn check_set(set: &Expr, rows: &Rows) -> Result<(), Unplannable> {
    match set {
        Expr::Literal(_) => Ok(()),
        Expr::Agg(AggExpr::Implode { input, .. }) if matches!(**input, Expr::Literal(_)) => Ok(()),
        set => match set.to_field(&*(rows.schema)()?)?.dtype() {
            DataType::List(_) | DataType::Array(_, _) => check(set, rows),
            _ => Err(Refusal::depends_on_cut("ANY with a column that is no list", Some("ANY")).into()),
        },
    }
}

fn check_function(function: &FunctionExpr, input: &[Expr]) -> Result<(), Unplannable> {
    let row_wise = match function {
        FunctionExpr::Boolean(function) => matches!(
            function,
            BooleanFunction::IsNull
                | BooleanFunction::IsNotNull
                | BooleanFunction::IsFinite
                | BooleanFunction::IsInfinite
                | BooleanFunction::IsNan
                | BooleanFunction::IsNotNan
                | BooleanFunction::IsBetween { .. }
                | BooleanFunction::AllHorizontal
                | BooleanFunction::AnyHorizontal
                | BooleanFunction::Not
        ),
        FunctionExpr::StringExpr(StringFunction::Strptime(_, options)) => {
            if options.format.is_none() && input.iter().any(reads_column) {
                return Err(Refusal::guessed_format().into());
            }
            true
        }
        FunctionExpr::StringExpr(function) => matches!(
            function,
            StringFunction::ConcatHorizontal { .. }
                | StringFunction::Contains { .. }
                | StringFunction::CountMatches(_)
                | StringFunction::EndsWith
                | StringFunction::EscapeRegex
                | StringFunction::Extract(_)
                | StringFunction::ExtractAll
                | StringFunction::Find { .. }
                | StringFunction::Head
                | StringFunction::JsonPathMatch
                | StringFunction::LenBytes
                | StringFunction::LenChars
                | StringFunction::Lowercase
                | StringFunction::Normalize { .. }
                | StringFunction::PadEnd { .. }
                | StringFunction::PadStart { .. }
                | StringFunction::Replace { .. }
                | StringFunction::Reverse
                | StringFunction::Slice
                | StringFunction::Split(_)
                | StringFunction::StartsWith
                | StringFunction::StripChars
                | StringFunction::StripCharsEnd
                | StringFunction::StripCharsStart
                | StringFunction::StripPrefix
                | StringFunction::StripSuffix
                | StringFunction::Tail
                | StringFunction::Uppercase
                | StringFunction::ZFill
        ),
        FunctionExpr::BinaryExpr(function) => matches!(
            function,
            BinaryFunction::Contains
                | BinaryFunction::EndsWith
                | BinaryFunction::Head
                | BinaryFunction::Size
                | BinaryFunction::Slice
                | BinaryFunction::StartsWith
                | BinaryFunction::Tail
        ),
        FunctionExpr::ListExpr(function) => matches!(
            function,
            ListFunction::ArgMax
                | ListFunction::ArgMin
                | ListFunction::Concat
                | ListFunction::Contains { .. }
                | ListFunction::Get(_)
                | ListFunction::Join(_)
                | ListFunction::Length
                | ListFunction::Max
                | ListFunction::Mean
                | ListFunction::Median
                | ListFunction::Min
                | ListFunction::Slice
                | ListFunction::Sort(_)
                | ListFunction::Std(_)
                | ListFunction::Sum
                | ListFunction::Var(_)
        ),
        FunctionExpr::ArrayExpr(function) => matches!(
            function,
            ArrayFunction::Contains { .. }
                | ArrayFunction::Get(_)
                | ArrayFunction::Join(_)
                | ArrayFunction::Length
                | ArrayFunction::Max
                | ArrayFunction::Min
                | ArrayFunction::Sum
                | ArrayFunction::ToList
        ),
        FunctionExpr::StructExpr(function) => {
            matches!(function, StructFunction::FieldByName(_) | StructFunction::RenameFields(_))
        }
        // All of these namespaces compute one value from one value.
        FunctionExpr::TemporalExpr(_) | FunctionExpr::Pow(_) | FunctionExpr::Trigonometry(_) => true,
        FunctionExpr::Abs
        | FunctionExpr::AsStruct
        | FunctionExpr::Atan2
        | FunctionExpr::Ceil
        | FunctionExpr::Clip { .. }
        | FunctionExpr::Coalesce
        | FunctionExpr::Exp
        | FunctionExpr::FillNull
        | FunctionExpr::Floor
        | FunctionExpr::Log
        | FunctionExpr::Log1p
        | FunctionExpr::MaxHorizontal
        | FunctionExpr::MeanHorizontal { .. }
        | FunctionExpr::MinHorizontal
        | FunctionExpr::Negate
        | FunctionExpr::Round { .. }
        | FunctionExpr::RoundSF { .. }
        | FunctionExpr::Sign
        | FunctionExpr::SumHorizontal { .. }
        | FunctionExpr::Truncate { .. } => true,
        _ => false,
    };
    if row_wise { Ok(()) } else { Err(refuse_function(function).into()) }
}

fn refuse_function(function: &FunctionExpr) -> Refusal {
    let (construct, word) = match function {
        FunctionExpr::Range(_) => ("ROW_NUMBER".to_owned(), "ROW_NUMBER"),
        // What Polars makes of SUM begins with a count of nulls.
        FunctionExpr::NullCount => return sum_or_count(),
        FunctionExpr::Shift | FunctionExpr::ShiftAndFill => ("LAG or LEAD".to_owned(), "OVER"),
        FunctionExpr::Quantile { .. } => ("QUANTILE".to_owned(), "QUANTILE_CONT"),
        FunctionExpr::Rank { .. } => ("RANK".to_owned(), "OVER"),
        FunctionExpr::Boolean(BooleanFunction::Any { .. } | BooleanFunction::All { .. }) => {
            ("an aggregate".to_owned(), "CORR")
        }
        FunctionExpr::Correlation { .. } => ("CORR or COVAR".to_owned(), "CORR"),
        FunctionExpr::CumCount { .. }
        | FunctionExpr::CumMax { .. }
        | FunctionExpr::CumMin { .. }
        | FunctionExpr::CumProd { .. }
        | FunctionExpr::CumSum { .. }
        | FunctionExpr::Diff(_)
        | FunctionExpr::FillNullWithStrategy(_) => ("a running total (OVER ... ORDER BY)".to_owned(), "OVER"),
        other => return Refusal::unknown(&other.to_string().to_uppercase()),
    };
    Refusal::depends_on_cut(&construct, Some(word))
}

fn refuse(expr: &Expr) -> Refusal {
    let (construct, word) = match expr {
        Expr::Agg(aggregate) => match aggregate {
            AggExpr::Min { .. } => ("MIN", "MIN"),
            AggExpr::Max { .. } => ("MAX", "MAX"),
            AggExpr::Median(_) => ("MEDIAN", "MEDIAN"),
            AggExpr::NUnique(_) => ("COUNT(DISTINCT ...)", "COUNT"),
            AggExpr::First(_) | AggExpr::FirstNonNull(_) => ("FIRST", "FIRST"),
            AggExpr::Last(_) | AggExpr::LastNonNull(_) => ("LAST", "LAST"),
            AggExpr::Mean(_) => ("AVG", "AVG"),
            AggExpr::Implode { .. } => ("ARRAY_AGG", "ARRAY_AGG"),
            AggExpr::Count { .. } => ("COUNT", "COUNT"),
            AggExpr::Sum(_) => return sum_or_count(),
            AggExpr::Std(_, _) => ("STDDEV", "STDDEV"),
            AggExpr::Var(_, _) => ("VARIANCE", "VARIANCE"),
            _ => ("an aggregate", "SELECT"),
        },
        Expr::Len => ("COUNT(*)", "COUNT"),
        Expr::Over { .. } => ("a window function (OVER)", "OVER"),
        Expr::Filter { .. } => ("FILTER (WHERE ...)", "FILTER"),
        Expr::Sort { .. } | Expr::SortBy { .. } => ("ORDER BY", "ORDER"),
        Expr::Slice { .. } | Expr::Gather { .. } => ("LIMIT", "LIMIT"),
        Expr::Explode { .. } => return Refusal::several_rows("UNNEST", Some("UNNEST")),
        Expr::SubPlan(_, _) => return Refusal::subquery(),
        other => return Refusal::unknown(&format!("{other:?}")),
    };
    Refusal::depends_on_cut(construct, Some(word))
}

/// Polars makes sums of some counts too, so the plan does not tell which the SQL says.
fn sum_or_count() -> Refusal {
    Refusal::depends_on_cut("an aggregate, SUM or COUNT,", None)
}
