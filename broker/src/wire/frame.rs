//! Frames: every request and response is preceded by its length in 4 bytes.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::connections::Connection;

/// Most that is read ahead of the request being served.
const READ_AHEAD: usize = 64 * 1024;

/// The reading half of a connection.
#[derive(Debug)]
pub(crate) struct Frames<'c, R> {
    read: R,
    buffer: BytesMut,
    max_len: usize,
    connection: &'c Connection,
}

/// Why there is no further request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("a request claims {len} bytes; between 8 and {max} are allowed")]
    Length { len: i32, max: usize },
}

impl<'c, R: AsyncRead + Unpin> Frames<'c, R> {
    pub(crate) fn new(read: R, max_len: usize, connection: &'c Connection) -> Frames<'c, R> {
        Frames { read, buffer: BytesMut::new(), max_len, connection }
    }

    /// The next request, or `None` when the client has closed the connection.
    ///
    /// Memory grows with what has arrived, not with what the length claims, and counts as held by the connection.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk() {
                let len = i32::from_be_bytes(*prefix);
                let whole = usize::try_from(len)
                    .ok()
                    .filter(|len| (8..=self.max_len).contains(len))
                    .ok_or(FrameError::Length { len, max: self.max_len })?;
                if self.buffer.len() >= 4 + whole {
                    self.buffer.advance(4);
                    return Ok(Some(self.buffer.split_to(whole).freeze()));
                }
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads ahead while a request is being served; returns when the client has closed the connection.
    pub(crate) async fn closed(&mut self) -> io::Result<()> {
        while self.buffer.len() < READ_AHEAD {
            if !self.fill().await? {
                return Ok(());
            }
        }
        // Further requests are waiting: the client is there.
        std::future::pending().await
    }

    async fn fill(&mut self) -> io::Result<bool> {
        // Room for what is there already once more: large frames arrive in a few reads.
        let more = self.buffer.len().clamp(READ_AHEAD / 4, READ_AHEAD * 64);
        self.buffer.reserve(more);
        self.connection.hold(self.buffer.capacity());
        Ok(self.read.read_buf(&mut self.buffer).await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;

    fn connection() -> Connection {
        Connections::new(1, usize::MAX).admit().unwrap()
    }

    #[tokio::test]
    async fn frames_are_cut_out_of_the_stream() {
        let connection = connection();
        let stream = [&[0, 0, 0, 8][..], b"01234567", &[0, 0, 0, 9], b"abcdefghi"].concat();
        let mut frames = Frames::new(&stream[..], 100, &connection);
        assert_eq!(frames.next().await.unwrap().unwrap(), "01234567");
        assert_eq!(frames.next().await.unwrap().unwrap(), "abcdefghi");
        assert!(frames.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_before_anything_is_read() {
        let connection = connection();
        for len in [-1, 0, 7, 101, i32::MAX, i32::MIN] {
            let bytes = len.to_be_bytes();
            let refused = Frames::new(&bytes[..], 100, &connection).next().await;
            assert!(matches!(refused, Err(FrameError::Length { .. })), "{len}");
        }
    }

    #[tokio::test]
    async fn a_claimed_length_reserves_no_memory() {
        let connection = connection();
        let bytes = (90i32 << 20).to_be_bytes();
        let mut frames = Frames::new(&bytes[..], 100 << 20, &connection);
        assert!(frames.next().await.unwrap().is_none());
        assert!(frames.buffer.capacity() < 1 << 20);
    }
}
