//! Peers that don't read, hardly write, or never stop, beside one that behaves: it must not notice.
#![cfg(feature = "speaker")]
#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::config::{PeerConfig, Transport};
use ferrolb_bgp::fsm::{Event, PeerRoutes, SpeakerConfig, State};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::speaker::{self, Events, Handle, SpeakerOptions};
use ferrolb_bgp::wire::{Asn, Family, Open, RouteRefresh, end_of_rib, keepalive};
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// More than a change may take, however busy the machine; a peer that has to wait for another one
/// waits for its timers.
const PROMPT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);
const FAMILIES: [Family; 1] = [Family::IPV4_UNICAST];

fn options(id: u8, listen: bool) -> SpeakerOptions {
    SpeakerOptions {
        speaker: SpeakerConfig {
            router_id_fallback: Ipv4Addr::new(10, 255, 0, id),
            seed: id.into(),
            host_uptime: None,
        },
        listen: listen
            .then(|| "127.0.0.1:0".parse().unwrap())
            .into_iter()
            .collect(),
    }
}

/// A speaker that waits for peers at these addresses and announces to all of them.
fn speaker(peers: &[&str]) -> (Handle, SocketAddr) {
    let (handle, _) = speaker::spawn(options(1, true)).unwrap();
    for address in peers {
        let remote = SocketAddr::new(address.parse().unwrap(), 0);
        handle
            .set_peer(PeerConfig {
                transport: Transport {
                    passive: true,
                    ..Transport::default()
                },
                families: FAMILIES.to_vec(),
                ..PeerConfig::new(*address, remote, Asn(65002), Asn(65001))
            })
            .unwrap();
    }
    handle.open_gate();
    let address = handle.local_addresses()[0];
    (handle, address)
}

fn announce(handle: &Handle, peer: &str, prefixes: impl Iterator<Item = IpNet>) {
    let route = Arc::new(RouteAttributes::default());
    let changes = prefixes.map(|prefix| (prefix, Some(route.clone())));
    handle.routes(vec![PeerRoutes {
        peer: peer.to_owned(),
        changes: changes.collect(),
    }]);
}

fn prefix(number: u32) -> IpNet {
    let address = Ipv4Addr::from(0x0a00_0000 + number);
    IpNet::new(address.into(), 32).unwrap()
}

/// The one that behaves.
async fn good(address: SocketAddr) -> (Handle, Events) {
    let (handle, events) = speaker::spawn(options(2, false)).unwrap();
    handle
        .set_peer(PeerConfig {
            families: FAMILIES.to_vec(),
            receive: true,
            ..PeerConfig::new("router", address, Asn(65001), Asn(65002))
        })
        .unwrap();
    handle.open_gate();
    timeout(PATIENCE, async {
        while handle.snapshot().await[0].state != State::Established {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("in time");
    (handle, events)
}

/// A connection by hand, up to Established.
async fn by_hand(address: SocketAddr, source: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket
        .bind(SocketAddr::new(source.parse().unwrap(), 0))
        .unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let id = source.parse().unwrap();
    let open = Open::new(Asn(65001), 0, id, &FAMILIES);
    stream.write_all(&open.encode()).await.unwrap();
    stream.write_all(&keepalive()).await.unwrap();
    stream
}

/// Changes for the peer that behaves, one after the other: each arrives at once.
async fn changes_arrive(router: &Handle, events: &mut Events, first: u32) {
    for number in first..first + 20 {
        announce(router, "127.0.0.1", std::iter::once(prefix(number)));
        timeout(PROMPT, async {
            loop {
                if let Event::Received { update, .. } = events.recv().await.expect("it runs")
                    && update
                        .announced()
                        .any(|announced| announced == prefix(number))
                {
                    return;
                }
            }
        })
        .await
        .expect("promptly");
    }
}

async fn established(handle: &Handle, peer: &str) -> bool {
    let status = handle.snapshot().await;
    let peer = status.iter().find(|status| status.name == peer).unwrap();
    peer.state == State::Established
}

async fn until_established(handle: &Handle, peer: &str) {
    timeout(PATIENCE, async {
        while !established(handle, peer).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("in time");
}

#[tokio::test]
async fn a_peer_that_never_reads_delays_nobody() {
    let (router, address) = speaker(&["127.0.0.1", "127.0.0.21"]);
    announce(&router, "127.0.0.21", (0..400_000).map(prefix));
    let stuck = by_hand(address, "127.0.0.21").await;
    until_established(&router, "127.0.0.21").await;
    let (_node, mut events) = good(address).await;
    changes_arrive(&router, &mut events, 1_000_000).await;
    assert!(established(&router, "127.0.0.21").await, "it is only slow");
    drop(stuck);
}

#[tokio::test]
async fn a_peer_that_sends_an_octet_now_and_then_delays_nobody() {
    let (router, address) = speaker(&["127.0.0.1", "127.0.0.22"]);
    let mut slow = by_hand(address, "127.0.0.22").await;
    until_established(&router, "127.0.0.22").await;
    let octets = end_of_rib(Family::IPV4_UNICAST);
    let dribble = tokio::spawn(async move {
        for octet in octets.iter().cycle() {
            if slow.write_all(&[*octet]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (_node, mut events) = good(address).await;
    changes_arrive(&router, &mut events, 0).await;
    assert!(established(&router, "127.0.0.22").await);
    assert!(!dribble.is_finished());
    dribble.abort();
}

#[tokio::test]
async fn peers_that_flood_delay_nobody() {
    let (router, address) = speaker(&["127.0.0.1", "127.0.0.23", "127.0.0.24"]);
    announce(&router, "127.0.0.24", (0..100_000).map(prefix));
    let refresh = RouteRefresh {
        family: Family::IPV4_UNICAST,
        subtype: RouteRefresh::REQUEST,
    };
    let refresh = refresh.encode();
    let updates = end_of_rib(Family::IPV4_UNICAST);
    let mut floods = Vec::new();
    for (source, message) in [("127.0.0.23", updates), ("127.0.0.24", refresh)] {
        let stream = by_hand(address, source).await;
        until_established(&router, source).await;
        let (mut read, mut write) = stream.into_split();
        floods.push(tokio::spawn(async move {
            let octets = message.repeat(1000);
            while write.write_all(&octets).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }));
        floods.push(tokio::spawn(async move {
            let mut buffer = vec![0; 65536];
            while matches!(read.read(&mut buffer).await, Ok(1..)) {}
        }));
    }
    let (_node, mut events) = good(address).await;
    changes_arrive(&router, &mut events, 1_000_000).await;
    for source in ["127.0.0.23", "127.0.0.24"] {
        assert!(established(&router, source).await, "{source}");
    }
    let status = router.snapshot().await;
    assert!(status.iter().any(|peer| peer.received.route_refresh > 1000));
    for flood in floods {
        flood.abort();
    }
}

#[tokio::test]
async fn strangers_at_the_door_delay_nobody() {
    let (router, address) = speaker(&["127.0.0.1"]);
    let mut floods = Vec::new();
    for _ in 0..4 {
        floods.push(tokio::spawn(async move {
            let mut held = std::collections::VecDeque::new();
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind("127.0.0.99:0".parse().unwrap()).unwrap();
                // Turned away, and held open at this end.
                if let Ok(stream) = socket.connect(address).await {
                    held.push_back(stream);
                }
                if held.len() > 100 {
                    held.pop_front();
                }
            }
        }));
    }
    let (_node, mut events) = good(address).await;
    changes_arrive(&router, &mut events, 0).await;
    assert_eq!(router.snapshot().await.len(), 1);
    for flood in floods {
        flood.abort();
    }
}
