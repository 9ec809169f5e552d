//! Answers whose every byte is pinned, compared with files; `UPDATE_GOLDEN=1` rewrites those.
