//! The rack of `containers/compose.yaml`: three ferrolb containers and a router container.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::containers::{ComposeRack, Docker};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::process::{ferrolb, run};
use ferrolb_interop_tests::router::{Kind, RouteEntry, next_hops_by_prefix};
use ferrolb_interop_tests::scenario::scenario;
use serde_json::Value;

const UP: Duration = Duration::from_secs(60);
/// Time for a step that waits for no timer, on a busy machine.
const IMMEDIATELY: Duration = Duration::from_secs(2);

/// `cargo xtask test` runs this first: not every CI machine permits a Docker daemon.
#[test]
fn docker_starts() {
    scenario("docker", |scratch| {
        let version =
            Docker::start(scratch)?.run(&["version", "--format", "{{.Server.Version}}"])?;
        ensure!(!version.trim().is_empty(), "docker printed no version");
        Ok(())
    });
}

#[test]
fn gobgp_has_the_planned_routes() {
    rack(Kind::Gobgp, "gobgp");
}

#[test]
fn bird_has_the_planned_routes() {
    rack(Kind::Bird, "bird");
}

#[test]
fn frr_has_the_planned_routes() {
    rack(Kind::Frr, "frr");
}

/// The router's table equals the output of `ferrolb plan`: for three nodes, for two after one was
/// killed, for three again, and without nodes after all were stopped.
fn rack(kind: Kind, profile: &str) {
    scenario(&format!("containers-{profile}"), |scratch| {
        let docker = Docker::start(scratch)?;
        docker.base_image()?;
        fs::copy(ferrolb()?, deploy("ferrolb")).context("the binary beside the Dockerfile")?;
        let rack = ComposeRack::up(&docker, profile)?;
        let router = format!("rack-{profile}");
        let table_is = |nodes: &[&str], within| {
            let expected = planned(nodes)?;
            eventually(format!("table of {router}"), within, || {
                let table = kind.table_via(&|words| docker.exec(&router, words))?;
                ensure!(table == expected, "{table:?}, expected {expected:?}");
                Ok(())
            })?;
            await_kernel_in_container(kind, &docker, &router, &expected)
        };
        let all = ["node1", "node2", "node3"];
        ensure!(planned(&all)?.len() == 8, "{:?}", planned(&all)?);
        table_is(&all, UP)?;
        docker.run(&["kill", "rack-node2"])?;
        table_is(&["node1", "node3"], IMMEDIATELY)?;
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
        table_is(&[], IMMEDIATELY)?;
        drop(rack);
        let left = docker.run(&["ps", "--all", "--quiet"])?;
        ensure!(left.is_empty(), "containers were not removed: {left}");
        Ok(())
    });
}

/// The routes of these nodes according to `ferrolb plan`.
fn planned(nodes: &[&str]) -> Result<BTreeSet<RouteEntry>> {
    let mut command = Command::new(ferrolb()?);
    command.args(["plan", "-o", "json", "--config-namespace", "metallb-system"]);
    let output = run(command.arg("-f").arg(ComposeRack::manifests()))?;
    let mut plan: Value = serde_json::from_str(&output)?;
    plan["routes"]
        .as_array_mut()
        .context("plan without routes")?
        .retain(|route| nodes.iter().any(|node| route["node"] == *node));
    RouteEntry::from_plan(&plan, "tor")
}

/// Waits until the router's kernel, if it installs routes, has the next hops of these routes.
fn await_kernel_in_container(
    kind: Kind,
    docker: &Docker<'_>,
    router: &str,
    routes: &BTreeSet<RouteEntry>,
) -> Result<()> {
    if !kind.installs_routes() {
        return Ok(());
    }
    for (prefix, expected) in next_hops_by_prefix(routes) {
        eventually(format!("kernel route {prefix}"), IMMEDIATELY, || {
            let family = if prefix.addr().is_ipv6() { "-6" } else { "-4" };
            let text = prefix.to_string();
            let output = docker.exec(router, &["ip", "-j", family, "route", "show", &text])?;
            let found = next_hops(&serde_json::from_str(&output)?);
            ensure!(found == expected, "{found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The gateways in the output of `ip -j route show`: one route with several next hops, or several
/// routes.
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
