//! Random schemas and random JSON records for them: such that fit, that nearly do, and damaged ones.

#![allow(dead_code, reason = "each test uses a part of it")]

use chrono::{DateTime, NaiveDate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use puddle_ingest::schema::{FieldDecl, Kind, SchemaDecl, ValueDecl};

/// A schema, and the values of some records.
pub(crate) fn records() -> impl Strategy<Value = (SchemaDecl, Vec<Vec<u8>>)> {
    let style = prop_oneof![4 => Just(Style::COMPACT), 2 => Just(Style::PYTHON), 1 => Just(Style::WIDE), 1 => Just(Style::ODD)];
    schema_and_docs()
        .prop_flat_map(move |(schema, docs)| {
            let count = docs.len();
            (Just(schema), Just(docs), style.clone(), vec(style.clone(), count), any::<bool>())
        })
        .prop_map(|(schema, docs, style, styles, alike)| {
            // One producer writes all its records alike.
            let styles = styles.into_iter().map(|own| if alike { style } else { own });
            (schema, docs.iter().zip(styles).map(|(doc, style)| doc.written(style).into_bytes()).collect())
        })
}

/// Bytes to change, and records to cut off.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    vec((any::<Index>(), any::<Index>(), any::<Option<u8>>()), 0..12).prop_map(Damage)
}

#[derive(Debug)]
pub(crate) struct Damage(Vec<(Index, Index, Option<u8>)>);

impl Damage {
    pub(crate) fn apply(self, values: &mut [Vec<u8>]) {
        for (record, at, byte) in self.0 {
            let value = record.get_mut(values);
            match byte {
                _ if value.is_empty() => {}
                Some(byte) => *at.get_mut(value) = byte,
                None => value.truncate(at.index(value.len())),
            }
        }
    }
}

/// A JSON document as a tree that keeps what `serde_json::Value` would lose: duplicates, how numbers and strings are
/// written, and white space.
#[derive(Clone, Debug)]
enum Doc {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    /// A string as it is written, with whatever escapes.
    Written(String),
    Array(Vec<Doc>),
    Object(Vec<(String, Doc)>),
    /// With white space around it.
    Spaced(&'static str, Box<Doc>),
}

/// Names from a small set, so that documents often meet the schema, and often almost.
fn name() -> impl Strategy<Value = String> {
    let names = [
        "a",
        "b",
        "c",
        "é",
        "a.b",
        "\"",
        "id",
        "origin",
        "tailnum",
        "sched_dep_time",
        "minutes_of_delay_in_all_",
    ];
    select(names.to_vec()).prop_map(str::to_owned)
}

fn kind() -> impl Strategy<Value = Kind> {
    let scalars = vec![
        Kind::Bool,
        Kind::Int32,
        Kind::Int64,
        Kind::Float64,
        Kind::String,
        Kind::Timestamp,
        Kind::Date,
        Kind::Json,
    ];
    select(scalars).prop_recursive(3, 12, 4, |inner| {
        let value = (inner, any::<bool>()).prop_map(|(kind, nullable)| {
            let nested = matches!(kind, Kind::Struct(_) | Kind::List(_));
            ValueDecl { kind, nullable: nullable || nested }
        });
        prop_oneof![
            fields(value.clone()).prop_map(Kind::Struct),
            value.prop_map(|value| Kind::List(Box::new(value))),
        ]
    })
}

fn fields(value: impl Strategy<Value = ValueDecl>) -> impl Strategy<Value = Vec<FieldDecl>> {
    vec((name(), value), 1..6).prop_map(|mut fields| {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|a, b| a.0 == b.0);
        fields.into_iter().map(|(name, value)| FieldDecl { name, value }).collect()
    })
}

fn schema() -> impl Strategy<Value = SchemaDecl> {
    let value = (kind(), any::<bool>()).prop_map(|(kind, required)| {
        let nested = matches!(kind, Kind::Struct(_) | Kind::List(_));
        ValueDecl { nullable: nested || !required, kind }
    });
    fields(value).prop_map(|fields| SchemaDecl::new(fields).unwrap())
}

/// At the ends of the types' ranges, and in the ways of writing them.
const ODD_NUMBERS: [&str; 26] = [
    "0",
    "-0",
    "-0.0",
    "0e0",
    "-0e5",
    "-1e-400",
    "1e-400",
    "1.0",
    "1e0",
    "1e3",
    "-0.5E-7",
    "1E+2",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e308",
    "1.7976931348623159e308",
    "-1e999",
    "5e-324",
];

/// What JSON has not, and what other readers nevertheless take.
const NO_JSON: [&str; 18] = [
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
    "0x10",
    "'a'",
    "\"\\x\"",
    "\"\t\"",
    "\"\\u12\"",
    "nul",
    "TRUE",
    "[1,]",
    "{\"a\":1,}",
    "{a:1}",
];

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        (any::<i64>(), 0_u32..64).prop_map(|(n, bits)| (n >> bits).to_string()),
        "-?[0-9]{1,20}",
        "-?[0-9]{1,20}\\.[0-9]{1,20}([eE][+-]?[0-9]{1,3})?",
        (-100_i64..100).prop_map(|n| n.to_string()),
        (-1e6..1e6).prop_map(|n: f64| format!("{n:?}")),
        any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        select(ODD_NUMBERS.to_vec()).prop_map(str::to_owned),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,8}",
        "[a-z ]{0,80}",
        "[a-z ]{20,60}[\\\\\"\u{0}-\u{1f}é]?[a-z]{0,40}",
        "[\"\\\\\u{0}-\u{1f}a😀]{0,6}",
        "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]",
        "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,10})?(Z|z|[+-][01][0-9]:00|)",
    ]
}

/// Strings with escapes, whole and halved pairs of surrogates included.
fn written() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[a-c0-9é😀/ -]{1,4}",
        2 => select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\b", "\\u0000", "\\u00e9", "\\u0061", "\\ud83d\\ude00", "\\uFEFF"])
            .prop_map(str::to_owned),
        1 => select(vec!["\\ud83d", "\\ude00", "\\ud83d\\u0041", "\\uD83Dx"]).prop_map(str::to_owned),
    ];
    vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A document of any shape, JSON or nearly.
fn odd() -> impl Strategy<Value = Doc> {
    let leaf = prop_oneof![
        4 => Just(Doc::Null),
        4 => any::<bool>().prop_map(Doc::Bool),
        6 => number().prop_map(Doc::Number),
        4 => text().prop_map(Doc::String),
        4 => written().prop_map(Doc::Written),
        1 => select(NO_JSON.to_vec()).prop_map(|text| Doc::Written(text.to_owned())),
        1 => (0_usize..200).prop_map(|levels| Doc::Written("[".repeat(levels) + "0" + &"]".repeat(levels))),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Doc::Array),
            vec((name(), inner), 0..4).prop_map(Doc::Object),
        ]
    })
}

/// A document that fits the kind, but for a part here and there.
fn fitting(kind: Kind, nullable: bool) -> BoxedStrategy<Doc> {
    let fits = match kind {
        Kind::Bool => any::<bool>().prop_map(Doc::Bool).boxed(),
        Kind::Int32 => prop_oneof![9 => any::<i32>().prop_map(|n| n.to_string()), 1 => number()]
            .prop_map(Doc::Number)
            .boxed(),
        Kind::Int64 => prop_oneof![9 => any::<i64>().prop_map(|n| n.to_string()), 1 => number()]
            .prop_map(Doc::Number)
            .boxed(),
        Kind::Float64 => number().prop_map(Doc::Number).boxed(),
        Kind::String => prop_oneof![text().prop_map(Doc::String), written().prop_map(Doc::Written)].boxed(),
        Kind::Timestamp => prop_oneof![
            (-1e14..1e14).prop_map(|n: f64| Doc::Number((n as i64).to_string())),
            (-62_000_000_000_i64..250_000_000_000, 0..1_000_000_000_u32)
                .prop_map(|(s, n)| Doc::String(DateTime::from_timestamp(s, n).unwrap().to_rfc3339())),
        ]
        .boxed(),
        Kind::Date => (-700_000..2_900_000).prop_map(|days| Doc::String(date(days))).boxed(),
        Kind::Json | Kind::Binary => odd().boxed(),
        Kind::Struct(fields) => object(&fields),
        Kind::List(element) => {
            vec(fitting(element.kind, element.nullable), 0..4).prop_map(Doc::Array).boxed()
        }
    };
    let null = if nullable { Just(Doc::Null).boxed() } else { fits.clone() };
    let spaced = (select(vec![" ", "\n\t", "\r\n "]), fits.clone());
    let spaced = spaced.prop_map(|(space, doc)| Doc::Spaced(space, Box::new(doc)));
    prop_oneof![40 => fits, 4 => spaced, 4 => null, 1 => odd()].boxed()
}

fn date(days: i32) -> String {
    (NaiveDate::default() + chrono::Duration::days(days.into())).to_string()
}

/// An object with these fields in any order, at times without one of them, with one twice, or with another.
fn object(fields: &[FieldDecl]) -> BoxedStrategy<Doc> {
    let entry = |field: &FieldDecl| {
        let name = field.name.clone();
        fitting(field.value.kind.clone(), field.value.nullable).prop_map(move |doc| (name.clone(), doc))
    };
    let entries: Vec<_> = fields.iter().map(entry).collect();
    let change = prop_oneof![12 => Just(0), 3 => Just(1), 1 => Just(2), 2 => Just(3)];
    (entries.prop_shuffle(), change, any::<Index>(), (name(), odd()))
        .prop_map(|(mut entries, change, at, other)| {
            let at = at.index(entries.len());
            match change {
                1 => drop(entries.remove(at)),
                2 => entries.push(entries[at].clone()),
                3 => entries.insert(at, other),
                _ => {}
            }
            Doc::Object(entries)
        })
        .boxed()
}

fn schema_and_docs() -> impl Strategy<Value = (SchemaDecl, Vec<Doc>)> {
    schema().prop_flat_map(|schema| {
        let doc = prop_oneof![12 => object(schema.fields()), 1 => odd()];
        (Just(schema), vec(doc, 1..12))
    })
}

/// How a producer writes what is between the values.
#[derive(Clone, Copy, Debug)]
struct Style {
    comma: &'static str,
    colon: &'static str,
    /// Behind opening and before closing brackets.
    inner: &'static str,
    /// Names with every character as an escape.
    escaped: bool,
}

impl Style {
    const COMPACT: Self = Self { comma: ",", colon: ":", inner: "", escaped: false };
    const PYTHON: Self = Self { comma: ", ", colon: ": ", inner: "", escaped: false };
    const WIDE: Self = Self { comma: ",\n\t", colon: " : ", inner: "\r\n  ", escaped: false };
    const ODD: Self = Self { comma: " ,", colon: " :", inner: " ", escaped: true };
}

impl Doc {
    fn written(&self, style: Style) -> String {
        let string = |text: &str| serde_json::to_string(text).unwrap();
        let Style { comma, colon, inner, escaped } = style;
        match self {
            Doc::Null => "null".to_owned(),
            Doc::Bool(value) => value.to_string(),
            Doc::Number(text) | Doc::Written(text) => text.clone(),
            Doc::String(text) => string(text),
            Doc::Spaced(space, doc) => format!("{space}{}{space}", doc.written(style)),
            Doc::Array(docs) => {
                let docs: Vec<String> = docs.iter().map(|doc| doc.written(style)).collect();
                format!("[{inner}{}{inner}]", docs.join(comma))
            }
            Doc::Object(entries) => {
                let name = |name: &str| match escaped {
                    true => format!(
                        "\"{}\"",
                        name.encode_utf16().map(|c| format!("\\u{c:04x}")).collect::<String>()
                    ),
                    false => string(name),
                };
                let entry =
                    |(field, doc): &(String, Doc)| format!("{}{colon}{}", name(field), doc.written(style));
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("{{{inner}{}{inner}}}", entries.join(comma))
            }
        }
    }
}
