//! NDJSON: lines that are passed on byte for byte, whether they are JSON or not. Blank lines are skipped.

use std::io::{self, BufRead, Read};

use super::chunk::{Chunk, Columns};
use super::collect::{Collector, MAX_RECORD, fields};

/// Reads lines, in chunks.
pub(super) struct Lines<R> {
    input: R,
    collector: Collector,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, columns: Columns) -> Self {
        Self { input, collector: Collector::new(columns) }
    }

    fn read(&mut self) -> io::Result<Option<Chunk>> {
        let Self { input, collector } = self;
        while !collector.is_full() {
            let begin = collector.values.len();
            if !read_line(input, &mut collector.values)? {
                break;
            }
            if collector.values[begin..].iter().all(u8::is_ascii_whitespace) {
                collector.values.truncate(begin);
            } else {
                collector.end_record();
            }
        }
        Ok(collector.take())
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        self.read().transpose()
    }
}

/// Appends a line without its line break; returns `false` at the end of the input.
fn read_line(input: &mut impl BufRead, into: &mut Vec<u8>) -> io::Result<bool> {
    let begin = into.len();
    let read = input.take(MAX_RECORD).read_until(b'\n', into)?;
    if into[begin..].last() == Some(&b'\n') {
        into.pop();
    } else if read as u64 == MAX_RECORD {
        let text = format!("a line is longer than {MAX_RECORD} bytes");
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

#[cfg(test)]
mod tests {
    use super::super::collect::CHUNK_RECORDS;
    use super::*;

    fn chunk(text: &str, key: Option<&str>, time: Option<&str>) -> Chunk {
        let columns = Columns { key: key.map(Into::into), time: time.map(Into::into) };
        Lines::new(text.as_bytes(), columns).next().unwrap().unwrap()
    }

    #[test]
    fn lines_pass_as_they_are() {
        let text = "{\"a\": 1 }\r\nnot json\n\n\r\n \t\n  {\"a\":\t2}\n\u{feff}{}\n \r";
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
        let text = "{}\n".repeat(CHUNK_RECORDS + 1);
        let lines = Lines::new(text.as_bytes(), Columns::default());
        let lengths: Vec<_> = lines.map(|chunk| chunk.unwrap().len()).collect();
        assert_eq!(lengths, [CHUNK_RECORDS, 1]);
    }
}
