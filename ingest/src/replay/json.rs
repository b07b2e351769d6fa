//! JSON files: values one behind the other, or the elements of one array, however they are laid out.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::chunk::{Chunk, Columns};
use super::collect::{Collector, MAX_RECORD, fields};
use crate::error::Error;
use crate::json::BOM;

/// The values of a file, in chunks. serde_json calls back for each element of an array, so a thread of its own reads
/// them; it is a chunk ahead.
pub(super) struct JsonChunks {
    chunks: Receiver<Result<Chunk, Error>>,
    reader: Option<JoinHandle<()>>,
}

impl JsonChunks {
    pub(super) fn open(path: &Path, columns: &Columns) -> Result<Self, Error> {
        let (sender, chunks) = sync_channel(1);
        let (path, columns) = (path.to_owned(), columns.clone());
        let thread = std::thread::Builder::new().name("puddle-json".to_owned());
        let reader = thread
            .spawn(move || read(&path, columns, &sender))
            .map_err(|error| Error::Kafka { doing: "start a thread".into(), reason: error.to_string() })?;
        Ok(Self { chunks, reader: Some(reader) })
    }
}

impl Iterator for JsonChunks {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.chunks.recv().ok();
        // The end, unless the thread has panicked.
        if next.is_none()
            && let Some(reader) = self.reader.take()
            && let Err(panic) = reader.join()
        {
            std::panic::resume_unwind(panic);
        }
        next
    }
}

fn read(path: &Path, columns: Columns, sender: &SyncSender<Result<Chunk, Error>>) {
    let mut collector = Collector::new(columns);
    let result = for_each(path, |value| {
        collector.values.extend_from_slice(value.as_bytes());
        collector.end_record();
        let full = if collector.is_full() { collector.take() } else { None };
        // A failure to send means that nobody wants more.
        let unwanted = full.is_some_and(|chunk| sender.send(Ok(chunk)).is_err());
        if unwanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let last = collector.take().map(Ok);
    last.into_iter().chain(result.err().map(Err)).for_each(|item| _ = sender.send(item));
}

/// The names of the fields in the first values of a file, as far as they are objects.
pub(super) fn field_names(path: &Path, values: usize) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    let mut left = values;
    for_each(path, |value| {
        for name in fields(value.as_bytes()).into_keys() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(names)
}

/// Calls `take` with the text of each value, until it breaks off.
fn for_each(path: &Path, take: impl FnMut(&str) -> ControlFlow<()>) -> Result<(), Error> {
    let failed = |error: io::Error| Error::ReadDataset { path: path.to_owned(), source: Box::new(error) };
    let mut file = File::open(path).map_err(failed)?;
    let start = start(&mut BufReader::new(&mut file)).map_err(failed)?;
    file.seek(SeekFrom::Start(start.skip)).map_err(failed)?;

    let left = Rc::new(Cell::new(MAX_RECORD));
    let input = Bounded { input: BufReader::with_capacity(1 << 20, file), left: Rc::clone(&left) };
    let mut take = Taker { take, left, broken_off: false };
    let mut reader = Deserializer::from_reader(input);
    let result = if start.is_array {
        reader.deserialize_seq(&mut take).and_then(|()| reader.end())
    } else {
        let mut values = reader.into_iter::<Box<RawValue>>();
        values.try_for_each(|value| value.and_then(|value| take.value(&value)))
    };
    match result {
        Err(_) if take.broken_off => Ok(()),
        Err(error) if error.is_io() => Err(failed(error.into())),
        Err(error) => {
            let reason = format!(
                "{error}; a .json file holds JSON values, one behind the other or in one array, while the lines of an \
                 .ndjson or .jsonl file are taken as they are"
            );
            Err(Error::Dataset { path: path.to_owned(), reason })
        }
        Ok(()) => Ok(()),
    }
}

struct Start {
    /// The length of a byte order mark.
    skip: u64,
    is_array: bool,
}

/// Looks at how a file begins.
fn start(input: &mut impl BufRead) -> io::Result<Start> {
    let mut skip = 0;
    let mut first = None;
    for byte in input.bytes() {
        let byte = byte?;
        if BOM.get(skip) == Some(&byte) {
            skip += 1;
        } else if !byte.is_ascii_whitespace() {
            first = Some(byte);
            break;
        }
    }
    let skip = if skip == BOM.len() { skip as u64 } else { 0 };
    Ok(Start { skip, is_array: first == Some(b'[') })
}

struct Taker<F> {
    take: F,
    left: Rc<Cell<u64>>,
    broken_off: bool,
}

impl<F: FnMut(&str) -> ControlFlow<()>> Taker<F> {
    /// An error is the only way out of the middle of an array.
    fn value(&mut self, value: &RawValue) -> Result<(), serde_json::Error> {
        self.left.set(MAX_RECORD);
        self.broken_off = (self.take)(value.get()).is_break();
        if self.broken_off { Err(serde_json::Error::custom("broken off")) } else { Ok(()) }
    }
}

impl<'de, F: FnMut(&str) -> ControlFlow<()>> Visitor<'de> for &mut Taker<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element::<Box<RawValue>>()? {
            self.value(&value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// Fails when a value is too long.
struct Bounded<R> {
    input: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let Some(left) = self.left.get().checked_sub(read as u64) else {
            let text = format!("a value is longer than {MAX_RECORD} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        self.left.set(left);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::collect::CHUNK_RECORDS;
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        let mut values = Vec::new();
        for chunk in JsonChunks::open(&path, &Columns::default())? {
            let chunk = chunk?;
            values.extend(chunk.records().map(|(value, ..)| String::from_utf8(value.to_vec()).unwrap()));
        }
        Ok(values)
    }

    #[test]
    fn values_stand_one_behind_the_other_or_in_one_array() {
        let pretty = "{\n  \"a\": [1, 2]\n}";
        for text in [
            format!("{pretty}\n{{\"a\":2}} 3 \"x\"\n"),
            format!("\u{feff}\n [{pretty}, {{\"a\":2}},3\n,\"x\"]\n"),
            format!("\r\n{pretty}{{\"a\":2}}3 \"x\""),
        ] {
            assert_eq!(read(&text).unwrap(), [pretty, "{\"a\":2}", "3", "\"x\""], "{text}");
        }
        for empty in ["", " \n", "[]", "[ ]\n", "\u{feff}"] {
            assert_eq!(read(empty).unwrap(), [""; 0], "{empty:?}");
        }
    }

    #[test]
    fn what_is_no_json_is_named_with_its_place() {
        for (text, place) in [
            ("{\"a\":1}\n{\"a\" 2}\n", "line 2 column 6"),
            ("[1,\n 2,,3]", "line 2 column 4"),
            ("[1 2]", "line 1 column 4"),
            ("[1]\n[2]", "line 2 column 1"),
            ("[{\"a\":1}", "line 1 column 8"),
            ("{\"a\":\n", "line 2 column 0"),
            ("id,name\n", "line 1 column 1"),
        ] {
            let error = read(text).unwrap_err();
            let message = error.to_string();
            assert!(error.is_usage() && message.contains(place), "{text}: {message}");
            assert!(message.contains("a.json") && message.contains(".ndjson or .jsonl"), "{message}");
        }
    }

    #[test]
    fn values_before_a_mistake_come_and_chunks_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, "{}\n".repeat(CHUNK_RECORDS + 1) + "}").unwrap();
        let chunks: Vec<_> = JsonChunks::open(&path, &Columns::default()).unwrap().collect();
        let lengths: Vec<_> = chunks.iter().map(|chunk| chunk.as_ref().map(Chunk::len).ok()).collect();
        assert_eq!(lengths, [Some(CHUNK_RECORDS), Some(1), None]);
        // One that is not read to its end ends its thread, too.
        let mut chunks = JsonChunks::open(&path, &Columns::default()).unwrap();
        let thread = chunks.reader.take().unwrap();
        drop(chunks);
        thread.join().unwrap();
    }

    #[test]
    fn names_come_from_the_first_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, "[7,{\"b\":1,\"a\":2},{\"c\":1},{\"d\":1}, broken").unwrap();
        assert_eq!(field_names(&path, 3).unwrap(), ["a", "b", "c"]);
    }
}
