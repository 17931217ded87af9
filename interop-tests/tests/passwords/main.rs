//! No output of ferrolb contains a password: a live cluster with passwords in all places where
//! there can be one, and every command, page, log, metric, object and recording.
//!
//! Two outputs contain passwords on purpose: the state file of an announcer, and the resources that
//! `ferrolb convert` prints in place of a ConfigMap.

mod commands;
mod needles;
mod objects;
mod surfaces;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{Ferrolb, Metallb, Rack, manifests};
use ferrolb_interop_tests::manifest::NAMESPACE;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Router, await_sessions};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

use commands::Inputs;
use needles::Needles;
use objects::{OLD_NAMESPACES, ROUTER, STATUS_ROLE};
use surfaces::Collector;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster with passwords.
pub(crate) struct Lab<'lab> {
    rack: Rack<'lab>,
    layer2: Vec<Ferrolb<'lab>>,
    scratch: &'lab Scratch,
    /// Everything that is printed, except logs of daemons.
    outputs: Scratch,
    inputs: Inputs,
    collector: Collector,
    /// An address of layer 2.
    address: IpAddr,
}

#[test]
fn no_output_contains_a_password() {
    scenario("passwords", |scratch| {
        let topology = Topology::new(2)?;
        let mut lab = Lab::start(scratch, &topology)?;
        let needles = Needles::new(scratch, &objects::passwords())?;
        lab.await_mistakes()?;
        let watching = commands::start_watching(&lab)?;
        lab.lose_and_establish_the_sessions()?;
        commands::run_all(&lab)?;
        surfaces::ask_sockets(&lab)?;
        surfaces::get_metrics(&lab)?;
        surfaces::read_pages(&lab)?;
        surfaces::get_objects(&lab)?;
        lab.end(watching)?;
        lab.every_password_was_there(&needles)?;
        let mut paths = lab.logs();
        paths.push(lab.outputs.path());
        let found = needles.search(&paths)?;
        ensure!(found.is_empty(), "passwords were printed: {found:#?}");
        Ok(())
    });
}

/// The Roles and RoleBindings with which ferrolb reads a configuration in another namespace.
fn roles_in(namespace: &str) -> Result<String> {
    let shipped = fs::read_to_string(manifests().join("2-rbac.yaml"))?;
    let copied = |text: &&str| text.contains("kind: Role") && text.contains("-config\n");
    let roles: Vec<&str> = shipped.split("---\n").filter(copied).collect();
    ensure!(roles.len() == 6, "{roles:?}");
    let from = format!("\n  namespace: {NAMESPACE}\n");
    let to = format!("\n  namespace: {namespace}\n");
    Ok(roles.join("---\n").replace(&from, &to))
}

/// Starts a process again with these arguments, logging everything.
fn restart(process: &mut Ferrolb<'_>, arguments: &[&str]) -> Result<()> {
    process.await_ready()?;
    process.process().terminate(TIMEOUT)?;
    for argument in arguments {
        process.add_argument(argument);
    }
    process.set_environment("RUST_LOG", "trace");
    process.start_again()
}

impl<'lab> Lab<'lab> {
    fn start(scratch: &'lab Scratch, topology: &'lab Topology) -> Result<Self> {
        let outputs = scratch.within("outputs")?;
        let inputs = Inputs::create(scratch)?;
        let mut rack = Rack::without_crds(scratch, topology, "md5")?;
        rack.router.change_password(ROUTER)?;
        rack.cp.install_metallb_crds(Metallb::V0_16_2)?;
        rack.cp.install_ferrolb_crds()?;
        rack.cp.apply(STATUS_ROLE)?;
        rack.cp.apply(&objects::accepted())?;
        rack.cp.apply(objects::METALLB_WORKLOADS)?;
        for namespace in OLD_NAMESPACES {
            rack.cp.apply(&roles_in(namespace)?)?;
        }
        rack.start_ferrolb()?;
        let nodes = topology.nodes.iter();
        let layer2: Result<Vec<_>> = nodes.map(|node| Ferrolb::layer2(&rack.cp, node)).collect();
        let mut layer2 = layer2?;

        let file = outputs.file("bmp.bin");
        let collector = Collector::start(&topology.nodes[0].namespace, file)?;
        let bmp = format!("--bmp={}", collector.address);
        let namespaces = [&[NAMESPACE][..], &OLD_NAMESPACES].concat();
        let namespaces = namespaces
            .into_iter()
            .map(|name| format!("--config-namespace={name}"));
        let mut arguments: Vec<String> = namespaces.collect();
        arguments.push("--metallb-status".to_owned());
        let mut common: Vec<&str> = arguments.iter().map(String::as_str).collect();
        for process in rack.allocators.iter_mut().chain(&mut layer2) {
            restart(process, &common)?;
        }
        common.push(&bmp);
        restart(&mut rack.announcers[0], &common)?;
        common.pop();
        restart(&mut rack.announcers[1], &common)?;

        let peers = topology.nodes.iter().map(|node| node.ipv4.into());
        await_sessions(&rack.router, &peers.collect(), TIMEOUT)?;
        let address = *rack.await_addresses("lan")?.first().context("no address")?;
        let web = rack.await_addresses("web")?;
        rack.await_routes(&rack.routes(&format!("{}/32", web[0]), &[0, 1])?)?;
        let lab = Self {
            rack,
            layer2,
            scratch,
            outputs,
            inputs,
            collector,
            address,
        };
        lab.write_inputs()?;
        Ok(lab)
    }

    /// Writes what commands read instead of the cluster.
    fn write_inputs(&self) -> Result<()> {
        let kinds = ["get", "nodes,endpointslices", "-A", "-o", "yaml"];
        let cluster = self.rack.cp.kubectl(&kinds)?;
        fs::write(self.inputs.good.join("objects.yaml"), objects::accepted())?;
        fs::write(self.inputs.good.join("cluster.yaml"), &cluster)?;
        fs::write(self.inputs.mistakes.join("cluster.yaml"), &cluster)?;
        objects::write_mistakes(&self.inputs.mistakes)?;
        objects::write_old_texts(&self.inputs.texts)
    }

    /// Waits until what is wrong with the passwords is in logs and in objects.
    fn await_mistakes(&self) -> Result<()> {
        let announcer = &self.rack.announcers[0];
        for words in [
            ["BGPPeer metallb-system/not-text", "UTF-8"],
            ["BGPPeer metallb-system/too-long", "requires 1 to 80"],
            ["BGPPeer metallb-system/opaque", "Secret"],
            ["BGPPeer metallb-system/both", "passwordSecret"],
            ["BGPPeer metallb-system/controls", "ends with a newline"],
            ["ConfigMap older/config", "password"],
        ] {
            announcer.await_log(&words, TIMEOUT)?;
        }
        // The ConfigMap means a session.
        eventually("the session of the ConfigMap", TIMEOUT, || {
            let peers = announcer.ask(&["peers"])?;
            ensure!(peers.contains("10.99.0.207"), "{peers}");
            anyhow::Ok(())
        })
    }

    /// Kills the router's BGP and starts it again, so that recordings have all messages.
    fn lose_and_establish_the_sessions(&mut self) -> Result<()> {
        let router = &mut self.rack.router;
        router.kill_bgpd()?;
        router.start_bgpd()?;
        router.change_password(ROUTER)?;
        let nodes = self.rack.topology.nodes.iter();
        await_sessions(
            router,
            &nodes.map(|node| node.ipv4.into()).collect(),
            TIMEOUT,
        )?;
        for format in ["mrt", "pcap"] {
            let file = self.outputs.file(&format!("capture.{format}"));
            eventually(format!("messages in {}", file.display()), TIMEOUT, || {
                let size = fs::metadata(&file)?.len();
                ensure!(size > 200, "{size} octets");
                anyhow::Ok(())
            })?;
        }
        let size = fs::metadata(&self.collector.file)?.len();
        ensure!(size > 200, "{size} octets for the BMP collector");
        Ok(())
    }

    /// Ends all processes, so that their logs are whole.
    fn end(&mut self, watching: Vec<Process>) -> Result<()> {
        drop(watching);
        let daemons = self
            .rack
            .allocators
            .iter_mut()
            .chain(&mut self.rack.announcers);
        for process in daemons.chain(&mut self.layer2) {
            process.process().terminate(TIMEOUT)?;
        }
        Ok(())
    }

    fn logs(&self) -> Vec<&Path> {
        let daemons = self.rack.allocators.iter().chain(&self.rack.announcers);
        daemons.chain(&self.layer2).map(Ferrolb::log).collect()
    }

    /// The search would find each password: it finds those in the objects, and in the state file,
    /// which only its owner can read.
    fn every_password_was_there(&self, needles: &Needles) -> Result<()> {
        let live = self.scratch.file("live.yaml");
        let kinds = "secrets,configmaps,bgppeers.metallb.io";
        fs::write(
            &live,
            self.rack.cp.kubectl(&["get", kinds, "-A", "-o", "yaml"])?,
        )?;
        let Inputs {
            good,
            mistakes,
            texts,
        } = &self.inputs;
        let found = needles.search(&[live.as_path(), good, mistakes, texts])?;
        let found: BTreeSet<&str> = found.iter().map(|finding| finding.password).collect();
        for (name, _) in objects::passwords() {
            ensure!(found.contains(name), "{name} is nowhere: {found:?}");
        }
        let state = self.scratch.file("state-node1/desired.json");
        let found = needles.search(&[&state])?;
        ensure!(
            found
                .iter()
                .any(|finding| finding.password == "the router's"),
            "not in the state: {found:?}"
        );
        let mode = fs::metadata(&state)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the mode of the state file is {mode:o}");
        Ok(())
    }
}
