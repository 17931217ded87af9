//! Hosts without Kubernetes, a router and a client.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::book::Shell;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::lan::Host;
use ferrolb_interop_tests::router::{Frr, RouteEntry, Router, await_table};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{TIMEOUT, in_namespace, shell};

/// The hosts, each with a home folder.
pub(super) struct Hosts<'lab> {
    router: Frr<'lab>,
    pub(super) client: Host,
    homes: PathBuf,
    rack: &'lab Topology,
}

impl<'lab> Hosts<'lab> {
    /// Starts the router.
    pub(super) fn start(scratch: &'lab Scratch, rack: &'lab Topology) -> Result<Self> {
        let client = Host::new(rack, "client", 100)?;
        let mut router = Frr::new(scratch, &rack.tor, "ebgp");
        router.start()?;
        let homes = scratch.file("homes");
        for node in &rack.nodes {
            let home = homes.join(&node.name);
            fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
        }
        Ok(Self {
            router,
            client,
            homes,
            rack,
        })
    }

    /// A shell on the first host, which reaches all of them by `ssh` and `scp`.
    pub(super) fn shell(&self, folder: &Path) -> Result<Shell<'_>> {
        let first = &self.rack.nodes[0].namespace;
        let homes = self.homes.display();
        let enter = self.rack.nodes.iter().map(|node| {
            let command = in_namespace(&node.namespace, "bash");
            format!("{}) exec {command} -c \"$*\";;", node.name)
        });
        let enter: Vec<String> = enter.collect();
        let ssh = format!(
            "cd {homes}/$1 && host=$1 && shift && case $host in\n{}\nesac",
            enter.join("\n")
        );
        shell(folder, || first.command("bash"))?
            .script("ssh", &ssh)?
            .script("scp", &format!("cp -r \"$2\" {homes}/\"${{3%:}}\""))
    }

    /// Waits until the router has this route from the first host, and no other.
    pub(super) fn await_route(&self, prefix: &str) -> Result<()> {
        let route = RouteEntry::new(prefix, &self.rack.nodes[0].ipv4.to_string())?;
        await_table(&self.router, &BTreeSet::from([route]), TIMEOUT)
    }

    /// Waits until nothing runs on the first host.
    pub(super) fn await_end(&self) -> Result<()> {
        eventually("the daemon has ended", TIMEOUT, || {
            let pids = self.rack.nodes[0].namespace.pids()?;
            ensure!(pids.is_empty(), "{pids:?}");
            Ok(())
        })
    }
}
