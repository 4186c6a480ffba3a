//! Manifests: YAML and JSON text, files, directories and streams, read into objects with positions.
//!
//! [`Reader`] gives out [`Document`]s, one object after the other. A document knows where each of its values stands,
//! and reads itself into a type by [`Document::deserialize`]. What is wrong with the input comes as a [`ReadError`]
//! that prints as one line with file, position, object, field and reason. [`Loader`] goes on to the model.
//!
//! YAML is read as the API server reads it: scalars by the rules of YAML 1.1, keys that occur twice refused.
//! Input is not trusted: [`Limits`] bound the size, the depth and the number of nodes of each document.
//!
//! This crate does no network access and starts no program. It is not a YAML library for other ends: it refuses what
//! no Kubernetes object has, such as custom tags and keys that are not text.

extern crate alloc;

mod de;
mod document;
mod error;
mod folder;
mod foreign;
mod json;
mod kustomization;
mod limits;
mod load;
mod metadata;
mod other;
mod parse;
mod pattern;
mod policy_place;
mod position;
mod reader;
mod scalar;
mod shell;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod yaml;

pub use document::Document;
pub use error::{ReadError, ReadErrorKind};
pub use foreign::ForeignPolicies;
pub use limits::Limits;
pub use load::{LoadError, Loaded, Loader, ReadWarning};
pub use policy_place::PolicyPlace;
pub use portcullis_k8s as k8s;
pub use position::Position;
pub use reader::Reader;
pub use tree::{Entries, Entry, Items, Node, NodeKind};
pub use values::read_values;
