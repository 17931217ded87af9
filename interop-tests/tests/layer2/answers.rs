//! What resolvers receive: exactly one answer, which stays valid, and updates that they accept.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::lan::{Host, LanCluster, cached_answer, mac};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::Topology;

use super::{Part, addresses, captured, spread};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const PARTS: &[(&str, Part)] = &[
    ("one", one_node_answers_for_each_address),
    ("nud", unreachability_detection_is_answered),
    ("locktime", a_move_within_the_locktime_reaches_the_cache),
];

/// The greeting of the server at port 80 of an address: the name of its node, and the client.
pub(super) fn greeting(client: &Host, address: IpAddr) -> Result<String> {
    let ask = format!("exec 3<>/dev/tcp/{address}/80 && head -n1 <&3");
    let arguments = ["2", "bash", "-c", &ask];
    client.namespace.run("timeout", &arguments)
}

fn one_node_answers_for_each_address(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(3)?;
    let cluster = LanCluster::start(scratch, &rack, &addresses(6, 3))?;
    let owners = cluster.await_owners(&[0, 1, 2])?;
    ensure!(spread(&owners, &[0, 1, 2]) <= 1, "{owners:?}");
    for (&address, &owner) in &owners {
        let text = greeting(&cluster.client, address)?;
        let expected = format!("node{} ", owner + 1);
        ensure!(text.starts_with(&expected), "{address}: {text}");
        let cached = cached_answer(&cluster.client.namespace, address)?;
        ensure!(
            cached.as_ref() == Some(cluster.mac(owner)),
            "{address}: {cached:?}, expected {}",
            cluster.mac(owner)
        );
    }
    Ok(())
}

/// The client confirms its entries every second, by unicast (RFC 4861 §7.3; for ARP, RFC 1122
/// §2.3.2.1). UDP, unlike TCP, does not confirm them by itself.
fn unreachability_detection_is_answered(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let mut cluster = LanCluster::start(scratch, &rack, &addresses(1, 1))?;
    let client = &cluster.client.namespace;
    client.sysctl(&[
        "net.ipv4.neigh.uplink.base_reachable_time_ms=1000",
        "net.ipv6.neigh.uplink.base_reachable_time_ms=1000",
        "net.ipv4.neigh.uplink.delay_first_probe_time=1",
        "net.ipv6.neigh.uplink.delay_first_probe_time=1",
    ])?;
    let owners = cluster.await_owners(&[0, 1])?;
    for &address in owners.keys() {
        greeting(&cluster.client, address)?;
    }
    let own = mac(&cluster.client.namespace)?;
    let frames = captured(scratch, &mut cluster, "nud", |cluster| {
        let send = "for i in $(seq 40); do for a in \"$@\"; do echo > /dev/udp/$a/9; done; \
                    sleep 0.2; done";
        let texts: Vec<String> = owners.keys().map(ToString::to_string).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let arguments = [&["-c", send, "bash"], &texts[..]].concat();
        cluster.client.namespace.run("bash", &arguments).map(drop)
    })?;
    for (address, &owner) in &owners {
        let asks = [format!("who-has {address} "), format!("who has {address},")];
        let requests: Vec<_> = frames
            .frames()?
            .into_iter()
            .filter(|frame| frame.source == own)
            .filter(|frame| asks.iter().any(|ask| frame.text.contains(ask)))
            .collect();
        let to_owner = cluster.mac(owner).to_string();
        ensure!(
            requests.len() >= 2
                && requests
                    .iter()
                    .all(|frame| frame.text.starts_with(&to_owner)),
            "{address}: not all requests were sent to {to_owner}: {requests:#?}"
        );
        let cached = cached_answer(&cluster.client.namespace, *address)?;
        ensure!(cached.as_ref() == Some(cluster.mac(owner)), "{cached:?}");
    }
    Ok(())
}

/// A kernel ignores most updates of an entry within its locktime, which is a second by default and
/// a minute here. IPv6 has none.
fn a_move_within_the_locktime_reaches_the_cache(scratch: &Scratch) -> Result<()> {
    let rack = Topology::new(2)?;
    let cluster = LanCluster::start(scratch, &rack, &addresses(1, 1))?;
    let client = &cluster.client.namespace;
    client.sysctl(&["net.ipv4.neigh.uplink.locktime=6000"])?;
    for (address, owner) in cluster.await_owners(&[0, 1])? {
        greeting(&cluster.client, address)?;
        let cached = cached_answer(client, address)?.context("not resolved")?;
        ensure!(cached == *cluster.mac(owner), "{cached}");
        let to = 1 - owner;
        let node = &rack.nodes[to].name;
        cluster.ask(owner, &["l2", "move", &address.to_string(), node])?;
        eventually(format!("{address} moves in the cache"), TIMEOUT, || {
            let cached = cached_answer(client, address)?;
            ensure!(cached.as_ref() == Some(cluster.mac(to)), "{cached:?}");
            Ok(())
        })?;
        // Nothing moves it back.
        sleep(Duration::from_secs(2));
        let text = greeting(&cluster.client, address)?;
        ensure!(text.starts_with(node.as_str()), "{address}: {text}");
    }
    Ok(())
}
