//! Strings: their end, their escapes, and whether they hold anything beyond ASCII.

use super::word::{beyond_ascii, first, place, stops, word};

/// How many bytes are looked at together where a string is long.
const BLOCK: usize = 64;

/// Appends the string that begins behind the quote at `at - 1`, and says where it ends, behind its closing quote.
/// `beyond` is no longer 0 when there are bytes beyond ASCII, which may then be no UTF-8.
#[inline(always)]
pub(super) fn append(text: &[u8], mut at: usize, to: &mut Vec<u8>, beyond: &mut u64) -> Option<usize> {
    // Copying eight bytes and cutting off what was too much is faster than copying as many as there are.
    for _ in 0..3 {
        let word = word(text, at);
        let count = place(stops(word));
        to.extend_from_slice(&word.to_le_bytes());
        if count < 8 {
            to.truncate(to.len() - (8 - count as usize));
            *beyond |= beyond_ascii(first(word, count));
            at += count as usize;
            if text.get(at) == Some(&b'"') {
                return Some(at + 1);
            }
            return append_rest(text, at, to, beyond);
        }
        *beyond |= beyond_ascii(word);
        at += 8;
    }
    append_rest(text, at, to, beyond)
}

/// As [`append`], from any place within the string.
#[inline(never)]
fn append_rest(text: &[u8], mut at: usize, to: &mut Vec<u8>, beyond: &mut u64) -> Option<usize> {
    loop {
        let end = plain(text, at, beyond);
        to.extend_from_slice(&text[at..end]);
        match text.get(end)? {
            b'"' => return Some(end + 1),
            b'\\' => at = unescape(text, end + 1, to)?,
            _ => return None,
        }
    }
}

/// Where the string that begins behind the quote at `at - 1` ends, behind its closing quote.
#[inline]
pub(super) fn skip(text: &[u8], mut at: usize, beyond: &mut u64) -> Option<usize> {
    loop {
        let end = plain(text, at, beyond);
        match text.get(end)? {
            b'"' => return Some(end + 1),
            b'\\' => at = skip_escape(text, end + 1)?,
            _ => return None,
        }
    }
}

/// The string that begins behind the quote at `at - 1`, if it has no escape; and where it ends, behind its quote.
#[inline(always)]
pub(super) fn unescaped<'a>(text: &'a [u8], at: usize, beyond: &mut u64) -> Option<(&'a [u8], usize)> {
    let end = plain(text, at, beyond);
    (text.get(end) == Some(&b'"')).then(|| (&text[at..end], end + 1))
}

/// Where the bytes end that a string may hold as they are.
#[inline(always)]
fn plain(text: &[u8], mut at: usize, beyond: &mut u64) -> usize {
    for _ in 0..3 {
        let word = word(text, at);
        let count = place(stops(word));
        if count < 8 {
            *beyond |= beyond_ascii(first(word, count));
            return at + count as usize;
        }
        *beyond |= beyond_ascii(word);
        at += 8;
    }
    plain_blocks(text, at, beyond)
}

/// As [`plain`], where the string is long.
#[inline(never)]
fn plain_blocks(text: &[u8], mut at: usize, beyond: &mut u64) -> usize {
    let (blocks, _) = text[at..].as_chunks::<BLOCK>();
    for block in blocks {
        // Without a branch between the bytes, so that the compiler takes many at once.
        let (mut stops, mut all) = (0, 0);
        for byte in block {
            stops |= u8::from(is_stop(*byte));
            all |= byte;
        }
        if stops != 0 {
            break;
        }
        *beyond |= u64::from(all & 0x80);
        at += BLOCK;
    }
    loop {
        let word = word(text, at);
        let count = place(stops(word));
        if count < 8 {
            *beyond |= beyond_ascii(first(word, count));
            return at + count as usize;
        }
        *beyond |= beyond_ascii(word);
        at += 8;
    }
}

#[inline(always)]
fn is_stop(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Appends what the escape behind the backslash at `at - 1` means, and says where it ends. Half a pair of surrogates
/// means nothing.
fn unescape(text: &[u8], at: usize, to: &mut Vec<u8>) -> Option<usize> {
    let byte = match text.get(at)? {
        b'u' => return unescape_unicode(text, at + 1, to),
        byte @ (b'"' | b'\\' | b'/') => *byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    };
    to.push(byte);
    Some(at + 1)
}

fn unescape_unicode(text: &[u8], at: usize, to: &mut Vec<u8>) -> Option<usize> {
    let (mut code, mut end) = (hex(text, at)?, at + 4);
    if (0xd800..0xdc00).contains(&code) && text.get(end..end + 2) == Some(b"\\u") {
        let low = hex(text, end + 2)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        code = 0x10000 + ((code - 0xd800) << 10 | low);
        end += 6;
    }
    to.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(end)
}

fn skip_escape(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'u' => hex(text, at + 1).map(|_| at + 5),
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        _ => None,
    }
}

/// The number that four hexadecimal digits write.
fn hex(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}
