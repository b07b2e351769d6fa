//! What goes along while a record is read.

use serde::de;

use super::column::{Column, Object, Values};
use super::reason::{Found, Problem, cut};
use crate::UnknownFields;

/// What outlives a record: the policy, what was skipped, and why the record at hand does not fit.
#[derive(Debug)]
pub(super) struct Context {
    policy: UnknownFields,
    pub(super) unknown: u64,
    pub(super) first_unknown: Option<String>,
    pub(super) problem: Option<Problem>,
}

impl Context {
    pub(super) fn new(policy: UnknownFields) -> Self {
        Self { policy, unknown: 0, first_unknown: None, problem: None }
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

impl Column {
    pub(super) fn expected(&self) -> &'static str {
        match &self.values {
            Values::Bool(_) => "bool",
            Values::Int32(_) => "int32",
            Values::Int64(_) => "int64",
            Values::Float64(_) => "float64",
            Values::Timestamp(_) => "timestamp (RFC 3339, or integer milliseconds since 1970)",
            Values::Date(_) => "date (YYYY-MM-DD)",
            Values::String(_) => "string",
            Values::Json(_) => "json",
            Values::Struct(_) => "object",
            Values::List(_) => "array",
        }
    }
}
