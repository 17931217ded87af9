//! The programs that are compared: ferrolb, MetalLB's speaker and keepalived, one process per node.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb};
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Node;

use crate::{ADDRESSES, Disruption};

/// Longer than an orderly shutdown of any of the programs.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Ferrolb,
    Metallb,
    /// The interval of its advertisements, in milliseconds.
    Keepalived(u64),
}

impl System {
    pub(crate) const ALL: [Self; 4] = [
        Self::Ferrolb,
        Self::Metallb,
        Self::Keepalived(1000),
        Self::Keepalived(100),
    ];

    /// The name in the results.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Ferrolb => "ferrolb".to_owned(),
            Self::Metallb => "MetalLB 0.14.9".to_owned(),
            Self::Keepalived(interval) => format!("keepalived, {interval} ms"),
        }
    }

    /// After a process started, longer than it takes until it takes part again.
    pub(crate) const fn settling(self) -> Duration {
        Duration::from_secs(match self {
            Self::Ferrolb => 2,
            // Its memberlist spreads a member within seconds.
            Self::Metallb => 5,
            Self::Keepalived(interval) => 2 + interval / 300,
        })
    }

    /// Longer than it takes until another node answers.
    pub(crate) const fn failover(self, disruption: Disruption) -> Duration {
        Duration::from_secs(match (self, disruption) {
            (Self::Ferrolb, _) => 2,
            // Its memberlist removes a silent member after five to six seconds.
            (Self::Metallb, Disruption::Death) => 9,
            (Self::Metallb, _) => 3,
            (Self::Keepalived(interval), _) => 2 + interval / 300,
        })
    }
}

/// The process of one node.
pub(crate) enum Member<'lab> {
    Ferrolb(Ferrolb<'lab>),
    Other {
        scratch: &'lab Scratch,
        name: String,
        command: Command,
        process: Process,
    },
}

impl<'lab> Member<'lab> {
    /// Starts the process of a node that has joined the control plane.
    pub(crate) fn start(
        system: System,
        scratch: &'lab Scratch,
        cp: &ControlPlane<'lab>,
        node: &'lab Node,
    ) -> Result<Self> {
        match system {
            System::Ferrolb => Ferrolb::layer2(cp, node).map(Self::Ferrolb),
            System::Metallb => {
                let command = cp.metallb_speaker(node)?;
                Self::other(scratch, format!("speaker-{}", node.name), command)
            }
            System::Keepalived(interval) => {
                let name = format!("keepalived-{interval}-{}", node.name);
                let command = keepalived(scratch, node, &name, interval)?;
                Self::other(scratch, name, command)
            }
        }
    }

    fn other(scratch: &'lab Scratch, name: String, command: Command) -> Result<Self> {
        remove_pid_files(scratch, &name);
        let process = Process::start(scratch, &name, &command)?;
        Ok(Self::Other {
            scratch,
            name,
            command,
            process,
        })
    }

    /// Its main process.
    pub(crate) fn process(&mut self) -> &mut Process {
        match self {
            Self::Ferrolb(ferrolb) => ferrolb.process(),
            Self::Other { process, .. } => process,
        }
    }

    /// SIGKILL, of its child processes as well.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let parent = self.process().pid().to_string();
        let children = Command::new("pgrep").args(["-P", &parent]).output()?;
        self.process().kill()?;
        for child in String::from_utf8_lossy(&children.stdout).split_whitespace() {
            // A child that ended with its parent is no error.
            _ = Command::new("kill").args(["-KILL", child]).status();
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.process().terminate(STOP_TIMEOUT).map(drop)
    }

    /// Replaces the process as a rollout of its DaemonSet does: ferrolb's with surge, the others by
    /// a stop and a start.
    pub(crate) fn replace(&mut self, cp: &ControlPlane<'lab>, node: &'lab Node) -> Result<()> {
        match self {
            Self::Ferrolb(ferrolb) => ferrolb.replace_layer2(cp, node),
            Self::Other { .. } => {
                self.terminate()?;
                self.start_again()
            }
        }
    }

    /// Starts the process again.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        match self {
            Self::Ferrolb(ferrolb) => ferrolb.start_again(),
            Self::Other {
                scratch,
                name,
                command,
                process,
            } => {
                remove_pid_files(scratch, name);
                *process = Process::start(scratch, name, command)?;
                Ok(())
            }
        }
    }
}

/// keepalived with all addresses in one virtual router, without preemption.
fn keepalived(scratch: &Scratch, node: &Node, name: &str, interval: u64) -> Result<Command> {
    let addresses: String = ADDRESSES
        .iter()
        .map(|address| format!("    {address}/32\n"))
        .collect();
    let seconds = f64::from(u32::try_from(interval)?) / 1000.0;
    let priority = 200 - node.ipv4.octets()[3];
    let config = format!(
        "global_defs {{
  vrrp_version 3
  router_id {name}
}}
vrrp_instance services {{
  state BACKUP
  nopreempt
  interface uplink
  virtual_router_id 51
  priority {priority}
  advert_int {seconds}
  virtual_ipaddress {{
{addresses}  }}
}}
",
        name = node.name
    );
    let path = scratch.file(&format!("keepalived-{}.conf", node.name));
    fs::write(&path, config)?;
    let mut command = node.namespace.command("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]);
    command.arg(&path);
    for (option, file) in ["--pid", "--vrrp_pid"].into_iter().zip(pid_files(name)) {
        command.arg(option).arg(scratch.file(&file));
    }
    Ok(command)
}

fn pid_files(name: &str) -> [String; 2] {
    ["main", "vrrp"].map(|part| format!("{name}-{part}.pid"))
}

/// A killed keepalived leaves them, and the next one would not start.
fn remove_pid_files(scratch: &Scratch, name: &str) {
    for file in pid_files(name) {
        // Other programs have none.
        _ = fs::remove_file(scratch.file(&file));
    }
}

/// Removes addresses that a killed keepalived left on a node.
pub(crate) fn remove_addresses(node: &Node) {
    for address in ADDRESSES {
        let prefix = format!("{address}/32");
        // Most nodes don't have them.
        _ = node
            .namespace
            .ip(&["address", "del", &prefix, "dev", "uplink"]);
    }
}
