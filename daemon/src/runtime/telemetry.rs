//! Logging: text on a terminal, JSON otherwise.

use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::thread;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format;

use crate::core::printable::printable;

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Human-readable.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged, with MetalLB's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Everything, each message of a session included.
    All,
    /// Details for the search for a fault.
    Debug,
    /// Changes of state.
    Info,
    /// What needs attention.
    Warn,
    /// Errors only.
    Error,
    /// Nothing.
    None,
}

impl LogLevel {
    /// ferrolb's crates at this level, libraries at warn at most. kube logs every failed attempt
    /// as an error; ferrolb's Kubernetes source logs an outage of the API server once.
    fn filter(self) -> EnvFilter {
        let (ours, others) = match self {
            Self::All => ("trace", "warn"),
            Self::Debug => ("debug", "warn"),
            Self::Info => ("info", "warn"),
            Self::Warn => ("warn", "warn"),
            Self::Error => ("error", "error"),
            Self::None => ("off", "off"),
        };
        EnvFilter::new(format!(
            "{others},ferrolb={ours},ferrolb_bgp={ours},ferrolb_layer2={ours},kube_client=off,\
             kube_runtime=off"
        ))
    }
}

/// Panic hook: logs the panic like any other event.
pub fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    tracing::error!(
        location,
        thread = thread::current().name(),
        "panic (please report this bug with the lines that follow): {}",
        panic.payload_as_str().unwrap_or("no message")
    );
}

/// Formats the message and fields of a text line with control characters escaped.
fn printable_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    format::debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", printable(&value)),
            name => write!(writer, "{name}={}", printable(&value)),
        }
    })
    .delimited(" ")
}

/// Starts logging to standard error, including panics. The default format is text on a terminal,
/// else JSON. RUST_LOG takes precedence over the level.
pub(crate) fn start(format: Option<LogFormat>, level: LogLevel) {
    panic::set_hook(Box::new(log_panic));
    let terminal = io::stderr().is_terminal();
    let default = if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| level.filter());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format.unwrap_or(default) {
        LogFormat::Text => builder
            .fmt_fields(printable_fields())
            .with_ansi(terminal)
            .with_target(false)
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).init(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_log_level_has_metallbs_names() {
        for (name, ours) in [
            ("all", "ferrolb=trace"),
            ("debug", "ferrolb=debug"),
            ("info", "ferrolb=info"),
            ("warn", "ferrolb=warn"),
            ("error", "ferrolb=error"),
            ("none", "ferrolb=off"),
        ] {
            let level = LogLevel::from_str(name, false).expect(name);
            let filter = level.filter().to_string();
            assert!(filter.split(',').any(|part| part == ours), "{filter}");
        }
    }

    #[test]
    fn a_text_line_contains_no_control_characters_of_its_values() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(printable_fields())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_writer(lines.clone())
            .finish();
        let bad = "a\x1b[2J\u{9b}\nb\u{202e}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(service = %bad, count = 3, "refused: {bad}");
        });
        let text = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = "a\\u{1b}[2J\\u{9b}\\nb\\u{202e}";
        assert_eq!(
            String::from_utf8_lossy(&text),
            format!(" WARN refused: {shown} service={shown} count=3\n")
        );
    }
}
