//! CSV: which types its columns have.
//!
//! Arrow guesses types from the values, but `007` is a number to it, and an open quote swallows the rest of a file in
//! silence. So the bytes are watched while it reads them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::dataset::{open, read_error};
use crate::error::Error;
use crate::json::BOM;

/// The columns of a file with a header, their types guessed from all of its rows.
pub(super) fn schema(path: &Path) -> Result<SchemaRef, Error> {
    let wrong = |reason: String| Error::Dataset { path: path.to_owned(), reason };
    let mut watch = Watch::new(open(path)?);
    let inferred = Format::default().with_header(true).infer_schema(BufReader::new(&mut watch), None);
    if let Some(line) = watch.open_quote() {
        let help = "close it, or double each quote that belongs to a value";
        return Err(wrong(format!("the quote that opens in line {line} is never closed: {help}")));
    }
    let (schema, _) = inferred.map_err(|error| read_error(path, error))?;
    let fields = schema.fields();
    for (i, field) in fields.iter().enumerate() {
        if fields[..i].iter().any(|before| before.name() == field.name()) {
            return Err(wrong(format!("its header names the column {:?} twice", field.name())));
        }
    }
    let typed = |(i, field): (usize, &Arc<Field>)| match field.data_type() {
        DataType::Int64 | DataType::Float64 if watch.is_code(i) => {
            Field::new(field.name(), DataType::Utf8, true)
        }
        _ => field.as_ref().clone(),
    };
    Ok(Arc::new(Schema::new(fields.iter().enumerate().map(typed).collect::<Vec<_>>())))
}

/// Watches CSV pass: quotes that stay open, and columns of codes such as zip codes and phone numbers, which would
/// lose leading zeros or signs as numbers.
struct Watch<R> {
    input: R,
    state: State,
    head: Head,
    /// The number of bytes of a byte order mark that have passed.
    mark: usize,
    line: u64,
    quote_line: u64,
    in_header: bool,
    column: usize,
    codes: Vec<bool>,
}

/// Where in a field the next byte is.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the end, or the first half of a doubled one.
    Quote,
}

/// How a field's value begins.
#[derive(Clone, Copy)]
enum Head {
    Empty,
    Minus,
    Zero,
    Other,
}

impl Watch<File> {
    fn new(input: File) -> Self {
        Watch {
            input,
            state: State::Start,
            head: Head::Empty,
            mark: 0,
            line: 1,
            quote_line: 0,
            in_header: true,
            column: 0,
            codes: Vec::new(),
        }
    }
}

impl<R> Watch<R> {
    /// The line in which a quote opens that is not closed.
    fn open_quote(&self) -> Option<u64> {
        (self.state == State::Quoted).then_some(self.quote_line)
    }

    /// Whether a value of the column begins with a plus sign, or with a zero before another digit.
    fn is_code(&self, column: usize) -> bool {
        self.codes.get(column).copied().unwrap_or(false)
    }

    fn pass(&mut self, byte: u8) {
        if BOM.get(self.mark) == Some(&byte) && self.state == State::Start {
            self.mark += 1;
            return;
        }
        self.mark = BOM.len();
        if byte == b'\n' {
            self.line += 1;
        }
        match (self.state, byte) {
            (State::Start, b'"') => {
                self.state = State::Quoted;
                self.quote_line = self.line;
            }
            (State::Quoted, b'"') => self.state = State::Quote,
            (State::Quote, b'"') => self.state = State::Quoted,
            (State::Quoted, _) => self.value(byte),
            (_, b',') => {
                self.column += 1;
                (self.state, self.head) = (State::Start, Head::Empty);
            }
            (state, b'\r' | b'\n') => {
                // An empty line is no row.
                if state != State::Start || self.column > 0 {
                    self.in_header = false;
                }
                self.column = 0;
                (self.state, self.head) = (State::Start, Head::Empty);
            }
            _ => {
                self.state = State::Plain;
                self.value(byte);
            }
        }
    }

    fn value(&mut self, byte: u8) {
        let is_code = matches!((self.head, byte), (Head::Empty, b'+') | (Head::Zero, b'0'..=b'9'));
        if is_code && !self.in_header {
            let columns = self.codes.len().max(self.column + 1);
            self.codes.resize(columns, false);
            self.codes[self.column] = true;
        }
        self.head = match (self.head, byte) {
            (Head::Empty, b'-') => Head::Minus,
            (Head::Empty | Head::Minus, b'0') => Head::Zero,
            _ => Head::Other,
        };
    }
}

impl<R: Read> Read for Watch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        buffer[..read].iter().for_each(|byte| self.pass(*byte));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(text: &str) -> Result<Vec<DataType>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        Ok(schema(&path)?.fields().iter().map(|field| field.data_type().clone()).collect())
    }

    #[test]
    fn codes_stay_text() {
        use DataType::{Float64, Int64, Utf8};
        let rows = "\u{feff}\"zip\",phone,\"n,m\",x,00,neg\r\n\r\n\"00701\",+15551,0,0.5,1,-1\r\n10001,1,-10,-0.25,0,-02\r\n";
        assert_eq!(types(rows).unwrap(), [Utf8, Utf8, Int64, Float64, Int64, Utf8]);
        assert_eq!(types("x\n1.5\n01.5\n").unwrap(), [Utf8]);
        assert_eq!(types("x,y\n1,\"a\n\"\"01\"\n2,b\n").unwrap(), [Int64, Utf8]);
    }

    #[test]
    fn an_open_quote_is_named_with_its_line() {
        for (text, line) in [
            ("id,\"name\n1,a\n2,b\n", "line 1"),
            ("id,name\n1,\"a\nb\"\n2,\"c\n3,d\n", "line 4"),
            ("id,name\n1,a\n\"2,b\n", "line 3"),
            ("id,name\n1,\"a\"\"\n", "line 2"),
        ] {
            let error = types(text).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(line), "{text}: {error}");
        }
        types("id,name\n1,5\" pipe\n2,\"a\"\"\"\n3,\"b\"").unwrap();
    }

    #[test]
    fn a_column_twice_is_a_usage_error() {
        let error = types("id,x,id\n1,2,3\n").unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("\"id\" twice"), "{error}");
    }
}
