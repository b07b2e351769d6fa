//! Which field a key names, guessed from the records before.
//!
//! A key is known by its bytes as they are written, from the opening quote to the colon, so that one comparison of words
//! finds its end, its column and that it has no odd escape. Of each key the two that followed it most lately are tried
//! first: records of one producer have their fields in one order, or leave one out at times. Only where both guesses
//! fail is the key looked up by its hash, and a key that was never seen is learnt, unknown fields among them.

use xxhash_rust::xxh3::xxh3_64;

use super::word::word;
use super::{skip, string};
use crate::format::column::Object;

/// The most keys that one decoder learns, over all objects of its schema: names may be data, and never end.
pub(in crate::json) const MAX_LEARNT: usize = 4096;

/// The longest key that is learnt, in bytes.
const MAX_LENGTH: usize = 64;

/// The beginning of an object, which the first key follows.
pub(super) const BEGINNING: usize = 0;

/// The first declared field, of which there is always one. The beginning itself is no key, and never guessed.
const FIRST: u32 = 1;

/// The keys of an object's fields.
#[derive(Debug)]
pub(super) struct Keys {
    /// The beginning, then the declared fields, then those that were learnt.
    known: Vec<Key>,
    /// The places of keys by the hash of their bytes, 0 where there is none; at most half of them are taken.
    slots: Vec<u32>,
}

#[derive(Debug)]
struct Key {
    /// From the opening quote to the colon.
    written: Box<[u8]>,
    /// The first and last bytes of it, in words; a short key's one word has bytes that do not count.
    head: u64,
    mask: u64,
    tail: u64,
    /// The column, or none for an unknown field.
    column: Option<u32>,
    beyond_ascii: bool,
    /// The keys that followed.
    next: [u32; 2],
}

/// A key that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The place from which the next key is guessed.
    pub(super) place: usize,
    pub(super) column: Option<u32>,
    /// Where the key ends: behind its colon.
    pub(super) end: usize,
}

impl Keys {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut keys = Self { known: vec![Key::new(&[], None)], slots: vec![0; 8] };
        for (name, column) in names.zip(0..) {
            // As most producers write it; other ways are learnt.
            let written = serde_json::to_vec(name).unwrap_or_default();
            keys.add(&[&written[..], b":"].concat(), Some(column));
        }
        let last = keys.known.len() - 1;
        for (place, key) in keys.known.iter_mut().enumerate() {
            key.next = [(place + 1).min(last) as u32; 2];
        }
        keys
    }

    /// The key at a place, if it is one of those that followed the one `before`.
    #[inline(always)]
    pub(super) fn guess(&self, text: &[u8], at: usize, before: usize, beyond: &mut u64) -> Option<Found> {
        for place in self.known[before].next {
            let key = &self.known[place as usize];
            if key.is_at(text, at) {
                *beyond |= u64::from(key.beyond_ascii);
                return Some(Found {
                    place: place as usize,
                    column: key.column,
                    end: at + key.written.len(),
                });
            }
        }
        None
    }

    /// The key at a place, whichever it is: an expected one from now on. None if there is no key, or one with an escape
    /// that means nothing.
    #[inline(never)]
    pub(super) fn look_up(
        &mut self,
        text: &[u8],
        at: usize,
        before: usize,
        object: &Object,
        learnt: &mut usize,
        beyond: &mut u64,
    ) -> Option<Found> {
        if *text.get(at)? != b'"' {
            return None;
        }
        let mut within = 0;
        let quoted = string::skip(text, at + 1, &mut within)?;
        *beyond |= within;
        let colon = skip::space(text, quoted);
        if *text.get(colon)? != b':' {
            return None;
        }
        let (raw, end) = (&text[at..quoted], colon + 1);
        let (slot, place) = self.find(raw);
        let place = match place {
            Some(place) => place,
            None => {
                let column = if raw.contains(&b'\\') { unescaped(raw, object)? } else { None };
                if raw.len() > MAX_LENGTH || *learnt == MAX_LEARNT {
                    return Some(Found { place: before, column, end });
                }
                *learnt += 1;
                self.insert(slot, &[raw, b":"].concat(), column)
            }
        };
        let next = &mut self.known[before].next;
        *next = [place as u32, next[0]];
        Some(Found { place, column: self.known[place].column, end })
    }

    fn add(&mut self, written: &[u8], column: Option<u32>) {
        let (slot, _) = self.find(&written[..written.len() - 1]);
        self.insert(slot, written, column);
    }

    /// The slot of a key, from quote to quote, and its place if it is known.
    fn find(&self, raw: &[u8]) -> (usize, Option<usize>) {
        let mut slot = xxh3_64(raw) as usize % self.slots.len();
        loop {
            match self.slots[slot] as usize {
                0 => return (slot, None),
                place if self.known[place].written.strip_suffix(b":") == Some(raw) => {
                    return (slot, Some(place));
                }
                _ => slot = (slot + 1) % self.slots.len(),
            }
        }
    }

    fn insert(&mut self, slot: usize, written: &[u8], column: Option<u32>) -> usize {
        let place = self.known.len();
        self.known.push(Key::new(written, column));
        self.slots[slot] = place as u32;
        if 2 * place >= self.slots.len() {
            self.slots = vec![0; 4 * self.slots.len()];
            for place in 1..self.known.len() {
                let written = &self.known[place].written;
                let (slot, _) = self.find(&written[..written.len() - 1]);
                self.slots[slot] = place as u32;
            }
        }
        place
    }
}

impl Key {
    fn new(written: &[u8], column: Option<u32>) -> Self {
        let len = written.len();
        Self {
            head: word(written, 0),
            mask: if len < 8 { (1 << (8 * len)) - 1 } else { u64::MAX },
            tail: word(written, len.saturating_sub(8)),
            column,
            beyond_ascii: !written.is_ascii(),
            next: [FIRST; 2],
            written: written.into(),
        }
    }

    /// Whether a text has this key at a place.
    #[inline(always)]
    fn is_at(&self, text: &[u8], at: usize) -> bool {
        if (word(text, at) ^ self.head) & self.mask != 0 {
            return false;
        }
        let len = self.written.len();
        if len <= 8 {
            return true;
        }
        let mut done = 8;
        while done + 8 < len {
            if word(text, at + done) != word(&self.written, done) {
                return false;
            }
            done += 8;
        }
        word(text, at + len - 8) == self.tail
    }
}

/// The column of the field that a key with escapes names, if one is declared.
fn unescaped(raw: &[u8], object: &Object) -> Option<Option<u32>> {
    let mut name = Vec::with_capacity(raw.len());
    string::append(raw, 1, &mut name, &mut 0)?;
    // Where the rest of the record is UTF-8, so is this.
    let name = str::from_utf8(&name).ok()?;
    Some(object.index(name).map(|index| index as u32))
}
