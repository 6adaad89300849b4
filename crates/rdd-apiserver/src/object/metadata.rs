//! What all types share: the rules of `metadata`.
