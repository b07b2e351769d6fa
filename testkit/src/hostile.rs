//! Hostile input: what the fuzzers of `fuzz/` begin with, and damaged copies of it.

use std::fs;
use std::path::Path;

use crate::records::SplitMix64;

/// The seeds of a fuzz target, by name: files in `fuzz/seeds/TARGET/`.
///
/// # Panics
/// When there are none.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = files
        .map(|file| {
            let path = file.expect("a readable folder").path();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        })
        .collect();
    assert!(!seeds.is_empty(), "{}: no seeds", folder.display());
    seeds.sort();
    seeds
}

/// The seeds of a fuzz target, and `times` damaged copies of each: the same ones for the same `seed`.
pub fn damaged(target: &str, times: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = SplitMix64(seed);
    seeds(target).into_iter().flat_map(move |(_, bytes)| {
        let copies: Vec<_> = (0..times).map(|_| damage(bytes.clone(), &mut random)).collect();
        std::iter::once(bytes).chain(copies)
    })
}

/// A few bytes changed, put in, left out or repeated: what finds most that a parser does not expect.
fn damage(mut bytes: Vec<u8>, random: &mut SplitMix64) -> Vec<u8> {
    const TELLING: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'[', b'-', b'e', b'0'];
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len() as u64) as usize;
        let telling = TELLING[random.below(TELLING.len() as u64) as usize];
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = telling,
            2 => bytes.insert(at, telling),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes
}
