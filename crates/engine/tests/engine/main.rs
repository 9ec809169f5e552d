//! The engine from outside, over the default store and stores that fail.

mod recording;
mod sessions;
