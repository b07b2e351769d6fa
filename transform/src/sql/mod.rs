//! The SQL as text: where its words are, and what Polars' errors about it mean.

mod explain;
mod words;

pub(crate) use explain::{TableColumns, explain};
pub(crate) use words::{Place, words};

use polars::sql::extract_table_identifiers;

use crate::{Error, Problem};

/// SQL with a name for messages, such as its file's.
#[derive(Clone, Debug)]
pub(crate) struct Sql {
    pub(crate) source: String,
    pub(crate) text: String,
}

impl Sql {
    pub(crate) fn new(source: &str, text: &str) -> Self {
        Self { source: source.to_owned(), text: text.to_owned() }
    }

    /// An error at the first place where this word stands, if it stands anywhere.
    pub(crate) fn error_at_word(&self, problem: Problem, word: &str, what: String, help: String) -> Error {
        let place = words(&self.text).into_iter().find(|found| found.is(word)).map(|found| found.place);
        self.error(problem, place, what, help)
    }

    /// An error if a table is named with an unquoted dot: Polars takes `flights.rejected` for the table `flights`.
    pub(crate) fn refuse_dotted_tables(&self, tables: &[TableColumns]) -> Result<(), Error> {
        let (Ok(whole), Ok(last)) = (
            extract_table_identifiers(&self.text, true, false),
            extract_table_identifiers(&self.text, false, false),
        ) else {
            // It cannot be parsed, which planning will say better.
            return Ok(());
        };
        let Some((name, _)) = whole.iter().zip(&last).find(|(whole, last)| whole != last) else {
            return Ok(());
        };
        let first = name.split('.').next().unwrap_or_default();
        let help = match tables.iter().any(|known| known.table == *name) {
            true => format!("quote it: FROM \"{name}\""),
            false => TableColumns::list(tables),
        };
        let what = format!("{name:?} without quotes would be read as {first:?}");
        Err(self.error_at_word(Problem::UnknownTable, first, what, help))
    }

    pub(crate) fn error(&self, problem: Problem, place: Option<Place>, what: String, help: String) -> Error {
        let at = match place {
            Some(Place { line, column }) => format!("{}:{line}:{column}", self.source),
            None => self.source.clone(),
        };
        Error::Sql { problem, at, what, help }
    }
}
