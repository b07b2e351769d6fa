//! Looking into one batch: the only place where the broker reads records, for the offset that goes with a timestamp.
//!
//! ```text
//! batch --unpack--> length, attributes, time delta, offset delta, ... | length, attributes, ...
//! ```
//!
//! A megabyte may unpack to gigabytes. Records are therefore read one after the other as they are unpacked, and
//! nothing is kept of them; and no more than [`MAX_UNPACKED`] bytes are read, for that takes time.

use std::io::{self, BufRead, BufReader, Read};

use super::batch::{BatchError, BatchHeader, HEADER_LEN};

/// Bytes of unpacked records that are read of one batch. Text packs to a tenth, and a batch has 1 MiB by default.
const MAX_UNPACKED: u64 = 256 << 20;

/// Snappy unpacks a block as a whole, and says at its beginning to how much. It cannot be more than this for a byte.
const MAX_SNAPPY_RATIO: usize = 32;

/// What a zstd batch may have unpacked to be repeated, as a power of 2: 8 MiB, the most that level 19 uses.
const MAX_ZSTD_WINDOW: u32 = 23;

/// What snappy-java writes before blocks of its own: magic, version, compatible version.
const SNAPPY_JAVA: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_JAVA_HEAD: usize = 16;

/// Offset and timestamp of a record.
pub(crate) type OffsetAndTime = (i64, i64);

/// The first record at `timestamp` or later.
pub(crate) fn first_since(batch: &[u8], timestamp: i64) -> io::Result<Option<OffsetAndTime>> {
    let mut records = Records::of(batch)?;
    while let Some(record) = records.next()? {
        if record.1 >= timestamp {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The first of the records with the latest timestamp.
pub(crate) fn latest(batch: &[u8]) -> io::Result<Option<OffsetAndTime>> {
    let mut records = Records::of(batch)?;
    let mut latest: Option<OffsetAndTime> = None;
    while let Some(record) = records.next()? {
        if latest.is_none_or(|(_, time)| record.1 > time) {
            latest = Some(record);
        }
    }
    Ok(latest)
}

/// The records of a batch, one after the other.
struct Records<'a> {
    header: BatchHeader,
    left: i32,
    unpacked: BufReader<io::Take<Box<dyn Read + 'a>>>,
}

impl<'a> Records<'a> {
    fn of(batch: &'a [u8]) -> io::Result<Records<'a>> {
        let header = BatchHeader::parse(batch).map_err(undecodable)?;
        let packed = batch.get(HEADER_LEN..header.len).ok_or(BatchError::Truncated).map_err(undecodable)?;
        let unpacked = BufReader::new(unpack(header.codec(), packed)?.take(MAX_UNPACKED));
        Ok(Records { header, left: header.record_count, unpacked })
    }

    fn next(&mut self) -> io::Result<Option<OffsetAndTime>> {
        if self.left <= 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.read().map(Some).map_err(|error| match self.unpacked.get_ref().limit() {
            0 => undecodable(format!("it unpacks to more than {MAX_UNPACKED} bytes")),
            _ => undecodable(error),
        })
    }

    fn read(&mut self) -> io::Result<OffsetAndTime> {
        let (length, _) = self.varint()?;
        let _attributes = self.byte()?;
        let (time, time_len) = self.varint()?;
        let (offset, offset_len) = self.varint()?;
        let rest = u64::try_from(length - (1 + time_len + offset_len)).map_err(io::Error::other)?;
        if io::copy(&mut self.unpacked.by_ref().take(rest), &mut io::sink())? < rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Wrapping, as producers may claim any number: the answer is theirs, too.
        let offset = self.header.base_offset.wrapping_add(offset);
        Ok((offset, self.header.base_timestamp.wrapping_add(time)))
    }

    /// A zigzag-encoded number, and how many bytes it takes.
    fn varint(&mut self) -> io::Result<(i64, i64)> {
        let mut value: u64 = 0;
        for len in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * len);
            if byte < 0x80 {
                return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), len + 1));
            }
        }
        Err(io::Error::other("a variable-length number is too long"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let byte = *self.unpacked.fill_buf()?.first().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.unpacked.consume(1);
        Ok(byte)
    }
}

/// The records' bytes, by the codec numbers of the protocol.
fn unpack<'a>(codec: i16, packed: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match codec {
        0 => Box::new(packed),
        1 => Box::new(flate2::read::GzDecoder::new(packed)),
        2 => Box::new(Snappy::new(packed)),
        3 => Box::new(lz4::Decoder::new(packed)?),
        4 => {
            let mut zstd = zstd::Decoder::with_buffer(packed)?;
            zstd.window_log_max(MAX_ZSTD_WINDOW)?;
            Box::new(zstd)
        }
        other => return Err(undecodable(BatchError::Codec(other))),
    })
}

fn undecodable(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("undecodable batch: {why}"))
}

/// Unpacks snappy block by block: one for the whole batch, as librdkafka writes it, or several, as snappy-java does.
struct Snappy<'a> {
    packed: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    read: usize,
}

impl<'a> Snappy<'a> {
    fn new(packed: &'a [u8]) -> Self {
        let framed = packed.starts_with(SNAPPY_JAVA) && packed.len() >= SNAPPY_JAVA_HEAD;
        let packed = if framed { &packed[SNAPPY_JAVA_HEAD..] } else { packed };
        Snappy { packed, framed, block: Vec::new(), read: 0 }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let mut packed = std::mem::take(&mut self.packed);
        if self.framed {
            let (len, rest) = packed.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
            let len = u32::from_be_bytes(*len) as usize;
            (packed, self.packed) = rest.split_at_checked(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        let len = snap::raw::decompress_len(packed).map_err(io::Error::other)?;
        if len > packed.len().saturating_mul(MAX_SNAPPY_RATIO) {
            return Err(io::Error::other("a snappy block claims to unpack to more than it can"));
        }
        self.block.resize(len, 0);
        self.read = 0;
        snap::raw::Decoder::new().decompress(packed, &mut self.block).map_err(io::Error::other)?;
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() && !self.packed.is_empty() {
            self.next_block()?;
        }
        let read = (&self.block[self.read..]).read(out)?;
        self.read += read;
        Ok(read)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
