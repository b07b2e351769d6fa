//! Files that know whether they are whole: one line, `{"checksum":"<XXH3-64 of the body, hex>","body":{...}}`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    checksum: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The sealed line of a value, with its line end.
pub(crate) fn seal<T: Serialize>(value: &T) -> String {
    let body = serde_json::value::to_raw_value(value).expect("the log's types have string keys only");
    let sealed = Sealed { checksum: checksum(body.get()), body: &body };
    serde_json::to_string(&sealed).expect("a string and a raw value always serialise") + "\n"
}

/// The value of a sealed line, or how it shows that it is not what was written.
pub(crate) fn unseal<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let sealed: Sealed =
        serde_json::from_slice(line).map_err(|error| format!("it is torn or not a log file ({error})"))?;
    if checksum(sealed.body.get()) != sealed.checksum {
        return Err("its checksum does not match its content".to_owned());
    }
    serde_json::from_str(sealed.body.get())
        .map_err(|error| format!("it is of a format that is not known ({error})"))
}

fn checksum(body: &str) -> String {
    format!("{:016x}", xxh3_64(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let value = vec!["a".to_owned(), "{\"b\": 1}".to_owned()];
        let line = seal(&value).into_bytes();
        assert_eq!(unseal::<Vec<String>>(&line), Ok(value.clone()));
        for length in 0..line.len() - 1 {
            unseal::<Vec<String>>(&line[..length]).unwrap_err();
        }
        for position in 0..line.len() {
            for bit in 0..8 {
                let mut flipped = line.clone();
                flipped[position] ^= 1 << bit;
                // A flip may turn the line end into another white space, which changes nothing.
                let found = unseal::<Vec<String>>(&flipped).is_err();
                assert!(found || flipped[position].is_ascii_whitespace(), "byte {position}, bit {bit}");
            }
        }
    }
}
