//! The watch against an API server that follows a script: every fault that a real one and the way to it can have.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests, and a server that only they ask"
)]

mod faults;
mod kinds;
mod lists;
mod seen;
mod server;
