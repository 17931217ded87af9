//! The driver with real sockets on loopback: threads, TCP MD5, GTSM, BFD ports.
#![cfg(feature = "speaker")]
#![allow(clippy::unwrap_used)] // a failure fails the test

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::config::{
    BfdOptions, GracefulRestart, HoldTime, PeerConfig, Remote, Secret, Timers, Transport,
};
use ferrolb_bgp::fsm::{Cause, Event, PeerRoutes, ShutdownMode, SpeakerConfig, State};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::speaker::{self, Capture, Captured, Delays, Events, Handle, SpeakerOptions};
use ferrolb_bgp::wire::{Asn, Family, Open, Update, keepalive};
use ipnet::IpNet;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(20);

fn options(id: u8, listen: bool) -> SpeakerOptions {
    let router_id_fallback = Ipv4Addr::new(10, 255, 0, id);
    SpeakerOptions {
        speaker: SpeakerConfig {
            router_id_fallback,
            seed: id.into(),
            host_uptime: None,
        },
        listen: if listen {
            vec!["127.0.0.1:0".parse().unwrap()]
        } else {
            vec![]
        },
    }
}

/// A router that listens for one peer from each of these addresses.
fn router(peers: &[&str], password: Option<&str>) -> (Handle, Events, SocketAddr) {
    let (handle, events) = speaker::spawn(options(1, true)).unwrap();
    for address in peers {
        let address: IpAddr = address.parse().unwrap();
        handle
            .set_peer(PeerConfig {
                transport: Transport {
                    passive: true,
                    password: password.map(Secret::new),
                    ..Transport::default()
                },
                receive: true,
                ..PeerConfig::new(
                    address.to_string(),
                    SocketAddr::new(address, 0),
                    Asn(65002),
                    Asn(65001),
                )
            })
            .unwrap();
    }
    handle.open_gate();
    let address = handle.local_addresses()[0];
    (handle, events, address)
}

fn node(router: SocketAddr, source: &str, password: Option<&str>) -> PeerConfig {
    PeerConfig {
        transport: Transport {
            source_address: Some(source.parse().unwrap()),
            password: password.map(Secret::new),
            ..Transport::default()
        },
        ..PeerConfig::new("tor", router, Asn(65001), Asn(65002))
    }
}

fn prefixes(count: u32) -> Vec<IpNet> {
    (0..count)
        .map(|i| format!("10.{}.{}.1/32", i / 250, i % 250).parse().unwrap())
        .collect()
}

fn routes(prefixes: &[IpNet], announce: bool) -> Vec<PeerRoutes> {
    let route = announce.then(|| Arc::new(RouteAttributes::default()));
    let changes = prefixes
        .iter()
        .map(|prefix| (*prefix, route.clone()))
        .collect();
    vec![PeerRoutes {
        peer: "tor".to_owned(),
        changes,
    }]
}

/// Reads events until `done`, and maintains an Adj-RIB-In for each peer.
async fn until(
    events: &mut Events,
    tables: &mut BTreeMap<String, BTreeMap<IpNet, Update>>,
    done: impl Fn(&Event, &BTreeMap<String, BTreeMap<IpNet, Update>>) -> bool,
) {
    timeout(TIMEOUT, async {
        loop {
            let event = events.recv().await.expect("the speaker runs");
            match &event {
                Event::Received { peer, update } => {
                    let table = tables.entry(peer.clone()).or_default();
                    for prefix in update.withdrawn_prefixes() {
                        table.remove(&prefix);
                    }
                    for prefix in update.announced() {
                        table.insert(prefix, (**update).clone());
                    }
                }
                Event::Down { peer, .. } => drop(tables.remove(peer)),
                _ => {}
            }
            if done(&event, tables) {
                return;
            }
        }
    })
    .await
    .expect("in time");
}

async fn wait_for(handle: &Handle, state: State) {
    let begun = std::time::Instant::now();
    loop {
        let peers = handle.snapshot().await;
        if peers.iter().any(|peer| peer.state == state) {
            return;
        }
        assert!(begun.elapsed() < TIMEOUT, "not {state} in time: {peers:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn routes_are_announced_and_a_shutdown_withdraws_them() {
    let (router, mut received, address) = router(&["127.0.0.1", "127.0.0.2"], None);
    let mut tables = BTreeMap::new();
    let mut nodes = Vec::new();
    let prefixes = prefixes(3000);
    for source in ["127.0.0.1", "127.0.0.2"] {
        let (node_handle, events) = speaker::spawn(options(2, false)).unwrap();
        node_handle.set_peer(node(address, source, None)).unwrap();
        node_handle.routes(routes(&prefixes, true));
        node_handle.open_gate();
        nodes.push((node_handle, events));
    }
    until(&mut received, &mut tables, |_, tables| {
        tables.len() == 2 && tables.values().all(|table| table.len() == 3000)
    })
    .await;
    // Each node's next hop is its source address.
    for (peer, table) in &tables {
        assert_eq!(table[&prefixes[0]].attributes.next_hop, peer.parse().ok());
    }
    let status = &nodes[0].0.snapshot().await[0];
    assert_eq!(
        (status.state, status.prefixes_advertised),
        (State::Established, 3000)
    );
    assert_eq!(nodes[0].0.advertised("tor").await.len(), 3000);

    nodes[0].0.routes(routes(&prefixes[..1000], false));
    until(&mut received, &mut tables, |_, tables| {
        tables["127.0.0.1"].len() == 2000
    })
    .await;
    assert_eq!(tables["127.0.0.2"].len(), 3000);

    // UPDATEs withdraw everything before the session ends.
    let (handle, _events) = nodes.remove(0);
    let shutdown = handle.shutdown("leaving", ShutdownMode::Withdraw);
    let watch = until(&mut received, &mut tables, |event, _| {
        if let Event::Down { peer, cause, .. } = event {
            assert_eq!(peer, "127.0.0.1");
            assert!(cause.to_string().contains("6/2") && cause.to_string().contains("leaving"));
            return true;
        }
        false
    });
    timeout(TIMEOUT, async { tokio::join!(shutdown, watch) })
        .await
        .expect("in time");
    assert!(handle.snapshot().await.is_empty(), "the speaker has ended");

    // Dropping the last handle shuts the other speaker down too.
    drop(nodes);
    until(&mut received, &mut tables, |event, _| {
        matches!(event, Event::Down { .. })
    })
    .await;
    router.shutdown("", ShutdownMode::Withdraw).await;
}

/// Accepts one session and reads this number of octets as fast as possible.
fn read(listener: &std::net::TcpListener, octets: usize) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let router_id = Ipv4Addr::new(10, 255, 0, 1);
    let open = Open::new(Asn(65002), 240, router_id, &[Family::IPV4_UNICAST]).encode();
    stream
        .write_all(&[&open[..], &keepalive()].concat())
        .unwrap();
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    while read < octets {
        let length = stream.read(&mut buffer).expect("more octets");
        assert!(length > 0, "the session ended after {read} octets");
        read += length;
    }
}

/// A socket that is always writable causes no wakeup: the driver must continue without one.
#[tokio::test]
async fn a_table_larger_than_a_turn_reaches_a_fast_router_without_pauses() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = 1_000_000;
    let least = 5 * count as usize; // NLRI: length and four octets each
    let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
    let table: Vec<IpNet> = (0..count)
        .map(|i| IpNet::from(IpAddr::from(Ipv4Addr::from((16 << 24) + i))))
        .collect();
    handle
        .set_peer(PeerConfig::new("tor", address, Asn(65001), Asn(65002)))
        .unwrap();
    handle.routes(routes(&table, true));
    handle.open_gate();
    let read = tokio::task::spawn_blocking(move || read(&listener, least));
    read.await.expect("the whole table");
}

#[tokio::test]
async fn tcp_md5_requires_the_right_password_rfc2385() {
    let (_router, mut received, address) = router(&["127.0.0.1"], Some("correct horse"));
    let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
    for wrong in [Some("battery staple"), None] {
        handle.set_peer(node(address, "127.0.0.1", wrong)).unwrap();
        wait_for(&handle, State::Connect).await;
        // The SYN is not answered: the kernel drops segments with a wrong signature or none.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(
            handle.snapshot().await[0].state,
            State::Connect,
            "{wrong:?}"
        );
    }
    handle
        .set_peer(node(address, "127.0.0.1", Some("correct horse")))
        .unwrap();
    wait_for(&handle, State::Established).await;
    let mut tables = BTreeMap::new();
    until(&mut received, &mut tables, |event, _| {
        matches!(event, Event::Established { .. })
    })
    .await;
}

#[tokio::test]
async fn a_password_change_on_both_sides_keeps_the_session_and_on_one_side_ends_it() {
    let signed = |config: PeerConfig, password: &str| PeerConfig {
        timers: Timers {
            hold_time: HoldTime::from_secs(6).unwrap(),
            ..config.timers
        },
        transport: Transport {
            password: Some(Secret::new(password)),
            ..config.transport.clone()
        },
        ..config
    };
    let (router, mut received, address) = router(&[], None);
    let ours = PeerConfig {
        transport: Transport {
            passive: true,
            ..Transport::default()
        },
        receive: true,
        ..PeerConfig::new(
            "node",
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            Asn(65002),
            Asn(65001),
        )
    };
    router.set_peer(signed(ours.clone(), "first")).unwrap();
    let (handle, mut events) = speaker::spawn(options(2, false)).unwrap();
    let theirs = node(address, "127.0.0.1", None);
    handle.set_peer(signed(theirs.clone(), "first")).unwrap();
    handle.open_gate();
    wait_for(&handle, State::Established).await;
    let prefixes = prefixes(200);
    let mut tables = BTreeMap::new();
    let has_routes = |count| {
        move |_: &Event, tables: &BTreeMap<String, BTreeMap<IpNet, Update>>| {
            tables.get("node").map_or(0, BTreeMap::len) == count
        }
    };
    handle.routes(routes(&prefixes[..100], true));
    until(&mut received, &mut tables, has_routes(100)).await;

    router.set_peer(signed(ours.clone(), "second")).unwrap();
    // Segments sent until the second change are dropped, then retransmitted.
    handle.routes(routes(&prefixes[100..150], true));
    tokio::time::sleep(Duration::from_secs(1)).await;
    handle.set_peer(signed(theirs.clone(), "second")).unwrap();
    handle.routes(routes(&prefixes[150..], true));
    until(&mut received, &mut tables, has_routes(200)).await;
    // Longer than the hold time: the session stays.
    tokio::time::sleep(Duration::from_secs(7)).await;
    for speaker in [&router, &handle] {
        let status = &speaker.snapshot().await[0];
        assert_eq!(
            (status.state, status.established_count),
            (State::Established, 1)
        );
    }

    router.set_peer(signed(ours, "third")).unwrap();
    until(&mut events, &mut tables, |event, _| match event {
        Event::Down {
            cause,
            was_established,
            ..
        } => {
            assert!(was_established);
            assert!(cause.to_string().contains("TCP MD5 password"), "{cause}");
            true
        }
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn a_router_without_password_rejects_a_signed_peer_rfc2385() {
    let (router, _events, address) = router(&["127.0.0.1"], None);
    let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
    handle
        .set_peer(node(address, "127.0.0.1", Some("correct horse")))
        .unwrap();
    wait_for(&handle, State::Connect).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(handle.snapshot().await[0].state, State::Connect);
    assert_eq!(router.snapshot().await[0].established_count, 0);
}

#[tokio::test]
async fn the_reason_of_a_failed_dial_is_reported() {
    let (handle, mut events) = speaker::spawn(options(2, false)).unwrap();
    // A port whose listener is closed again.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (source, reason) in [
        ("127.0.0.1", "nothing listens there"),
        ("192.0.2.77", "cannot dial from 192.0.2.77"),
    ] {
        handle.set_peer(node(closed, source, None)).unwrap();
        let reported = |event: &Event| match event {
            Event::Down { cause, .. } => cause.to_string().contains(reason),
            _ => false,
        };
        until(&mut events, &mut BTreeMap::new(), |event, _| {
            reported(event)
        })
        .await;
    }
    let status = &handle.snapshot().await[0];
    assert!(status.last_error.is_some() && status.retry_in.is_some());
}

#[tokio::test]
async fn a_listening_address_in_use_is_an_error_of_spawn() {
    let (router, _events, address) = router(&[], None);
    let taken = SpeakerOptions {
        listen: vec![address],
        ..options(2, false)
    };
    let error = speaker::spawn(taken).expect_err("address in use");
    assert!(
        error
            .to_string()
            .contains(&format!("cannot listen on {address}")),
        "{error}"
    );
    router.shutdown("", ShutdownMode::Withdraw).await;
}

#[tokio::test]
async fn a_connection_from_an_unknown_address_is_closed() {
    use tokio::io::AsyncReadExt;
    let (_router, _events, address) = router(&["127.0.0.9"], None);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut octets = Vec::new();
    let read = timeout(TIMEOUT, stream.read_to_end(&mut octets))
        .await
        .expect("in time");
    assert!(read.is_err() || octets.is_empty(), "{octets:?}");
}

/// A node that dials a router with these transport options.
fn node_with(router: SocketAddr, source: &str, transport: Transport) -> PeerConfig {
    let plain = node(router, source, None);
    let source_address = plain.transport.source_address;
    PeerConfig {
        transport: Transport {
            source_address,
            ..transport
        },
        ..plain
    }
}

/// A router with one passive peer.
fn router_for(remote: Remote, transport: Transport) -> (Handle, Events, SocketAddr) {
    let (handle, events) = speaker::spawn(options(1, true)).unwrap();
    let somewhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    handle
        .set_peer(PeerConfig {
            remote,
            transport: Transport {
                passive: true,
                ..transport
            },
            ..PeerConfig::new("nodes", somewhere, Asn(65002), Asn(65001))
        })
        .unwrap();
    let address = handle.local_addresses()[0];
    (handle, events, address)
}

#[tokio::test]
async fn gtsm_accepts_a_peer_on_the_link_and_discards_segments_with_a_low_ttl_rfc5082() {
    let gtsm = |hops| Transport {
        ttl_security: hops,
        ..Transport::default()
    };
    let host = |address: &str| Remote::Router(format!("{address}:0").parse().unwrap());
    let (router, _events, address) = router_for(host("127.0.0.1"), gtsm(Some(1)));
    // The answer implies that the router has set the option of its peer.
    assert_eq!(router.snapshot().await.len(), 1);
    let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
    // Without GTSM at this end segments have TTL 64, as if from 191 hops away: even the SYN is
    // dropped.
    handle
        .set_peer(node_with(address, "127.0.0.1", gtsm(None)))
        .unwrap();
    wait_for(&handle, State::Connect).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(handle.snapshot().await[0].state, State::Connect);
    assert_eq!(router.snapshot().await[0].received.open, 0);

    handle
        .set_peer(node_with(address, "127.0.0.1", gtsm(Some(1))))
        .unwrap();
    wait_for(&handle, State::Established).await;
}

#[tokio::test]
async fn dynamic_neighbors_use_the_password_of_their_network() {
    let with = |password: Option<&str>| Transport {
        password: password.map(Secret::new),
        ..Transport::default()
    };
    let network = Remote::Network("127.0.4.0/24".parse().unwrap());
    let (_router, _events, address) = router_for(network, with(Some("correct horse")));
    for (source, password, reached) in [
        ("127.0.4.7", Some("correct horse"), State::Established),
        ("127.0.4.8", Some("battery staple"), State::Connect),
        ("127.0.4.9", None, State::Connect),
    ] {
        let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
        handle
            .set_peer(node_with(address, source, with(password)))
            .unwrap();
        wait_for(&handle, reached).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(handle.snapshot().await[0].state, reached, "{source}");
    }
}

#[tokio::test]
async fn a_missing_source_interface_affects_its_peer_only() {
    let (_router, _events, address) = router(&["127.0.0.1"], None);
    let (handle, mut events) = speaker::spawn(options(2, false)).unwrap();
    let on = |interface: &str| Transport {
        source_interface: Some(interface.to_owned()),
        ..Transport::default()
    };
    handle
        .set_peer(node_with(address, "127.0.0.1", on("lo")))
        .unwrap();
    wait_for(&handle, State::Established).await;
    let elsewhere = SocketAddr::new([127, 0, 0, 3].into(), address.port());
    handle
        .set_peer(PeerConfig {
            name: "other".to_owned(),
            ..node_with(elsewhere, "127.0.0.2", on("eth77"))
        })
        .unwrap();
    until(&mut events, &mut BTreeMap::new(), |event, _| {
        matches!(event, Event::Down { peer, cause, .. } if peer == "other"
            && cause.to_string().contains("interface eth77 does not exist"))
    })
    .await;
    let status = handle.snapshot().await;
    let good = status.iter().find(|peer| peer.name == "tor").unwrap();
    assert_eq!(
        (good.state, good.established_count),
        (State::Established, 1)
    );
}

#[tokio::test]
async fn a_bfd_port_in_use_affects_peers_with_bfd_only() {
    // If this fails, another process uses the port.
    let _taken = std::net::UdpSocket::bind("0.0.0.0:3784");
    let (_router, _events, address) = router(&["127.0.0.1"], None);
    let (handle, mut events) = speaker::spawn(options(2, false)).unwrap();
    handle.set_peer(node(address, "127.0.0.1", None)).unwrap();
    wait_for(&handle, State::Established).await;
    handle
        .set_peer(PeerConfig {
            name: "with-bfd".to_owned(),
            bfd: Some(BfdOptions::default()),
            ..node(address, "127.0.0.2", None)
        })
        .unwrap();
    until(&mut events, &mut BTreeMap::new(), |event, _| {
        matches!(event, Event::Down { peer, cause, retry: Some(_), .. } if peer == "with-bfd"
            && cause.to_string().contains("UDP port 3784")
            && cause.to_string().contains("another BFD speaker"))
    })
    .await;
    let status = handle.snapshot().await;
    let good = status.iter().find(|peer| peer.name == "tor").unwrap();
    assert_eq!(
        (good.state, good.established_count),
        (State::Established, 1)
    );
}

/// Peers retain routes if the connection closes without a NOTIFICATION.
#[tokio::test]
async fn dropping_all_handles_starts_a_graceful_restart_where_negotiated_rfc4724_4() {
    for restarts in [true, false] {
        let graceful_restart = restarts.then(GracefulRestart::default);
        let (router, mut events, address) = router(&["127.0.0.1"], None);
        let mut config = router.peer("127.0.0.1").await.unwrap().config;
        config.graceful_restart.clone_from(&graceful_restart);
        router.set_peer(config).unwrap();
        let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
        handle
            .set_peer(PeerConfig {
                graceful_restart,
                ..node(address, "127.0.0.1", None)
            })
            .unwrap();
        handle.routes(routes(&prefixes(3), true));
        handle.open_gate();
        let mut tables = BTreeMap::new();
        until(&mut events, &mut tables, |_, tables| {
            tables
                .get("127.0.0.1")
                .is_some_and(|table| table.len() == 3)
        })
        .await;

        drop(handle);
        let mut withdrawn = 0;
        let cause = loop {
            match timeout(TIMEOUT, events.recv()).await.unwrap().unwrap() {
                Event::Received { update, .. } => withdrawn += update.withdrawn_prefixes().count(),
                Event::Down {
                    was_established: true,
                    cause,
                    ..
                } => break cause,
                _ => {}
            }
        };
        let retained = matches!(cause, Cause::Closed { error: None, .. });
        assert_eq!((retained, withdrawn == 0), (restarts, restarts), "{cause}");
    }
}

/// What [`Handle::routes`] sends follows from no change. The peer's TCP is the kernel.
#[tokio::test]
async fn a_change_counts_when_it_is_decided_written_and_acknowledged() {
    let (_router, _received, address) = router(&["127.0.0.1"], None);
    let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
    handle.set_peer(node(address, "127.0.0.1", None)).unwrap();
    handle.open_gate();
    wait_for(&handle, State::Established).await;
    handle.routes(routes(&prefixes(1), true));
    handle.routes_since(std::time::Instant::now(), routes(&prefixes(2), true));
    let count = |delays: Delays| delays.buckets.iter().sum::<u64>();
    let begun = std::time::Instant::now();
    while count(handle.convergence().acknowledged) < 1 {
        assert!(begun.elapsed() < TIMEOUT, "{:?}", handle.convergence());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let convergence = handle.convergence();
    for delays in [
        convergence.decided,
        convergence.written,
        convergence.acknowledged,
    ] {
        assert_eq!(count(delays), 1, "{convergence:?}");
    }
    assert!(convergence.decided.sum <= convergence.written.sum);
    assert!(convergence.written.sum < convergence.acknowledged.sum);
}

/// Direction and type of each message until a NOTIFICATION.
async fn messages(mut capture: Capture) -> Vec<(bool, u8)> {
    let mut messages = Vec::new();
    while messages.last().is_none_or(|(_, kind)| *kind != 3) {
        let captured = timeout(TIMEOUT, capture.recv()).await;
        let Some(Captured::Message(message)) = captured.expect("in time") else {
            panic!("{messages:?}");
        };
        assert!(!message.octets.windows(6).any(|octets| octets == b"secret"));
        assert_eq!(message.octets[..16], [0xff; 16]);
        messages.push((message.sent, message.octets[18]));
    }
    messages
}

/// The router captures from the first message on, the node in the middle of the session.
#[tokio::test]
async fn a_capture_has_all_messages_of_one_peer_up_to_the_notification() {
    let (router, _received, address) = router(&["127.0.0.1", "127.0.0.2"], Some("secret"));
    assert!(router.capture("tor").await.is_none(), "no such peer");
    let all = router.capture("127.0.0.1").await.unwrap();
    let (handle, _events) = speaker::spawn(options(2, false)).unwrap();
    for source in ["127.0.0.2", "127.0.0.1"] {
        let mut peer = node(address, source, Some("secret"));
        peer.name = source.to_owned();
        handle.set_peer(peer).unwrap();
    }
    handle.open_gate();
    let begun = std::time::Instant::now();
    while !handle
        .snapshot()
        .await
        .iter()
        .all(|peer| peer.state == State::Established)
    {
        assert!(begun.elapsed() < TIMEOUT);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rest = handle.capture("127.0.0.1").await.unwrap();
    handle.remove_peer("127.0.0.1");
    let all = messages(all).await;
    for message in [
        (true, 1),
        (false, 1),
        (true, 4),
        (false, 4),
        (true, 2),
        (false, 2),
    ] {
        assert!(all.contains(&message), "{message:?} {all:?}");
    }
    assert_eq!(all.last(), Some(&(false, 3)), "{all:?}");
    let rest = messages(rest).await;
    assert!(
        !rest.contains(&(true, 1)) && rest.last() == Some(&(true, 3)),
        "{rest:?}"
    );
}
