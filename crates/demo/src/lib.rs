//! A real SSH target inside the process.
