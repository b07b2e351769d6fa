//! NDJSON: lines that are passed on byte for byte, whether they are JSON or not.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use arrow::array::StringBuilder;
use chrono::DateTime;
use serde_json::value::RawValue;

use super::chunk::{Chunk, Columns};

/// A chunk ends after so many lines, or bytes.
const CHUNK_LINES: usize = 8192;
const CHUNK_BYTES: usize = 4 << 20;

/// The longest line that is read. Beyond it a broker refuses the record by far, and without a bound a file without
/// line breaks would be read into memory whole.
const MAX_LINE: u64 = 64 << 20;

/// Reads lines, in chunks.
pub(super) struct Lines<R> {
    pub(super) input: R,
    pub(super) columns: Columns,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        match self.read() {
            Ok(chunk) if chunk.ends.is_empty() => None,
            other => Some(other),
        }
    }
}

impl<R: BufRead> Lines<R> {
    fn read(&mut self) -> io::Result<Chunk> {
        let mut chunk = Chunk::default();
        let mut keys = self.columns.key.is_some().then(StringBuilder::new);
        let mut times = self.columns.time.is_some().then(Vec::new);
        while chunk.ends.len() < CHUNK_LINES && chunk.values.len() < CHUNK_BYTES {
            let begin = chunk.values.len();
            if !read_line(&mut self.input, &mut chunk.values)? {
                break;
            }
            let line = &chunk.values[begin..];
            if line.is_empty() {
                continue;
            }
            let fields = if keys.is_some() || times.is_some() { fields(line) } else { BTreeMap::new() };
            let field = |name: &Option<String>| name.as_ref().and_then(|name| fields.get(name).copied());
            if let Some(keys) = &mut keys {
                keys.append_option(field(&self.columns.key).and_then(text));
            }
            if let Some(times) = &mut times {
                times.push(field(&self.columns.time).and_then(millis));
            }
            chunk.ends.push(chunk.values.len());
        }
        chunk.keys = keys.map(|mut keys| keys.finish());
        chunk.times = times;
        Ok(chunk)
    }
}

/// Appends a line without its line break; returns `false` at the end of the input.
fn read_line(input: &mut impl BufRead, into: &mut Vec<u8>) -> io::Result<bool> {
    let begin = into.len();
    let read = input.take(MAX_LINE).read_until(b'\n', into)?;
    if into[begin..].last() == Some(&b'\n') {
        into.pop();
    } else if read as u64 == MAX_LINE {
        let text = format!("a line is longer than {MAX_LINE} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(read > 0)
}

/// The names of the fields in the first lines of a file, as far as they are JSON objects.
pub(super) fn field_names(input: &mut impl BufRead, lines: usize) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for _ in 0..lines {
        let mut line = Vec::new();
        if !read_line(input, &mut line)? {
            break;
        }
        for name in fields(&line).into_keys() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// A line's fields; none when it is not a JSON object.
fn fields(line: &[u8]) -> BTreeMap<String, &RawValue> {
    serde_json::from_slice(line).unwrap_or_default()
}

/// The text of a value: of a string what it says, of anything else its JSON; none of null.
fn text(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        string if string.starts_with('"') => serde_json::from_str(string).ok(),
        other => Some(other.to_owned()),
    }
}

/// RFC 3339, or integer milliseconds.
fn millis(value: &RawValue) -> Option<i64> {
    let text = text(value)?;
    text.parse().ok().or_else(|| DateTime::parse_from_rfc3339(&text).ok().map(|t| t.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str, key: Option<&str>, time: Option<&str>) -> Chunk {
        let columns = Columns { key: key.map(Into::into), time: time.map(Into::into) };
        Lines { input: text.as_bytes(), columns }.next().unwrap().unwrap()
    }

    #[test]
    fn lines_pass_as_they_are() {
        let text = "{\"a\": 1 }\r\nnot json\n\n  {\"a\":\t2}\n\u{feff}{}";
        let chunk = chunk(text, None, None);
        let values: Vec<_> = chunk.records().map(|(value, ..)| str::from_utf8(value).unwrap()).collect();
        assert_eq!(values, ["{\"a\": 1 }\r", "not json", "  {\"a\":\t2}", "\u{feff}{}"]);
    }

    #[test]
    fn keys_and_times_come_from_the_fields() {
        let text = "{\"k\":\"a\\u0062\",\"t\":\"1970-01-01T01:00:01+01:00\"}\n{\"k\":7,\"t\":5}\nbroken\n{\"k\":null}";
        let chunk = chunk(text, Some("k"), Some("t"));
        let parts: Vec<_> = chunk.records().map(|(_, key, time)| (key, time)).collect();
        assert_eq!(
            parts,
            [(Some(&b"ab"[..]), Some(1000)), (Some(b"7"), Some(5)), (None, None), (None, None)]
        );
    }

    #[test]
    fn names_come_from_the_lines_that_are_objects() {
        let names = field_names(&mut "nope\n{\"b\":1,\"a\":2}\n{\"c\":1}\n{\"d\":1}".as_bytes(), 3).unwrap();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn long_inputs_come_in_chunks() {
        let text = "{}\n".repeat(CHUNK_LINES + 1);
        let lines = Lines { input: text.as_bytes(), columns: Columns::default() };
        let lengths: Vec<_> = lines.map(|chunk| chunk.unwrap().len()).collect();
        assert_eq!(lengths, [CHUNK_LINES, 1]);
    }
}
