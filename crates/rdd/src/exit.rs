//! Exit codes: the one place that maps outcomes to them and prints what went wrong.
//!
//! | Code | Meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | any other failure, wrong usage included |
//! | 3 | the API server rejected a write of `set`, `start`, `stop`, `attach` or `run` |
//! | 4 | a wait reached its deadline |
//! | n | the status of the child of `run`, `ctl` or `kubectl` |

use std::process::ExitCode;

use crate::logging;

/// How a command ended when it did not simply succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Text that the user asked for, such as help: printed to stdout, success.
    Text(String),
    /// Anything without a code of its own.
    Error(anyhow::Error),
    /// The server understood and refused.
    Rejected(anyhow::Error),
    /// A deadline passed; the text says what was waited for.
    Expired(String),
    /// A child ended like this and has said why itself.
    Child(u8),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A deadline that passed while waiting for `what`.
pub(crate) fn expired(what: impl std::fmt::Display) -> Failure {
    Failure::Expired(format!("{what}: context deadline exceeded"))
}

/// A refusal (400, 403, 422) keeps its own code; other errors do not get one.
pub(crate) fn classify(error: kube::Error, action: &str) -> Failure {
    let rejected =
        matches!(&error, kube::Error::Api(status) if [400, 403, 422].contains(&status.code));
    let error = anyhow::anyhow!("{action}: {}", explain(&error));
    if rejected {
        Failure::Rejected(error)
    } else {
        Failure::Error(error)
    }
}

/// The server's own words where there are any.
pub(crate) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                let next = error.to_string();
                if !text.contains(&next) {
                    text = format!("{text}: {next}");
                }
                cause = error.source();
            }
            text
        }
    }
}

/// The whole chain in one line, each layer once.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut layers: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<kube::Error>() {
            layers.push(explain(error));
            break;
        }
        layers.push(cause.to_string());
    }
    layers.join(": ")
}

/// Prints what there is to say and picks the code.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Text(text)) => {
            crate::output::text(&text);
            ExitCode::SUCCESS
        }
        Err(Failure::Error(error)) => {
            logging::fatal(&in_one_line(&error));
            ExitCode::from(1)
        }
        Err(Failure::Rejected(error)) => {
            logging::error(&in_one_line(&error));
            ExitCode::from(3)
        }
        Err(Failure::Expired(text)) => {
            logging::error(&text);
            ExitCode::from(4)
        }
        Err(Failure::Child(code)) => ExitCode::from(code),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_answer_of_the_server_is_told_once_and_in_its_own_words() {
        let status = kube::core::Status::failure("the disk is full", "ServiceUnavailable")
            .with_code(503)
            .boxed();
        let failed: Result<(), kube::Error> = Err(kube::Error::Api(status));
        let error = failed.context("failed to make it").expect_err("it failed");
        assert_eq!(in_one_line(&error), "failed to make it: the disk is full");
    }

    #[test]
    fn every_layer_of_other_errors_is_told() {
        let error = anyhow::anyhow!("the cause").context("the work");
        assert_eq!(in_one_line(&error), "the work: the cause");
    }
}
