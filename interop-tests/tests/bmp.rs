//! `ferrolb run --bmp` on a session with FRR: bgpkit-parser reads every message.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bgpkit_parser::models::BgpMessage;
use bgpkit_parser::parser::bmp::messages::{BmpMessage, BmpMessageBody, PerPeerFlags};
use bgpkit_parser::parser::bmp::parse_bmp_msg;
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::router::{Kind, await_table, router_scenario};
use ferrolb_interop_tests::topology::{TOR_ASN, TOR_IPV4};

const TIMEOUT: Duration = Duration::from_secs(30);
const ADDRESSES: [&str; 2] = ["192.0.2.10", "2001:db8:5::10"];

fn manifests() -> String {
    manifest::join(&[
        &manifest::ferrolb_peer(TOR_IPV4, ", dualStackAddressFamily: true"),
        &manifest::pool("192.0.2.0/24, \"2001:db8:5::/120\""),
        &manifest::advertisement(""),
        &manifest::dual_stack_service(ADDRESSES[0], ADDRESSES[1], "node1"),
    ])
}

/// The next message.
fn read(stream: &mut TcpStream) -> Result<BmpMessage> {
    let mut message = vec![0; 6];
    stream.read_exact(&mut message).context("no message")?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
    message.resize(length as usize, 0);
    stream
        .read_exact(&mut message[6..])
        .context("half a message")?;
    let message = parse_bmp_msg(&mut message.into());
    message.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Reads until the Adj-RIB-Out has all of these prefixes.
fn await_prefixes(stream: &mut TcpStream, expected: &BTreeSet<String>) -> Result<()> {
    let mut found = BTreeSet::new();
    while !found.is_superset(expected) {
        let message = read(stream)?;
        let flags = message.per_peer_header.context("no peer")?.peer_flags;
        let BmpMessageBody::RouteMonitoring(monitoring) = message.message_body else {
            bail!("{:?}", message.message_body);
        };
        let BgpMessage::Update(update) = monitoring.bgp_message else {
            bail!("{:?}", monitoring.bgp_message);
        };
        if matches!(flags, PerPeerFlags::PeerFlags(flags) if flags.is_adj_rib_out()) {
            found.extend(update.announced_prefixes.iter().map(ToString::to_string));
            let ipv6 = update.attributes.get_reachable_nlri();
            let ipv6 = ipv6.into_iter().flat_map(|nlri| &nlri.prefixes);
            found.extend(ipv6.map(ToString::to_string));
        }
    }
    Ok(())
}

#[test]
fn a_collector_gets_the_opens_the_table_and_the_end_of_a_session_with_frr() {
    router_scenario(Kind::Frr, "bmp", 1, "ebgp", |scratch, rack, router| {
        let node = &rack.nodes[0];
        let listener = node
            .namespace
            .open()?
            .inside(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let folder = Folder::new(scratch)?;
        folder.write("all.yaml", &manifests())?;
        folder.write_node(node, &[])?;
        let address = listener.local_addr()?.to_string();
        let _daemon = folder.run_reporting(node, &address)?;
        let routes = folder.plan()?.routes(&[node], "tor")?;
        ensure!(routes.len() == 2, "{routes:?}");
        await_table(router, &routes, TIMEOUT)?;
        let (mut collector, _) = listener.accept()?;
        collector.set_read_timeout(Some(TIMEOUT))?;

        let first = read(&mut collector)?;
        let initiation = matches!(first.message_body, BmpMessageBody::InitiationMessage(_));
        ensure!(initiation, "{first:?}");
        let second = read(&mut collector)?;
        let header = second.per_peer_header.context("no peer")?;
        ensure!(header.peer_ip == IpAddr::from(TOR_IPV4), "{header:?}");
        ensure!(header.peer_asn.to_u32() == TOR_ASN, "{header:?}");
        let BmpMessageBody::PeerUpNotification(up) = second.message_body else {
            bail!("{:?}", second.message_body);
        };
        ensure!(up.local_addr == IpAddr::from(node.ipv4), "{up:?}");
        let (BgpMessage::Open(_), BgpMessage::Open(received)) = (up.sent_open, up.received_open)
        else {
            bail!("no OPENs");
        };
        ensure!(received.bgp_identifier == TOR_IPV4, "{received:?}");
        let prefixes = routes
            .iter()
            .map(|route| route.prefix.to_string())
            .collect();
        await_prefixes(&mut collector, &prefixes)?;

        router.stop()?;
        loop {
            match read(&mut collector)?.message_body {
                BmpMessageBody::PeerDownNotification(_) => return Ok(()),
                BmpMessageBody::RouteMonitoring(_) => {}
                other => bail!("{other:?}"),
            }
        }
    });
}
