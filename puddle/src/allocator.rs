//! The allocator of the whole program, librdkafka's C code included.
//!
//! Batches are allocated by one thread and freed by another all the time. The C library's allocator keeps what the threads
//! free in pieces and asks the kernel for more: see `docs/decisions/allocator.md` for what another one gains.

use std::ffi::c_char;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A string of C, as jemalloc looks for it.
#[repr(transparent)]
pub(crate) struct Settings(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Settings {}

/// Two arenas, whatever number of cores there is: each keeps some memory for itself, and jemalloc's own default is four a
/// core.
// SAFETY: jemalloc reads a pointer to a string of C by this name, and nothing else has it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is jemalloc's")]
pub(crate) static malloc_conf: Settings = Settings(c"narenas:2".as_ptr());
