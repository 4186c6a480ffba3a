//! From a NetworkPolicy to a policy of the model.
