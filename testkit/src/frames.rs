//! Kafka's frames in a stream of bytes: a length of four bytes, and so many bytes.

/// Where in the stream we are.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The bytes of the length that were seen.
    length: Vec<u8>,
    /// The bytes of the frame that are still to come.
    left: usize,
    /// The size of the frame whose middle is still to come.
    ahead: Option<usize>,
}

impl Frames {
    /// Goes on by `bytes`. Returns how many of them lead into the middle of a frame of at least `at_least` bytes, if one's
    /// middle is among them.
    pub(crate) fn middle_of_large(&mut self, bytes: &[u8], at_least: usize) -> Option<usize> {
        let (mut at, mut found) = (0, None);
        while at < bytes.len() {
            if self.left == 0 {
                self.length.push(bytes[at]);
                at += 1;
                if let Ok(length) = <[u8; 4]>::try_from(self.length.as_slice()) {
                    self.length.clear();
                    self.left = u32::from_be_bytes(length) as usize;
                    self.ahead = (self.left >= 2).then_some(self.left);
                }
                continue;
            }
            let take = self.left.min(bytes.len() - at);
            if let Some(size) = self.ahead
                && self.left - take <= size / 2
            {
                found = found.or((size >= at_least).then_some(at + self.left - size / 2));
                self.ahead = None;
            }
            self.left -= take;
            at += take;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        bytes.resize(4 + length, 7);
        bytes
    }

    #[test]
    fn the_middle_of_the_first_large_frame_is_found_however_the_stream_is_cut() {
        let stream = [frame(10), frame(0), frame(1_000), frame(5), frame(1_000)].concat();
        let expected = 14 + 4 + 4 + 500;
        for piece in [1, 2, 3, 7, 100, 499, 500, 501, stream.len()] {
            let (mut frames, mut before) = (Frames::default(), 0);
            let found = stream.chunks(piece).find_map(|bytes| {
                let found = frames.middle_of_large(bytes, 1_000);
                before += if found.is_none() { bytes.len() } else { 0 };
                found
            });
            assert_eq!(found.map(|found| before + found), Some(expected), "in pieces of {piece}");
        }
    }

    #[test]
    fn small_frames_are_left_whole() {
        let mut frames = Frames::default();
        assert_eq!(frames.middle_of_large(&[frame(999), frame(3)].concat(), 1_000), None);
    }
}
