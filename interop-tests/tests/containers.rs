//! The rack of `containers/compose.yaml`: three ferrolb containers and a router's, as users try it.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::containers::{Docker, Rack};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::process::{ferrolb, run, scenario};
use ferrolb_interop_tests::router::{Kind, RouteEntry};
use serde_json::Value;

const UP: Duration = Duration::from_secs(60);
/// What needs no timer is done within this, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Asked before anything else: not every CI machine lets one start.
#[test]
fn docker_starts() {
    scenario("docker", |scratch| {
        let version =
            Docker::start(scratch)?.run(&["version", "--format", "{{.Server.Version}}"])?;
        ensure!(!version.trim().is_empty(), "no version");
        Ok(())
    });
}

#[test]
fn gobgp() {
    rack(Kind::Gobgp, "gobgp");
}

#[test]
fn bird() {
    rack(Kind::Bird, "bird");
}

#[test]
fn frr() {
    rack(Kind::Frr, "frr");
}

/// What the router holds is what `ferrolb plan` says: of three nodes, of two after one was killed,
/// of three again, and of none after all were stopped.
fn rack(kind: Kind, profile: &str) {
    scenario(&format!("containers-{profile}"), |scratch| {
        let docker = Docker::start(scratch)?;
        docker.base_image()?;
        fs::copy(ferrolb()?, deploy("ferrolb")).context("the binary beside the Dockerfile")?;
        let rack = Rack::up(&docker, profile)?;
        let router = format!("rack-{profile}");
        let table_is = |nodes: &[&str], within| {
            let expected = planned(nodes)?;
            eventually(format!("table of {router}"), within, || {
                let table = kind.table_by(&|words| docker.exec(&router, words))?;
                ensure!(table == expected, "{table:?} instead of {expected:?}");
                Ok(())
            })?;
            kernel_follows(kind, &docker, &router, &expected)
        };
        let all = ["node1", "node2", "node3"];
        ensure!(planned(&all)?.len() == 8, "{:?}", planned(&all)?);
        table_is(&all, UP)?;
        docker.run(&["kill", "rack-node2"])?;
        table_is(&["node1", "node3"], AT_ONCE)?;
        docker.run(&["start", "rack-node2"])?;
        table_is(&all, UP)?;
        docker.run(&[
            "stop",
            "--time",
            "20",
            "rack-node1",
            "rack-node2",
            "rack-node3",
        ])?;
        table_is(&[], AT_ONCE)?;
        drop(rack);
        let left = docker.run(&["ps", "--all", "--quiet"])?;
        ensure!(left.is_empty(), "containers left: {left}");
        Ok(())
    });
}

/// What `ferrolb plan` says that these nodes announce.
fn planned(nodes: &[&str]) -> Result<BTreeSet<RouteEntry>> {
    let mut command = Command::new(ferrolb()?);
    command.args(["plan", "-o", "json", "--config-namespace", "metallb-system"]);
    let output = run(command.arg("-f").arg(Rack::manifests()))?;
    let mut plan: Value = serde_json::from_str(&output)?;
    plan["routes"]
        .as_array_mut()
        .context("plan without routes")?
        .retain(|route| nodes.iter().any(|node| route["node"] == *node));
    RouteEntry::from_plan(&plan, "tor")
}

/// The router's kernel forwards each prefix to the nodes that announce it, where it has one to tell.
fn kernel_follows(
    kind: Kind,
    docker: &Docker<'_>,
    router: &str,
    expected: &BTreeSet<RouteEntry>,
) -> Result<()> {
    if kind == Kind::Gobgp {
        return Ok(());
    }
    let prefixes: BTreeSet<_> = expected.iter().map(|route| route.prefix).collect();
    for prefix in prefixes {
        let same = expected.iter().filter(|route| route.prefix == prefix);
        let wanted: BTreeSet<IpAddr> = same.map(|route| route.next_hop).collect();
        eventually(format!("kernel route {prefix}"), AT_ONCE, || {
            let family = if prefix.addr().is_ipv6() { "-6" } else { "-4" };
            let text = prefix.to_string();
            let output = docker.exec(router, &["ip", "-j", family, "route", "show", &text])?;
            let found = next_hops(&serde_json::from_str(&output)?);
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The gateways of what `ip -j route show` prints: one route with several, or several routes.
fn next_hops(routes: &Value) -> BTreeSet<IpAddr> {
    let routes = routes.as_array().into_iter().flatten();
    routes
        .flat_map(|route| {
            let many = route["nexthops"].as_array().into_iter().flatten();
            many.chain([route]).collect::<Vec<_>>()
        })
        .filter_map(|hop| hop["gateway"].as_str()?.parse().ok())
        .collect()
}

fn deploy(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(file)
}
