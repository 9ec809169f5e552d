//! The packets of SFTP version 3: numbers, strings, attributes and their framing.
//!
//! Must not know files. Everything is bounds-checked here, so that [`super::files`] sees values and never bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Packet types (draft-ietf-secsh-filexfer-02, section 3).
pub(super) mod kind {
    pub(in crate::sftp) const INIT: u8 = 1;
    pub(in crate::sftp) const VERSION: u8 = 2;
    pub(in crate::sftp) const OPEN: u8 = 3;
    pub(in crate::sftp) const CLOSE: u8 = 4;
    pub(in crate::sftp) const READ: u8 = 5;
    pub(in crate::sftp) const WRITE: u8 = 6;
    pub(in crate::sftp) const LSTAT: u8 = 7;
    pub(in crate::sftp) const FSTAT: u8 = 8;
    pub(in crate::sftp) const SETSTAT: u8 = 9;
    pub(in crate::sftp) const FSETSTAT: u8 = 10;
    pub(in crate::sftp) const OPENDIR: u8 = 11;
    pub(in crate::sftp) const READDIR: u8 = 12;
    pub(in crate::sftp) const REMOVE: u8 = 13;
    pub(in crate::sftp) const MKDIR: u8 = 14;
    pub(in crate::sftp) const RMDIR: u8 = 15;
    pub(in crate::sftp) const REALPATH: u8 = 16;
    pub(in crate::sftp) const STAT: u8 = 17;
    pub(in crate::sftp) const RENAME: u8 = 18;
    pub(in crate::sftp) const READLINK: u8 = 19;
    pub(in crate::sftp) const SYMLINK: u8 = 20;
    pub(in crate::sftp) const STATUS: u8 = 101;
    pub(in crate::sftp) const HANDLE: u8 = 102;
    pub(in crate::sftp) const DATA: u8 = 103;
    pub(in crate::sftp) const NAME: u8 = 104;
    pub(in crate::sftp) const ATTRS: u8 = 105;
    pub(in crate::sftp) const EXTENDED: u8 = 200;
    pub(in crate::sftp) const EXTENDED_REPLY: u8 = 201;
}

/// Flags of OPEN (section 6.3).
pub(super) mod open {
    pub(in crate::sftp) const READ: u32 = 0x01;
    pub(in crate::sftp) const WRITE: u32 = 0x02;
    pub(in crate::sftp) const APPEND: u32 = 0x04;
    pub(in crate::sftp) const CREATE: u32 = 0x08;
    pub(in crate::sftp) const TRUNCATE: u32 = 0x10;
    pub(in crate::sftp) const EXCLUSIVE: u32 = 0x20;
}

/// What a request came to (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Eof,
    NoSuchFile,
    PermissionDenied,
    Failure,
    BadMessage,
    Unsupported,
}

impl Status {
    fn code(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Eof => 1,
            Self::NoSuchFile => 2,
            Self::PermissionDenied => 3,
            Self::Failure => 4,
            Self::BadMessage => 5,
            Self::Unsupported => 8,
        }
    }
}

/// What makes it pointless to go on reading this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A length field promises this many bytes.
    PacketTooLong(usize),
    /// A packet without the two fields every request has.
    PacketTooShort,
    /// INIT was not the first packet, or not the only one of its kind.
    OutOfOrder(u8),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PacketTooLong(bytes) => write!(f, "a packet of {bytes} bytes is too long"),
            Self::PacketTooShort => f.write_str("a packet is too short to be a request"),
            Self::OutOfOrder(kind) => write!(f, "a packet of type {kind} is out of order"),
        }
    }
}

/// What the front of a buffer holds.
pub(super) enum Framed {
    /// A whole packet, without its length.
    Packet(Bytes),
    /// More bytes are needed.
    Incomplete,
}

/// Whether a whole packet is at the front.
pub(super) fn holds_packet(buffer: &[u8], bytes_max: usize) -> Result<bool, Fault> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(false) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(Fault::PacketTooLong(length));
    }
    Ok(buffer.len() - 4 >= length)
}

/// Takes the packet at the front.
pub(super) fn take_packet(buffer: &mut BytesMut, bytes_max: usize) -> Result<Framed, Fault> {
    if !holds_packet(buffer, bytes_max)? {
        return Ok(Framed::Incomplete);
    }
    let length = usize::try_from(buffer.get_u32()).unwrap_or(usize::MAX);
    Ok(Framed::Packet(buffer.split_to(length).freeze()))
}

/// Takes all packets apart, each as every kind of request has its fields.
pub(crate) fn take_apart(raw: &[u8]) {
    const BYTES_MAX: usize = 64 * 1024;
    let mut buffer = BytesMut::from(raw);
    while let Ok(Framed::Packet(packet)) = take_packet(&mut buffer, BYTES_MAX) {
        let mut fields = Fields::new(&packet);
        let _open = (fields.byte(), fields.u32(), fields.path(), fields.u32(), fields.attributes());
        let mut fields = Fields::new(&packet);
        let _write = (fields.byte(), fields.u32(), fields.bytes(), fields.u64(), fields.bytes());
    }
}

/// The rest of a request. Each field that is not there is a malformed request, which is answered and survived.
pub(super) struct Fields<'a>(&'a [u8]);

/// A request which ends before its fields do.
#[derive(Debug)]
pub(super) struct Malformed;

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let (number, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A path as the client writes it; an empty one means the place to start from.
    pub(super) fn path(&mut self) -> Result<&'a Path, Malformed> {
        Ok(Path::new(OsStr::from_bytes(self.bytes()?)))
    }

    pub(super) fn attributes(&mut self) -> Result<Attributes, Malformed> {
        let flags = self.u32()?;
        let mut attributes = Attributes::default();
        if flags & Attributes::SIZE != 0 {
            attributes.size = Some(self.u64()?);
        }
        if flags & Attributes::OWNER != 0 {
            attributes.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & Attributes::PERMISSIONS != 0 {
            attributes.permissions = Some(self.u32()?);
        }
        if flags & Attributes::TIMES != 0 {
            attributes.times = Some((self.u32()?, self.u32()?));
        }
        if flags & Attributes::EXTENDED != 0 {
            // Vendors' own attributes may be ignored, but must be stepped over.
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(attributes)
    }
}

/// File attributes (section 5); what is `None` is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    /// Mode, with the file's type in the upper bits.
    pub(super) permissions: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    const SIZE: u32 = 0x01;
    const OWNER: u32 = 0x02;
    const PERMISSIONS: u32 = 0x04;
    const TIMES: u32 = 0x08;
    const EXTENDED: u32 = 0x8000_0000;
}

/// Writes replies, each with its length in front.
pub(super) struct Reply<'a> {
    to: &'a mut BytesMut,
    start: usize,
}

impl<'a> Reply<'a> {
    pub(super) fn new(to: &'a mut BytesMut, kind: u8) -> Self {
        let start = to.len();
        to.put_u32(0);
        to.put_u8(kind);
        Self { to, start }
    }

    pub(super) fn u32(self, number: u32) -> Self {
        self.to.put_u32(number);
        self
    }

    pub(super) fn u64(self, number: u64) -> Self {
        self.to.put_u64(number);
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        self.to.put_u32(as_u32(bytes.len()));
        self.to.put_slice(bytes);
        self
    }

    pub(super) fn attributes(self, attributes: &Attributes) -> Self {
        let flag = |present: bool, flag: u32| if present { flag } else { 0 };
        self.to.put_u32(
            flag(attributes.size.is_some(), Attributes::SIZE)
                | flag(attributes.owner.is_some(), Attributes::OWNER)
                | flag(attributes.permissions.is_some(), Attributes::PERMISSIONS)
                | flag(attributes.times.is_some(), Attributes::TIMES),
        );
        if let Some(size) = attributes.size {
            self.to.put_u64(size);
        }
        if let Some((user, group)) = attributes.owner {
            self.to.put_u32(user);
            self.to.put_u32(group);
        }
        if let Some(permissions) = attributes.permissions {
            self.to.put_u32(permissions);
        }
        if let Some((accessed, modified)) = attributes.times {
            self.to.put_u32(accessed);
            self.to.put_u32(modified);
        }
        self
    }

    /// Adds a string of at most `length` bytes which `fill` reads straight into its place, and returns how many those
    /// were. The reply is taken back when there are none, or when `fill` fails.
    pub(super) fn filled<E>(self, length: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        let Self { to, start } = self;
        to.put_u32(0);
        let body = to.len();
        to.resize(body + length, 0);
        let filled = fill(&mut to[body..]);
        match filled {
            Ok(read @ 1..) => {
                to.truncate(body + read);
                to[body - 4..body].copy_from_slice(&as_u32(read).to_be_bytes());
                Reply { to, start }.end();
            }
            Ok(0) | Err(_) => to.truncate(start),
        }
        filled
    }

    pub(super) fn end(self) {
        let length = as_u32(self.to.len() - self.start - 4);
        self.to[self.start..self.start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Writes a STATUS reply.
pub(super) fn put_status(to: &mut BytesMut, id: u32, status: Status, text: &str) {
    Reply::new(to, kind::STATUS).u32(id).u32(status.code()).bytes(text.as_bytes()).bytes(b"en").end();
}

fn as_u32(length: usize) -> u32 {
    // Nothing here is longer than a packet.
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_whole_or_not_at_all() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 2, 7][..]);
        assert!(matches!(take_packet(&mut buffer, 10), Ok(Framed::Incomplete)));
        buffer.put_u8(8);
        buffer.put_u8(0);
        match take_packet(&mut buffer, 10) {
            Ok(Framed::Packet(packet)) => assert_eq!(&packet[..], [7, 8]),
            _ => panic!("a whole packet is there"),
        }
        assert_eq!(&buffer[..], [0]);
        assert_eq!(holds_packet(&[0, 0, 0, 11], 10), Err(Fault::PacketTooLong(11)));
    }

    #[test]
    fn attributes_survive_the_way_there_and_back() {
        let attributes = Attributes {
            size: Some(5_000_000_000),
            owner: Some((1, 2)),
            permissions: Some(0o100_644),
            times: Some((3, 4)),
        };
        let mut buffer = BytesMut::new();
        Reply::new(&mut buffer, kind::ATTRS).attributes(&attributes).end();
        assert_eq!(Fields::new(&buffer[5..]).attributes().expect("whole"), attributes);
        for end in 5..buffer.len() {
            assert!(Fields::new(&buffer[5..end]).attributes().is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_string_longer_than_its_packet_is_malformed() {
        assert!(Fields::new(&[0, 0, 0, 2, b'a']).bytes().is_err());
        assert!(Fields::new(&[0xff, 0xff, 0xff, 0xff, b'a']).bytes().is_err());
        // An attribute count that promises four billion pairs ends with the packet.
        assert!(Fields::new(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]).attributes().is_err());
    }

    #[test]
    fn a_reply_without_content_leaves_nothing_behind() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let read = Reply::new(&mut buffer, kind::DATA).u32(1).filled(10, |_| Ok::<_, ()>(0));
        assert_eq!((read, &buffer[..]), (Ok(0), &b"before"[..]));
        let read = Reply::new(&mut buffer, kind::DATA).u32(1).filled(10, |to| {
            to[..2].copy_from_slice(b"ab");
            Ok::<_, ()>(2)
        });
        assert_eq!(read, Ok(2));
        assert_eq!(&buffer[6..], b"\0\0\0\x0b\x67\0\0\0\x01\0\0\0\x02ab");
    }
}
