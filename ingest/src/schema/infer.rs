//! A schema from sample records.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{FieldDecl, Kind, MAX_DEPTH, RESERVED, SchemaDecl, SchemaError, ValueDecl};

/// The most keys that nested objects under one name may have together before they are taken for a map.
pub const MAX_KEYS: usize = 256;

/// The schema of these sample values. Those that are no JSON objects are skipped: they will be rejected records.
///
/// What a field's values have in common decides its type:
///
/// | values seen, nulls aside | type |
/// | --- | --- |
/// | integers | `int64` |
/// | integers and other numbers | `float64` |
/// | `true`, `false` | `bool` |
/// | strings | `string`; a time is never guessed, for `2013-01-01` may be a part number |
/// | objects | a table of the fields of all of them |
/// | arrays | a list of what their elements have in common |
/// | none, a mixture, or an integer beyond 64 bits signed | `json` |
///
/// Everything may be null, since a sample proves presence and never absence. Fields stand in the order in which they
/// were first seen. An object with more than [`MAX_KEYS`] different keys is a map with data for keys, and becomes
/// `json`; so does one without any key, or with a key that is empty, and what lies deeper than
/// [`MAX_DEPTH`]. At the top, an empty or reserved name is left out.
///
/// # Errors
/// When no sample is an object with a usable field, or there are more fields than a schema may have.
pub fn infer(samples: &[&[u8]]) -> Result<SchemaDecl, SchemaError> {
    let mut seen = Object::default();
    for sample in samples {
        if let Ok(Value::Object(record)) = serde_json::from_slice(crate::json::without_bom(sample)) {
            seen.add(&record);
        }
    }
    let usable = |name: &str| !name.is_empty() && !RESERVED.contains(&name);
    let fields: Vec<FieldDecl> = seen.declare(1).filter(|field| usable(&field.name)).collect();
    if fields.is_empty() {
        return Err(SchemaError::NothingToInfer { samples: samples.len() });
    }
    SchemaDecl::new(fields)
}

/// What the values of one field have in common so far.
#[derive(Default)]
enum Seen {
    /// Nulls only.
    #[default]
    Nothing,
    Bool,
    Int,
    Float,
    String,
    Object(Object),
    List(Box<Seen>),
    Mixture,
}

/// What the objects under one name have in common so far: fields in the order in which they were first seen.
#[derive(Default)]
struct Object {
    order: Vec<String>,
    fields: HashMap<String, Seen>,
}

impl Seen {
    fn add(&mut self, value: &Value) {
        let before = std::mem::take(self);
        *self = match (before, value) {
            (before, Value::Null) => before,
            (Seen::Nothing | Seen::Bool, Value::Bool(_)) => Seen::Bool,
            (before @ (Seen::Nothing | Seen::Int | Seen::Float), Value::Number(number)) => {
                match (number.is_i64(), number.is_u64(), before) {
                    (true, _, Seen::Float) => Seen::Float,
                    (true, _, _) => Seen::Int,
                    (false, true, _) => Seen::Mixture,
                    (false, false, _) => Seen::Float,
                }
            }
            (Seen::Nothing | Seen::String, Value::String(_)) => Seen::String,
            (before @ (Seen::Nothing | Seen::Object(_)), Value::Object(values)) => {
                let mut object = if let Seen::Object(object) = before { object } else { Object::default() };
                object.add(values);
                Seen::Object(object)
            }
            (before @ (Seen::Nothing | Seen::List(_)), Value::Array(values)) => {
                let mut element = if let Seen::List(element) = before { element } else { Box::default() };
                values.iter().for_each(|value| element.add(value));
                Seen::List(element)
            }
            _ => Seen::Mixture,
        };
    }

    fn declare(self, depth: usize) -> ValueDecl {
        ValueDecl::nullable(match self {
            Seen::Bool => Kind::Bool,
            Seen::Int => Kind::Int64,
            Seen::Float => Kind::Float64,
            Seen::String => Kind::String,
            Seen::Object(object) if depth < MAX_DEPTH && object.is_struct() => {
                Kind::Struct(object.declare(depth + 1).collect())
            }
            Seen::List(element) if depth < MAX_DEPTH => Kind::List(Box::new(element.declare(depth + 1))),
            Seen::Nothing | Seen::Mixture | Seen::Object(_) | Seen::List(_) => Kind::Json,
        })
    }
}

impl Object {
    fn add(&mut self, values: &Map<String, Value>) {
        for (name, value) in values {
            match self.fields.get_mut(name) {
                Some(seen) => seen.add(value),
                None => {
                    let mut seen = Seen::default();
                    seen.add(value);
                    self.order.push(name.clone());
                    self.fields.insert(name.clone(), seen);
                }
            }
        }
    }

    fn is_struct(&self) -> bool {
        (1..=MAX_KEYS).contains(&self.order.len()) && !self.fields.contains_key("")
    }

    fn declare(mut self, depth: usize) -> impl Iterator<Item = FieldDecl> {
        self.order.into_iter().map(move |name| {
            let value = self.fields.remove(&name).unwrap_or_default().declare(depth);
            FieldDecl { name, value }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inferred(samples: &[&str]) -> String {
        let samples: Vec<&[u8]> = samples.iter().map(|sample| sample.as_bytes()).collect();
        serde_json::to_string(&infer(&samples).unwrap()).unwrap()
    }

    #[test]
    fn a_type_is_what_all_values_have_in_common() {
        for (values, kind) in [
            (json!([1, null, -5]), json!("int64")),
            (json!([1, 2.5]), json!("float64")),
            (json!([2.5, 1]), json!("float64")),
            (json!([1.0]), json!("float64")),
            (json!([u64::MAX]), json!("json")),
            (json!([u64::MAX, 1]), json!("json")),
            (json!([true, false]), json!("bool")),
            (json!(["2013-01-01T00:00:00Z"]), json!("string")),
            (json!([null]), json!("json")),
            (json!([1, "1"]), json!("json")),
            (json!([true, 1]), json!("json")),
            (json!([[1], 1]), json!("json")),
            (json!([{ "a": 1 }, [1]]), json!("json")),
            (json!([[1, 2.5], null, []]), json!(["float64"])),
            (json!([[]]), json!(["json"])),
            (json!([[1, "x"]]), json!(["json"])),
            (json!([{}]), json!("json")),
            (json!([{ "": 1 }]), json!("json")),
            (
                json!([{ "a": 1 }, { "b": [{ "c": null }] }, { "b": [{ "c": true }] }]),
                json!({ "a": "int64", "b": [{ "c": "bool" }] }),
            ),
        ] {
            let samples: Vec<String> =
                values.as_array().unwrap().iter().map(|value| json!({ "f": value }).to_string()).collect();
            let samples: Vec<&str> = samples.iter().map(String::as_str).collect();
            assert_eq!(inferred(&samples), json!({ "f": kind }).to_string(), "{values}");
        }
    }

    #[test]
    fn fields_stand_as_first_seen() {
        let found = inferred(&[r#"{"z":1,"b":"x"}"#, r#"{"a":true,"z":2}"#, r#"{"b":null,"c":0.5}"#]);
        assert_eq!(found, r#"{"z":"int64","b":"string","a":"bool","c":"float64"}"#);
    }

    #[test]
    fn odd_samples_and_unusable_names_are_skipped() {
        let found = inferred(&["", "{", "[1]", "5", "\u{feff}{\"a\":1}", r#"{"_key":1,"":2,"_id":3}"#]);
        assert_eq!(found, r#"{"a":"int64","_id":"int64"}"#);
        for samples in
            [vec![], vec![&b"\xff"[..]], vec![b"{}"], vec![b"[{\"a\":1}]"], vec![b"{\"_offset\":1}"]]
        {
            let error = infer(&samples).unwrap_err();
            assert!(
                matches!(error, SchemaError::NothingToInfer { samples: n } if n == samples.len()),
                "{error}"
            );
        }
    }

    #[test]
    fn maps_and_deep_values_become_json() {
        let map: Map<String, Value> = (0..=MAX_KEYS).map(|n| (n.to_string(), json!(1))).collect();
        assert_eq!(inferred(&[&json!({ "m": map }).to_string()]), r#"{"m":"json"}"#);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
        let found = inferred(&[&deep]);
        assert_eq!(found.matches('[').count(), MAX_DEPTH - 1);
        assert!(found.contains("\"json\""));
    }

    #[test]
    fn what_is_inferred_fits_its_samples() {
        let samples: [&[u8]; 3] = [
            br#"{"a":[{"b":1},{"c":[[]]}],"d":"x"}"#,
            br#"{"a":[null,{"b":2.5}],"d":{"e":1}}"#,
            br#"{"f":18446744073709551615,"a":[]}"#,
        ];
        let mut raw = crate::raw::RawBatch::new(puddle_types::TopicPartition::new("t", 0), 0, 0);
        (0..).zip(samples).for_each(|(offset, sample)| raw.push(offset, None, None, Some(sample)));
        let schema = infer(&samples).unwrap();
        let batch = crate::json::Decoder::new(&schema, crate::UnknownFields::Reject).decode(&raw);
        assert_eq!((batch.rows.num_rows(), batch.rejected.num_rows()), (3, 0));
    }
}
