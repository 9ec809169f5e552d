//! End-to-end tests: one binary, one module per subject. Start with `first_light`.

mod cases;
