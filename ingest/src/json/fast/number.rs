//! Numbers, straight from their digits.

use super::word::{TENS, count_digits, number, word};

/// The most digits that any `u64` can hold.
const MAX_DIGITS: usize = 19;

/// Up to here all integers are doubles, and so are the powers of ten below: one multiplication or division of two such
/// doubles is rounded once, and so gives the nearest double (Clinger, "How to read floating point numbers accurately",
/// 1990).
const MAX_EXACT: u64 = 1 << 53;
const EXACT_TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The integer at a place, and where it ends. What follows it is not looked at: a fraction or an exponent is no end of
/// a value, and is noticed there.
#[inline(always)]
pub(super) fn integer(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let word = word(text, at);
    let minus = u32::from(word as u8 == b'-');
    let word = word >> (8 * minus);
    let count = count_digits(word);
    if count + minus >= 8 {
        return long_integer(text, at, minus == 1);
    }
    if count == 0 || (count > 1 && word as u8 == b'0') {
        return None;
    }
    let value = number(word, count) as i64;
    let value = if minus == 1 { -value } else { value };
    Some((value, at + (minus + count) as usize))
}

/// An integer of any length.
#[inline(never)]
fn long_integer(text: &[u8], at: usize, minus: bool) -> Option<(i64, usize)> {
    let start = at + usize::from(minus);
    let (value, end) = digits(text, start, 0);
    // With so few digits, none were lost.
    if end - start > MAX_DIGITS || text[start] == b'0' {
        return None;
    }
    let value = if minus { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() };
    Some((value?, end))
}

/// Appends the digits from a place on to a number, and says where they end. What is beyond 64 bits is lost.
#[inline(always)]
fn digits(text: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    loop {
        let word = word(text, at);
        let count = count_digits(word);
        if count == 0 {
            return (value, at);
        }
        value = value.wrapping_mul(TENS[count as usize]).wrapping_add(number(word, count));
        at += count as usize;
        if count < 8 {
            return (value, at);
        }
    }
}

/// The number at a place as the nearest double to it, and where it ends. None also beyond the range of doubles.
#[inline]
pub(super) fn float(text: &[u8], at: usize) -> Option<(f64, usize)> {
    let minus = text.get(at) == Some(&b'-');
    let start = at + usize::from(minus);
    let (mut mantissa, mut end) = digits(text, start, 0);
    let mut count = end - start;
    if count == 0 || (count > 1 && text[start] == b'0') {
        return None;
    }
    let mut exponent = 0;
    if text.get(end) == Some(&b'.') {
        let point = end;
        (mantissa, end) = digits(text, point + 1, mantissa);
        let fraction = end - point - 1;
        if fraction == 0 {
            return None;
        }
        count += fraction;
        exponent = -(fraction as i64);
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let minus = text.get(end + 1) == Some(&b'-');
        let start = end + 1 + usize::from(minus || text.get(end + 1) == Some(&b'+'));
        let (by, behind) = digits(text, start, 0);
        if behind == start {
            return None;
        }
        // So that nothing is lost here; the general way below takes any.
        let by = if behind - start < MAX_DIGITS { by as i64 } else { i64::MAX / 2 };
        exponent = exponent.saturating_add(if minus { -by } else { by });
        end = behind;
    }
    let tens = EXACT_TENS.get(exponent.unsigned_abs() as usize);
    let value = match tens {
        Some(tens) if count <= MAX_DIGITS && mantissa <= MAX_EXACT => {
            let value = if exponent < 0 { mantissa as f64 / tens } else { mantissa as f64 * tens };
            if minus { -value } else { value }
        }
        _ => str::from_utf8(&text[at..end]).ok()?.parse().ok()?,
    };
    value.is_finite().then_some((value, end))
}

/// Where the number at a place ends.
pub(super) fn skip(text: &[u8], at: usize) -> Option<usize> {
    let start = at + usize::from(text.get(at) == Some(&b'-'));
    let mut end = some_digits(text, start)?;
    if end - start > 1 && text[start] == b'0' {
        return None;
    }
    if text.get(end) == Some(&b'.') {
        end = some_digits(text, end + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(end) {
        end = some_digits(text, end + 1 + usize::from(matches!(text.get(end + 1), Some(b'-' | b'+'))))?;
    }
    Some(end)
}

fn some_digits(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let count = count_digits(word(text, at)) as usize;
        at += count;
        if count < 8 {
            return (at > start).then_some(at);
        }
    }
}
