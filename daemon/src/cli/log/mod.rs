//! `ferrolb log`: events of the sessions of a running daemon, or the logs of all of them.

mod cluster;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;

use clap::Args;
use ferrolb_bgp::fsm::{
    CauseSummary, JournalEntry, JournalEvent, NotificationSummary, OpenSummary,
};

use self::cluster::{ClusterArgs, Wanted};
use super::Output;
use super::client_args::{AskArgs, POLL_INTERVAL};
use super::output::{age, json, json_line, print, try_print};
use crate::core::printable::printable;
use crate::runtime::serve::control::{LogLine, Request};

const EXAMPLES: &str = "\
Examples:
  ferrolb log                           events of all peers, oldest first
  ferrolb log --peer 10.0.0.1           of one peer, by name or address
  ferrolb log --peer tor-a -w           and new events until interrupted
  ferrolb log --cluster --since 1h      the logs of all Pods of ferrolb, merged by time
  ferrolb log -o json | jq '.[] | select(.event.kind == \"ended\")'";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Only events of this peer, by name or address.
    #[arg(long, value_name = "NAME|ADDRESS")]
    peer: Option<String>,
    /// Keep running, and print new events.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: &LogArgs) -> anyhow::Result<ExitCode> {
    if args.cluster.cluster {
        let wanted = Wanted {
            peer: args.peer.as_deref(),
            watch: args.watch,
            output: args.ask.output,
        };
        return cluster::run(&args.cluster, &wanted);
    }
    let request = Request::Log {
        peer: args.peer.clone(),
    };
    let mut client = args.ask.connect()?;
    let lines: Vec<LogLine> = client.ask(&request)?;
    match args.ask.output {
        Output::Json if !args.watch => json(&lines)?,
        Output::Table if lines.is_empty() && !args.watch => {
            print("no events yet; the sessions: ferrolb peers\n")?;
        }
        _ => {
            for line in &lines {
                print_line(line, args.ask.output)?;
            }
        }
    }
    if !args.watch {
        return Ok(ExitCode::SUCCESS);
    }
    let mut printed = Printed::default();
    printed.new_lines(&lines);
    loop {
        thread::sleep(POLL_INTERVAL);
        let lines: Vec<LogLine> = client.ask(&request)?;
        for line in printed.new_lines(&lines) {
            if !print_line(line, args.ask.output)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// The last printed entry of each peer: its number and count.
#[derive(Debug, Default)]
struct Printed(BTreeMap<String, (u64, u64)>);

impl Printed {
    fn new_lines<'a>(&mut self, lines: &'a [LogLine]) -> Vec<&'a LogLine> {
        let mut new_lines = Vec::new();
        for line in lines {
            let position = (line.entry.number, line.entry.times);
            let printed = self.0.entry(line.peer.clone()).or_default();
            if *printed < position {
                *printed = position;
                new_lines.push(line);
            }
        }
        new_lines
    }
}

/// Prints a line. Returns whether standard output is still open.
fn print_line(line: &LogLine, output: Output) -> anyhow::Result<bool> {
    match output {
        Output::Json => json_line(line),
        Output::Table => Ok(try_print(&format!(
            "{:.3}  {}  {}\n",
            line.at,
            printable(&line.peer),
            printable(&entry_text(&line.entry))
        ))?),
    }
}

/// An entry as text.
pub(super) fn entry_text(entry: &JournalEntry) -> String {
    let mut text = event(&entry.event);
    if entry.times > 1 {
        let span = entry.first_age.saturating_sub(entry.age);
        text += &format!(" ({} times in {})", entry.times, age(span));
    }
    text
}

fn event(event: &JournalEvent) -> String {
    match event {
        JournalEvent::Configured { reset: false } => "configured".to_owned(),
        JournalEvent::Configured { reset: true } => {
            "configured; the session restarts with the new settings".to_owned()
        }
        JournalEvent::State { from, to } => format!("{from} → {to}"),
        JournalEvent::OpenSent { open } => format!("sent OPEN: {}", open_text(open)),
        JournalEvent::OpenReceived { open } => format!("received OPEN: {}", open_text(open)),
        JournalEvent::Established { negotiated } => {
            let families: Vec<String> = negotiated
                .families
                .iter()
                .map(ToString::to_string)
                .collect();
            format!(
                "session up: AS {}, hold time {} s, {}",
                negotiated.remote_asn,
                negotiated.hold_time.as_secs(),
                families.join(", ")
            )
        }
        JournalEvent::Ended {
            cause,
            was_established,
            retry,
        } => {
            let what = if *was_established {
                "session ended"
            } else {
                "no session"
            };
            let retry = retry.map(|time| format!("; retry in {}", age(time)));
            format!("{what}: {}{}", cause_text(cause), retry.unwrap_or_default())
        }
        JournalEvent::ConnectionClosed { cause } => {
            format!("connection closed after a collision: {}", cause_text(cause))
        }
        JournalEvent::Rejected { reason } => format!("rejected a connection: {reason}"),
        JournalEvent::CapabilitiesDropped { capabilities } => {
            let names: Vec<&str> = capabilities.iter().map(|c| c.text.as_str()).collect();
            format!(
                "peer rejected our capabilities; retrying without: {}",
                names.join(", ")
            )
        }
        JournalEvent::RouteTooLong { prefix, max_length } => format!(
            "{prefix} not announced: its attributes alone exceed the maximum message size of \
             {max_length} octets; use fewer communities"
        ),
        JournalEvent::UpdateErrors {
            errors,
            octets,
            suppressed,
        } => {
            let others = match suppressed {
                0 => String::new(),
                more => format!("; {more} earlier ones suppressed"),
            };
            let errors = errors.join("; ");
            format!("UPDATE with errors: {errors} (octets {octets}){others}")
        }
        JournalEvent::Bfd { from, to, reason } => format!("BFD {from} → {to}: {reason}"),
        _ => {
            "an event that this version of ferrolb does not know: use that of the daemon".to_owned()
        }
    }
}

fn cause_text(cause: &CauseSummary) -> String {
    let octets = cause.notification.as_ref().map(octets).unwrap_or_default();
    format!("{}{octets}", cause.text)
}

/// The data of a NOTIFICATION, if any.
pub(super) fn octets(notification: &NotificationSummary) -> String {
    if notification.data.is_empty() {
        String::new()
    } else {
        format!(" [data {}]", notification.data)
    }
}

/// An OPEN on one line.
pub(super) fn open_text(open: &OpenSummary) -> String {
    let capabilities: Vec<&str> = open.capabilities.iter().map(|c| c.text.as_str()).collect();
    format!(
        "AS {}, router ID {}, hold time {} s; {}",
        open.asn,
        open.router_id,
        open.hold_time,
        capabilities.join(", ")
    )
}

#[cfg(test)]
mod tests;
