//! One document in its notation, as a tree.

use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::source::{Notation, Piece};
use crate::tree::Tree;
use crate::{json, yaml};

/// Parses one document; `None` when there is none.
pub(crate) fn parse(piece: &Piece<'_>, limits: &Limits) -> Result<Option<Tree>, ReadError> {
    match piece.notation {
        Notation::Yaml => yaml::parse(piece.text, piece.start, limits),
        Notation::Json => json::parse(piece.text, piece.start, limits).map(Some),
        Notation::LooksLikeJson => match json::parse(piece.text, piece.start, limits) {
            // Quoted keys do not make it JSON.
            Err(error) if error.kind() == ReadErrorKind::Syntax => {
                yaml::parse(piece.text, piece.start, limits).map_err(|_| error)
            }
            other => other.map(Some),
        },
    }
}
