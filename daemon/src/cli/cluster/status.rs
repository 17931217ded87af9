//! `ferrolb status`: the page for an incident. What is wrong comes first.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::findings::{OBJECTS, finding_text};
use super::read::Seen;
use super::watch::{Line, Lines};
use super::{Answer, Question, answer, peers, pools};
use crate::cli::Output;
use crate::cli::output::{Style, json, or_dash, print, table};
use crate::cli::world::WorldArgs;
use crate::core::overview::{Finding, Gravity, Overview, SessionLine};

const EXAMPLES: &str = "\
Examples:
  ferrolb status                        the cluster of the current context
  ferrolb status --context prod         of another one
  ferrolb status -w                     and print what begins and ends to be wrong
  ferrolb status -o json | jq '.findings[] | select(.severity == \"wrong\") | .code'
  ferrolb status -f manifests/          what manifests would lack, without a cluster

It reads the API server with your kubeconfig, and nothing else: no port of a node.

Exit codes:
  0  nothing is wrong (there may be warnings)
  1  the cluster can't be read
  2  the arguments are invalid
  3  something is wrong
  4  nothing wrong was seen, but not everything could be read";

/// Something is wrong.
const WRONG: u8 = 3;
/// Nothing wrong was seen, but not everything could be read.
const INCOMPLETE: u8 = 4;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct StatusArgs {
    #[command(flatten)]
    world: WorldArgs,
    /// Output format: text for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Keep running, and print what changes.
    #[arg(short, long)]
    watch: bool,
}

pub(in crate::cli) fn run(args: &StatusArgs) -> Result<ExitCode> {
    let question = Question {
        world: &args.world,
        output: args.output,
        watch: args.watch,
    };
    answer(question, &Status)
}

struct Status;

impl Answer for Status {
    fn print(&self, seen: &Seen, style: Style) -> Result<()> {
        Ok(print(&text(&seen.overview, seen.live, style)?)?)
    }

    fn print_json(&self, seen: &Seen) -> Result<()> {
        json(&seen.overview)
    }

    fn lines(&self, seen: &Seen) -> Result<Lines> {
        let mut lines = Lines::new();
        for finding in &seen.overview.findings {
            for object in &finding.objects {
                let key = format!("{} {object}", finding.code.name());
                let line = Line::new(finding.text.clone(), &one(finding, object))?;
                lines.insert(key, line);
            }
        }
        Ok(lines)
    }

    fn exit_code(&self, seen: &Seen) -> ExitCode {
        exit_code(&seen.overview)
    }
}

fn exit_code(overview: &Overview) -> ExitCode {
    if overview.is_wrong() {
        ExitCode::from(WRONG)
    } else if overview.unseen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(INCOMPLETE)
    }
}

/// A finding about one of its objects.
fn one(finding: &Finding, object: &str) -> Finding {
    Finding {
        objects: [object.to_owned()].into(),
        ..finding.clone()
    }
}

/// The whole page.
pub(super) fn text(overview: &Overview, live: bool, style: Style) -> Result<String> {
    let mut text = String::new();
    let of = |gravity| {
        let findings = overview.findings.iter();
        findings.filter(move |finding| finding.severity == gravity)
    };
    let wrong = of(Gravity::Wrong).count();
    let warnings = of(Gravity::Warning).count();
    let summary = match (wrong, overview.unseen.is_empty()) {
        (0, true) => style.green("nothing is wrong"),
        (0, false) => style.yellow("nothing wrong was seen, but not everything could be read"),
        (1, _) => style.red("1 thing is wrong"),
        (_, _) => style.red(&format!("{wrong} things are wrong")),
    };
    let services = overview.services;
    let plural = if warnings == 1 { "" } else { "s" };
    writeln!(
        text,
        "{summary}; {warnings} warning{plural}; {} of {} services announced, {} without an address",
        services.announced, services.total, services.without_address
    )?;
    if !overview.findings.is_empty() {
        text.push('\n');
    }
    for finding in &overview.findings {
        text += &finding_text(finding, style);
    }
    if !overview.components.is_empty() {
        section(&mut text, style, "Components", &components(overview))?;
    }
    if !overview.pools.is_empty() {
        section(&mut text, style, "Pools", &pools::text(&overview.pools))?;
    }
    if live && !overview.sessions.is_empty() {
        let mut sessions = by_peer(&overview.sessions);
        write!(sessions, "\n{}", peers::summary(&overview.sessions))?;
        section(&mut text, style, "Sessions", &sessions)?;
    }
    if !overview.layer2.is_empty() {
        section(&mut text, style, "Layer 2", &by_owner(overview))?;
    }
    Ok(text)
}

fn section(text: &mut String, style: Style, title: &str, content: &str) -> Result<()> {
    Ok(writeln!(text, "\n{}\n{content}", style.bold(title))?)
}

fn components(overview: &Overview) -> String {
    let rows = overview.components.iter().map(|one| {
        vec![
            format!("{} {}/{}", one.kind, one.namespace, one.name),
            format!("{} of {}", one.ready, one.desired),
            one.image.clone(),
        ]
    });
    table(&["WORKLOAD", "READY", "IMAGE"], rows)
}

/// One row for each BGPPeer: a large cluster has hundreds of sessions.
fn by_peer(sessions: &[SessionLine]) -> String {
    let mut peers: BTreeMap<(&str, &str), Vec<&SessionLine>> = BTreeMap::new();
    for session in sessions {
        let key = (session.peer.as_str(), session.address.as_str());
        peers.entry(key).or_default().push(session);
    }
    let rows = peers.into_iter().map(|((peer, address), sessions)| {
        let established = sessions.iter().filter(|one| one.is_established()).count();
        let as_expected = sessions.iter();
        let as_expected = as_expected.filter(|one| one.has_expected_routes() == Some(true));
        let missing = sessions.iter().filter(|one| !one.is_established());
        let missing: Vec<&str> = missing.map(|one| one.node.as_str()).collect();
        let mut down = missing
            .iter()
            .take(OBJECTS)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        if missing.len() > OBJECTS {
            down += &format!(" and {} more", missing.len() - OBJECTS);
        }
        vec![
            peer.to_owned(),
            or_dash(address.to_owned()),
            format!("{established} of {}", sessions.len()),
            format!("{} of {}", as_expected.count(), sessions.len()),
            or_dash(down),
        ]
    });
    let header = [
        "PEER",
        "ADDRESS",
        "ESTABLISHED",
        "EXPECTED ROUTES",
        "NOT ON",
    ];
    table(&header, rows)
}

/// How many addresses each node owns.
fn by_owner(overview: &Overview) -> String {
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &overview.layer2 {
        let owner = line.owner.as_deref().unwrap_or("unknown");
        *owners.entry(owner).or_default() += 1;
    }
    let rows = owners.into_iter();
    let rows = rows.map(|(owner, addresses)| vec![owner.to_owned(), addresses.to_string()]);
    table(&["OWNER", "ADDRESSES"], rows)
}
