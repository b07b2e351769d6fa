//! A Delta Lake table.

pub(crate) mod engine;
