//! `ferrolb explain`: why a service is or is not announced.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Output;
use super::output::{Style, json, print};
use super::world::WorldArgs;
use crate::core;
use crate::core::api::ObjectName;
use crate::core::explain::{Explanation, Step, Verdict};
use crate::core::printable::printable;
use crate::runtime::serve::control::Request;
use crate::runtime::serve::control::client::Client;

const EXAMPLES: &str = "\
Examples:
  ferrolb explain svc web               the Service web of the namespace default
  ferrolb explain address 192.0.2.1     to whom it belongs, and who announces it
  ferrolb explain node node-a           what the node announces, and what it doesn't
  ferrolb explain peer tor-1            what the router gets from which nodes
  ferrolb explain pool production       what is left of it, who uses it
  ferrolb explain svc shop/web -f manifests/
                                        from manifests, without a cluster
  ferrolb explain svc shop/web --socket /run/ferrolb/ferrolb.sock
                                        what the daemon on this host decided for its node
  ferrolb explain svc shop/web -o json | jq '.steps[] | select(.verdict == \"withheld\")'

It reads the cluster with your kubeconfig, repeats the decisions of the daemons, and shows the
sessions and owners that objects of the cluster name. It exits with 1 if nothing is announced.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExplainArgs {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Why a Service has its address, which nodes announce it to which routers, and why others
    /// don't.
    #[command(visible_alias = "svc")]
    Service {
        /// The Service: NAMESPACE/NAME, or NAME in the namespace default.
        #[arg(value_name = "NAMESPACE/NAME")]
        service: String,
        /// Ask the daemon on this host, which answers from its own decision about this node, over
        /// its control socket.
        #[arg(long, value_name = "PATH", conflicts_with_all = ["paths", "kubeconfig"])]
        socket: Option<PathBuf>,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// To whom an address belongs, and who announces it.
    Address {
        /// The address.
        address: IpAddr,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// What a node announces, and what it does not.
    Node {
        /// The name of the Node.
        name: String,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// What a BGPPeer gets from which nodes, and what it does not get.
    Peer {
        /// The name of the BGPPeer.
        name: String,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// What a pool has, who uses it, and what is announced of it.
    Pool {
        /// The name of the IPAddressPool.
        name: String,
        #[command(flatten)]
        common: CommonArgs,
    },
}

#[derive(Debug, Args)]
struct CommonArgs {
    #[command(flatten)]
    world: WorldArgs,
    /// Output format: text for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Subject {
    /// The control socket of the daemon that is asked instead.
    fn socket(&self) -> Option<&Path> {
        match self {
            Self::Service { socket, .. } => socket.as_deref(),
            _ => None,
        }
    }

    fn split(&self) -> (core::explain::Subject, &CommonArgs) {
        use core::explain::Subject as Explained;
        match self {
            Self::Service {
                service, common, ..
            } => {
                let parts = service.split_once('/');
                let (namespace, name) = parts.unwrap_or(("default", service));
                (Explained::Service(ObjectName::new(namespace, name)), common)
            }
            Self::Address { address, common } => (Explained::Address(*address), common),
            Self::Node { name, common } => (Explained::Node(name.clone()), common),
            Self::Peer { name, common } => (Explained::Peer(name.clone()), common),
            Self::Pool { name, common } => (Explained::Pool(name.clone()), common),
        }
    }
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let socket = args.subject.socket();
    let (subject, args) = args.subject.split();
    let explanation = match (&subject, socket) {
        (core::explain::Subject::Service(service), Some(path)) => {
            let service = service.to_string();
            Client::connect(path)?.ask(&Request::Explain { service })?
        }
        _ => {
            let world = args.world.read()?;
            for line in &world.unseen {
                eprintln!("ferrolb: can't see {}", printable(line));
            }
            world.explainer.explain(&subject)?
        }
    };
    match args.output {
        Output::Json => json(&explanation)?,
        Output::Table => print(&text(&explanation)?)?,
    }
    Ok(if explanation.announced {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(explanation: &Explanation) -> Result<String, fmt::Error> {
    let style = Style::stdout();
    let mut text = String::new();
    let title = format!("{}: {}", explanation.subject, explanation.summary);
    writeln!(text, "{}\n", style.bold(&printable(&title)))?;
    for step in &explanation.steps {
        let verdict = match step.verdict {
            Verdict::Ok => "ok".to_owned(),
            Verdict::Withheld => style.red("no"),
        };
        writeln!(
            text,
            "{verdict}  {:13}  {}",
            step.stage,
            printable(&line(step))
        )?;
        if let Some(command) = &step.command {
            writeln!(text, "{:19}$ {}", "", printable(command))?;
        }
    }
    Ok(text)
}

/// The maximum number of names in a line.
const NAMES_MAX: usize = 4;

fn line(step: &Step) -> String {
    let names = |names: &BTreeSet<String>| {
        let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
        let others = names.len().saturating_sub(NAMES_MAX);
        let more = if others > 0 {
            format!(" and {others} more")
        } else {
            String::new()
        };
        format!("{}{more}", shown.join(", "))
    };
    let mut line = String::new();
    if !step.nodes.is_empty() {
        line += &names(&step.nodes);
    }
    if !step.peers.is_empty() {
        line += &format!(" → {}", names(&step.peers));
    }
    if !step.services.is_empty() {
        line = format!("{line} {}", names(&step.services));
    }
    let line = line.trim_start().to_owned();
    let mut line = line;
    if !line.is_empty() {
        line += ": ";
    }
    if let Some(reason) = &step.reason {
        line += &format!("{reason}: ");
    }
    line + &step.text
}

#[cfg(test)]
mod tests;
