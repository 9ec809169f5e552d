//! The client half: Ravelin calls Azure Bastion, or another Ravelin that speaks like it.
//!
//! | where | what |
//! |---|---|
//! | [`arm`] | the control API: hosts, their active sessions, disconnecting; pages and answers that come later |
//! | [`tunnel`] | the data plane: one WebSocket for each connection to a target |
//!
//! Answers are kept as the service spelled them, so that members which are newer than this code reach whoever reads
//! them. Where tokens come from is the business of whoever hands in a [`TokenSource`].
//!
//! This half never knows: how an answer is shown, or where a credential is kept.

pub mod arm;
pub mod tunnel;

use async_trait::async_trait;
use secrecy::SecretString;

/// Gives bearer tokens for the control API. Called before each request, so it should remember what it got.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that is valid now.
    ///
    /// # Errors
    /// Why there is none, for a person to read.
    async fn token(&self) -> Result<SecretString, String>;
}

/// One object of an answer, as the service spelled it.
pub type Item = serde_json::Map<String, serde_json::Value>;

/// Longest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The whole body, if it is not longer than it may be.
async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the answer is longer than {} MiB", BODY_BYTES_MAX / (1024 * 1024))]
    TooLong,
    #[error(transparent)]
    Lost(#[from] reqwest::Error),
}
