//! Logging: text for people on a terminal, JSON for machines otherwise. Colours only on a terminal.

use std::io::{self, IsTerminal};

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

/// Starts logging to standard error. Without a format: text on a terminal, JSON otherwise.
pub fn start(format: Option<LogFormat>) {
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
