//! What goes along while a record is read.

use serde::de;

use crate::UnknownFields;
use crate::format::column::{Column, Object};
use crate::format::reason::{Found, Problem, cut};

/// The most nulls that one record may get for values that are not in it. Lists of objects multiply them: without a
/// bound, a megabyte of `[{},{},{}, ...` with a wide schema would take gigabytes. This many take some 64 MiB.
pub const MAX_FILLED: usize = 8 << 20;

/// The policy, what was skipped in all records, and what there is to know of the record at hand.
#[derive(Debug)]
pub(super) struct Context {
    policy: UnknownFields,
    /// How many nulls the record at hand was given so far.
    pub(super) filled: usize,
    pub(super) unknown: u64,
    pub(super) first_unknown: Option<String>,
    pub(super) problem: Option<Problem>,
    /// Whether the record at hand has a number in place of an integer that the reader takes for `-0`.
    pub(super) minus_zero: bool,
    /// Whether integers are to be read from their text.
    pub(super) exact: bool,
}

impl Context {
    pub(super) fn new(policy: UnknownFields) -> Self {
        Self {
            policy,
            filled: 0,
            unknown: 0,
            first_unknown: None,
            problem: None,
            minus_zero: false,
            exact: false,
        }
    }

    /// Whether fields that the schema does not declare are no fault.
    pub(super) fn skips_unknown(&self) -> bool {
        self.policy == UnknownFields::Ignore
    }

    #[cold]
    pub(super) fn fail<E: de::Error>(&mut self, problem: Problem) -> E {
        self.problem = Some(problem);
        E::custom("")
    }

    #[cold]
    pub(super) fn mismatch<E: de::Error>(&mut self, column: &Column, found: Found<'_>) -> E {
        self.fail(Problem::mismatch(column.expected(), column.nullable, found))
    }

    /// Appends a null to a column, if it may have one and the record may have more.
    pub(super) fn fill<E: de::Error>(&mut self, column: &mut Column, found: Found<'_>) -> Result<(), E> {
        self.filled += column.width;
        if !column.nullable {
            return Err(self.mismatch(column, found));
        }
        if self.filled > MAX_FILLED {
            return Err(self
                .fail(Problem::new("the record's lists lack too many values to fill them all with nulls")));
        }
        column.append_null();
        Ok(())
    }

    #[cold]
    pub(super) fn within_field(&mut self, name: &str) {
        if let Some(problem) = &mut self.problem {
            problem.within_field(name);
        }
    }

    #[cold]
    pub(super) fn within_list(&mut self, index: usize) {
        if let Some(problem) = &mut self.problem {
            problem.within_list(index);
        }
    }

    /// Counts a field that the schema does not declare, or fails because of it.
    pub(super) fn unknown<E: de::Error>(&mut self, object: &Object, name: &str) -> Result<(), E> {
        self.unknown += 1;
        if self.first_unknown.is_none() {
            self.first_unknown = Some(cut(format!("{}{name}", object.path)));
        }
        if self.policy == UnknownFields::Reject {
            let error = self.fail(Problem::new("unknown field, and unknown fields are rejected"));
            self.within_field(name);
            return Err(error);
        }
        Ok(())
    }
}
