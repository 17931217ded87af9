//! A move from MetalLB: its speakers run beside ferrolb, on the same nodes and with the same
//! objects.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::{consistently, eventually};
use ferrolb_interop_tests::kube::{ControlPlane, DataPath, Ferrolb, Load, Metallb, Nodes};
use ferrolb_interop_tests::lan::{Host, answers, mac};
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::{Node, Topology};

use super::WARM_UP;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than two retries of ferrolb, which probes the address every 5 s.
const BESIDE: Duration = Duration::from_secs(12);

#[test]
fn an_address_is_taken_over_from_metallb_when_its_last_speaker_ends() {
    scenario("l2-metallb", |scratch| {
        let rack = Topology::new(2)?;
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_metallb_crds(Metallb::V0_14_9)?;
        cp.install_ferrolb_rbac()?;
        let _data_path = DataPath::start(&cp, &rack.nodes, "web")?;
        // MetalLB and ferrolb place this address on different nodes.
        let address: IpAddr = "10.99.0.222".parse()?;
        cp.apply(&manifest::join(&[
            &manifest::pool("10.99.0.220-10.99.0.230"),
            &manifest::layer2_advertisement("interfaces: [uplink]"),
            &manifest::service("web", "", ""),
        ]))?;
        cp.set_service_addresses("default", "web", &[address])?;
        let client = Host::new(&rack, "client", 100)?;
        let answer = || {
            let macs = answers(&client.namespace, address)?;
            let nodes = rack.nodes.iter().enumerate();
            let nodes = nodes.map(|(node, host)| Ok((mac(&host.namespace)?, node)));
            let nodes = nodes.collect::<Result<Vec<_>>>()?;
            let found = nodes.iter().filter(|(mac, _)| macs.contains(mac));
            let found: Vec<usize> = found.map(|(_, node)| *node).collect();
            ensure!(found.len() == macs.len(), "a foreign host: {macs:?}");
            let [node] = found[..] else {
                anyhow::bail!("nodes {found:?} answer");
            };
            Ok(node)
        };

        cp.prepare_metallb_speakers(&rack.nodes)?;
        let mut speakers = start_speakers(scratch, &cp, &rack)?;
        let metallb = eventually("MetalLB answers", TIMEOUT, answer)?;
        let daemons = rack.nodes.iter().map(|node| Ferrolb::layer2(&cp, node));
        let mut daemons = daemons.collect::<Result<Vec<_>>>()?;
        for daemon in &mut daemons {
            daemon.await_ready()?;
        }
        let node = &rack.nodes[metallb];
        let words = [
            "another node answers for the address though it doesn't own it",
            &address.to_string(),
            &mac(&node.namespace)?.to_string(),
            &node.name,
        ];
        eventually("ferrolb waits for MetalLB", TIMEOUT, || {
            let mut logs = daemons.iter_mut();
            let waits = logs.any(|daemon| daemon.process().check_log(&words).is_ok());
            ensure!(waits, "no daemon logged {words:?}");
            Ok(())
        })?;
        let other = 1 - metallb;
        let only_metallb = |daemons: &[Ferrolb<'_>]| {
            let found = answer()?;
            ensure!(found == metallb, "node{} answers", found + 1);
            // On the speaker's node both would answer with the same Ethernet address.
            let owned = daemons[other].metric("ferrolb_layer2_addresses_owned")?;
            ensure!(owned == 0.0, "node{} owns the address", other + 1);
            Ok(())
        };
        consistently("only MetalLB's node answers", BESIDE, || {
            only_metallb(&daemons)
        })?;

        let load = Load::start(&client.namespace, SocketAddr::new(address, 80), 50, 0)?;
        sleep(WARM_UP);
        // The owner's speaker ends last, so that no other speaker takes over.
        speakers.swap(metallb, 0);
        for speaker in speakers.iter_mut().rev() {
            speaker.terminate(TIMEOUT)?;
        }
        eventually("ferrolb owns the address", TIMEOUT, || {
            let owned = daemons.iter();
            let owned = owned.map(|daemon| daemon.metric("ferrolb_layer2_addresses_owned"));
            let owned: f64 = owned.sum::<Result<f64>>()?;
            ensure!(owned == 1.0, "{owned} nodes own it");
            answer()
        })?;
        let report = load.stop()?;
        ensure!(report.handed_over(), "{report:?}");

        // MetalLB's speakers start again, and announce the address beside its owner.
        let arguments = ["l2", "move", &address.to_string(), &rack.nodes[other].name];
        daemons[metallb].ask(&arguments)?;
        eventually("ferrolb's owner moved", TIMEOUT, || {
            let found = answer()?;
            ensure!(found == other, "node{} answers", found + 1);
            Ok(())
        })?;
        let _speakers = start_speakers(scratch, &cp, &rack)?;
        eventually("ferrolb's owner stops", TIMEOUT, || only_metallb(&daemons))?;
        consistently("only MetalLB's node answers", BESIDE, || {
            only_metallb(&daemons)
        })
    });
}

fn start_speakers(
    scratch: &Scratch,
    cp: &ControlPlane<'_>,
    rack: &Topology,
) -> Result<Vec<Process>> {
    let start = |node: &Node| {
        let command = cp.metallb_speaker(node)?;
        let name = format!("speaker-{}", node.name);
        Process::start(scratch, &name, &command).context(name)
    };
    rack.nodes.iter().map(start).collect()
}
