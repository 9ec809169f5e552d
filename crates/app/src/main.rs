//! The executable. Everything it does stands in the library beside it.

use std::process::ExitCode;

/// The system's allocator keeps what a burst of sessions took; this one gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ravelin::main()
}
