//! Eight bytes at a time, in safe code: what tells them apart, and which of them are digits.
//!
//! A word holds its first byte lowest. A *mask* marks bytes of a word by their highest bit, so that the number of its
//! trailing zeros, divided by eight, is the place of the first marked byte.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x80 * ONES;
const ZEROS: u64 = b'0' as u64 * ONES;

/// 10 to the power of how many digits a word may hold.
pub(super) const TENS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The eight bytes from a place on. Behind the text's end they are zeros, which no JSON has.
#[inline(always)]
pub(super) fn word(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_word(text, at),
    }
}

/// The fewer than eight bytes from a place on.
#[inline(never)]
fn last_word(text: &[u8], at: usize) -> u64 {
    match text.last_chunk() {
        Some(bytes) if at < text.len() => {
            let before = at + 8 - text.len();
            u64::from_le_bytes(*bytes) >> (8 * before)
        }
        _ => {
            text.get(at..).unwrap_or_default().iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
        }
    }
}

/// Which of a word's bytes no string may hold as they are: quotes, backslashes, control characters. What lies behind
/// the first of them may be marked wrongly.
#[inline(always)]
pub(super) fn stops(word: u64) -> u64 {
    let quote = word ^ (b'"' as u64 * ONES);
    let backslash = word ^ (b'\\' as u64 * ONES);
    // Subtracting borrows from a byte's highest bit where the byte is smaller, and only from there on.
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let control = word.wrapping_sub(0x20 * ONES) & !word;
    (quote | backslash | control) & HIGHS
}

/// The bits of a word's first `count` bytes, of fewer than eight.
#[inline(always)]
pub(super) fn first(word: u64, count: u32) -> u64 {
    word & !(u64::MAX << (8 * count))
}

/// The bits that only bytes beyond ASCII have.
#[inline(always)]
pub(super) fn beyond_ascii(word: u64) -> u64 {
    word & HIGHS
}

/// The place of the first marked byte; 8 where none is.
#[inline(always)]
pub(super) fn place(mask: u64) -> u32 {
    mask.trailing_zeros() / 8
}

/// How many digits the word begins with.
#[inline(always)]
pub(super) fn count_digits(word: u64) -> u32 {
    let digits = word ^ ZEROS;
    // Adding carries into a byte's highest bit where the byte is 10 or more, and beyond the byte only from there on.
    place((digits.wrapping_add(0x76 * ONES) | digits) & HIGHS)
}

/// The number that the word's first `count` bytes write: 1 to 8 digits.
#[inline(always)]
pub(super) fn number(word: u64, count: u32) -> u64 {
    // Leading zeros fill the word; then neighbours are joined: to pairs, to fours, to eight.
    let digits = (word ^ ZEROS) << (64 - 8 * count);
    let pairs = (digits.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 << 32 | 1) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_with_zeros_behind_the_text() {
        let text = b"abcdefghijkl";
        for len in 0..=text.len() {
            for at in 0..=len + 2 {
                let mut bytes = [0; 8];
                for (byte, found) in bytes.iter_mut().zip(text[..len].iter().skip(at)) {
                    *byte = *found;
                }
                assert_eq!(word(&text[..len], at), u64::from_le_bytes(bytes), "{len} {at}");
            }
        }
    }

    /// Every byte at every place, before and behind others.
    #[test]
    fn every_byte_is_told() {
        for around in [b'a', b'7', b'"', b'\\', 0, 0x1f, 0x20, 0x7f, 0x80, 0xff] {
            for byte in 0..=u8::MAX {
                for at in 0..8 {
                    let mut bytes = [around; 8];
                    bytes[at] = byte;
                    let word = u64::from_le_bytes(bytes);
                    let stop = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(8);
                    assert_eq!(place(stops(word)) as usize, stop, "{bytes:?}");
                    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
                    assert_eq!(count_digits(word) as usize, digits, "{bytes:?}");
                    assert_eq!(beyond_ascii(word) == 0, bytes.is_ascii());
                }
            }
        }
    }

    #[test]
    fn digits_make_numbers() {
        for n in (0..100_000_000_u64).step_by(9_973).chain([9, 10, 99_999_999]) {
            let text = format!("{n}x/:é~~~~~");
            let count = n.to_string().len() as u32;
            assert_eq!(number(word(text.as_bytes(), 0), count), n);
        }
    }
}
