//! Kubernetes and Calico objects, and their conversion to the Portcullis model.
//!
//! `no_std` with `alloc`. A conversion keeps the exact meaning of an object or refuses it; it never widens.
#![no_std]

extern crate alloc;

mod error;

pub use error::{ConvertError, ObjectRef, Warning};
