//! Walks a request by its layout before it is decoded.
//!
//! The decoder of the protocol library allocates as many elements as an array claims to have, before it reads the
//! first. A hostile request of a few bytes could so ask for gigabytes. The walk allocates nothing; it fails if a claimed
//! length reaches beyond the request, or if the request has more elements than [`MAX_ELEMENTS`].

use bytes::Buf;
use kafka_protocol::messages::ApiKey;

use super::requests;

/// Array elements that a request may have in all. A client that reads every partition of a full broker names 10,000.
pub(crate) const MAX_ELEMENTS: usize = 100_000;

/// A field of a request, in the versions that have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) since: i16,
    pub(super) until: i16,
    pub(super) kind: Kind,
}

/// What a field looks like on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A number, boolean or uuid of so many bytes.
    Fixed(usize),
    String,
    Bytes,
    /// An array of plain values.
    Values(&'static Kind),
    /// An array of structures.
    Structs(&'static [Field]),
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("a length reaches beyond the end of the request")]
    Short,
    #[error("the request has more than {MAX_ELEMENTS} elements")]
    TooMany,
    #[error("a variable-length number is too long")]
    Number,
}

/// Checks the header (after which the request's own fields come) and the fields of a request.
///
/// Returns the number of bytes that header and fields take.
pub(crate) fn check(key: ApiKey, version: i16, frame: &[u8]) -> Result<usize, LayoutError> {
    // Since header version 2 lengths are variable and structures end with tagged fields.
    let flexible = key.request_header_version(version) >= 2;
    let mut walk = Walk { rest: frame, version, flexible, elements: 0 };
    walk.skip(2 + 2 + 4)?;
    // The client id kept its old form in flexible headers.
    let client_id = walk.number::<2>().map(i16::from_be_bytes)?;
    walk.skip(client_id.max(0) as usize)?;
    walk.tagged_fields()?;
    walk.fields(requests::layout(key))?;
    Ok(frame.len() - walk.rest.len())
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), LayoutError> {
        for field in fields {
            if (field.since..=field.until).contains(&self.version) {
                self.value(field.kind)?;
            }
        }
        self.tagged_fields()
    }

    fn value(&mut self, kind: Kind) -> Result<(), LayoutError> {
        match kind {
            Kind::Fixed(bytes) => self.skip(bytes),
            Kind::String if self.flexible => self.compact_len().and_then(|len| self.skip(len)),
            Kind::String => {
                let len = self.number::<2>().map(i16::from_be_bytes)?;
                self.skip(len.max(0) as usize)
            }
            Kind::Bytes => self.len().and_then(|len| self.skip(len)),
            Kind::Values(kind) => {
                for _ in 0..self.count()? {
                    self.value(*kind)?;
                }
                Ok(())
            }
            Kind::Structs(fields) => {
                for _ in 0..self.count()? {
                    self.fields(fields)?;
                }
                Ok(())
            }
        }
    }

    fn tagged_fields(&mut self) -> Result<(), LayoutError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()?;
        self.have(count)?;
        for _ in 0..count {
            self.varint()?;
            let len = self.varint()?;
            self.skip(len)?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<usize, LayoutError> {
        let count = self.len()?;
        self.have(count)?;
        Ok(count)
    }

    /// Counts elements; each takes a byte at least.
    fn have(&mut self, count: usize) -> Result<(), LayoutError> {
        self.elements = self.elements.saturating_add(count);
        match () {
            () if self.elements > MAX_ELEMENTS => Err(LayoutError::TooMany),
            () if count > self.rest.len() => Err(LayoutError::Short),
            () => Ok(()),
        }
    }

    /// Length of bytes or of an array; null counts as 0.
    fn len(&mut self) -> Result<usize, LayoutError> {
        if self.flexible {
            return self.compact_len();
        }
        let len = self.number::<4>().map(i32::from_be_bytes)?;
        Ok(len.max(0) as usize)
    }

    fn compact_len(&mut self) -> Result<usize, LayoutError> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn varint(&mut self) -> Result<usize, LayoutError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.number::<1>()?;
            value |= (usize::from(byte) & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value & u32::MAX as usize);
            }
        }
        Err(LayoutError::Number)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], LayoutError> {
        let bytes = *self.rest.first_chunk().ok_or(LayoutError::Short)?;
        self.skip(N)?;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), LayoutError> {
        if bytes > self.rest.len() {
            return Err(LayoutError::Short);
        }
        self.rest.advance(bytes);
        Ok(())
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
