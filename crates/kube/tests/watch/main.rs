//! The watch against an API server that follows a script: every fault that a real one and the way to it can have.

mod faults;
mod kinds;
mod lists;
mod seen;
mod server;
