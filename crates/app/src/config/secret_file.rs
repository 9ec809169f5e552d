//! Files that hold a secret: they must be readable by Ravelin and by nobody else.

use super::Reader;
use super::document::Written;
use secrecy::SecretString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Largest secret that is read.
const BYTES_MAX: u64 = 64 << 10;

/// The text of the secret file that `named` names.
pub(super) fn read(named: &Written<String>, reader: &mut Reader) -> Option<SecretString> {
    let path = named.path();
    reader.files.push(path.clone());
    match text_of(&path) {
        Ok(secret) => Some(secret),
        Err((what, fix)) => {
            reader.faults.push(named.fault(what, fix));
            None
        }
    }
}

/// The text of a secret file.
///
/// # Errors
/// What is wrong, and the fix.
fn text_of(path: &Path) -> Result<SecretString, (String, String)> {
    let readable = || "name a file that Ravelin can read".to_owned();
    let because = |error: &std::io::Error| (format!("cannot be read: {}", super::in_short(error)), readable());
    let meta = std::fs::metadata(path).map_err(|error| because(&error))?;
    if !meta.is_file() {
        return Err(("is not a file".to_owned(), readable()));
    }
    if meta.len() > BYTES_MAX {
        return Err((format!("has more than {BYTES_MAX} bytes"), readable()));
    }
    let mode = meta.permissions().mode() & 0o777;
    // The group may read: service managers hand secrets over that way.
    if mode & 0o027 != 0 {
        let fix = format!("run: chmod 600 {}", path.display());
        return Err((format!("holds a secret, and others may use the file (mode {mode:04o})"), fix));
    }
    std::fs::read_to_string(path).map(SecretString::from).map_err(|error| because(&error))
}
