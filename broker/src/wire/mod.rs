//! Bytes on the connection: frames (`frame.rs`), and the check that a request is what it claims before it is decoded
//! (`layout.rs`, `requests.rs`).

pub(crate) mod frame;
pub(crate) mod layout;
mod requests;
