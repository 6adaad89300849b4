//! Messages on stderr, one line each, as text or JSON; the daemon's log has the same form.
//!
//! `time="2026-01-02T03:04:05Z" level=info msg="what happened" field=value`

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// `key=value` pairs.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How much is said, by the names that the flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Nothing but the final error.
    Error,
    /// What the user should act on.
    Warn,
    /// Progress.
    Info,
    /// Decisions.
    Debug,
    /// Everything.
    Trace,
}

static FORMAT: OnceLock<Format> = OnceLock::new();

impl Verbosity {
    /// Reads a level's name.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Ok(Self::Error),
            "warn" | "warning" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(anyhow!("not a valid logrus Level: {text:?}")),
        }
    }

    /// The service's number for the same.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Debug => 2,
            Self::Trace => 4,
            _ => 0,
        }
    }

    /// The level that a number of the service stands for.
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            0..=1 => Self::Info,
            2..=3 => Self::Debug,
            _ => Self::Trace,
        }
    }

    fn filter(self) -> EnvFilter {
        // Other crates' debug output is their own developers' concern, and who sends a
        // request reports its failure: the client library would tell it once more.
        EnvFilter::new(match self {
            Self::Error => "error,kube_client=off",
            Self::Warn => "warn,kube_client=off",
            Self::Info => "warn,kube_client=off,rdd=info",
            Self::Debug => "info,kube_client=off,rdd=debug",
            Self::Trace => "debug,rdd=trace",
        })
    }
}

impl Format {
    /// Reads a format's name.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(anyhow!("invalid log format: {text:?}")),
        }
    }
}

/// Sends events to stderr from now on; later calls change nothing.
pub(crate) fn start(verbosity: Verbosity, format: Format) {
    if FORMAT.set(format).is_ok() {
        tracing_subscriber::fmt()
            .with_env_filter(verbosity.filter())
            .with_writer(std::io::stderr)
            .event_format(format)
            .init();
    }
}

/// The last words of a failed command; they appear at every level.
pub(crate) fn fatal(message: &str) {
    last_words("fatal", message);
}

/// The last words of a command that failed with a code of its own.
pub(crate) fn error(message: &str) {
    last_words("error", message);
}

fn last_words(level: &str, message: &str) {
    let format = FORMAT.get().copied().unwrap_or_default();
    let line = format.line(level, message, Map::new());
    // Without a stderr there is nobody to tell.
    let _unheard = writeln!(std::io::stderr(), "{line}");
}

impl Format {
    fn line(self, level: &str, message: &str, fields: Map<String, Value>) -> String {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        match self {
            Self::Text => {
                let mut line = format!("time=\"{time}\" level={level} msg={message:?}");
                for (name, value) in fields {
                    let plain = match &value {
                        Value::String(text)
                            if !text.is_empty() && !text.contains([' ', '"', '=']) =>
                        {
                            text.clone()
                        }
                        other => other.to_string(),
                    };
                    // Writing to a string cannot fail.
                    let _infallible = write!(line, " {name}={plain}");
                }
                line
            }
            Self::Json => {
                let mut object = fields;
                object.insert("level".into(), level.into());
                object.insert("msg".into(), message.into());
                object.insert("time".into(), time.to_string().into());
                Value::Object(object).to_string()
            }
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _infallible = write!(text, ": {error}");
            cause = error.source();
        }
        self.put(field, text.into());
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
        } else {
            self.rest.insert(field.name().to_owned(), value);
        }
    }
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        writeln!(writer, "{}", self.line(level, &fields.message, fields.rest))
    }
}
