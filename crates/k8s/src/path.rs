//! The path of a field inside an object, as error messages write it.

use core::fmt;

use portcullis_core::quote::escaped;

/// A path such as `spec.ingress[0].from[1].ipBlock.cidr`, built on the way down without allocating.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The path of a top-level field.
    pub(crate) const fn root(field: &'a str) -> Self {
        Self { parent: None, segment: Segment::Field(field) }
    }

    /// The field `name` of this object.
    pub(crate) const fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Field(name) }
    }

    /// Item `index` of this list.
    pub(crate) const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The entry of this map that has the key `key`, which is user text.
    pub(crate) const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.segment {
            Segment::Field(name) if self.parent.is_some() => write!(f, ".{name}"),
            Segment::Field(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "[{index}]"),
            // Escaped, so that a key with a line break cannot forge a second message.
            Segment::Key(key) => write!(f, "[{}]", escaped(key).at_most(KEY)),
        }
    }
}

/// Characters of a map's key that are shown: the longest key that labels can have.
const KEY: usize = 317;

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn paths_read_like_the_manifest() {
        let spec = Path::root("spec");
        let ingress = spec.field("ingress");
        let rule = ingress.index(0);
        assert_eq!(rule.field("from").to_string(), "spec.ingress[0].from");
        assert_eq!(Path::root("metadata").field("labels").key("a/b").to_string(), "metadata.labels[a/b]");
    }
}
