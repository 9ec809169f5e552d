//! The state directory: what a node keeps over restarts, and the lock that keeps a second process out.
//!
//! Everything secret is mode 0600 and written whole or not at all. Losing the directory loses the node's identity, its
//! history and every issued credential; copying it copies them.

use anyhow::Context;
use ravelin_engine::MasterKey;
use ravelin_engine::keys::random_bytes;
use ravelin_model::NodeId;
use ravelin_model::ledger::{LedgerKey, PublicKey};
use secrecy::{ExposeSecret, SecretString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A node's directory. No other process serves from it while a value of [`StateDir::open`] lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Held for its lock; `None` for one who only works beside the process that holds it.
    _lock: Option<File>,
}

/// Why the state directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StateFault {
    /// Another process has it.
    #[error(
        "another ravelin{} runs with the state directory {}; stop it, or name another directory",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process, where it said so.
        pid: Option<u32>,
    },
    /// Something about the file system.
    #[error("cannot use the state directory {}: {because}", path.display())]
    Unusable {
        /// The directory or a file in it.
        path: PathBuf,
        /// What went wrong.
        because: String,
    },
}

impl StateDir {
    const LOCK_FILE: &'static str = "lock";
    const NODE_FILE: &'static str = "node-id";
    const MASTER_FILE: &'static str = "master.key";
    const STORE_FILE: &'static str = "ravelin.db";
    const LEDGER_KEY_FILE: &'static str = "ledger.key";
    /// The public half of the ledger's key: all that a verifier of the record needs.
    pub const LEDGER_PUBLIC_FILE: &'static str = "ledger.pub";

    /// Takes the directory, making it when it is not there.
    ///
    /// # Errors
    /// [`StateFault`] names the directory, what is wrong and the fix.
    pub fn open(path: &Path) -> Result<Self, StateFault> {
        let unusable = |path: &Path, error: &std::io::Error| StateFault::Unusable {
            path: path.to_path_buf(),
            because: crate::config::in_short(error),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| unusable(path, &error))?;
        let lock_path = path.join(Self::LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| unusable(&lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StateFault::InUse { path: path.to_path_buf(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&lock_path, &error)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|error| unusable(&lock_path, &error))?;
        let state = Self { path: path.to_path_buf(), _lock: Some(lock) };
        state.close_to_others().map_err(|error| unusable(path, &error))?;
        Ok(state)
    }

    /// Takes the directory, or comes to it as a guest when another process has it: what is kept there can be read, and
    /// the store allows for more than one process.
    ///
    /// # Errors
    /// See [`StateDir::open`].
    pub fn open_or_join(path: &Path) -> Result<Self, StateFault> {
        match Self::open(path) {
            Err(StateFault::InUse { path, .. }) => Ok(Self { path, _lock: None }),
            outcome => outcome,
        }
    }

    /// Whether another process has the directory now.
    #[must_use]
    pub fn is_in_use(path: &Path) -> bool {
        let Ok(lock) = File::open(path.join(Self::LOCK_FILE)) else { return false };
        matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// The directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// A file's path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The store's file.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.path(Self::STORE_FILE)
    }

    /// This node's name, drawn once.
    ///
    /// # Errors
    /// When the file cannot be read, written or understood.
    pub fn node_id(&self) -> anyhow::Result<NodeId> {
        let text =
            self.keep_public(Self::NODE_FILE, || Ok(format!("{}\n", NodeId::new(u32::from_be_bytes(random_bytes())))))?;
        NodeId::parse(text.trim()).with_context(|| format!("{} is damaged", self.path(Self::NODE_FILE).display()))
    }

    /// The master key, drawn once.
    ///
    /// # Errors
    /// When the file cannot be read, written or understood.
    pub fn master_key(&self) -> anyhow::Result<MasterKey> {
        let text = self.keep_secret(Self::MASTER_FILE, || Ok(hex(MasterKey::generate().expose())))?;
        let bytes = unhex(text.trim()).with_context(|| {
            let path = self.path(Self::MASTER_FILE);
            format!("{} must hold {} hex digits; restore it from a backup", path.display(), 2 * MasterKey::BYTES)
        })?;
        Ok(MasterKey::new(bytes))
    }

    /// The key that signs the audit record, drawn once, and whether that was now. Its public half lies beside it.
    ///
    /// # Errors
    /// When a file cannot be read, written or understood, or when the two halves do not fit.
    pub fn ledger_key(&self) -> anyhow::Result<(LedgerKey, bool)> {
        let path = self.path(Self::LEDGER_KEY_FILE);
        let is_new = !path.exists();
        let text = self.keep_secret(Self::LEDGER_KEY_FILE, || Ok(hex(&random_bytes::<{ LedgerKey::SEED_BYTES }>())))?;
        let seed = Zeroizing::new(unhex(text.trim()).with_context(|| {
            format!("{} must hold {} hex digits; restore it from a backup", path.display(), 2 * LedgerKey::SEED_BYTES)
        })?);
        let key = LedgerKey::from_seed(&seed).with_context(|| format!("{} holds no key", path.display()))?;
        let public = self.keep_public(Self::LEDGER_PUBLIC_FILE, || Ok(format!("{}\n", key.public())))?;
        anyhow::ensure!(
            PublicKey::parse(public.trim()) == Some(key.public()),
            "{} is not the public half of {}; restore both from one backup, or remove the former to have it made anew",
            self.path(Self::LEDGER_PUBLIC_FILE).display(),
            path.display()
        );
        Ok((key, is_new))
    }

    /// An SSH private key in OpenSSH form, made when there is none.
    ///
    /// # Errors
    /// When the file cannot be read, written or used.
    pub fn ssh_key(&self, name: &str) -> anyhow::Result<SecretString> {
        let made = || Ok(ravelin_ssh::keys::generate_key().expose_secret().to_owned());
        let key = SecretString::from(self.keep_secret(name, made)?.as_str());
        ravelin_ssh::keys::check_private_key(&key)
            .with_context(|| format!("{} is damaged; remove it to have a new one", self.path(name).display()))?;
        Ok(key)
    }

    /// The text of a secret file; made by `make` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or when others may use it.
    pub fn keep_secret(
        &self,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<Zeroizing<String>> {
        let path = self.path(name);
        if let Ok(meta) = std::fs::metadata(&path) {
            let mode = meta.permissions().mode() & 0o777;
            anyhow::ensure!(
                mode & 0o077 == 0,
                "{} holds a secret, and others may use the file (mode {mode:04o}); run: chmod 600 {}",
                path.display(),
                path.display()
            );
        }
        self.keep(&path, 0o600, make).map(Zeroizing::new)
    }

    /// The text of a file that anybody may read; made by `make` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn keep_public(&self, name: &str, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        self.keep(&self.path(name), 0o644, make)
    }

    fn keep(&self, path: &Path, mode: u32, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => return Ok(text),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
        let text = make()?;
        write_whole(path, text.as_bytes(), mode)?;
        Ok(text)
    }

    /// Others lose their access to a directory that is ours alone. One that holds other things is left as it is: its
    /// owner may have named a shared directory, and every secret in it is closed by its own mode.
    fn close_to_others(&self) -> std::io::Result<()> {
        let mode = std::fs::metadata(&self.path)?.permissions().mode() & 0o777;
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let ours = self.path(Self::NODE_FILE).exists();
        let empty = std::fs::read_dir(&self.path)?.count() <= 1;
        if ours || empty {
            return std::fs::set_permissions(&self.path, Permissions::from_mode(0o700));
        }
        tracing::warn!(path = %self.path.display(), "the state directory holds other things and is open to others");
        Ok(())
    }
}

/// Writes a file whole or not at all: into a new one beside it, to the disk, then in its place.
///
/// # Errors
/// With the path and what went wrong.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let draft = folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        // The mode given at creation is narrowed by the process's umask and ignored for a file that was there.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != 2 * BYTES || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
    }

    #[test]
    fn the_node_keeps_who_it_is_and_closes_what_is_secret() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("deep").join("state");
        let (node, master) = {
            let state = StateDir::open(&path).expect("a new directory");
            (state.node_id().expect("a node id"), *state.master_key().expect("a master key").expose())
        };
        let state = StateDir::open(&path).expect("the same directory");
        assert_eq!(state.node_id().expect("the node id"), node);
        assert_eq!(*state.master_key().expect("the master key").expose(), master);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&state.path("master.key")), 0o600);
    }

    #[test]
    fn a_second_process_is_told_who_has_the_directory() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let state = StateDir::open(folder.path()).expect("a new directory");
        let text = StateDir::open(folder.path()).expect_err("it is taken").to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(StateDir::is_in_use(folder.path()));
        drop(state);
        assert!(!StateDir::is_in_use(folder.path()));
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let state = StateDir::open(folder.path()).expect("a new directory");
        state.master_key().expect("a master key");
        let path = state.path("master.key");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("may be changed");
        let text = state.master_key().expect_err("open to others").to_string();
        assert!(text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn a_directory_that_holds_other_things_keeps_its_mode() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(folder.path().join("letter.txt"), "dear").expect("may be written");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("may be changed");
        StateDir::open(folder.path()).expect("usable all the same");
        assert_eq!(mode(folder.path()), 0o755);
    }
}
