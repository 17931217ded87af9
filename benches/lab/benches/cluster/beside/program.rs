//! The programs that are compared, each outside of a container and with the ServiceAccount of its
//! manifest.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Node;

/// Longer than an orderly shutdown of either.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Ferrolb,
    /// MetalLB 0.14.9 in native mode.
    Metallb,
}

impl System {
    /// Installs what its programs need in a cluster with MetalLB's CRDs.
    pub(crate) fn prepare(self, cp: &ControlPlane<'_>, nodes: &[Node]) -> Result<()> {
        match self {
            Self::Ferrolb => cp.install_ferrolb_rbac(),
            Self::Metallb => {
                cp.prepare_metallb_speakers(nodes)?;
                cp.prepare_metallb_controller()
            }
        }
    }
}

/// A running program.
pub(crate) enum Program<'lab> {
    Ferrolb(Ferrolb<'lab>),
    Metallb {
        scratch: &'lab Scratch,
        name: String,
        command: Command,
        process: Process,
        /// The controller's.
        _host: Option<Namespace>,
    },
}

impl<'lab> Program<'lab> {
    /// Starts what allocates addresses.
    pub(crate) fn allocator(
        system: System,
        scratch: &'lab Scratch,
        cp: &ControlPlane<'lab>,
    ) -> Result<Self> {
        match system {
            System::Ferrolb => Ok(Self::Ferrolb(Ferrolb::allocator(cp, "allocator")?)),
            System::Metallb => {
                let host = Namespace::new("controller")?;
                cp.join(&host)?;
                let command = cp.metallb_controller(&host)?;
                Self::metallb(scratch, "controller".to_owned(), command, Some(host))
            }
        }
    }

    /// Starts what announces addresses on a node that has joined the control plane.
    pub(crate) fn announcer(
        system: System,
        scratch: &'lab Scratch,
        cp: &ControlPlane<'lab>,
        node: &'lab Node,
    ) -> Result<Self> {
        match system {
            System::Ferrolb => Ok(Self::Ferrolb(Ferrolb::announcer(cp, node)?)),
            System::Metallb => {
                let command = cp.metallb_speaker(node)?;
                Self::metallb(scratch, format!("speaker-{}", node.name), command, None)
            }
        }
    }

    fn metallb(
        scratch: &'lab Scratch,
        name: String,
        command: Command,
        host: Option<Namespace>,
    ) -> Result<Self> {
        Ok(Self::Metallb {
            process: Process::start(scratch, &name, &command)?,
            scratch,
            name,
            command,
            _host: host,
        })
    }

    fn process(&mut self) -> &mut Process {
        match self {
            Self::Ferrolb(ferrolb) => ferrolb.process(),
            Self::Metallb { process, .. } => process,
        }
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.process().pid()
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.process().terminate(STOP_TIMEOUT).map(drop)
    }

    /// Starts the process again.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        match self {
            Self::Ferrolb(ferrolb) => ferrolb.start_again(),
            Self::Metallb {
                scratch,
                name,
                command,
                process,
                ..
            } => {
                *process = Process::start(scratch, name, command)?;
                Ok(())
            }
        }
    }
}
