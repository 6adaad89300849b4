//! Places in the store.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// One place: `/registry/<group>/<resource>/<namespace>/<name>`, as etcd's users know it.
///
/// Keys are ordered bytewise; clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Takes any text; the store gives the segments no meaning.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

/// All keys with a common prefix, optionally only those after one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    prefix: Arc<str>,
    after: Option<Key>,
}

impl KeyRange {
    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Arc<str>>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
        }
    }

    /// Only the keys behind `key`, which itself is left out.
    #[must_use]
    pub fn after(mut self, key: Key) -> Self {
        self.after = Some(key);
        self
    }

    /// Whether the range holds this key.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        key.as_str().starts_with(&*self.prefix)
            && self.after.as_ref().is_none_or(|after| key > after)
    }

    /// Where an ordered scan begins.
    pub(crate) fn start(&self) -> Bound<&str> {
        match &self.after {
            Some(key) if key.as_str() >= &*self.prefix => Bound::Excluded(key.as_str()),
            _ => Bound::Included(&self.prefix),
        }
    }

    /// Whether an ordered scan that began at [`Self::start`] has left the range.
    pub(crate) fn is_past(&self, key: &Key) -> bool {
        !key.as_str().starts_with(&*self.prefix)
    }
}
