//! `ferrolb run --bmp`: a collector that reads every message with bgpkit-parser.

mod rack;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bgpkit_parser::models::{BgpMessage, BgpUpdateMessage};
use bgpkit_parser::parser::bmp::messages::{
    BmpMessage, BmpMessageBody, PeerDownReason, PerPeerFlags,
};
use bgpkit_parser::parser::bmp::parse_bmp_msg;
use ferrolb_bgp::fsm::ShutdownMode;
use rack::{Daemon, REST, Router, TIMEOUT};

/// The daemon's `sourceAddress`; the router has the next one.
const NODE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 135);
const ROUTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 136);
/// The address of the only service.
const PREFIX: &str = "192.0.2.0/32";

fn manifests(port: u16, endpoints: &str) -> String {
    let rest = REST.replace("[{addresses: [10.1.0.1]}]", endpoints);
    assert!(rest.contains(endpoints));
    format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: node-a}}}}
---
{rest}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: tor}}
spec:
  {{myASN: 64512, peerASN: 64513, peerAddress: {ROUTER}, peerPort: {port}, sourceAddress: {NODE}}}
"
    )
}

/// A connection of the daemon.
struct Collector(TcpStream);

impl Collector {
    fn accept(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).expect("non-blocking");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).expect("blocking");
                    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
                    return Self(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "no connection");
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next message.
    fn read(&mut self) -> BmpMessage {
        let mut message = vec![0; 6];
        self.0.read_exact(&mut message).expect("a header");
        let length = u32::from_be_bytes(message[1..5].try_into().expect("four octets"));
        message.resize(length as usize, 0);
        self.0.read_exact(&mut message[6..]).expect("a body");
        let mut octets = message.into();
        let message = parse_bmp_msg(&mut octets);
        message.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads the first two messages: who it is, and the session.
    fn begin(&mut self) {
        let first = self.read();
        let BmpMessageBody::InitiationMessage(initiation) = &first.message_body else {
            panic!("{first:?}");
        };
        assert_eq!(initiation.tlvs[1].info, "node-a");
        let second = self.read();
        let header = second.per_peer_header.expect("a header");
        assert_eq!(header.peer_ip, IpAddr::from(ROUTER));
        assert_eq!(header.peer_asn.to_u32(), 64513);
        let BmpMessageBody::PeerUpNotification(up) = &second.message_body else {
            panic!("{second:?}");
        };
        assert_eq!(up.local_addr, IpAddr::from(NODE));
        let BgpMessage::Open(received) = &up.received_open else {
            panic!("{up:?}");
        };
        assert_eq!(received.bgp_identifier, ROUTER);
        assert!(matches!(up.sent_open, BgpMessage::Open(_)));
    }

    /// Reads up to an UPDATE of the Adj-RIB-Out that is as expected.
    fn until(&mut self, expected: impl Fn(&BgpUpdateMessage) -> bool) {
        loop {
            let message = self.read();
            let flags = message.per_peer_header.map(|header| header.peer_flags);
            let Some(PerPeerFlags::PeerFlags(flags)) = flags else {
                panic!("{message:?}");
            };
            let BmpMessageBody::RouteMonitoring(monitoring) = message.message_body else {
                panic!("{:?}", message.message_body);
            };
            let BgpMessage::Update(update) = monitoring.bgp_message else {
                panic!("{:?}", monitoring.bgp_message);
            };
            if flags.is_adj_rib_out() && flags.is_post_policy() && expected(&update) {
                return;
            }
        }
    }

    /// The reason of the next end of a session.
    fn peer_down(&mut self) -> PeerDownReason {
        loop {
            match self.read().message_body {
                BmpMessageBody::PeerDownNotification(down) => return down.reason,
                BmpMessageBody::RouteMonitoring(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn announces(update: &BgpUpdateMessage) -> bool {
    update
        .announced_prefixes
        .iter()
        .any(|prefix| prefix.to_string() == PREFIX)
}

fn withdraws(update: &BgpUpdateMessage) -> bool {
    update
        .withdrawn_prefixes
        .iter()
        .any(|prefix| prefix.to_string() == PREFIX)
}

fn is_end_of_rib(update: &BgpUpdateMessage) -> bool {
    update.announced_prefixes.is_empty() && update.withdrawn_prefixes.is_empty()
}

#[tokio::test]
async fn a_collector_has_the_sessions_and_the_table_and_has_them_again_after_a_new_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let router = Router::start(NODE, false);
    let port = router.address.port();
    let manifests_folder = folder.path().join("manifests");
    fs::create_dir(&manifests_folder).expect("a folder");
    let replace = |endpoints: &str| {
        let new = folder.path().join("new.yaml");
        fs::write(&new, manifests(port, endpoints)).expect("written");
        fs::rename(new, manifests_folder.join("all.yaml")).expect("replaced");
    };
    replace("[{addresses: [10.1.0.1]}]");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let socket = folder.path().join("ferrolb.sock");
    let more = ["--bmp", &address].map(OsStr::new);
    let mut daemon = Daemon::start_with(&manifests_folder, &socket, &more);

    // The route and the end of the first table are reported as they are sent.
    let mut collector = Collector::accept(&listener);
    collector.begin();
    collector.until(announces);
    collector.until(is_end_of_rib);
    drop(collector);

    // The next connection begins with all of it.
    let mut collector = Collector::accept(&listener);
    collector.begin();
    collector.until(announces);
    collector.until(is_end_of_rib);
    replace("[]");
    collector.until(withdraws);

    router.handle.shutdown("bye", ShutdownMode::Withdraw).await;
    let reason = collector.peer_down();
    assert_eq!(
        reason,
        PeerDownReason::RemoteSystemClosedNotificationPduFollows
    );
    daemon.terminate();
    assert!(daemon.wait().success());
    let last = collector.read();
    assert!(
        matches!(last.message_body, BmpMessageBody::TerminationMessage(_)),
        "{last:?}"
    );
}
