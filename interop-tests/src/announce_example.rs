//! The example `announce` of the `bgp` crate on a node: ferrolb's engine without the daemon and
//! without Kubernetes. It starts within milliseconds.

use anyhow::Result;

use crate::example::{self, program};
use crate::process::Process;
use crate::scenario::Scratch;
use crate::topology::{NODE_ASN, Node, TOR_ASN};

/// Builder of the command line.
#[derive(Debug, Clone)]
pub struct AnnounceExample<'lab> {
    scratch: &'lab Scratch,
    node: &'lab Node,
    local_asn: u32,
    peer_asn: String,
    arguments: Vec<String>,
}

impl<'lab> AnnounceExample<'lab> {
    /// The example on this node as an eBGP speaker, by default with a hold time of 3 s and the
    /// node's addresses as next hops and router ID. The caller must add `--peer`.
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

    /// Sets the router's AS (default [`TOR_ASN`]).
    #[must_use]
    pub fn peer_asn(mut self, asn: impl ToString) -> Self {
        self.peer_asn = asn.to_string();
        self
    }

    /// Sets the AS of the example (default [`NODE_ASN`]).
    #[must_use]
    pub fn local_asn(mut self, asn: u32) -> Self {
        self.local_asn = asn;
        self
    }

    /// Adds an option with a value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl ToString) -> Self {
        self.arguments
            .extend([option.to_owned(), value.to_string()]);
        self
    }

    /// Adds an option without a value.
    #[must_use]
    pub fn flag(mut self, option: &str) -> Self {
        self.arguments.push(option.to_owned());
        self
    }

    /// Starts the example. A second start on the same node appends to the same log.
    ///
    /// # Errors
    /// When cargo can't build the example.
    pub fn start(&self) -> Result<Process> {
        let mut command = self.node.namespace.command(program(example::BGP)?);
        command.env("NO_COLOR", "1");
        command.args(["--local-asn", &self.local_asn.to_string()]);
        command.args(["--peer-asn", &self.peer_asn]);
        for (option, value) in [
            ("--hold-time", "3".to_owned()),
            ("--next-hop6", self.node.ipv6.to_string()),
            // Unique per node: GoBGP does not propagate a route to a peer whose router ID equals
            // the announcer's.
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
