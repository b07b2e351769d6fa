//! Values of which nothing is kept, or only their text.

use super::{number, string};

/// How deep a value may nest here: a bit a level.
pub(super) const MAX_DEPTH: u32 = u64::BITS;

/// Where the whitespace at a place ends.
#[inline(always)]
pub(super) fn space(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(byte) if *byte <= b' ' => more_space(text, at),
        _ => at,
    }
}

#[inline]
fn more_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// Where this byte ends, with whitespace before it and behind it.
#[inline(always)]
pub(super) fn punctuation(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    let at = space(text, at);
    (text.get(at) == Some(&byte)).then(|| space(text, at + 1))
}

/// Where the value at a place ends, if it is JSON and does not nest too deep. See [`string::append`] for `beyond`.
pub(super) fn value(text: &[u8], mut at: usize, beyond: &mut u64) -> Option<usize> {
    // What is open: 1 for an object, 0 for an array, the innermost lowest.
    let (mut open, mut depth) = (0_u64, 0_u32);
    loop {
        let byte = *text.get(at)?;
        at = match byte {
            b'"' => string::skip(text, at + 1, beyond)?,
            b'{' | b'[' => {
                at = space(text, at + 1);
                if *text.get(at)? == byte + 2 {
                    at + 1
                } else if depth == MAX_DEPTH {
                    return None;
                } else {
                    let object = byte == b'{';
                    (open, depth) = (open << 1 | u64::from(object), depth + 1);
                    if object {
                        at = key(text, at, beyond)?;
                    }
                    continue;
                }
            }
            b't' => literal(text, at, b"true")?,
            b'f' => literal(text, at, b"false")?,
            b'n' => literal(text, at, b"null")?,
            _ => number::skip(text, at)?,
        };
        // Behind a value: out of what it ends, and on to the next one.
        loop {
            if depth == 0 {
                return Some(at);
            }
            at = space(text, at);
            match (*text.get(at)?, open & 1) {
                (b',', object) => {
                    at = space(text, at + 1);
                    if object == 1 {
                        at = key(text, at, beyond)?;
                    }
                    break;
                }
                (b'}', 1) | (b']', 0) => (open, depth, at) = (open >> 1, depth - 1, at + 1),
                _ => return None,
            }
        }
    }
}

/// Where this word ends.
#[inline]
pub(super) fn literal(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(word).then(|| at + word.len())
}

/// Where the value begins whose key is at a place.
fn key(text: &[u8], at: usize, beyond: &mut u64) -> Option<usize> {
    if *text.get(at)? != b'"' {
        return None;
    }
    punctuation(text, string::skip(text, at + 1, beyond)?, b':')
}
