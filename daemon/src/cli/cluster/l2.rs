//! `ferrolb l2` about a whole cluster: which addresses are announced by layer 2, and what the API
//! server knows of their owners.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;

use super::read::Seen;
use super::watch::{Line, Lines};
use super::{Answer, Question, answer, json_list};
use crate::cli::output::{Style, age, or_dash, print, table};
use crate::core::overview::OwnerLine;

/// The maximum number of candidates in a line.
const CANDIDATES: usize = 4;

/// Prints the addresses, or one of them.
pub(in crate::cli) fn run(question: Question<'_>, address: Option<IpAddr>) -> Result<ExitCode> {
    answer(question, &Layer2 { address })
}

struct Layer2 {
    address: Option<IpAddr>,
}

impl Layer2 {
    fn selected<'a>(&self, seen: &'a Seen) -> Vec<&'a OwnerLine> {
        let wanted = |line: &&OwnerLine| self.address.is_none_or(|one| one == line.address);
        seen.overview.layer2.iter().filter(wanted).collect()
    }
}

impl Answer for Layer2 {
    fn print(&self, seen: &Seen, style: Style) -> Result<()> {
        let lines = self.selected(seen);
        if lines.is_empty() {
            let text = match self.address {
                Some(address) => format!(
                    "{address} is not announced by layer 2: ferrolb explain address {address}\n"
                ),
                None => "no address: no L2Advertisement selects a service with an address\n".into(),
            };
            print(&text)?;
            return Ok(());
        }
        let shown = if self.address.is_some() {
            usize::MAX
        } else {
            CANDIDATES
        };
        let rows = lines.iter().map(|line| row(line, seen.now, shown));
        let header = ["ADDRESS", "SERVICE", "OWNER", "SOURCE", "CANDIDATES"];
        let note = style.dim(NOTE);
        print(&format!("{}\n\n{note}\n", table(&header, rows)))?;
        Ok(())
    }

    fn print_json(&self, seen: &Seen) -> Result<()> {
        json_list(&self.selected(seen))
    }

    fn lines(&self, seen: &Seen) -> Result<Lines> {
        let lines = self.selected(seen).into_iter().map(|line| {
            let text = match &line.owner {
                Some(owner) => format!("owner {owner}"),
                None => format!("one of {}", line.candidates.join(", ")),
            };
            Ok((line.address.to_string(), Line::new(text, line)?))
        });
        lines.collect()
    }
}

const NOTE: &str = "an Event says who took an address over when that was planned; a failover \
                    writes none. The present owner: ferrolb l2 on a candidate, or --metallb-status";

fn row(line: &OwnerLine, now: Timestamp, shown: usize) -> Vec<String> {
    let source = line.source.map(|source| {
        let at = line.at.as_ref();
        let since = at.map(|at| format!(", {} ago", since(at, now)));
        format!("{source:?}{}", since.unwrap_or_default())
    });
    let names = line.candidates.iter().take(shown);
    let names: Vec<&str> = names.map(String::as_str).collect();
    let more = match line.candidates.len().saturating_sub(shown) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    vec![
        line.address.to_string(),
        or_dash(line.services.join(", ")),
        line.owner.clone().unwrap_or_else(|| "unknown".to_owned()),
        or_dash(source.unwrap_or_default()),
        format!("{}{more}", names.join(", ")),
    ]
}

/// How long ago a time (RFC 3339) was.
pub(super) fn since(at: &str, now: Timestamp) -> String {
    let Ok(at) = at.parse::<Timestamp>() else {
        return "-".to_owned();
    };
    age(now.duration_since(at).unsigned_abs())
}
