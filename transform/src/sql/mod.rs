//! The SQL as text: where its words are, and what Polars' errors about it mean.

mod explain;
mod words;

pub(crate) use explain::{TableColumns, explain};
pub(crate) use words::{Place, Word, words};

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

    /// An error for statements that are no query; they would seem to change a table, and nothing on disk would change.
    pub(crate) fn refuse_other_statements(&self) -> Result<(), Error> {
        self.refuse_unless_query(&words(&self.text))
    }

    /// As [`refuse_other_statements`](Self::refuse_other_statements), but the two statements that show something of
    /// the tables and change nothing may pass: `SHOW TABLES`, and `EXPLAIN` before a query.
    pub(crate) fn refuse_changes(&self) -> Result<(), Error> {
        let words = words(&self.text);
        match words.as_slice() {
            [show, tables, ..] if show.is_keyword("SHOW") && tables.is_keyword("TABLES") => Ok(()),
            [show, what, ..] if show.is_keyword("SHOW") => {
                let help = "SHOW TABLES lists the tables; SELECT * FROM a table LIMIT 0 has its columns";
                let what = format!("SHOW {} is not known here", what.text.to_uppercase());
                Err(self.error(Problem::Unsupported, Some(show.place), what, help.to_owned()))
            }
            [explain, rest @ ..] if explain.is_keyword("EXPLAIN") => self.refuse_unless_query(rest),
            words => self.refuse_unless_query(words),
        }
    }

    fn refuse_unless_query(&self, words: &[Word]) -> Result<(), Error> {
        const QUERIES: [&str; 5] = ["SELECT", "WITH", "FROM", "VALUES", "TABLE"];
        let Some(first) = words.first() else {
            let help = "a query begins with SELECT or WITH".to_owned();
            return Err(self.error(Problem::Syntax, None, "there is no SQL".to_owned(), help));
        };
        if QUERIES.iter().any(|query| first.is_keyword(query)) {
            return Ok(());
        }
        let what = format!("{} is not a query", first.text.to_uppercase());
        let help = "a query begins with SELECT or WITH; tables are written by pipelines only".to_owned();
        Err(self.error(Problem::Unsupported, Some(first.place), what, help))
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
