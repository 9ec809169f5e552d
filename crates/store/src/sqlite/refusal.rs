//! What SQLite's errors mean to a caller.

use ravelin_model::Refusal;
use rusqlite::ErrorCode;
use std::fmt;

/// The store is out of reach for now.
pub(super) fn unavailable(detail: impl fmt::Display) -> Refusal {
    Refusal::unavailable("store", detail)
}

/// Trying later makes sense when the disk, a lock or memory is the cause; everything else is our own fault.
pub(super) fn from_sqlite(error: rusqlite::Error) -> Refusal {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed,
        ) => unavailable(error),
        // Foreign enum: what else there is, or will be, is a broken file or a broken statement.
        _ => Refusal::internal(error),
    }
}
