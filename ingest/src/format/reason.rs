//! Why a record was rejected, in words that name the field, what was expected and what was found.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::str::Utf8Error;

/// The most characters of a reason; what is longer is cut. Reasons are stored, once for each rejected record.
pub(crate) const MAX_REASON: usize = 200;

/// The most characters of a found value or of a name that a reason cites.
const MAX_CITED: usize = 40;

/// Why a record does not fit.
#[derive(Debug)]
pub(crate) struct Problem {
    what: Cow<'static, str>,
    /// The way to the value, innermost part first.
    path: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Field(String),
    Element(usize),
}

/// What stood where something else was expected.
pub(crate) enum Found<'a> {
    /// The field is not there.
    Nothing,
    Null,
    Bool(bool),
    Integer(i128),
    Number(f64),
    String(&'a str),
    Array,
    Object,
    Binary,
    /// A value of a type of this name.
    Type(&'a str),
    /// Any value, by its JSON text.
    Text(&'a str),
    /// A value that nests deeper than so many levels.
    TooDeep(usize),
}

impl Problem {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), path: Vec::new() }
    }

    pub(crate) fn mismatch(expected: &str, nullable: bool, found: Found<'_>) -> Self {
        let not_null = if nullable { "" } else { " not null" };
        let what = match found {
            Found::Nothing => format!("missing, expected {expected}{not_null}"),
            found => format!("expected {expected}{not_null}, found {found}"),
        };
        Self { what: what.into(), path: Vec::new() }
    }

    pub(crate) fn not_utf8(error: Utf8Error) -> Self {
        let what = format!("not JSON: not UTF-8 at byte {}", error.valid_up_to());
        Self { what: what.into(), path: Vec::new() }
    }

    pub(crate) fn beyond_calendar(millis: i64) -> Self {
        let what = format!("the record's timestamp is {millis} milliseconds since 1970, beyond any calendar");
        Self { what: what.into(), path: Vec::new() }
    }

    /// For what the reader itself refuses, which names line and column.
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        Self { what: format!("not JSON: {error}").into(), path: Vec::new() }
    }

    /// The problem lies within this field.
    pub(crate) fn within_field(&mut self, name: &str) {
        self.path.push(Part::Field(cite(name)));
    }

    /// The problem lies within this element of a list, counted from 0.
    pub(crate) fn within_list(&mut self, index: usize) {
        self.path.push(Part::Element(index));
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (place, part) in self.path.iter().rev().enumerate() {
            match part {
                Part::Field(name) if place == 0 => text.push_str(name),
                Part::Field(name) => write!(text, ".{name}")?,
                Part::Element(index) => write!(text, "[{index}]")?,
            }
        }
        if !self.path.is_empty() {
            text = format!("field `{text}`: ");
        }
        f.write_str(&cut(text + &self.what))
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Found::Nothing => f.write_str("nothing"),
            Found::Null => f.write_str("null"),
            Found::Bool(value) => write!(f, "boolean {value}"),
            Found::Integer(value) => write!(f, "integer {value}"),
            Found::Number(value) => write!(f, "number {value:?}"),
            Found::String(value) => write!(f, "string {:?}", cite(value)),
            Found::Array => f.write_str("array"),
            Found::Object => f.write_str("object"),
            Found::Binary => f.write_str("bytes"),
            Found::Type(name) => f.write_str(name),
            Found::Text(text) => match text.as_bytes().first() {
                Some(b'"') => write!(f, "string {}", cite(text)),
                Some(b'[') => Found::Array.fmt(f),
                Some(b'{') => Found::Object.fmt(f),
                Some(b't' | b'f') => write!(f, "boolean {text}"),
                _ => write!(f, "number {}", cite(text)),
            },
            Found::TooDeep(limit) => write!(f, "more than {limit} levels of nesting"),
        }
    }
}

/// The text, cut to the length of a reason.
pub(crate) fn cut(text: String) -> String {
    match shorten(&text, MAX_REASON) {
        Some(short) => format!("{short}…"),
        None => text,
    }
}

fn cite(text: &str) -> String {
    shorten(text, MAX_CITED).map_or_else(|| text.to_owned(), |short| format!("{short}…"))
}

/// The first characters of a text that has more than `max`, with room for an ellipsis.
fn shorten(text: &str, max: usize) -> Option<&str> {
    text.char_indices().nth(max)?;
    let (end, _) = text.char_indices().nth(max - 1)?;
    Some(&text[..end])
}
