//! What is left of an object that cannot be read.

/// What stands in the place of an object that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// Its safe form, see [`UnreadablePolicy::SafeForm`](crate::UnreadablePolicy::SafeForm); of an object that is no policy, what
    /// can be read of it, with rules that allow for the rest.
    SafeForm,
    /// What it was when it was last understood.
    LastGood,
    /// Nothing: it is not part of the model, and what depends on it is closed.
    Nothing,
}

/// How much of an object the form says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clarity {
    /// All: the object said this, now or when it was last understood.
    Clear,
    /// Of a policy, all but some of its rules.
    RulesUnclear,
    /// Nothing certain beyond its name.
    Unclear,
}
