//! Avro's binary form, value by value, never beyond its end.

use super::super::rows::{Misfit, misfit};

/// What of a record was not read yet.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Misfit> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else { return Err(ended()) };
        self.rest = rest;
        Ok(taken)
    }

    /// A `long`, and what begins with one: lengths, counts, indexes.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Misfit> {
        match self.rest {
            [first @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(unzigzag(u64::from(*first)))
            }
            [first, second @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(unzigzag(u64::from(first & 0x7f) | u64::from(*second) << 7))
            }
            _ => self.long_of_many(),
        }
    }

    fn long_of_many(&mut self) -> Result<i64, Misfit> {
        let mut value = 0_u64;
        for (place, byte) in self.rest.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if place == 9 && bits > 1 || place > 9 {
                return Err(misfit("a number of more than 64 bits"));
            }
            value |= bits << (7 * place);
            if *byte < 0x80 {
                self.rest = &self.rest[place + 1..];
                return Ok(unzigzag(value));
            }
        }
        Err(ended())
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Misfit> {
        i32::try_from(self.long()?).map_err(|_| misfit("an int of more than 32 bits"))
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Misfit> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(misfit("a boolean that is neither 0 nor 1")),
        }
    }

    #[inline]
    pub(super) fn float(&mut self) -> Result<f32, Misfit> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn double(&mut self) -> Result<f64, Misfit> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// Bytes behind their length; also those of a string.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Misfit> {
        let length = usize::try_from(self.long()?).map_err(|_| misfit("a length below zero"))?;
        self.take(length)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, Misfit> {
        let bytes = self.bytes()?;
        str::from_utf8(bytes).map_err(|_| misfit("a string that is not UTF-8"))
    }

    /// An index below `count`.
    #[inline]
    pub(super) fn index(&mut self, count: usize) -> Result<usize, Misfit> {
        let index = usize::try_from(self.long()?).ok().filter(|index| *index < count);
        index.ok_or_else(|| misfit("a union or an enum has no such branch"))
    }

    /// How many items the next block of an array or a map has; none behind the last.
    pub(super) fn block(&mut self) -> Result<Block, Misfit> {
        let count = self.long()?;
        let size = if count < 0 { Some(self.long()?) } else { None };
        let size =
            size.map(usize::try_from).transpose().map_err(|_| misfit("a block's length below zero"))?;
        Ok(Block { count: count.unsigned_abs(), size })
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else { return Err(ended()) };
        self.rest = rest;
        Ok(*taken)
    }
}

/// Some items of an array or a map.
pub(super) struct Block {
    pub(super) count: u64,
    /// Their size in bytes, where the writer says so, for readers that skip them.
    pub(super) size: Option<usize>,
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cold]
fn ended() -> Misfit {
    misfit("the record ends within a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_at_the_ends_of_their_lengths() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[1], -1),
            (&[0x7f], -64),
            (&[0x80, 0x01], 64),
            (&[0xff, 0x7f], -8192),
            (&[0x80, 0x80, 0x01], 8192),
            (&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], i64::MAX),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], i64::MIN),
        ] {
            let mut cursor = Cursor::new(bytes);
            assert_eq!(cursor.long().unwrap(), value);
            assert_eq!(cursor.left(), 0);
        }
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 10], &[0xff; 20]] {
            Cursor::new(bytes).long().unwrap_err();
        }
        let tenth = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        Cursor::new(&tenth).long().unwrap_err();
    }
}
