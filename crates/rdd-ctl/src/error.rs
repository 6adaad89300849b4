//! Failures, in kubectl's words.

use serde_json::Value;

/// What a verb returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The server answered with a Status.
    Server(Value),
    /// Anything on our side.
    Client(anyhow::Error),
    /// A wait reached its deadline.
    Expired(String),
}

impl<E: Into<anyhow::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Client(error.into())
    }
}

impl Error {
    /// An error of our own.
    pub(crate) fn new(text: impl std::fmt::Display) -> Self {
        Self::Client(anyhow::anyhow!("{text}"))
    }

    /// The HTTP status, if the server answered.
    pub(crate) fn status(&self) -> Option<u64> {
        match self {
            Self::Server(status) => status["code"].as_u64(),
            _ => None,
        }
    }

    /// The same error of the server, with what was being done and where that came from.
    pub(crate) fn during(mut self, what: &str, source: &str) -> Self {
        if let Self::Server(status) = &mut self {
            let message = status["message"].as_str().unwrap_or_default();
            status["message"] = format!("error when {what} {source:?}: {message}").into();
        }
        self
    }

    /// Keeps the last of several failures, and prints those before it.
    pub(crate) fn keep(self, failed: &mut Option<Self>) {
        if let Some(earlier) = failed.replace(self) {
            earlier.print();
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Expired(_) => 4,
            _ => 1,
        }
    }

    pub(crate) fn print(&self) {
        match self {
            Self::Server(status) => eprintln!("{}", server_text(status)),
            Self::Client(error) => eprintln!("error: {error:#}"),
            Self::Expired(text) => eprintln!("error: {text}"),
        }
    }
}

/// A Status as kubectl prints it.
pub(crate) fn server_text(status: &Value) -> String {
    let message = status["message"].as_str().unwrap_or("unknown error");
    let reason = status["reason"].as_str().unwrap_or_default();
    let details = &status["details"];
    if reason == "Invalid" {
        let mut causes: Vec<String> = details["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|cause| {
                let text = cause["message"].as_str().unwrap_or_default();
                match cause["field"].as_str() {
                    Some(field) if !field.is_empty() => format!("{field}: {text}"),
                    _ => text.to_owned(),
                }
            })
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        causes.retain(|cause| seen.insert(cause.clone()));
        let kind = details["kind"].as_str().unwrap_or_default();
        let name = details["name"].as_str().unwrap_or_default();
        let head = match (kind, name) {
            ("", "") => "The request is invalid: ".to_owned(),
            _ => format!("The {kind} {name:?} is invalid: "),
        };
        return match causes.as_slice() {
            [] => format!("The request is invalid: {message}"),
            [one] => format!("{head}{one}"),
            many => format!("{}\n* {}", head.trim_end(), many.join("\n* ")),
        };
    }
    if reason.is_empty() {
        format!("Error from server: {message}")
    } else {
        format!("Error from server ({reason}): {message}")
    }
}
