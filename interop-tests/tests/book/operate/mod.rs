//! The pages for operators, in the order in which they follow each other on a cluster.

mod cluster;
mod hosts;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::book::{Page, Shell};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::deploy;
use ferrolb_interop_tests::lan::{Host, answers};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::process::{ferrolb, run};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::{Node, Topology, ipv4_addresses};

use cluster::{Clusters, Shells};
use hosts::Hosts;

const TIMEOUT: Duration = Duration::from_secs(120);

/// The route of the Service `shop/web`.
const SHOP_ROUTE: &str = "203.0.113.0/32";
/// The Service that docs/layer2/operate.md creates.
const LAN_ADDRESS: &str = "10.99.0.220";

#[test]
pub(crate) fn pages_run_on_a_cluster() {
    scenario("book-operate", |scratch| {
        let rack = Topology::new(2)?;
        let aside = scratch.within("objects")?;
        let clusters = Clusters::start(scratch, &aside, &rack)?;
        let shells = clusters.shells(scratch)?;
        let mut install = Page::read("docs/install.md")?;
        installed(&mut install, &clusters, &shells)?;
        validated(&shells)?;
        observed(&clusters, &shells)?;
        layer2_operated(&clusters, &shells)?;
        monitored(&clusters, &shells)?;
        Page::read("docs/ui.md")?.run_rest(&shells.real)?;
        Page::read("docs/drain.md")?.run_rest(&shells.real)?;
        announced(&clusters, &shells)?;
        removed(install, &clusters, &shells)
    });
}

fn installed(page: &mut Page, clusters: &Clusters<'_>, shells: &Shells<'_>) -> Result<()> {
    page.run("With one file", &shells.real)?;
    clusters.start_shop()?;
    page.run("With Helm", &shells.objects)?;
    page.run("With kustomize", &shells.objects)?;
    page.run(
        "Objects of MetalLB in a cluster without it",
        &shells.objects,
    )?;
    page.run("Configure it", &shells.real)?;
    clusters.await_sessions()?;
    page.run("Check the sessions", &shells.real)?;
    clusters.await_routes(&[SHOP_ROUTE])
}

fn validated(shells: &Shells<'_>) -> Result<()> {
    let mut page = Page::read("docs/validate.md")?;
    for heading in [
        "Find mistakes",
        "Predict the result",
        "Compare two folders",
        "Compare with a cluster",
        "Predict from the objects of a cluster",
    ] {
        page.run(heading, &shells.real)?;
    }
    page.run("A cluster with MetalLB's CRDs", &shells.objects)?;
    page.finish()
}

/// A node publishes what its routers have within a minute and a half.
fn observed(clusters: &Clusters<'_>, shells: &Shells<'_>) -> Result<()> {
    eventually("nothing is wrong", TIMEOUT, || {
        let status = run(clusters.real_command(ferrolb()?).arg("status"))?;
        ensure!(status.contains("0 warnings"), "{status}");
        Ok(())
    })?;
    Page::read("docs/observe.md")?.run_rest(&shells.real)
}

fn layer2_operated(clusters: &Clusters<'_>, shells: &Shells<'_>) -> Result<()> {
    let mut page = Page::read("docs/layer2/operate.md")?;
    page.run("Announce a pool", &shells.real)?;
    await_owner(&clusters.client)?;
    page.run_rest(&shells.real)
}

/// Waits until exactly one host of the LAN answers for the address of layer 2.
fn await_owner(client: &Host) -> Result<()> {
    let address: IpAddr = LAN_ADDRESS.parse()?;
    eventually("an owner", TIMEOUT, || {
        let found = answers(&client.namespace, address)?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(())
    })
}

fn monitored(clusters: &Clusters<'_>, shells: &Shells<'_>) -> Result<()> {
    let mut page = Page::read("docs/monitor.md")?;
    clusters.serve_kinds_of_prometheus()?;
    page.run("Alerts and dashboard", &shells.objects)?;
    page.run("Look at a metric by hand", &shells.real)?;
    page.run("With the manifests", &shells.real)?;
    page.run("With Helm", &shells.objects)?;
    page.finish()
}

fn announced(clusters: &Clusters<'_>, shells: &Shells<'_>) -> Result<()> {
    let mut page = Page::read("docs/announce.md")?;
    page.run("Weights", &shells.real)?;
    page.run("Announce a network whole", &shells.real)?;
    clusters.await_routes(&[SHOP_ROUTE, "203.0.113.0/24"])?;
    let on_node = [
        "What happens to packets to unused addresses",
        "Remove the rules by hand",
    ];
    for heading in on_node {
        page.run(heading, &shells.node)?;
    }
    for heading in [
        "Unnumbered sessions",
        "Announce what another program allocates",
        "Instead of externalIPs",
        "The first announcements of a node",
    ] {
        page.run(heading, &shells.objects)?;
    }
    page.finish()
}

fn removed(mut page: Page, clusters: &Clusters<'_>, shells: &Shells<'_>) -> Result<()> {
    page.run("Upgrade", &shells.real)?;
    page.run("Remove the Helm release", &shells.objects)?;
    page.run("Remove what kubectl applied", &shells.real)?;
    clusters.await_routes(&[])?;
    let applied = deploy().join("ferrolb.yaml");
    clusters.objects.apply_path(&applied)?;
    page.run("Go from kubectl to Helm", &shells.objects)?;
    page.finish()
}

#[test]
pub(crate) fn pages_run_on_hosts() {
    scenario("book-hosts", |scratch| {
        let rack = Topology::new(2)?;
        let hosts = Hosts::start(scratch, &rack)?;
        let shell = hosts.shell(&scratch.file("on-node1"))?;
        let mut page = Page::read("docs/without-a-cluster.md")?;
        page.run("Announce an address over BGP", &shell)?;
        hosts.await_route("203.0.113.10/32")?;
        page.run("Look at it", &shell)?;
        hosts.await_end()?;
        page.run("Share virtual addresses", &shell)?;
        await_owner(&hosts.client)?;
        page.run("See the owner", &shell)?;
        page.finish()
    });
}

/// A shell with ferrolb, in a new folder that has the repository's `deploy/`.
fn shell<'lab>(folder: &Path, bash: impl Fn() -> Command + 'lab) -> Result<Shell<'lab>> {
    let shell = Shell::new(folder, bash)?;
    let repository = deploy().canonicalize()?;
    symlink(repository, folder.join("deploy"))?;
    let program = ferrolb()?;
    shell
        .program("ferrolb", &program)?
        .program("kubectl-ferrolb", &program)
}

/// A command line that runs a program in a namespace, for scripts.
fn in_namespace(namespace: &Namespace, program: &str) -> String {
    let command = namespace.command(program);
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// The addresses of all nodes, which are the next hops of their routes.
fn next_hops(nodes: &[Node]) -> BTreeSet<IpAddr> {
    ipv4_addresses(&nodes.iter().collect::<Vec<_>>())
}
