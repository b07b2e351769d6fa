//! Folder names of partition values, `month=2013-01`, written and read as Hive and Spark do.
//!
//! | value | folder |
//! | --- | --- |
//! | `2013-01` | `month=2013-01` |
//! | `../../x` | `month=..%2F..%2Fx` |
//! | `50%` | `month=50%25` |
//! | null, and the empty string | `month=__HIVE_DEFAULT_PARTITION__` |
//! | the string `__HIVE_DEFAULT_PARTITION__` | `month=%5F_HIVE_DEFAULT_PARTITION__` |
//! | longer than a folder's name can be | its beginning, `~`, and 16 digits of its XXH3 hash |
//!
//! Every value gets a folder of its own inside the table's, whatever it holds. All but two kinds read back as they
//! were: the empty string reads as null, because that is what Hive and Spark make of it (an empty folder value
//! stops Spark), and a value whose encoding does not fit the [`MAX_NAME`] bytes of a name reads shortened. The
//! commit log keeps the exact values of these too. To pyarrow and Polars, which decode a name before they compare it,
//! the string `__HIVE_DEFAULT_PARTITION__` reads as null as well; DuckDB tells the two apart.
//!
//! Characters beyond ASCII stay as they are: Spark decodes `%C3%BC` as two characters.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

/// What stands for null.
pub const NULL: &str = "__HIVE_DEFAULT_PARTITION__";
/// The longest name of a file or folder, in bytes, on the file systems of Linux.
pub const MAX_NAME: usize = 255;
/// The longest encoded name of a partition column, in bytes: the value must keep enough room to stay readable.
pub const MAX_COLUMN: usize = 128;

/// The folder name of a column's value; never more than [`MAX_NAME`] bytes for a column that passes
/// [`check_column`].
pub fn encode(column: &str, value: Option<&str>) -> String {
    let mut name = String::new();
    escape(column, &mut name);
    name.push('=');
    match value {
        None | Some("") => name.push_str(NULL),
        Some(NULL) => {
            let _ = write!(name, "%{:02X}{}", b'_', &NULL[1..]);
        }
        Some(value) => {
            let begin = name.len();
            escape(value, &mut name);
            if name.len() > MAX_NAME {
                shorten(value, &mut name, begin);
            }
        }
    }
    name
}

/// The column and value of a folder name; `None` if it is not one of a partition.
pub fn decode(name: &str) -> Option<(String, Option<String>)> {
    let (column, value) = name.split_once('=')?;
    let value = if value == NULL { None } else { Some(unescape(value)?) };
    Some((unescape(column)?, value))
}

/// Whether a column can be partitioned by, or why not.
pub(crate) fn check_column(column: &str) -> Result<(), String> {
    let mut escaped = String::new();
    escape(column, &mut escaped);
    if column.is_empty() {
        Err("a column without a name cannot stand in a path".to_owned())
    } else if column.starts_with(['_', '.']) {
        // pyarrow and Spark leave out files below such a folder without a word.
        Err(format!(
            "folders that begin with '_' or '.' are hidden from readers; rename {column:?} in the query"
        ))
    } else if escaped.len() > MAX_COLUMN {
        Err(format!("the name {column:?} is too long for a path ({MAX_COLUMN} bytes)"))
    } else {
        Ok(())
    }
}

/// The characters that Hive escapes (`FileUtils.escapePathName`), and NUL.
fn must_escape(c: char) -> bool {
    c.is_ascii_control()
        || matches!(c, '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^')
}

fn escape(text: &str, name: &mut String) {
    for c in text.chars() {
        if must_escape(c) {
            let _ = write!(name, "%{:02X}", u32::from(c));
        } else {
            name.push(c);
        }
    }
}

/// Replaces what was escaped since `begin` by as much of it as fits, and a hash of the whole value.
fn shorten(value: &str, name: &mut String, begin: usize) {
    let hash = format!("~{:016x}", xxh3_64(value.as_bytes()));
    let room = MAX_NAME - hash.len();
    name.truncate(begin);
    for c in value.chars() {
        let before = name.len();
        escape(c.encode_utf8(&mut [0; 4]), name);
        if name.len() > room {
            name.truncate(before);
            break;
        }
    }
    name.push_str(&hash);
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_safe(name: &str) {
        assert!(name.len() <= MAX_NAME, "{} bytes", name.len());
        assert!(!name.contains(['/', '\0', '\n']) && name != "." && name != "..", "{name:?}");
    }

    /// Fault matrix 45.
    #[test]
    fn hostile_values_stay_one_folder_and_read_back() {
        for (value, expected) in [
            ("2013-01", "m=2013-01"),
            ("../../x", "m=..%2F..%2Fx"),
            ("..", "m=.."),
            ("%2e%2e%2f", "m=%252e%252e%252f"),
            ("a\0b\nc\rd\x7f", "m=a%00b%0Ac%0Dd%7F"),
            ("a=b", "m=a%3Db"),
            ("\\\\host\\c:", "m=%5C%5Chost%5Cc%3A"),
            (NULL, "m=%5F_HIVE_DEFAULT_PARTITION__"),
            ("Zürich 東京", "m=Zürich 東京"),
        ] {
            let name = encode("m", Some(value));
            assert_eq!(name, expected);
            assert_safe(&name);
            assert_eq!(decode(&name), Some(("m".to_owned(), Some(value.to_owned()))));
        }
    }

    #[test]
    fn null_and_the_empty_string_share_a_folder() {
        assert_eq!(encode("m", None), encode("m", Some("")));
        assert_eq!(decode(&encode("m", None)), Some(("m".to_owned(), None)));
    }

    /// Fault matrix 45.
    #[test]
    fn long_values_are_shortened_and_stay_apart() {
        let names: Vec<String> =
            ["x".repeat(300), format!("{}y", "x".repeat(299)), "/".repeat(90), "ü".repeat(150)]
                .iter()
                .map(|value| encode("m", Some(value)))
                .collect();
        for (position, name) in names.iter().enumerate() {
            assert_safe(name);
            assert!(!names[..position].contains(name), "{name} twice");
            assert!(decode(name).is_some(), "{name} cut inside an escape");
        }
        assert_eq!(encode("m", Some(&"x".repeat(253))), format!("m={}", "x".repeat(253)));
    }

    #[test]
    fn names_that_are_no_partition_are_told() {
        for name in ["", "m", "m=%", "m=%2", "m=%+1", "m=%FF"] {
            assert_eq!(decode(name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_fits_reads_back(column in "[^_.].{0,30}", value in "\\PC{1,20}|.{1,20}|[%/=.~0-9A-F]{1,60}") {
            prop_assume!(check_column(&column).is_ok());
            let name = encode(&column, Some(&value));
            assert_safe(&name);
            prop_assert_eq!(decode(&name), Some((column, Some(value))));
        }

        /// Fault matrix 45.
        #[test]
        fn nothing_leaves_the_folder(column in any::<String>(), value in any::<String>(), repeat in 1usize..80) {
            prop_assume!(check_column(&column).is_ok());
            let name = encode(&column, Some(&value.repeat(repeat)));
            assert_safe(&name);
            prop_assert!(decode(&name).is_some());
        }
    }
}
