//! What an evaluation may cost, and how it fails.

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
    /// An authorizer has to be asked first.
    #[error("the answer of an authorizer is not known yet")]
    Undecided,
    /// `division by zero`, `no such key: a` and the like.
    #[error("{0}")]
    Evaluation(String),
}

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Evaluation(text.into())
    }

    /// No function of that name takes such arguments.
    pub(crate) fn overload() -> Self {
        Self::new("no such overload")
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Units of cost that are left. Every step of an evaluation takes from it first and
/// works afterwards; a unit is worth about a function call or ten characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    /// The limit of Kubernetes for one expression.
    pub const PER_EXPRESSION: u64 = 1_000_000;

    /// The limit of Kubernetes for all rules of one object.
    pub const PER_OBJECT: u64 = 10_000_000;

    /// As much as `limit`.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, left: limit }
    }

    /// Takes `cost`.
    ///
    /// # Errors
    /// [`Error::Budget`] when it is more than is left; then nothing is left.
    pub fn spend(&mut self, cost: u64) -> std::result::Result<(), Error> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Error::Budget)
            }
        }
    }

    /// What was taken so far.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.limit - self.left
    }
}

/// A count as cost.
pub(crate) fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Going once through so many characters.
pub(crate) fn traversal(size: u64) -> u64 {
    size.div_ceil(10)
}
