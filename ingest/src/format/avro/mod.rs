//! Avro records, by the schema that each was written with.
//!
//! ```text
//! record: 0, schema id (4 bytes), fields ...      (the wire format of schema registries)
//!              |                      |
//!              v                      |
//!   known id? else ask the registry   |
//!              |                      v
//!              +--> schema --> plan --> columns        a plan is made once for a schema
//! ```
//!
//! Without a registry, records are bare: fields only, all by the schema of one file.
//!
//! # What fits
//! A field fills the column of its name, else of one of its `aliases`. A column without a field is null, or a rejection
//! where it is `not null`. A field without a column is skipped and counted, or rejected, as
//! [`UnknownFields`](crate::UnknownFields) says.
//!
//! | declared | Avro |
//! | --- | --- |
//! | `bool` | boolean |
//! | `int32`, `int64` | int, long, within the range of the column |
//! | `float64` | int, long, float, double (also NaN and infinite), decimal: the nearest double |
//! | `string` | string, enum, decimal (all its digits) |
//! | `timestamp` | timestamp-millis, -micros, -nanos (cut off); int and long as milliseconds; a string as in JSON |
//! | `date` | date; a string as in JSON |
//! | `binary` | bytes, fixed |
//! | a table | record |
//! | a list | array |
//! | `json` | anything, also map, as JSON text |
//!
//! Of a union, a value fits if its branch does; null is null. Other logical types count as what they stand on. Decimals
//! have up to 38 digits. What nests deeper than [`MAX_JSON_DEPTH`](crate::json::MAX_JSON_DEPTH) without a column of its own
//! is rejected.
//!
//! A schema id that the registry does not know rejects its records. A registry that is away does not: it is waited for,
//! and then the run ends.

use std::collections::HashMap;
use std::fmt;

use puddle_types::Batch;

use self::plan::Plan;
use self::registry::{Entry, Registry};
use self::schema::Schema;
use super::decoder::Unknown;
use super::reason::cut;
use super::rows::{self, Misfit, Rows, misfit, within_field};
use crate::config::{IngestConfig, UnknownFields};
use crate::error::Error;
use crate::raw::RawBatch;
use crate::schema::{FieldDecl, SchemaDecl};

mod cursor;
mod infer;
mod plan;
mod read;
mod registry;
mod schema;
mod walk;

/// How many schemas are remembered, and ids that the registry does not know. Topics have a handful; the bound is for ids
/// that are noise.
const MAX_PLANS: usize = 1024;

/// Decodes records of the format `avro`.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) rows: Rows,
    plans: Plans,
    unknown: u64,
    left_out: u64,
    first_unknown: Option<String>,
}

/// The plans of the schemas met so far.
struct Plans {
    fields: Vec<FieldDecl>,
    policy: UnknownFields,
    /// `None` where all records have the schema of the one plan.
    registry: Option<Registry>,
    planned: Vec<Result<Plan, String>>,
    by_id: HashMap<u32, usize>,
    /// The id of the last record, and its plan: most records have the schema of the one before them.
    last: Option<(u32, usize)>,
    wanted: Box<dyn Fn() -> bool + Send>,
}

/// The schema of the producers, for a pipeline that declares none: of the file, or the newest of each topic in the
/// registry. `None` while the registry has none of a topic.
///
/// # Errors
/// [`Error::Registry`]; [`Error::Format`] when a schema is none of records, or the topics' do not go together.
pub(super) fn producers_schema(config: &IngestConfig) -> Result<Option<SchemaDecl>, Error> {
    let wrong = |reason: String| Error::format(config, reason);
    let mut schemas = Vec::new();
    match &config.registry {
        None => schemas.push(schema_of_file(config)?),
        Some(registry) => {
            let registry = Registry::new(registry)?;
            for topic in &config.topics {
                match registry.latest(topic)? {
                    Entry::Schema(_, schema) => schemas.push(*schema),
                    Entry::Unusable(_, reason) => {
                        return Err(wrong(format!("the newest schema of \"{topic}-value\": {reason}")));
                    }
                    Entry::Nothing => return Ok(None),
                }
            }
        }
    }
    infer::infer(&schemas)
        .map(Some)
        .map_err(|reason| wrong(format!("cannot take the producers' schema: {reason}")))
}

impl Decoder {
    /// Asks the registry for the topics' newest schemas, so that one that is away is told of before a record is read.
    pub(super) fn new(config: &IngestConfig, schema: &SchemaDecl) -> Result<Self, Error> {
        let mut plans = Plans::new(schema.fields().to_vec(), config.unknown_fields);
        match &config.registry {
            None => _ = plans.add(Ok(schema_of_file(config)?)),
            Some(registry) => {
                let mut registry = Registry::new(registry)?;
                for topic in &config.topics {
                    if let Some((id, schema)) = registry.latest(topic)?.known() {
                        plans.remember(id, schema);
                    }
                }
                registry.started();
                plans.registry = Some(registry);
            }
        }
        Ok(Self { rows: Rows::new(schema), plans, unknown: 0, left_out: 0, first_unknown: None })
    }

    pub(super) fn wait_while(&mut self, wanted: impl Fn() -> bool + Send + 'static) {
        self.plans.wanted = Box::new(wanted);
    }

    pub(super) fn unknown_fields(&self) -> Unknown<'_> {
        Unknown { count: self.unknown, left_out: self.left_out, first: self.first_unknown.as_deref() }
    }

    pub(super) fn decode(&mut self, raw: &RawBatch) -> Result<Batch, Error> {
        let Self { rows, plans, unknown, left_out, first_unknown } = self;
        rows.decode(raw, |object, record| {
            let Some(value) = record.value else { return Ok(Err(rows::tombstone())) };
            let (plan, fields) = match plans.plan(value)? {
                Ok(found) => found,
                Err(problem) => return Ok(Err(problem)),
            };
            if let Some(first) = plan.unknown.first() {
                *unknown += plan.unknown.len() as u64;
                first_unknown.get_or_insert_with(|| cut(first.clone()));
            }
            let read = read::record(plan, fields, object);
            *left_out += u64::from(read.is_ok() && !plan.unknown.is_empty());
            Ok(read)
        })
    }
}

impl Plans {
    fn new(fields: Vec<FieldDecl>, policy: UnknownFields) -> Self {
        Self {
            fields,
            policy,
            registry: None,
            planned: Vec::new(),
            by_id: HashMap::new(),
            last: None,
            wanted: Box::new(|| true),
        }
    }

    /// The plan for a value, and its bytes that the plan is for.
    fn plan<'v>(&mut self, value: &'v [u8]) -> Result<Result<(&Plan, &'v [u8]), Misfit>, Error> {
        let (place, fields) = if self.registry.is_none() {
            (0, value)
        } else {
            let (id, fields) = match split(value) {
                Ok(split) => split,
                Err(problem) => return Ok(Err(problem)),
            };
            let place = match self.last {
                Some((last, place)) if last == id => place,
                _ => self.find(id)?,
            };
            self.last = Some((id, place));
            (place, fields)
        };
        Ok(match &self.planned[place] {
            Ok(plan) => self.allowed(plan).map(|()| (plan, fields)),
            Err(reason) => Err(misfit(reason.clone())),
        })
    }

    /// Where the plan of this schema is; asks the registry when it is new.
    fn find(&mut self, id: u32) -> Result<usize, Error> {
        if let Some(place) = self.by_id.get(&id) {
            return Ok(*place);
        }
        let Some(registry) = &self.registry else { return Ok(0) };
        let schema = match registry.by_id(id, &*self.wanted)? {
            Entry::Nothing => Err(format!("schema id {id} is not in the registry")),
            entry => entry.known().map_or_else(|| Err(String::new()), |(_, schema)| schema),
        };
        Ok(self.remember(id, schema))
    }

    fn remember(&mut self, id: u32, schema: Result<Schema, String>) -> usize {
        if self.planned.len() >= MAX_PLANS {
            self.planned.clear();
            self.by_id.clear();
        }
        let place = self.add(schema);
        self.by_id.insert(id, place);
        place
    }

    fn add(&mut self, schema: Result<Schema, String>) -> usize {
        let plan = schema.and_then(|schema| Plan::new(schema, &self.fields));
        self.planned.push(plan);
        self.planned.len() - 1
    }

    fn allowed(&self, plan: &Plan) -> Result<(), Misfit> {
        match plan.unknown.first() {
            Some(path) if self.policy == UnknownFields::Reject => {
                Err(within_field(misfit("unknown field, and unknown fields are rejected"), path))
            }
            _ => Ok(()),
        }
    }
}

impl Entry {
    /// The id and the schema, or why records of that id cannot be read.
    fn known(self) -> Option<(u32, Result<Schema, String>)> {
        match self {
            Entry::Schema(id, schema) => Some((id, Ok(*schema))),
            Entry::Unusable(id, reason) => {
                Some((id, Err(format!("schema id {id} cannot be used: {reason}"))))
            }
            Entry::Nothing => None,
        }
    }
}

impl fmt::Debug for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plans").field("planned", &self.planned.len()).finish_non_exhaustive()
    }
}

/// The schema id and the fields of a record in the wire format.
fn split(value: &[u8]) -> Result<(u32, &[u8]), Misfit> {
    match value {
        [0, a, b, c, d, fields @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), fields)),
        [0, ..] => Err(misfit("not in the registry's wire format: shorter than a schema id")),
        [first, ..] => {
            Err(misfit(format!("not in the registry's wire format: begins with {first:#04x}, not 0x00")))
        }
        [] => Err(misfit("empty value")),
    }
}

fn schema_of_file(config: &IngestConfig) -> Result<Schema, Error> {
    let wrong = |reason: String| Error::format(config, reason);
    let Some(path) = config.avro.as_ref().map(|avro| &avro.schema) else {
        return Err(wrong("there is no schema".to_owned()));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("cannot read the schema {}: {error}", path.display())))?;
    Schema::parse(&text, &[]).map_err(|reason| wrong(format!("{}: {reason}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_noise_are_forgotten() {
        let mut plans = Plans::new(Vec::new(), UnknownFields::Ignore);
        for id in 0..5 * MAX_PLANS as u32 {
            let place = plans.remember(id, Err(id.to_string()));
            assert_eq!(plans.planned[place].as_ref().unwrap_err(), &id.to_string());
            assert!(plans.planned.len() <= MAX_PLANS && plans.by_id.len() <= MAX_PLANS);
        }
    }
}
