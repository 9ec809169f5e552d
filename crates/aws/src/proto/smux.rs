//! smux, version 1: many connections in one byte stream. Its numbers are little-endian, unlike all else here.
//!
//! A frame is eight bytes (version, command, length, stream) and at most 65,535 bytes of data. The stream data of a
//! forwarding session, joined, is one such stream; frames do not end where messages end. Version 1 has no window: who
//! reads bounds what waits for a slow stream, and closes it or stops reading.
//!
//! Source: `frame.go`, `session.go` and `stream.go` of `xtaci/smux` 1.5, which the plugin and the agent use, read 2026-11.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before a frame's data.
pub const HEADER_BYTES: usize = 8;
/// Most data of a frame that may come.
pub const DATA_BYTES_MAX: usize = 65_535;
/// Most data of a frame that is sent, as the vendor's own sides have it.
pub const SENT_BYTES_MAX: usize = 32_768;
/// The first stream that a client opens; each further one is two more.
pub const FIRST_CLIENT_STREAM: u32 = 3;

const VERSION: u8 = 1;

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Opens a stream.
    Syn,
    /// Ends a stream: whoever sends it has read to the end of its own side.
    Fin,
    /// Carries data.
    Psh,
    /// Says that somebody is there.
    Nop,
}

impl Command {
    fn number(self) -> u8 {
        match self {
            Self::Syn => 0,
            Self::Fin => 1,
            Self::Psh => 2,
            Self::Nop => 3,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it does.
    pub command: Command,
    /// On which stream.
    pub stream: u32,
    /// Its data; only [`Command::Psh`] means any.
    pub data: Bytes,
}

/// Why no further frame can be read. The whole byte stream is of no use then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another version than 1.
    #[error("smux version {0} is not spoken here")]
    Version(u8),
    /// A command that does not exist.
    #[error("unknown smux command {0}")]
    Command(u8),
}

/// Writes one frame without data behind `out`.
pub fn encode(command: Command, stream: u32, out: &mut BytesMut) {
    header(command, stream, 0, out);
}

/// Writes `data` behind `out`, in as many frames as it takes; in none when there is none.
pub fn encode_data(stream: u32, data: &[u8], out: &mut BytesMut) {
    for part in data.chunks(SENT_BYTES_MAX) {
        // A part has at most 32,768 bytes.
        header(Command::Psh, stream, u16::try_from(part.len()).unwrap_or(u16::MAX), out);
        out.put_slice(part);
    }
}

fn header(command: Command, stream: u32, length: u16, out: &mut BytesMut) {
    out.put_u8(VERSION);
    out.put_u8(command.number());
    out.put_u16_le(length);
    out.put_u32_le(stream);
}

/// Reads frames out of a byte stream that comes in pieces.
///
/// It holds what was pushed and not yet read: the last piece, and at most one unfinished frame when [`Decoder::poll_frame`]
/// is called until it has none, as it should be before the next push. A frame's data holds itself only, and nothing of the
/// pieces that it came in: whoever keeps it keeps what it counts.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The next frame, as far as it was read.
    frame: BytesMut,
    /// What follows.
    piece: Bytes,
}

impl Decoder {
    /// With nothing read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: Bytes) {
        self.piece = if self.piece.is_empty() { piece } else { [&self.piece[..], &piece].concat().into() };
    }

    /// Bytes that wait for the rest of their frame, or for [`Decoder::poll_frame`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.frame.len() + self.piece.len()
    }

    /// The next whole frame; `None` until more is pushed.
    ///
    /// # Errors
    /// [`Fault`], now and on every later call.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, Fault> {
        let has_header = self.read_to(HEADER_BYTES);
        // What is wrong is said as soon as it is there, and not only when a whole header is.
        if let Some(version) = self.frame.first().filter(|version| **version != VERSION) {
            return Err(Fault::Version(*version));
        }
        let command = match self.frame.get(1) {
            None => return Ok(None),
            Some(0) => Command::Syn,
            Some(1) => Command::Fin,
            Some(2) => Command::Psh,
            Some(3) => Command::Nop,
            Some(other) => return Err(Fault::Command(*other)),
        };
        if !has_header {
            return Ok(None);
        }
        let length = usize::from(u16::from_le_bytes([self.frame[2], self.frame[3]]));
        if !self.read_to(HEADER_BYTES + length) {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.frame);
        frame.advance(4);
        let stream = frame.get_u32_le();
        Ok(Some(Frame { command, stream, data: frame.freeze() }))
    }

    /// Reads on until so many bytes of the frame are there, and says whether they are.
    fn read_to(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.frame.len());
        self.frame.reserve(missing);
        self.frame.extend_from_slice(&self.piece.split_to(missing.min(self.piece.len())));
        self.frame.len() >= bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_look_as_the_vendor_writes_them() {
        let mut out = BytesMut::new();
        encode(Command::Syn, 3, &mut out);
        encode_data(3, b"abc", &mut out);
        encode(Command::Fin, 0x0102_0304, &mut out);
        assert_eq!(
            &out[..],
            b"\x01\x00\x00\x00\x03\x00\x00\x00\x01\x02\x03\x00\x03\x00\x00\x00abc\x01\x01\x00\x00\x04\x03\x02\x01"
        );
    }

    #[test]
    fn a_wrong_version_or_command_ends_the_stream_at_once() {
        for (bytes, fault) in [
            (&b"\x02"[..], Fault::Version(2)),
            (&b"\x01\x04"[..], Fault::Command(4)),
            (&b"SSH-2.0-x"[..], Fault::Version(b'S')),
        ] {
            let mut decoder = Decoder::new();
            decoder.push(Bytes::from_static(bytes));
            assert_eq!(decoder.poll_frame(), Err(fault));
            decoder.push(Bytes::from_static(b"\x01\x00\x00\x00\x03\x00\x00\x00"));
            assert_eq!(decoder.poll_frame(), Err(fault));
        }
    }

    #[test]
    fn a_frame_holds_nothing_but_itself() {
        let mut wire = BytesMut::new();
        for n in 0..100 {
            encode_data(3, &vec![7; 1 + n * n], &mut wire);
            // What nobody keeps makes pieces large.
            encode_data(5, &[0; SENT_BYTES_MAX], &mut wire);
        }
        let mut decoder = Decoder::new();
        for piece in wire.chunks(65_000) {
            decoder.push(Bytes::copy_from_slice(piece));
            while let Some(frame) = decoder.poll_frame().expect("our own frames") {
                let bytes = frame.data.len();
                let own = frame.data.try_into_mut().expect("nobody else has any of it");
                assert!(own.capacity() <= bytes + 64, "{bytes} bytes hold {}", own.capacity());
            }
        }
        assert_eq!(decoder.waiting(), 0);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames in prop::collection::vec((0..4_u8, any::<u32>(), prop::collection::vec(any::<u8>(), 1..300)), 1..20),
            cuts in prop::collection::vec(1..50_usize, 1..40),
        ) {
            let mut wire = BytesMut::new();
            let mut expected = Vec::new();
            for (command, stream, data) in frames {
                let command = [Command::Syn, Command::Fin, Command::Psh, Command::Nop][usize::from(command)];
                if command == Command::Psh {
                    encode_data(stream, &data, &mut wire);
                    expected.push(Frame { command, stream, data: data.into() });
                } else {
                    encode(command, stream, &mut wire);
                    expected.push(Frame { command, stream, data: Bytes::new() });
                }
            }
            let mut decoder = Decoder::new();
            let mut read = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !wire.is_empty() {
                let cut = (*cuts.next().expect("a cycle")).min(wire.len());
                decoder.push(wire.split_to(cut).freeze());
                while let Some(frame) = decoder.poll_frame().expect("our own frames") {
                    read.push(frame);
                }
                prop_assert!(decoder.waiting() < HEADER_BYTES + DATA_BYTES_MAX);
            }
            prop_assert_eq!(read, expected);
            prop_assert_eq!(decoder.waiting(), 0);
        }

        #[test]
        fn long_data_is_cut(length in 0..200_000_usize) {
            let data = vec![7; length];
            let mut wire = BytesMut::new();
            encode_data(5, &data, &mut wire);
            let mut decoder = Decoder::new();
            decoder.push(wire.freeze());
            let mut joined = Vec::new();
            while let Some(frame) = decoder.poll_frame().expect("our own frames") {
                prop_assert!(frame.data.len() <= SENT_BYTES_MAX && !frame.data.is_empty());
                joined.extend_from_slice(&frame.data);
            }
            prop_assert_eq!(joined, data);
        }
    }
}
