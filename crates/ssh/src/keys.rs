//! SSH keys as text: making, checking and naming them. What the configuration and the development mode need to know of
//! keys without knowing the SSH library.

use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};
use secrecy::{ExposeSecret, SecretString};

/// Shortest RSA key that is accepted, in bits.
pub const RSA_BITS_MIN: usize = 2048;

/// Why a text is not a usable key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no public key in the one-line form.
    #[error("not a public key in the form \"ssh-ed25519 AAAA...\"")]
    NotPublic,
    /// It is no private key in OpenSSH or PEM form.
    #[error("not a private key in OpenSSH form (-----BEGIN OPENSSH PRIVATE KEY-----)")]
    NotPrivate,
    /// It needs a passphrase, and nobody is there to type it.
    #[error("the private key is encrypted: store it without a passphrase, readable by its owner only")]
    Encrypted,
    /// Its algorithm is not accepted any more.
    #[error("keys of the kind {0} are not accepted: use ed25519, ecdsa, or rsa with at least 2048 bits")]
    Weak(String),
}

/// A new ed25519 private key in OpenSSH form.
#[must_use]
pub fn generate_key() -> SecretString {
    let seed = ravelin_engine::keys::random_bytes::<32>();
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed);
    let key = PrivateKey::from(pair);
    // Writing 32 known bytes into a growing buffer cannot fail.
    let pem = key.to_openssh(russh::keys::ssh_key::LineEnding::LF).expect("an ed25519 key has an OpenSSH form");
    SecretString::from(pem.to_string())
}

/// The public half of a private key in the one-line form, without comment.
///
/// # Errors
/// See [`check_private_key`].
pub fn public_line(pem: &SecretString) -> Result<String, KeyError> {
    line(read_private(pem)?.public_key())
}

/// Brings a line of an `authorized_keys` or `.pub` file, or one of `known_hosts` without its host, into the one form
/// that keys are compared in: algorithm and base64, no options, no comment.
///
/// # Errors
/// [`KeyError::NotPublic`], [`KeyError::Weak`].
pub fn parse_public_line(text: &str) -> Result<String, KeyError> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    // Options may stand before the key and may hold blanks inside quotes: the key is where two words make one.
    let key = words
        .windows(2)
        .find_map(|pair| PublicKey::from_openssh(&format!("{} {}", pair[0], pair[1])).ok())
        .ok_or(KeyError::NotPublic)?;
    check_strength(&key)?;
    line(&key)
}

/// The fingerprint as OpenSSH shows it: `SHA256:` and 43 characters. A line that is no key gives `unreadable key`.
#[must_use]
pub fn fingerprint(line: &str) -> String {
    match PublicKey::from_openssh(line) {
        Ok(key) => key.fingerprint(HashAlg::Sha256).to_string(),
        Err(_) => "unreadable key".to_owned(),
    }
}

/// Whether a private key can be used as it is.
///
/// # Errors
/// [`KeyError::NotPrivate`], [`KeyError::Encrypted`], [`KeyError::Weak`].
pub fn check_private_key(pem: &SecretString) -> Result<(), KeyError> {
    read_private(pem).map(drop)
}

pub(crate) fn read_private(pem: &SecretString) -> Result<PrivateKey, KeyError> {
    let key = russh::keys::decode_secret_key(pem.expose_secret(), None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => KeyError::Encrypted,
        _ => KeyError::NotPrivate,
    })?;
    if key.is_encrypted() {
        return Err(KeyError::Encrypted);
    }
    check_strength(key.public_key())?;
    Ok(key)
}

/// The one-line form without comment.
pub(crate) fn line(key: &PublicKey) -> Result<String, KeyError> {
    let bare = PublicKey::new(key.key_data().clone(), "");
    bare.to_openssh().map(|text| text.trim_end().to_owned()).map_err(|_| KeyError::NotPublic)
}

/// Refuses what is too short or too old.
pub(crate) fn check_strength(key: &PublicKey) -> Result<(), KeyError> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Ok(()),
        Algorithm::Rsa { .. } => {
            let bits = key.key_data().rsa().map_or(0, |rsa| rsa.key_size() as usize);
            if bits >= RSA_BITS_MIN { Ok(()) } else { Err(KeyError::Weak(format!("rsa with {bits} bits"))) }
        }
        other => Err(KeyError::Weak(other.to_string())),
    }
}

/// Whether a signature algorithm is accepted for logins: RSA with SHA-1 is not.
pub(crate) fn accepts_signature(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_a_line_and_a_fingerprint() {
        let pem = generate_key();
        let line = public_line(&pem).expect("a usable key");
        assert!(line.starts_with("ssh-ed25519 AAAA"), "{line}");
        assert_eq!(line.split(' ').count(), 2);
        assert!(fingerprint(&line).starts_with("SHA256:"));
        assert_eq!(fingerprint(&line).len(), "SHA256:".len() + 43);
        assert_eq!(check_private_key(&pem), Ok(()));
        assert_ne!(public_line(&generate_key()).expect("a usable key"), line);
    }

    #[test]
    fn lines_are_brought_into_one_form() {
        let line = public_line(&generate_key()).expect("a usable key");
        for text in [
            line.clone(),
            format!("{line} alice@laptop"),
            format!("  {line}\tcomment with blanks \r\n"),
            format!("restrict,command=\"echo hello\" {line} alice"),
        ] {
            assert_eq!(parse_public_line(&text).as_ref(), Ok(&line), "{text}");
        }
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "hello world", "# comment"] {
            assert_eq!(parse_public_line(text), Err(KeyError::NotPublic), "{text}");
        }
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        for text in ["", "secret", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"] {
            assert_eq!(check_private_key(&SecretString::from(text)), Err(KeyError::NotPrivate), "{text}");
        }
    }
}
