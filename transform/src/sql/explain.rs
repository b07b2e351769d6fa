//! From Polars' errors about SQL to errors that name the mistake, the place and what is nearest.
//!
//! Polars' errors carry their details as text only, so the names are read from between the words of its messages;
//! a message that reads differently is passed on as it is.

use polars::prelude::PolarsError;
use polars::sql::keywords::all_functions;

use super::{Place, Sql};
use crate::{Error, Problem};

/// A table and its columns, for suggestions.
pub(crate) struct TableColumns {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
}

impl TableColumns {
    /// The tables' names, for a message.
    pub(crate) fn list(tables: &[TableColumns]) -> String {
        if tables.is_empty() {
            return "there are no tables yet".to_owned();
        }
        let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
        format!("tables: {}", names.join(", "))
    }
}

/// Functions that a reader of other SQL dialects expects, and why they are not there.
const NOT_DETERMINISTIC: [&str; 12] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "gen_random_uuid",
    "getdate",
    "localtime",
    "localtimestamp",
    "now",
    "rand",
    "random",
    "today",
    "uuid",
];

/// What an error of Polars means for this SQL over these tables.
pub(crate) fn explain(error: &PolarsError, sql: &Sql, tables: &[TableColumns]) -> Error {
    match innermost(error) {
        PolarsError::ColumnNotFound(message) | PolarsError::SchemaFieldNotFound(message) => {
            match between(message, "unable to find column \"", "\"") {
                // Polars' own name for a subquery's result, where it supports none.
                Some(name) if name.starts_with("_POLARS_TMP") => sql.error_at_word(
                    Problem::Unsupported,
                    "SELECT",
                    "a subquery may stand after FROM, JOIN and, in WHERE, after IN; not here".to_owned(),
                    "put it into WITH and join it".to_owned(),
                ),
                Some(name) => unknown_column(sql, name, &listed_columns(message, tables)),
                None => other(sql, Problem::UnknownColumn, message),
            }
        }
        PolarsError::StructFieldNotFound(name) => sql.error_at_word(
            Problem::UnknownColumn,
            name,
            format!("no struct has a field {:?}", name.to_string()),
            String::new(),
        ),
        PolarsError::SQLInterface(message) | PolarsError::SQLSyntax(message) => of_sql(message, sql, tables),
        PolarsError::Duplicate(message) => {
            let name = between(message, "output name '", "'").unwrap_or("?");
            let what = format!("two columns of the result have the name {name:?}");
            sql.error_at_word(Problem::Types, name, what, "name them apart: SELECT ... AS name".to_owned())
        }
        error => of_types(&error.to_string(), sql),
    }
}

/// The candidate that a misspelt name most likely means.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(name.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn of_sql(message: &str, sql: &Sql, tables: &[TableColumns]) -> Error {
    if let Some(message) = message.strip_prefix("sql parser error: ") {
        return syntax(sql, message);
    }
    if let Some(name) = between(message, "relation '", "' was not found") {
        return unknown_table(sql, name, tables);
    }
    if let Some(name) = between(message, "unsupported function '", "'") {
        return unknown_function(sql, name);
    }
    if let Some((name, table)) =
        between(message, "no column named '", "'").zip(between(message, "found in table '", "'"))
    {
        let of_table = tables.iter().find(|known| known.table == table);
        let columns: Vec<&str> = match of_table {
            Some(known) => known.columns.iter().map(String::as_str).collect(),
            None => all_columns(tables),
        };
        return unknown_column(sql, name, &columns);
    }
    if let Some(name) = between(message, "no table or struct column named '", "' found") {
        return unknown_table(sql, name, tables);
    }
    let help = if message.contains("unexpected subquery") {
        "put a subquery that gives one row into WITH, and CROSS JOIN it"
    } else if message.contains("dot-notation field access") || message.contains("complex field access") {
        "write ARRAY_GET(place.tags, 1) for place.tags[1]; a step that takes the element first lets .field follow: \
         SELECT item.sku FROM (SELECT ARRAY_GET(items, 1) AS item FROM t) AS s"
    } else {
        ""
    };
    let (what, place) = without_tree(message);
    sql.error(Problem::Unsupported, place, lower_first(&first_line(&what)), help.to_owned())
}

/// Some of Polars' messages show a part of the parsed SQL as Rust prints it. The place within is worth keeping.
fn without_tree(message: &str) -> (String, Option<Place>) {
    let Some((line, column)) = between(message, "Location(", ")").and_then(|place| place.split_once(','))
    else {
        return (message.to_owned(), None);
    };
    let place = line.parse().ok().zip(column.parse().ok()).map(|(line, column)| Place { line, column });
    let words = message.split([':', '{', '(']).next().unwrap_or(message).trim_end();
    let verdict =
        if message.contains("support") && !words.contains("support") { " is not supported" } else { "" };
    (format!("{words}{verdict}"), place)
}

fn of_types(message: &str, sql: &Sql) -> Error {
    let help = if message.contains("'UTC')") && message.contains("Datetime('μs')") {
        "TIMESTAMP '...' has no time zone; compare an instant with plain text: ts > '2013-01-01 00:00:00'"
    } else if message.contains("expected List data type") && message.contains("got: Struct") {
        "a field of a struct is written with a dot: place.city"
    } else {
        ""
    };
    sql.error(Problem::Types, None, lower_first(&first_line(message)), help.to_owned())
}

fn syntax(sql: &Sql, message: &str) -> Error {
    let place = between(message, " at Line: ", ",").zip(message.split("Column: ").nth(1)).and_then(
        |(line, column)| Some(Place { line: line.parse().ok()?, column: column.trim().parse().ok()? }),
    );
    let what = message.split(" at Line: ").next().unwrap_or(message);
    sql.error(
        Problem::Syntax,
        place,
        format!("the SQL cannot be parsed: {}", lower_first(what)),
        String::new(),
    )
}

fn unknown_column(sql: &Sql, name: &str, columns: &[&str]) -> Error {
    let what = match nearest(name, columns.iter().copied()) {
        Some(near) => format!("there is no column {name:?}; did you mean {near:?}?"),
        None => format!("there is no column {name:?}"),
    };
    sql.error_at_word(Problem::UnknownColumn, name, what, format!("columns: {}", columns.join(", ")))
}

fn unknown_table(sql: &Sql, name: &str, tables: &[TableColumns]) -> Error {
    let what = match nearest(name, tables.iter().map(|table| table.table.as_str())) {
        Some(near) => format!("there is no table {name:?}; did you mean {near:?}?"),
        None => format!("there is no table {name:?}"),
    };
    sql.error_at_word(Problem::UnknownTable, name, what, TableColumns::list(tables))
}

fn unknown_function(sql: &Sql, name: &str) -> Error {
    let bare = name.to_lowercase();
    if NOT_DETERMINISTIC.contains(&bare.as_str()) {
        return sql.error_at_word(
            Problem::UnknownFunction,
            name,
            format!("{} would give another answer each time it runs", name.to_uppercase()),
            "a replayed record must give the same row again: use the record's own time, such as _timestamp"
                .into(),
        );
    }
    let known = all_functions();
    let what = match nearest(name, known.iter().copied()) {
        Some(near) => {
            format!("there is no function {}; did you mean {}?", name.to_uppercase(), near.to_uppercase())
        }
        None => format!("there is no function {}", name.to_uppercase()),
    };
    let help = "functions: https://docs.pola.rs/api/python/stable/reference/sql/functions/index.html".into();
    sql.error_at_word(Problem::UnknownFunction, name, what, help)
}

fn other(sql: &Sql, problem: Problem, message: &str) -> Error {
    sql.error(problem, None, lower_first(&first_line(message)), String::new())
}

/// The columns that Polars lists in its message, without those it names itself for a join (`name:table`).
fn listed_columns<'a>(message: &'a str, tables: &'a [TableColumns]) -> Vec<&'a str> {
    match between(message, "valid columns: [", "]") {
        Some(list) if !list.is_empty() => list
            .split(", ")
            .map(|quoted| quoted.trim_matches('"'))
            .filter(|name| !name.contains(':'))
            .collect(),
        _ => all_columns(tables),
    }
}

fn all_columns(tables: &[TableColumns]) -> Vec<&str> {
    tables.iter().flat_map(|table| table.columns.iter().map(String::as_str)).collect()
}

fn innermost(error: &PolarsError) -> &PolarsError {
    match error {
        PolarsError::Context { error, .. } | PolarsError::ExprContext { error, .. } => innermost(error),
        error => error,
    }
}

/// What of a message a person needs: its first paragraph on one line. Below it Polars prints plans.
pub(super) fn first_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or(message);
    let mut line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    // Some messages show a parsed tree after a colon.
    const LONGEST: usize = 300;
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push_str(" ...");
    }
    line
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let length = text[start..].find(after)?;
    Some(&text[start..start + length])
}

/// Lower case for the first letter, unless the first word is an abbreviation such as `SQL`.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let columns = ["carrier", "origin", "dest"];
        assert_eq!(nearest("carier", columns), Some("carrier"));
        assert_eq!(nearest("Carrier", columns), Some("carrier"));
        assert_eq!(nearest("tailnum", columns), None);
        assert_eq!(nearest("x", columns), None);
    }

    #[test]
    fn unknown_messages_stay_readable() {
        let sql = Sql::new("t.sql", "SELECT 1");
        let error = explain(&PolarsError::SQLInterface("Odd\n  thing\n\nPLAN".into()), &sql, &[]);
        assert_eq!(error.to_string(), "t.sql: odd thing");
    }
}
