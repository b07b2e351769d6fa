//! Why a construct is refused, and what to do instead.

use crate::sql::{Place, Sql};
use crate::{Error, Problem};

/// A construct that is not row-wise.
#[derive(Debug)]
pub(crate) struct Refusal {
    what: String,
    instead: String,
    /// A word of the SQL to point at.
    word: Option<String>,
}

const ASK_THE_TABLE: &str =
    "transform each record on its own here, and do this when you query the table: puddle query 'SELECT ...'";

impl Refusal {
    /// For what looks at several records: its answer depends on which of them a batch holds.
    pub(crate) fn depends_on_cut(construct: &str, word: Option<&str>) -> Self {
        Self {
            what: format!(
                "{construct} looks at several records, so its answer depends on where an epoch is cut"
            ),
            instead: ASK_THE_TABLE.to_owned(),
            word: word.map(str::to_owned),
        }
    }

    /// For what makes several rows of one record.
    pub(crate) fn several_rows(construct: &str, word: Option<&str>) -> Self {
        Self {
            what: format!(
                "{construct} could make several rows of one record, which may become one row at most"
            ),
            instead: ASK_THE_TABLE.to_owned(),
            word: word.map(str::to_owned),
        }
    }

    pub(crate) fn no_stream() -> Self {
        Self {
            what: "the SQL does not read the stream".to_owned(),
            instead: "it must be one SELECT ... FROM the stream's name".to_owned(),
            word: None,
        }
    }

    pub(crate) fn constants() -> Self {
        Self {
            what: "a SELECT of constants alone does not read the record".to_owned(),
            instead: "select a column too, or name it in an expression".to_owned(),
            word: None,
        }
    }

    pub(crate) fn constant_list() -> Self {
        Self {
            what: "a column that is the same ARRAY[...] in every row is not supported".to_owned(),
            instead: "write it as text, or put the list into a reference and join it".to_owned(),
            word: Some("ARRAY".to_owned()),
        }
    }

    pub(crate) fn union() -> Self {
        Self {
            what: "UNION (or NOT IN with a condition that names both tables) could make several rows of one record"
                .to_owned(),
            instead: "use CASE for rows of different kinds, and an ANTI JOIN for NOT IN".to_owned(),
            word: Some("UNION".to_owned()),
        }
    }

    pub(crate) fn subquery() -> Self {
        Self {
            what: "this form of subquery in a condition is not supported".to_owned(),
            instead: "put the subquery into WITH and join it: ... SEMI JOIN keys ON keys.k = stream.k"
                .to_owned(),
            word: Some("IN".to_owned()),
        }
    }

    /// A join with both sides from the stream.
    pub(crate) fn self_join(word: &str) -> Self {
        Self {
            what: "the stream is joined with itself, so which records meet depends on where an epoch is cut"
                .to_owned(),
            instead: "join reference tables only; records can be joined when you query the table".to_owned(),
            word: Some(word.to_owned()),
        }
    }

    /// A join that keeps rows of a reference that no record matched.
    pub(crate) fn keeps_reference(kind: &str, word: &str) -> Self {
        Self {
            what: format!("a {kind} keeps reference rows that no record matched, once more for every epoch"),
            instead: "use a LEFT JOIN from the stream, or an INNER JOIN".to_owned(),
            word: Some(word.to_owned()),
        }
    }

    pub(crate) fn cross_join(reference: &str, rows: usize) -> Self {
        Self {
            what: format!(
                "CROSS JOIN with {reference} would make {rows} rows of one record, which may become one row at most"
            ),
            instead: "join ON a key of which the reference has one row".to_owned(),
            word: Some("CROSS".to_owned()),
        }
    }

    pub(crate) fn inequality_join() -> Self {
        Self {
            what: "a JOIN on anything but equal values could make several rows of one record".to_owned(),
            instead:
                "join ON equal keys, and put other conditions into WHERE or into a subquery on the reference"
                    .to_owned(),
            word: Some("JOIN".to_owned()),
        }
    }

    pub(crate) fn duplicate_key(reference: &str, key: &str, rows: u64) -> Self {
        Self {
            what: format!(
                "the key {key} has {rows} rows in {reference}, so the JOIN would make {rows} rows of one record"
            ),
            instead: "join ON a key of which each value has one row, or reduce the reference first: \
                      (SELECT key, MAX(...) FROM reference GROUP BY key)"
                .to_owned(),
            word: Some("JOIN".to_owned()),
        }
    }

    pub(crate) fn guessed_format() -> Self {
        Self {
            what: "without a format, the format of dates is guessed from the first record of each batch"
                .to_owned(),
            instead: "give the format, as in STRPTIME(x, '%Y-%m-%d %H:%M:%S') or DATE(x, '%d.%m.%Y'), \
                      or CAST a text in ISO 8601"
                .to_owned(),
            word: None,
        }
    }

    pub(crate) fn unknown(construct: &str) -> Self {
        Self {
            what: format!("{construct} is not known to treat each record on its own"),
            instead: ASK_THE_TABLE.to_owned(),
            word: None,
        }
    }

    /// As an error about this SQL, at the refused word.
    pub(crate) fn into_error(self, sql: &Sql) -> Error {
        match self.word {
            Some(word) => sql.error_at_word(Problem::NotRowWise, &word, self.what, self.instead),
            None => sql.error(Problem::NotRowWise, None, self.what, self.instead),
        }
    }

    /// As an error at a known place.
    pub(crate) fn into_error_at(self, sql: &Sql, place: Place) -> Error {
        sql.error(Problem::NotRowWise, Some(place), self.what, self.instead)
    }
}
