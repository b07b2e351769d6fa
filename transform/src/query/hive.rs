//! Partition values from the path of a file: `month=2013-01/carrier=AA/part-0.parquet`.

use std::path::{Component, Path};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::Fields;

use crate::Error;

/// What Hive and its followers write for a null.
/// Source: `hive.exec.default.partition.name` in Apache Hive's configuration properties.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The value of each partition column for a file below `root`, as arrays of one element. Without partition columns the
/// file may be elsewhere: one that is committed may still be where it was staged.
pub(super) fn values(root: &Path, file: &Path, columns: &Fields) -> Result<Vec<ArrayRef>, Error> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let error = |what: String| Error::File { path: file.to_owned(), what };
    let below = file.strip_prefix(root).map_err(|_| error(format!("is not below {}", root.display())))?;
    let folders: Vec<&str> = below
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    columns
        .iter()
        .map(|column| {
            let text = folders
                .iter()
                .filter_map(|folder| folder.split_once('='))
                .find(|(name, _)| decode(name).as_deref() == Some(column.name()))
                .map(|(_, value)| value)
                .ok_or_else(|| error(format!("its path has no folder {}=...", column.name())))?;
            let value = if text == NULL {
                None
            } else {
                Some(decode(text).ok_or_else(|| error(format!("{text:?} is no percent-encoded text")))?)
            };
            let text: ArrayRef = Arc::new(StringArray::from(vec![value]));
            cast_with_options(
                &text,
                column.data_type(),
                &CastOptions { safe: false, ..CastOptions::default() },
            )
            .map_err(|cause| {
                error(format!("the value of {} is no {}: {cause}", column.name(), column.data_type()))
            })
        })
        .collect()
}

/// Percent-decoding. None if that gives no UTF-8; a `%` that no two hex digits follow stands for itself.
fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(bytes, at + 1), hex(bytes, at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high * 16 + low);
                at += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

fn hex(bytes: &[u8], at: usize) -> Option<u8> {
    char::from(*bytes.get(at)?).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int32Type};

    use super::*;

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(decode("a%2Fb%3d%C3%A9").as_deref(), Some("a/b=é"));
        assert_eq!(decode("100%").as_deref(), Some("100%"));
        assert_eq!(decode("%zz%4").as_deref(), Some("%zz%4"));
        assert_eq!(decode("%FF"), None);
    }

    #[test]
    fn values_have_their_types() {
        let columns: Fields =
            vec![Field::new("year", DataType::Int32, true), Field::new("month", DataType::Utf8, true)].into();
        let file = Path::new("/lake/t/month=2013-01/year=2013/x.parquet");
        let found = values(Path::new("/lake/t"), file, &columns).unwrap();
        assert_eq!(found[0].as_primitive::<Int32Type>().value(0), 2013);
        assert_eq!(found[1].as_string::<i32>().value(0), "2013-01");

        let null = Path::new("/lake/t/month=__HIVE_DEFAULT_PARTITION__/year=1/x.parquet");
        assert!(values(Path::new("/lake/t"), null, &columns).unwrap()[1].is_null(0));
    }

    #[test]
    fn a_file_without_partition_values_may_still_be_where_it_was_staged() {
        let staged = Path::new("/lake/.puddle/t/staging/x.parquet");
        assert!(values(Path::new("/lake/t"), staged, &Fields::empty()).unwrap().is_empty());
    }

    #[test]
    fn paths_without_the_values_are_errors() {
        let columns: Fields = vec![Field::new("year", DataType::Int32, true)].into();
        for file in ["/lake/t/x.parquet", "/lake/t/year=soon/x.parquet", "/elsewhere/year=1/x.parquet"] {
            assert!(values(Path::new("/lake/t"), Path::new(file), &columns).is_err(), "{file}");
        }
    }
}
