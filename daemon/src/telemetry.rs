//! Logging: text for people on a terminal, JSON for machines otherwise. Colours only on a terminal.

use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::thread;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Our own crates at info, libraries at warn; RUST_LOG says otherwise. kube reports every failed attempt as an error:
/// an outage of the API server is told by our own Kubernetes source, once.
const FILTER: &str = "warn,ferrolb=info,ferrolb_bgp=info,kube_client=off,kube_runtime=off";

/// Logs a panic, as an operator reads the rest.
pub fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    tracing::error!(
        location,
        thread = thread::current().name(),
        "panic: {}; this is a bug of ferrolb, please report it with the lines that follow",
        panic.payload_as_str().unwrap_or("no message")
    );
}

/// Starts logging to standard error, panics included. Without a format: text on a terminal, JSON otherwise.
pub fn start(format: Option<LogFormat>) {
    panic::set_hook(Box::new(log_panic));
    let terminal = io::stderr().is_terminal();
    let default = if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format.unwrap_or(default) {
        LogFormat::Text => builder.with_ansi(terminal).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).init(),
    }
}
