//! `ferrolb run --bmp` on a session with FRR: bgpkit-parser reads every message, and pmacct's
//! collector (`pmbmpd`) logs what they mean.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bgpkit_parser::models::BgpMessage;
use bgpkit_parser::parser::bmp::messages::{BmpMessage, BmpMessageBody, PerPeerFlags};
use bgpkit_parser::parser::bmp::parse_bmp_msg;
use ferrolb_interop_tests::daemon::Folder;
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::manifest;
use ferrolb_interop_tests::process::Process;
use ferrolb_interop_tests::router::{Kind, await_table, router_scenario};
use ferrolb_interop_tests::scenario::Scratch;
use ferrolb_interop_tests::topology::{NODE_ASN, Node, TOR_ASN, TOR_IPV4};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Statistics are reported once a minute.
const STATISTICS_TIMEOUT: Duration = Duration::from_secs(90);
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

/// pmacct's collector on a node. It logs each message as a line of JSON.
struct Pmbmpd<'lab> {
    scratch: &'lab Scratch,
    process: Process,
}

impl<'lab> Pmbmpd<'lab> {
    const ADDRESS: &'static str = "127.0.0.1:5000";

    fn start(scratch: &'lab Scratch, node: &Node) -> Result<Self> {
        let (ip, port) = Self::ADDRESS.split_once(':').context("a port")?;
        let log = Self::log(scratch);
        let configuration = format!(
            "daemonize: false\nbmp_daemon_ip: {ip}\nbmp_daemon_port: {port}\n\
             bmp_daemon_msglog_file: {}\nbmp_daemon_msglog_output: json\n",
            log.display()
        );
        let file = scratch.file("pmbmpd.conf");
        fs::write(&file, configuration)?;
        let mut command = node.namespace.command("pmbmpd");
        let process = Process::start(scratch, "pmbmpd", command.arg("-f").arg(file))?;
        Ok(Self { scratch, process })
    }

    fn log(scratch: &Scratch) -> PathBuf {
        scratch.file("bmp.json")
    }

    /// All messages so far of a type.
    fn messages(&mut self, kind: &str) -> Result<Vec<Value>> {
        self.process.ensure_running()?;
        let log = Self::log(self.scratch);
        let text = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let mut messages: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
        messages.retain(|message| message["bmp_msg_type"] == kind);
        Ok(messages)
    }

    /// Waits until a message of a type has these fields.
    fn await_message(&mut self, kind: &str, fields: &Value, timeout: Duration) -> Result<()> {
        eventually(format!("{kind} with {fields}"), timeout, || {
            let messages = self.messages(kind)?;
            let fields = fields.as_object().context("fields")?;
            let fits = |message: &Value| fields.iter().all(|(name, value)| message[name] == *value);
            ensure!(messages.iter().any(fits), "{messages:#?}");
            anyhow::Ok(())
        })
    }
}

/// Debian's pmacct 1.7.7, which knows the Adj-RIB-Out (RFC 8671).
#[test]
fn pmbmpd_logs_the_session_its_routes_and_statistics_and_its_end() {
    router_scenario(Kind::Frr, "pmbmpd", 1, "ebgp", |scratch, rack, router| {
        let node = &rack.nodes[0];
        let mut collector = Pmbmpd::start(scratch, node)?;
        let folder = Folder::new(scratch)?;
        let communities = manifest::advertisement("communities: ['64700:120']");
        let manifests = manifests().replace(&manifest::advertisement(""), &communities);
        ensure!(manifests.contains("64700:120"), "{manifests}");
        folder.write("all.yaml", &manifests)?;
        folder.write_node(node, &[])?;
        let _daemon = folder.run_reporting(node, Pmbmpd::ADDRESS)?;
        let routes = folder.plan()?.routes(&[node], "tor")?;
        ensure!(routes.len() == 2, "{routes:?}");
        await_table(router, &routes, TIMEOUT)?;

        let name = json!({"bmp_init_info_sysname": node.name});
        collector.await_message("init", &name, TIMEOUT)?;
        let peer = json!({"peer_ip": TOR_IPV4, "peer_asn": TOR_ASN});
        let mut up = peer.clone();
        up["bgp_id"] = json!(TOR_IPV4);
        up["local_ip"] = json!(node.ipv4);
        collector.await_message("peer_up", &up, TIMEOUT)?;
        for route in &routes {
            let fields = json!({
                "log_type": "update", "ip_prefix": route.prefix.to_string(),
                "bgp_nexthop": route.next_hop,
                "as_path": NODE_ASN.to_string(), "comms": "64700:120",
                "peer_ip": TOR_IPV4, "is_out": 1, "is_post": 1,
            });
            collector.await_message("route_monitor", &fields, TIMEOUT)?;
        }
        // Routes in the Adj-RIB-Out.
        let mut statistics = peer.clone();
        statistics["counter_type"] = json!(15);
        statistics["counter_value"] = json!(routes.len());
        collector.await_message("stats", &statistics, STATISTICS_TIMEOUT)?;

        folder.write(
            "all.yaml",
            &manifests.replace("ready: true", "ready: false"),
        )?;
        let withdrawn = format!("{}/32", ADDRESSES[0]);
        let withdrawn = json!({"log_type": "withdraw", "ip_prefix": withdrawn, "is_out": 1});
        collector.await_message("route_monitor", &withdrawn, TIMEOUT)?;
        router.stop()?;
        collector.await_message("peer_down", &peer, TIMEOUT)
    });
}
