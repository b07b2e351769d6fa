//! The upkeep of Delta tables: small files joined, old ones deleted, whatever fails or is done meanwhile.

#[path = "../common/mod.rs"]
mod common;
mod optimize;
mod table;
mod vacuum;
