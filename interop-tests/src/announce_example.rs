//! The `bgp` crate's example `announce` on a node: a speaker without the daemon and without
//! Kubernetes, started within milliseconds.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result};

use crate::process::{Process, Scratch, run};
use crate::topology::{NODE_ASN, Node, TOR_ASN};

/// What the example is started with, put together step by step.
#[derive(Debug, Clone)]
pub struct AnnounceExample<'lab> {
    scratch: &'lab Scratch,
    node: &'lab Node,
    local_asn: u32,
    peer_asn: String,
    arguments: Vec<String>,
}

impl<'lab> AnnounceExample<'lab> {
    /// The example on this node over eBGP, by its own choice with a hold time of 3 s and with the node's
    /// addresses as next hops and router ID. `--peer` is still to be given.
    #[must_use]
    pub fn new(scratch: &'lab Scratch, node: &'lab Node) -> Self {
        Self {
            scratch,
            node,
            local_asn: NODE_ASN,
            peer_asn: TOR_ASN.to_string(),
            arguments: Vec::new(),
        }
    }

    /// The router's AS, if it isn't [`TOR_ASN`].
    #[must_use]
    pub fn peer_asn(mut self, asn: impl ToString) -> Self {
        self.peer_asn = asn.to_string();
        self
    }

    /// Our AS, if it isn't [`NODE_ASN`].
    #[must_use]
    pub fn local_asn(mut self, asn: u32) -> Self {
        self.local_asn = asn;
        self
    }

    /// An option with its value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl ToString) -> Self {
        self.arguments
            .extend([option.to_owned(), value.to_string()]);
        self
    }

    /// An option without a value.
    #[must_use]
    pub fn flag(mut self, option: &str) -> Self {
        self.arguments.push(option.to_owned());
        self
    }

    /// Starts it. A second start on the same node appends to the same log.
    ///
    /// # Errors
    /// When cargo can't build it.
    pub fn start(&self) -> Result<Process> {
        let mut command = self.node.namespace.command(program()?);
        command.env("NO_COLOR", "1");
        command.args(["--local-asn", &self.local_asn.to_string()]);
        command.args(["--peer-asn", &self.peer_asn]);
        for (option, value) in [
            ("--hold-time", "3".to_owned()),
            ("--next-hop6", self.node.ipv6.to_string()),
            // GoBGP passes nothing on to who has the announcer's.
            ("--router-id", self.node.ipv4.to_string()),
        ] {
            if !self.arguments.iter().any(|given| given == option) {
                command.args([option, &value]);
            }
        }
        command.args(&self.arguments);
        let name = format!("announce-{}", self.node.name);
        Process::start(self.scratch, &name, &command)
    }
}

/// Builds the example, once.
///
/// # Errors
/// When cargo can't build it, or isn't who runs us.
pub fn program() -> Result<PathBuf> {
    static PROGRAM: Mutex<Option<PathBuf>> = Mutex::new(None);
    // Who waits here waits for the one build there is.
    let mut built = PROGRAM
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(program) = &*built {
        return Ok(program.clone());
    }
    let cargo = std::env::var("CARGO").context("to be run by cargo")?;
    let messages = run(Command::new(cargo)
        .args(["build", "--quiet", "--message-format=json"])
        .args(["-p", "ferrolb-bgp", "--example", "announce"]))?;
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo named no executable")?;
    Ok(built.insert(program).clone())
}
