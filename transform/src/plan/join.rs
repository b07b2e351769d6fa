//! Joins of the stream with tables that do not change: a record meets at most one row.

use std::sync::Arc;

use polars::lazy::dsl::{DslPlan, Expr, col, len};
use polars::prelude::{AnyValue, DataFrame, IntoLazy, JoinType, MaintainOrderJoin, PolarsError};

use super::{Builder, Refusal, Unplannable, compute, expression, scan, without_nulls};

impl Builder<'_> {
    pub(super) fn add_join(&mut self, plan: &DslPlan) -> Result<(), Unplannable> {
        let DslPlan::Join { input_left, input_right, left_on, right_on, predicates, options } = plan else {
            unreachable!("called for joins only");
        };
        let stream_is_left = self.reads_stream(input_left);
        if stream_is_left && self.reads_stream(input_right) {
            return Err(Refusal::self_join("JOIN").into());
        }
        let (stream, reference, stream_keys, reference_keys) = match stream_is_left {
            true => (input_left, input_right, left_on, right_on),
            false => (input_right, input_left, right_on, left_on),
        };
        self.add(stream)?;
        self.check(stream_keys)?;
        let name = self.references_of(reference);
        let reference = compute(reference)?;

        if !predicates.is_empty() {
            return Err(Refusal::inequality_join().into());
        }
        match (&options.args.how, stream_is_left) {
            (JoinType::Semi | JoinType::Anti, true) => {}
            (JoinType::Inner, _) | (JoinType::Left, true) | (JoinType::Right, false) => {
                if let Some((key, rows)) = duplicate_key(&reference, reference_keys)? {
                    return Err(Refusal::duplicate_key(&name, &key, rows).into());
                }
            }
            // Polars itself adds one of a single row for NOT IN (SELECT ...).
            (JoinType::Cross, _) if reference.height() <= 1 => {}
            (JoinType::Cross, _) => return Err(Refusal::cross_join(&name, reference.height()).into()),
            (JoinType::Full, _) => return Err(Refusal::keeps_reference("FULL JOIN", "FULL").into()),
            (JoinType::Right, true) => return Err(Refusal::keeps_reference("RIGHT JOIN", "RIGHT").into()),
            (JoinType::Left | JoinType::Semi | JoinType::Anti, false) => {
                return Err(Refusal::keeps_reference("join from a reference to the stream", "JOIN").into());
            }
            _ => return Err(Refusal::inequality_join().into()),
        }

        left_on.iter().chain(right_on).for_each(|key| self.plan.origin.read(key));
        if !stream_is_left {
            self.plan.origin.forget();
        }
        if !matches!(options.args.how, JoinType::Left) || !stream_is_left {
            self.plan.origin.drop_rows();
        }
        let (left_on, right_on) = (left_on.clone(), right_on.clone());
        let mut options = (**options).clone();
        // Rows stay in the order of their offsets.
        options.args.maintain_order =
            if stream_is_left { MaintainOrderJoin::Left } else { MaintainOrderJoin::Right };
        let options = Arc::new(options);
        self.push(move |input, _| {
            let reference = Arc::new(scan(reference.clone()));
            let (input_left, input_right) =
                if stream_is_left { (input, reference) } else { (reference, input) };
            DslPlan::Join {
                input_left,
                input_right,
                left_on: left_on.clone(),
                right_on: right_on.clone(),
                predicates: Vec::new(),
                options: options.clone(),
            }
        });
        Ok(())
    }
}

/// A key that several rows have, in words, and how many. Keys with a null in them match nothing and do not count.
fn duplicate_key(reference: &DataFrame, keys: &[Expr]) -> Result<Option<(String, u64)>, PolarsError> {
    let named: Vec<Expr> =
        keys.iter().enumerate().map(|(index, key)| key.clone().alias(format!("{index}"))).collect();
    let values = reference.clone().lazy().select(&named).collect()?;
    let columns: Vec<Expr> = values.get_column_names().into_iter().map(|name| col(name.clone())).collect();
    let repeated = without_nulls(values)
        .group_by_stable(&columns)
        .agg([len().alias("rows")])
        .filter(col("rows").gt(1u32))
        .limit(1)
        .collect()?;
    let Some(row) = (repeated.height() > 0).then(|| repeated.get_row(0)).transpose()? else {
        return Ok(None);
    };
    let (rows, values) = row.0.split_last().expect("the count is the last column");
    let words: Vec<String> = keys
        .iter()
        .zip(values)
        .map(|(key, value)| format!("{} = {}", expression::name(key), value_in_words(value)))
        .collect();
    Ok(Some((words.join(", "), rows.try_extract()?)))
}

fn value_in_words(value: &AnyValue) -> String {
    match value.get_str() {
        Some(text) => format!("{text:?}"),
        None => value.to_string(),
    }
}
