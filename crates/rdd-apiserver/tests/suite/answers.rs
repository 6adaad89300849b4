//! Answers as a kube-apiserver gives them, where it is easy to give others.

mod bed;
mod definitions;
mod deletion;
mod documents;
mod identity;
mod lists;
mod parts;
mod scale;
mod values;
mod watches;
