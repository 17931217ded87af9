//! `ferrolb peers` about a whole cluster: the sessions of all nodes, as they have published them.

use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;

use super::findings::finding_text;
use super::l2::since;
use super::read::Seen;
use super::watch::{Line, Lines};
use super::{Answer, Question, answer, json_list};
use crate::cli::output::{Style, or_dash, print, table};
use crate::core::overview::{Code, SessionLine};

/// Prints the sessions of all nodes.
pub(in crate::cli) fn run(question: Question<'_>) -> Result<ExitCode> {
    answer(question, &Peers)
}

pub(super) struct Peers;

impl Answer for Peers {
    fn print(&self, seen: &Seen, style: Style) -> Result<()> {
        Ok(print(&text(seen, style))?)
    }

    fn print_json(&self, seen: &Seen) -> Result<()> {
        json_list(&seen.overview.sessions)
    }

    fn lines(&self, seen: &Seen) -> Result<Lines> {
        let lines = seen.overview.sessions.iter().map(|line| {
            let mut text = format!("{}  {} routes", line.state, routes(line));
            if let Some(error) = line.error.as_ref().filter(|_| !line.is_established()) {
                text += &format!("  {error}");
            }
            let key = format!("{} → {} {}", line.node, line.peer, line.address);
            Ok((key, Line::new(text, line)?))
        });
        lines.collect()
    }
}

/// The table of sessions, with what is wrong below.
pub(super) fn text(seen: &Seen, style: Style) -> String {
    let sessions = &seen.overview.sessions;
    if sessions.is_empty() {
        return "no sessions: no valid BGPPeer selects a node\n".to_owned();
    }
    let header = ["NODE", "PEER", "ADDRESS", "STATE", "FOR", "ROUTES", "BFD"];
    let rows = sessions.iter().map(|line| row(line, seen.now));
    let mut text = format!("{}\n", table(&header, rows));
    let findings = seen.overview.findings.iter();
    let of_sessions = findings.filter(|finding| {
        let codes = [
            Code::SessionDown,
            Code::SessionMissing,
            Code::SessionsUnknown,
        ];
        codes.contains(&finding.code)
    });
    let below = of_sessions.map(|finding| finding_text(finding, style));
    let below: String = below.collect();
    if !below.is_empty() {
        text += &format!("\n{below}");
    }
    if seen.live {
        text += &format!("\n{}\n", summary(sessions));
    } else {
        text += "\nmanifests have no sessions: these are what the nodes would establish\n";
    }
    text
}

/// `3 of 4 sessions established`.
pub(super) fn summary(sessions: &[SessionLine]) -> String {
    let established = sessions.iter().filter(|line| line.is_established());
    let total = sessions.len();
    format!("{} of {total} sessions established", established.count())
}

fn row(line: &SessionLine, now: Timestamp) -> Vec<String> {
    let mut state = line.state.clone();
    if let Some(vrf) = &line.vrf {
        state += &format!(" (VRF {vrf})");
    }
    let since = line.since.as_ref().map(|at| since(at, now));
    vec![
        line.node.clone(),
        line.peer.clone(),
        or_dash(line.address.clone()),
        state,
        or_dash(since.unwrap_or_default()),
        routes(line),
        or_dash(line.bfd.clone().unwrap_or_default()),
    ]
}

/// The number of routes that the router has, and of those that it should have.
pub(super) fn routes(line: &SessionLine) -> String {
    let (sent, expected) = (line.prefixes_sent, line.prefixes_expected);
    match line.has_expected_routes() {
        None => format!("0 of {expected}"),
        Some(true) => sent.to_string(),
        Some(false) if sent == expected => format!("{sent}, not the expected ones"),
        Some(false) => format!("{sent} of {expected}"),
    }
}
