//! Tests that need the whole program; see `tests/`.
