//! What the packets ask for, done on the file system as the user of this process.
//!
//! Must not know channels; it blocks, and is called where that is allowed. An operation which fails is answered with
//! a status and hurts nothing else.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileType, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    chown, fchown, lchown, symlink,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{
    AtFlags, CWD, OFlags, StatVfs, StatVfsMountFlags, Timespec, Timestamps, fstatvfs, statvfs, utimensat,
};
use rustix::io::Errno;
use tracing::debug;

use super::PACKET_BYTES_MAX;
use super::wire::{Attributes, Fault, Fields, Malformed, Reply, Status, kind, open, put_status};

/// The version spoken, whatever the client would like.
const VERSION: u32 = 3;
/// Files and folders a client may hold open.
const HANDLES_MAX: usize = 512;
/// Bytes read or written by one request: a packet less its other fields.
const TRANSFER_BYTES_MAX: usize = PACKET_BYTES_MAX - 1024;
/// Entries told by one READDIR.
const ENTRIES_MAX: usize = 128;
/// Names of users and groups remembered for listings.
const NAMES_MAX: usize = 1024;
/// Permissions of a new file or folder when the client does not say, before the umask.
const FILE_MODE: u32 = 0o666;
const FOLDER_MODE: u32 = 0o777;
/// The permission bits a client may set.
const MODE_BITS: u32 = 0o7777;

/// What is offered beyond the draft; each is described in OpenSSH's `PROTOCOL`, section 4.
const EXTENSIONS: [(&str, &str); 9] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

/// The state of one client.
#[derive(Debug)]
pub(super) struct FileServer {
    home: PathBuf,
    greeted: bool,
    handles: HashMap<u64, Handle>,
    next_handle: u64,
    names: Names,
}

#[derive(Debug)]
enum Handle {
    File(File),
    Folder { path: PathBuf, entries: fs::ReadDir, dots: Vec<&'static str> },
}

/// Why a request has no other answer.
enum Refusal {
    Malformed,
    NoSuchHandle,
    TooManyHandles,
    Unsupported,
    Eof,
    System(io::Error),
}

impl From<Malformed> for Refusal {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

impl Refusal {
    fn put(self, to: &mut BytesMut, id: u32) {
        match self {
            Self::Malformed => put_status(to, id, Status::BadMessage, "malformed request"),
            Self::NoSuchHandle => put_status(to, id, Status::Failure, "no such handle"),
            Self::TooManyHandles => put_status(to, id, Status::Failure, "too many open files: close some first"),
            Self::Unsupported => put_status(to, id, Status::Unsupported, "not supported"),
            Self::Eof => put_status(to, id, Status::Eof, "end of file"),
            Self::System(error) => {
                let status = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Status::NoSuchFile,
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Status::PermissionDenied,
                    _ => Status::Failure,
                };
                put_status(to, id, status, &error.to_string());
            }
        }
    }
}

impl FileServer {
    /// Relative paths begin at `home`.
    pub(super) fn new(home: PathBuf) -> Self {
        Self { home, greeted: false, handles: HashMap::new(), next_handle: 0, names: Names::default() }
    }

    /// Answers one packet.
    pub(super) fn answer(&mut self, packet: &[u8], replies: &mut BytesMut) -> Result<(), Fault> {
        let mut fields = Fields::new(packet);
        let kind = fields.byte().map_err(|Malformed| Fault::PacketTooShort)?;
        // INIT carries a version where every other request has its number.
        let id = fields.u32().map_err(|Malformed| Fault::PacketTooShort)?;
        if (kind == kind::INIT) == self.greeted {
            return Err(Fault::OutOfOrder(kind));
        }
        if kind == kind::INIT {
            self.greeted = true;
            let reply = Reply::new(replies, kind::VERSION).u32(VERSION);
            EXTENSIONS
                .iter()
                .fold(reply, |reply, (name, version)| reply.bytes(name.as_bytes()).bytes(version.as_bytes()))
                .end();
            return Ok(());
        }
        let before = replies.len();
        match self.perform(kind, id, fields, replies) {
            Ok(Done::Said) => {}
            Ok(Done::Plain) => put_status(replies, id, Status::Ok, ""),
            Err(refusal) => {
                replies.truncate(before);
                refusal.put(replies, id);
            }
        }
        Ok(())
    }

    fn perform(&mut self, kind: u8, id: u32, mut fields: Fields<'_>, to: &mut BytesMut) -> Result<Done, Refusal> {
        match kind {
            kind::OPEN => {
                let path = self.resolve(fields.path()?);
                let (flags, attributes) = (fields.u32()?, fields.attributes()?);
                self.put_handle(to, id, || Ok(Handle::File(open_file(&path, flags, &attributes)?)))
            }
            kind::CLOSE => {
                let handle = read_handle(&mut fields)?;
                self.handles.remove(&handle).ok_or(Refusal::NoSuchHandle)?;
                Ok(Done::Plain)
            }
            kind::READ => {
                let file = self.file(&mut fields)?;
                let (offset, length) = (fields.u64()?, fields.u32()?);
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(TRANSFER_BYTES_MAX);
                let read =
                    Reply::new(to, kind::DATA).u32(id).filled(length, |buffer| read_full(file, buffer, offset))?;
                // A request for nothing is answered like one at the end, as OpenSSH does.
                if read == 0 { Err(Refusal::Eof) } else { Ok(Done::Said) }
            }
            kind::WRITE => {
                let file = self.file(&mut fields)?;
                let (offset, data) = (fields.u64()?, fields.bytes()?);
                file.write_all_at(data, offset)?;
                Ok(Done::Plain)
            }
            kind::STAT => {
                let metadata = fs::metadata(self.resolve(fields.path()?))?;
                put_attributes(to, id, &metadata)
            }
            kind::LSTAT => {
                let metadata = fs::symlink_metadata(self.resolve(fields.path()?))?;
                put_attributes(to, id, &metadata)
            }
            kind::FSTAT => {
                let metadata = match self.handle(&mut fields)? {
                    Handle::File(file) => file.metadata()?,
                    Handle::Folder { path, .. } => fs::metadata(path)?,
                };
                put_attributes(to, id, &metadata)
            }
            kind::SETSTAT => {
                let path = self.resolve(fields.path()?);
                set_attributes(&path, &fields.attributes()?)
            }
            kind::FSETSTAT => match self.handle(&mut fields)? {
                Handle::File(file) => set_file_attributes(file, &fields.attributes()?),
                Handle::Folder { path, .. } => set_attributes(path, &fields.attributes()?),
            },
            kind::OPENDIR => {
                let path = self.resolve(fields.path()?);
                self.put_handle(to, id, || {
                    let entries = fs::read_dir(&path)?;
                    Ok(Handle::Folder { path, entries, dots: vec!["..", "."] })
                })
            }
            kind::READDIR => {
                let handle = read_handle(&mut fields)?;
                self.put_entries(to, id, handle)
            }
            kind::REMOVE => {
                fs::remove_file(self.resolve(fields.path()?))?;
                Ok(Done::Plain)
            }
            kind::MKDIR => {
                let path = self.resolve(fields.path()?);
                let mode = fields.attributes()?.permissions.unwrap_or(FOLDER_MODE) & MODE_BITS;
                fs::DirBuilder::new().mode(mode).create(path)?;
                Ok(Done::Plain)
            }
            kind::RMDIR => {
                fs::remove_dir(self.resolve(fields.path()?))?;
                Ok(Done::Plain)
            }
            kind::REALPATH => {
                let path = real_path(&self.resolve(fields.path()?))?;
                put_name(to, id, &path)
            }
            kind::RENAME => {
                let (from, onto) = (self.resolve(fields.path()?), self.resolve(fields.path()?));
                rename_onto_nothing(&from, &onto)?;
                Ok(Done::Plain)
            }
            kind::READLINK => {
                let target = fs::read_link(self.resolve(fields.path()?))?;
                put_name(to, id, &target)
            }
            kind::SYMLINK => {
                // OpenSSH sends the target first, against the draft, and everybody follows it (PROTOCOL, 4.1).
                // The target is kept as it is written: it is relative to the link, not to us.
                let (target, link) = (fields.path()?, self.resolve(fields.path()?));
                symlink(target, link)?;
                Ok(Done::Plain)
            }
            kind::EXTENDED => {
                let name = fields.bytes()?;
                self.perform_extended(name, id, fields, to)
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn perform_extended(
        &mut self,
        name: &[u8],
        id: u32,
        mut fields: Fields<'_>,
        to: &mut BytesMut,
    ) -> Result<Done, Refusal> {
        match name {
            b"posix-rename@openssh.com" => {
                fs::rename(self.resolve(fields.path()?), self.resolve(fields.path()?))?;
                Ok(Done::Plain)
            }
            b"statvfs@openssh.com" => put_file_system(to, id, &statvfs(self.resolve(fields.path()?))?),
            b"fstatvfs@openssh.com" => match self.handle(&mut fields)? {
                Handle::File(file) => put_file_system(to, id, &fstatvfs(file)?),
                Handle::Folder { path, .. } => put_file_system(to, id, &statvfs(path.as_path())?),
            },
            b"hardlink@openssh.com" => {
                fs::hard_link(self.resolve(fields.path()?), self.resolve(fields.path()?))?;
                Ok(Done::Plain)
            }
            b"fsync@openssh.com" => {
                self.file(&mut fields)?.sync_all()?;
                Ok(Done::Plain)
            }
            b"lsetstat@openssh.com" => {
                let path = self.resolve(fields.path()?);
                set_link_attributes(&path, &fields.attributes()?)
            }
            b"limits@openssh.com" => {
                let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
                Reply::new(to, kind::EXTENDED_REPLY)
                    .u32(id)
                    .u64(number(PACKET_BYTES_MAX))
                    .u64(number(TRANSFER_BYTES_MAX))
                    .u64(number(TRANSFER_BYTES_MAX))
                    .u64(number(HANDLES_MAX))
                    .end();
                Ok(Done::Said)
            }
            b"expand-path@openssh.com" => {
                let path = self.expand(fields.path()?)?;
                put_name(to, id, &real_path(&path)?)
            }
            b"users-groups-by-id@openssh.com" => {
                let (users, groups) = (fields.bytes()?, fields.bytes()?);
                let users = listed(users, |id| self.names.user(id));
                let groups = listed(groups, |id| self.names.group(id));
                Reply::new(to, kind::EXTENDED_REPLY).u32(id).bytes(&users).bytes(&groups).end();
                Ok(Done::Said)
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.home.join(path)
    }

    /// `~` and `~user`, as a shell would.
    fn expand(&self, path: &Path) -> Result<PathBuf, Refusal> {
        let Some(rest) = path.as_os_str().as_bytes().strip_prefix(b"~") else { return Ok(self.resolve(path)) };
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (user, rest) = rest.split_at(end);
        let home = if user.is_empty() {
            self.home.clone()
        } else {
            let unknown = || Refusal::System(io::Error::new(io::ErrorKind::NotFound, "no such user"));
            let user = std::str::from_utf8(user).map_err(|_| unknown())?;
            User::from_name(user).ok().flatten().ok_or_else(unknown)?.dir
        };
        Ok(home.join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest))))
    }

    fn put_handle(
        &mut self,
        to: &mut BytesMut,
        id: u32,
        make: impl FnOnce() -> Result<Handle, Refusal>,
    ) -> Result<Done, Refusal> {
        if self.handles.len() >= HANDLES_MAX {
            return Err(Refusal::TooManyHandles);
        }
        let handle = make()?;
        let number = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(number, handle);
        Reply::new(to, kind::HANDLE).u32(id).bytes(&number.to_be_bytes()).end();
        Ok(Done::Said)
    }

    fn handle(&self, fields: &mut Fields<'_>) -> Result<&Handle, Refusal> {
        self.handles.get(&read_handle(fields)?).ok_or(Refusal::NoSuchHandle)
    }

    fn file(&self, fields: &mut Fields<'_>) -> Result<&File, Refusal> {
        match self.handle(fields)? {
            Handle::File(file) => Ok(file),
            Handle::Folder { .. } => Err(Refusal::NoSuchHandle),
        }
    }

    fn put_entries(&mut self, to: &mut BytesMut, id: u32, handle: u64) -> Result<Done, Refusal> {
        let Some(Handle::Folder { path, entries, dots }) = self.handles.get_mut(&handle) else {
            return Err(Refusal::NoSuchHandle);
        };
        let mut told = Vec::new();
        while told.len() < ENTRIES_MAX {
            let name = match dots.pop() {
                Some(dot) => dot.into(),
                None => match entries.next().transpose()? {
                    Some(entry) => entry.file_name(),
                    None => break,
                },
            };
            // What went away since it was listed is not told.
            if let Ok(metadata) = fs::symlink_metadata(path.join(&name)) {
                told.push((name, metadata));
            }
        }
        if told.is_empty() {
            return Err(Refusal::Eof);
        }
        let mut reply = Reply::new(to, kind::NAME).u32(id).u32(u32::try_from(told.len()).unwrap_or(u32::MAX));
        for (name, metadata) in told {
            let long = self.names.long_name(&name, &metadata);
            reply = reply.bytes(name.as_bytes()).bytes(&long).attributes(&attributes_of(&metadata));
        }
        reply.end();
        Ok(Done::Said)
    }
}

/// Whether a request's reply is written already.
enum Done {
    Said,
    /// Success is all there is to say.
    Plain,
}

fn read_handle(fields: &mut Fields<'_>) -> Result<u64, Refusal> {
    let bytes = fields.bytes()?.try_into().map_err(|_| Refusal::NoSuchHandle)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Never waits for the other end of a pipe: the thread would wait with it.
fn open_file(path: &Path, flags: u32, attributes: &Attributes) -> io::Result<File> {
    let has = |flag: u32| flags & flag != 0;
    let (create, exclusive) = (has(open::CREATE), has(open::EXCLUSIVE));
    let waits_not = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(has(open::READ))
        .write(has(open::WRITE))
        .append(has(open::APPEND))
        .truncate(has(open::TRUNCATE) && !has(open::APPEND))
        .create(create && !exclusive)
        .create_new(create && exclusive)
        .mode(attributes.permissions.unwrap_or(FILE_MODE) & MODE_BITS)
        .custom_flags(i32::try_from(waits_not.bits()).unwrap_or(0))
        .open(path)
}

/// Fills the buffer unless the file ends first: clients take a short reply for a slow file, and ask again.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A rename which never replaces anything (section 6.5), in the order that cannot lose a file: a second name first.
fn rename_onto_nothing(from: &Path, onto: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_file() {
        match fs::hard_link(from, onto) {
            Ok(()) => {
                return fs::remove_file(from).inspect_err(|_| {
                    // Both names stay otherwise.
                    if let Err(error) = fs::remove_file(onto) {
                        debug!(%error, "a second name could not be taken back");
                    }
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // A file system without second names.
            Err(_) => {}
        }
    }
    match fs::symlink_metadata(onto) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, onto),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

/// An absolute path without links and dots. The last part need not exist: clients ask before they create.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
            _ => Err(error),
        },
        real => real,
    }
}

fn set_attributes(path: &Path, attributes: &Attributes) -> Result<Done, Refusal> {
    if let Some(size) = attributes.size {
        open_file(path, open::WRITE, &Attributes::default())?.set_len(size)?;
    }
    if let Some(mode) = attributes.permissions {
        fs::set_permissions(path, Permissions::from_mode(mode & MODE_BITS))?;
    }
    if let Some(times) = attributes.times {
        utimensat(CWD, path, &timestamps(times), AtFlags::empty())?;
    }
    if let Some((user, group)) = attributes.owner {
        chown(path, Some(user), Some(group))?;
    }
    Ok(Done::Plain)
}

fn set_file_attributes(file: &File, attributes: &Attributes) -> Result<Done, Refusal> {
    if let Some(size) = attributes.size {
        file.set_len(size)?;
    }
    if let Some(mode) = attributes.permissions {
        file.set_permissions(Permissions::from_mode(mode & MODE_BITS))?;
    }
    if let Some((accessed, modified)) = attributes.times {
        let time = |seconds: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
        file.set_times(fs::FileTimes::new().set_accessed(time(accessed)).set_modified(time(modified)))?;
    }
    if let Some((user, group)) = attributes.owner {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(Done::Plain)
}

/// On a link itself; links have no size and, on Linux, no permissions to set.
fn set_link_attributes(path: &Path, attributes: &Attributes) -> Result<Done, Refusal> {
    if attributes.size.is_some() {
        return Err(Refusal::Unsupported);
    }
    let is_link = fs::symlink_metadata(path)?.file_type().is_symlink();
    if let Some(mode) = attributes.permissions {
        if is_link {
            return Err(Refusal::Unsupported);
        }
        fs::set_permissions(path, Permissions::from_mode(mode & MODE_BITS))?;
    }
    if let Some(times) = attributes.times {
        utimensat(CWD, path, &timestamps(times), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if let Some((user, group)) = attributes.owner {
        lchown(path, Some(user), Some(group))?;
    }
    Ok(Done::Plain)
}

fn timestamps((accessed, modified): (u32, u32)) -> Timestamps {
    let time = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    Timestamps { last_access: time(accessed), last_modification: time(modified) }
}

fn attributes_of(metadata: &Metadata) -> Attributes {
    // Times are 32 bits wide on the wire, and end in 2106.
    let seconds = |seconds: i64| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
    Attributes {
        size: Some(metadata.size()),
        owner: Some((metadata.uid(), metadata.gid())),
        permissions: Some(metadata.mode()),
        times: Some((seconds(metadata.atime()), seconds(metadata.mtime()))),
    }
}

fn put_attributes(to: &mut BytesMut, id: u32, metadata: &Metadata) -> Result<Done, Refusal> {
    Reply::new(to, kind::ATTRS).u32(id).attributes(&attributes_of(metadata)).end();
    Ok(Done::Said)
}

fn put_name(to: &mut BytesMut, id: u32, path: &Path) -> Result<Done, Refusal> {
    let name = path.as_os_str().as_bytes();
    Reply::new(to, kind::NAME).u32(id).u32(1).bytes(name).bytes(name).attributes(&Attributes::default()).end();
    Ok(Done::Said)
}

/// OpenSSH `PROTOCOL`, section 4.2 (`statvfs@openssh.com`).
fn put_file_system(to: &mut BytesMut, id: u32, about: &StatVfs) -> Result<Done, Refusal> {
    const READ_ONLY: u64 = 0x1;
    const NO_SETUID: u64 = 0x2;
    let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
    Reply::new(to, kind::EXTENDED_REPLY)
        .u32(id)
        .u64(about.f_bsize)
        .u64(about.f_frsize)
        .u64(about.f_blocks)
        .u64(about.f_bfree)
        .u64(about.f_bavail)
        .u64(about.f_files)
        .u64(about.f_ffree)
        .u64(about.f_favail)
        .u64(about.f_fsid)
        .u64(
            flag(about.f_flag.contains(StatVfsMountFlags::RDONLY), READ_ONLY)
                | flag(about.f_flag.contains(StatVfsMountFlags::NOSUID), NO_SETUID),
        )
        .u64(about.f_namemax)
        .end();
    Ok(Done::Said)
}

/// The names for a list of numbers, in its order; an unknown one is empty.
fn listed(ids: &[u8], mut name: impl FnMut(u32) -> Option<String>) -> Vec<u8> {
    let mut names = Vec::new();
    for id in ids.as_chunks::<4>().0 {
        let name = name(u32::from_be_bytes(*id)).unwrap_or_default();
        names.extend_from_slice(&u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
        names.extend_from_slice(name.as_bytes());
    }
    names
}

/// Names of users and groups, looked up once each.
#[derive(Debug, Default)]
struct Names {
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

impl Names {
    fn user(&mut self, id: u32) -> Option<String> {
        remembered(&mut self.users, id, |id| User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name))
    }

    fn group(&mut self, id: u32) -> Option<String> {
        remembered(&mut self.groups, id, |id| Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name))
    }

    /// A line as `ls -l` writes it: what people see, and where clients take the owners' names from (section 7).
    fn long_name(&mut self, name: &OsStr, metadata: &Metadata) -> Vec<u8> {
        let user = self.user(metadata.uid()).unwrap_or_else(|| metadata.uid().to_string());
        let group = self.group(metadata.gid()).unwrap_or_else(|| metadata.gid().to_string());
        let mut line = format!(
            "{}{} {:>4} {user:<8} {group:<8} {:>8} {} ",
            type_letter(metadata.file_type()),
            permission_letters(metadata.mode()),
            metadata.nlink(),
            metadata.size(),
            listing_date(metadata.mtime(), SystemTime::now()),
        )
        .into_bytes();
        line.extend_from_slice(name.as_bytes());
        line
    }
}

fn remembered(
    names: &mut HashMap<u32, Option<String>>,
    id: u32,
    look_up: impl FnOnce(u32) -> Option<String>,
) -> Option<String> {
    if names.len() >= NAMES_MAX {
        names.clear();
    }
    names.entry(id).or_insert_with(|| look_up(id)).clone()
}

fn type_letter(kind: FileType) -> char {
    match kind {
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        kind if kind.is_fifo() => 'p',
        kind if kind.is_socket() => 's',
        kind if kind.is_block_device() => 'b',
        kind if kind.is_char_device() => 'c',
        _ => '-',
    }
}

fn permission_letters(mode: u32) -> String {
    let class = |shift: u32, special: bool, letter: char| {
        let bits = mode >> shift;
        let execute = match (bits & 1 != 0, special) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        };
        [if bits & 4 != 0 { 'r' } else { '-' }, if bits & 2 != 0 { 'w' } else { '-' }, execute]
    };
    [class(6, mode & 0o4000 != 0, 's'), class(3, mode & 0o2000 != 0, 's'), class(0, mode & 0o1000 != 0, 't')]
        .into_iter()
        .flatten()
        .collect()
}

/// Month and day, with the time for what is recent and the year for the rest; in UTC.
fn listing_date(modified: i64, now: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAY_SECONDS: i64 = 86_400;
    const RECENT_SECONDS: i64 = 182 * DAY_SECONDS;
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0);
    let (year, month, day) = civil_date(modified.div_euclid(DAY_SECONDS));
    let month = usize::try_from(month - 1).ok().and_then(|index| MONTHS.get(index)).unwrap_or(&"???");
    if (now - RECENT_SECONDS..=now).contains(&modified) {
        let minutes = modified.rem_euclid(DAY_SECONDS) / 60;
        format!("{month} {day:>2} {:02}:{:02}", minutes / 60, minutes % 60)
    } else {
        format!("{month} {day:>2} {year:>5}")
    }
}

/// Year, month and day of a day counted from 1970-01-01, by the proleptic Gregorian calendar. Years are counted from
/// March, so that the leap day is the last of its year and months have a regular length.
fn civil_date(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: i64 = 719_468;
    let days = days + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Days as `date -u -d DATE +%s` divided by 86400 gives them.
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_512, (2026, 2, 28)),
            (20_513, (2026, 3, 1)),
            (20_778, (2026, 11, 21)),
        ] {
            assert_eq!(civil_date(days), date, "{days}");
        }
    }

    #[test]
    fn listings_show_the_time_of_what_is_recent() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20_778 * 86_400 + 3_600);
        assert_eq!(listing_date(20_778 * 86_400 + 61, now), "Nov 21 00:01");
        assert_eq!(listing_date(0, now), "Jan  1  1970");
    }

    #[test]
    fn permissions_read_as_in_a_listing() {
        assert_eq!(permission_letters(0o100_644), "rw-r--r--");
        assert_eq!(permission_letters(0o104_755), "rwsr-xr-x");
        assert_eq!(permission_letters(0o041_777), "rwxrwxrwt");
        assert_eq!(permission_letters(0o102_600), "rw---S---");
    }

    #[test]
    fn a_rename_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "a").expect("written");
        fs::write(&b, "b").expect("written");
        assert_eq!(rename_onto_nothing(&a, &b).map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        fs::remove_file(&b).expect("removed");
        rename_onto_nothing(&a, &b).expect("nothing is there");
        assert_eq!(fs::read_to_string(&b).expect("readable"), "a");
        assert!(!a.exists());
    }

    #[test]
    fn only_init_comes_first_and_only_once() {
        let mut server = FileServer::new(PathBuf::from("/"));
        let mut replies = BytesMut::new();
        assert_eq!(server.answer(&[kind::STAT, 0, 0, 0, 0], &mut replies), Err(Fault::OutOfOrder(kind::STAT)));
        assert_eq!(server.answer(&[kind::INIT, 0, 0, 0, 3], &mut replies), Ok(()));
        assert_eq!(server.answer(&[kind::INIT, 0, 0, 0, 3], &mut replies), Err(Fault::OutOfOrder(kind::INIT)));
        assert_eq!(server.answer(&[kind::STAT, 0, 0], &mut replies), Err(Fault::PacketTooShort));
    }

    #[test]
    fn no_request_is_left_without_an_answer() {
        let mut server = FileServer::new(PathBuf::from("/"));
        let mut replies = BytesMut::new();
        server.answer(&[kind::INIT, 0, 0, 0, 3], &mut replies).expect("greeting");
        for kind in 0..=255 {
            if kind == kind::INIT {
                continue;
            }
            replies.clear();
            server.answer(&[kind, 0, 0, 0, 9, 0xff, 0xff], &mut replies).expect("survives");
            assert_eq!((replies[4], &replies[5..9]), (kind::STATUS, &[0, 0, 0, 9][..]), "{kind}");
        }
    }
}
