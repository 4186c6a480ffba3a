//! How much of an input is read before it is refused.

/// Bounds on untrusted input. Each has its own error; none of them is reached by real manifests.
///
/// The bounds are per document, so a stream of any length is read in bounded memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    document_bytes: u32,
    line_bytes: u32,
    depth: u32,
    nodes: u32,
}

impl Default for Limits {
    /// 256 MiB, 256 levels and 32 million nodes a document: a `List` with a whole cluster in it passes. 4 MiB a line of
    /// YAML: more than an API server takes for a whole object.
    fn default() -> Self {
        Self { document_bytes: 256 << 20, line_bytes: 4 << 20, depth: 256, nodes: 32_000_000 }
    }
}

impl Limits {
    /// The longest document, in bytes, comments included.
    #[must_use]
    pub const fn with_document_bytes(mut self, bytes: u32) -> Self {
        self.document_bytes = bytes;
        self
    }

    /// The longest line of a YAML document, in bytes, comments included. JSON documents may stand in one line.
    #[must_use]
    pub const fn with_line_bytes(mut self, bytes: u32) -> Self {
        self.line_bytes = bytes;
        self
    }

    /// How deep lists and mappings may nest, aliases followed.
    ///
    /// Readers of a document recurse to this depth, so keep it within what the stack can hold.
    #[must_use]
    pub const fn with_depth(mut self, levels: u32) -> Self {
        self.depth = levels;
        self
    }

    /// How many keys and values a document may have, aliases and merge keys expanded.
    #[must_use]
    pub const fn with_nodes(mut self, nodes: u32) -> Self {
        self.nodes = nodes;
        self
    }

    /// The longest document, in bytes.
    #[must_use]
    pub const fn document_bytes(&self) -> u32 {
        self.document_bytes
    }

    /// The longest line of a YAML document, in bytes.
    #[must_use]
    pub const fn line_bytes(&self) -> u32 {
        self.line_bytes
    }

    /// How deep lists and mappings may nest.
    #[must_use]
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// How many keys and values a document may have.
    #[must_use]
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }
}
