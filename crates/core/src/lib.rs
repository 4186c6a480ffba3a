//! The heart of Portcullis: one dialect-free model of network policy and the evaluator that defines what it means.
//!
//! `no_std` with `alloc`. Nothing in this crate knows Kubernetes, JSON, files or a dataplane.
#![no_std]

extern crate alloc;

pub mod backend;
pub mod compile;
pub mod evaluate;
pub mod http;
pub mod ir;
pub mod label;
pub mod model;
pub mod net;
pub mod packet;
pub mod path;
pub mod principal;
pub mod quote;
pub mod reference;
pub mod selector;
pub mod settings;
pub mod shadow;
pub mod verdict;
pub mod wire;
