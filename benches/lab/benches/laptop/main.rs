//! Measures what a person on a laptop waits for: ferrolb's commands about a whole cluster, beside
//! kubectl, and the page of `ferrolb ui` in a browser. The objects are those of 100 nodes and 1,000
//! Services, then of twice as many; no process of ferrolb runs in the cluster.
//! docs/benchmarks.md describes each value.
//!
//! `cargo xtask bench laptop` runs all, `cargo xtask bench laptop -- commands` and `… -- page` one
//! part, and `… -- small` all with the first size only.

mod api_client;
mod commands;
mod objects;
mod page;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::kube::{ControlPlane, Metallb, Nodes};
use ferrolb_interop_tests::netns::Namespace;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::busy_percent;
use serde_json::{Value, json};

use self::api_client::ApiClient;
use self::commands::Laptop;
use self::objects::{Size, added, daemonset, session};
use self::page::Viewer;

const SIZES: [Size; 2] = [
    Size {
        nodes: 100,
        services: 1000,
    },
    Size {
        nodes: 200,
        services: 2000,
    },
];
const LOAD: Duration = Duration::from_secs(3);

/// A new Service, and another community for all routes.
const CHANGE: &str = "
apiVersion: v1
kind: Service
metadata: {name: another, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
spec: {communities: ['64512:200']}
";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|other| other == word);
    let (commands, page) = (has("commands"), has("page"));
    let sizes = if has("small") { &SIZES[..1] } else { &SIZES };
    scenario("laptop", |scratch| {
        let (busy, stolen) = busy_percent(LOAD)?;
        let load = [("busy_percent", busy), ("stolen_percent", stolen)];
        measurement::print(
            "machine_before",
            &load.map(|(name, value)| (name, json!(value))),
        );
        run(scratch, sizes, commands || !page, page || !commands)
    });
}

fn run(scratch: &Scratch, sizes: &[Size], commands: bool, page: bool) -> Result<()> {
    let cp = ControlPlane::start(scratch, Nodes::Objects)?;
    cp.install_metallb_crds(Metallb::V0_16_2)?;
    cp.install_ferrolb_rbac()?;
    cp.install_ferrolb_crds()?;
    let host = Namespace::new("laptop")?;
    cp.join(&host)?;
    let inside = host.open()?;
    let change = scratch.file("change.yaml");
    fs::write(&change, CHANGE)?;
    let laptop = Laptop {
        cp: &cp,
        host: &host,
        kubeconfig: cp.reader_kubeconfig()?,
        kubectl: cp.kubectl_program().to_owned(),
        change,
    };
    let viewer = Viewer {
        scratch,
        host: &host,
        kubeconfig: cp.admin_kubeconfig(),
    };
    let mut before = Size::default();
    for size in sizes.iter().copied() {
        inside.inside(|| {
            let api = ApiClient::new(&cp.admin_kubeconfig())?;
            api.write(added(before, size))?;
            api.write(vec![daemonset(size.nodes)])?;
            let status = laptop.status()?;
            let sessions = status["sessions"].as_array().context("no sessions")?;
            api.write(sessions.iter().map(session).collect())
        })?;
        check(&laptop.status()?, size)?;
        if commands {
            laptop.measure(size)?;
        }
        if page {
            inside.inside(|| viewer.measure(size, &ApiClient::new(&cp.admin_kubeconfig())?))?;
        }
        before = size;
    }
    Ok(())
}

/// All is as it should be: each Service is announced over established sessions.
fn check(status: &Value, size: Size) -> Result<()> {
    let announced = status["services"]["announced"].as_u64();
    ensure!(
        announced == Some(u64::try_from(size.services)?),
        "{announced:?} are announced"
    );
    let sessions = status["sessions"].as_array().map(Vec::len);
    ensure!(sessions == Some(2 * size.nodes), "{sessions:?} sessions");
    let findings = status["findings"].as_array().context("no findings")?;
    let wrong = findings
        .iter()
        .filter(|finding| finding["severity"] == "wrong");
    let wrong: Vec<&Value> = wrong.collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    let differ = findings
        .iter()
        .any(|finding| finding["code"] == "RoutesDiffer");
    ensure!(!differ, "routes differ");
    Ok(())
}
