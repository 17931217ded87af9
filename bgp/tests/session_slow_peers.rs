//! Peers that do not read, write slowly or flood must not delay a well-behaved peer.
//!
//! These tests run the driver with real sockets on loopback addresses.
#![cfg(feature = "speaker")]
#![allow(clippy::unwrap_used)] // a panic fails the test

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ferrolb_bgp::config::{HoldTime, PeerConfig, Timers, Transport};
use ferrolb_bgp::fsm::{Event, PeerRoutes, SpeakerConfig, State};
use ferrolb_bgp::rib::RouteAttributes;
use ferrolb_bgp::speaker::{self, Events, Handle, SpeakerOptions};
use ferrolb_bgp::wire::{
    Asn, DecodeContext, Family, Framer, LargeCommunity, Message, Open, RouteRefresh, end_of_rib,
    keepalive,
};
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longer than a change takes on a busy machine, shorter than a wait for a timer of another peer.
const UNDELAYED: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(20);
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

/// A speaker with passive peers at these addresses.
fn speaker<A: AsRef<str>>(peers: &[A]) -> (Handle, SocketAddr) {
    let (handle, _) = speaker::spawn(options(1, true)).unwrap();
    for address in peers.iter().map(AsRef::as_ref) {
        let remote = SocketAddr::new(address.parse().unwrap(), 0);
        handle
            .set_peer(PeerConfig {
                transport: Transport {
                    passive: true,
                    ..Transport::default()
                },
                families: FAMILIES.to_vec(),
                ..PeerConfig::new(address, remote, Asn(65002), Asn(65001))
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

/// Announces a table of this size that is built quickly: each prefix has 250 communities of its
/// own. Returns the number of prefixes.
fn announce_megabytes(handle: &Handle, peer: &str, megabytes: u32) -> usize {
    let route = |number| {
        let community = |local2| LargeCommunity {
            global: 65002,
            local1: number,
            local2,
        };
        Arc::new(RouteAttributes {
            large_communities: (0..250).map(community).collect(),
            ..RouteAttributes::default()
        })
    };
    let numbers = 0..megabytes * 330;
    let count = numbers.len();
    let changes = numbers.map(|number| (prefix(number), Some(route(number))));
    handle.routes(vec![PeerRoutes {
        peer: peer.to_owned(),
        changes: changes.collect(),
    }]);
    count
}

fn prefix(number: u32) -> IpNet {
    let address = Ipv4Addr::from(0x0a00_0000 + number);
    IpNet::new(address.into(), 32).unwrap()
}

/// A well-behaved peer with an established session.
async fn well_behaved(address: SocketAddr) -> (Handle, Events) {
    let (handle, events) = speaker::spawn(options(2, false)).unwrap();
    handle
        .set_peer(PeerConfig {
            families: FAMILIES.to_vec(),
            receive: true,
            ..PeerConfig::new("router", address, Asn(65001), Asn(65002))
        })
        .unwrap();
    handle.open_gate();
    timeout(TIMEOUT, async {
        while handle.snapshot().await[0].state != State::Established {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("no timeout");
    (handle, events)
}

/// A peer that the test implements: it connects and sends an OPEN and a KEEPALIVE.
async fn manual_peer(address: SocketAddr, source: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_send_buffer_size(65536).unwrap();
    manual_peer_with(socket, address, source, 0).await
}

async fn manual_peer_with(
    socket: TcpSocket,
    address: SocketAddr,
    source: &str,
    hold_time: u16,
) -> TcpStream {
    socket
        .bind(SocketAddr::new(source.parse().unwrap(), 0))
        .unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let id = source.parse().unwrap();
    let open = Open::new(Asn(65001), hold_time, id, &FAMILIES);
    stream.write_all(&open.encode()).await.unwrap();
    stream.write_all(&keepalive()).await.unwrap();
    stream
}

/// Announces routes to the well-behaved peer one after another. Each must arrive without delay.
async fn assert_undelayed(router: &Handle, events: &mut Events, first: u32) {
    for number in first..first + 20 {
        announce(router, "127.0.0.1", std::iter::once(prefix(number)));
        timeout(UNDELAYED, async {
            loop {
                if let Event::Received { update, .. } =
                    events.recv().await.expect("a running speaker")
                    && update
                        .announced()
                        .any(|announced| announced == prefix(number))
                {
                    return;
                }
            }
        })
        .await
        .expect("no delay");
    }
}

async fn established(handle: &Handle, peer: &str) -> bool {
    let status = handle.snapshot().await;
    let peer = status.iter().find(|status| status.name == peer).unwrap();
    peer.state == State::Established
}

async fn until_established(handle: &Handle, peer: &str) {
    timeout(TIMEOUT, async {
        while !established(handle, peer).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("no timeout");
}

#[tokio::test]
async fn a_peer_that_never_reads_delays_no_other_peer() {
    let (router, address) = speaker(&["127.0.0.1", "127.0.0.21"]);
    announce(&router, "127.0.0.21", (0..400_000).map(prefix));
    let stuck = manual_peer(address, "127.0.0.21").await;
    until_established(&router, "127.0.0.21").await;
    let (_node, mut events) = well_behaved(address).await;
    assert_undelayed(&router, &mut events, 1_000_000).await;
    assert!(
        established(&router, "127.0.0.21").await,
        "the send hold timer has not expired"
    );
    drop(stuck);
}

/// The TCP user timeout must be longer: to the kernel, a peer with a closed window is gone.
#[tokio::test]
async fn the_send_hold_timer_expires_for_a_peer_that_writes_but_does_not_read_rfc9687_4() {
    const NAME: &str = "127.0.0.26";
    let (router, address) = speaker::<&str>(&[]);
    let send_hold = Duration::from_secs(10);
    let remote = SocketAddr::new(NAME.parse().unwrap(), 0);
    router
        .set_peer(PeerConfig {
            transport: Transport {
                passive: true,
                ..Transport::default()
            },
            timers: Timers {
                hold_time: HoldTime::from_secs(9).unwrap(),
                send_hold_time: Some(send_hold),
                ..Timers::default()
            },
            families: FAMILIES.to_vec(),
            ..PeerConfig::new(NAME, remote, Asn(65002), Asn(65001))
        })
        .unwrap();
    announce_megabytes(&router, NAME, 10);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let start = std::time::Instant::now();
    let mut stuck = manual_peer_with(socket, address, NAME, 9).await;
    until_established(&router, NAME).await;
    let writing = async {
        while stuck.write_all(&keepalive()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let ended = async {
        while established(&router, NAME).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, async {
        tokio::select! {
            () = writing => {}
            () = ended => {}
        }
    })
    .await
    .expect("the end of the session");
    assert!(start.elapsed() > send_hold);
    let cause = router.snapshot().await[0].last_error.clone().unwrap().cause;
    assert_eq!(cause.code, "send-hold-timer-expired", "{cause:?}");
}

#[tokio::test]
async fn a_peer_that_sends_single_octets_delays_no_other_peer() {
    let (router, address) = speaker(&["127.0.0.1", "127.0.0.22"]);
    let mut slow = manual_peer(address, "127.0.0.22").await;
    until_established(&router, "127.0.0.22").await;
    let octets = end_of_rib(Family::IPV4_UNICAST);
    let writer = tokio::spawn(async move {
        for octet in octets.iter().cycle() {
            if slow.write_all(&[*octet]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (_node, mut events) = well_behaved(address).await;
    assert_undelayed(&router, &mut events, 0).await;
    assert!(established(&router, "127.0.0.22").await);
    assert!(!writer.is_finished());
    writer.abort();
}

#[tokio::test]
async fn peers_that_flood_delay_no_other_peer() {
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
        let stream = manual_peer(address, source).await;
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
    let (_node, mut events) = well_behaved(address).await;
    assert_undelayed(&router, &mut events, 1_000_000).await;
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
async fn connections_from_unknown_addresses_delay_no_peer() {
    let (router, address) = speaker(&["127.0.0.1"]);
    let mut floods = Vec::new();
    for _ in 0..4 {
        floods.push(tokio::spawn(async move {
            let mut open = std::collections::VecDeque::new();
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind("127.0.0.99:0".parse().unwrap()).unwrap();
                // The speaker rejects the connection. This end does not close it.
                if let Ok(stream) = socket.connect(address).await {
                    open.push_back(stream);
                }
                if open.len() > 100 {
                    open.pop_front();
                }
            }
        }));
    }
    let (_node, mut events) = well_behaved(address).await;
    assert_undelayed(&router, &mut events, 0).await;
    assert_eq!(router.snapshot().await.len(), 1);
    for flood in floods {
        flood.abort();
    }
}

/// Reads until this number of prefixes was announced.
async fn until_announced(read: &mut OwnedReadHalf, count: usize) {
    let mut framer = Framer::default();
    let context = DecodeContext {
        four_octet_asn: true,
        families: FAMILIES.to_vec(),
        loopback: true,
        ..DecodeContext::default()
    };
    let mut buffer = vec![0; 65536];
    let mut announced = 0;
    while announced < count {
        let octets = read.read(&mut buffer).await.unwrap();
        assert_ne!(octets, 0, "the session was closed");
        framer.push(&buffer[..octets]);
        while let Some(message) = framer.next(&context) {
            if let Ok(Message::Update(update)) = message {
                announced += update.announced().count();
            }
        }
    }
}

/// A long UPDATE that is decoded quickly: its only attribute is unknown.
fn bulky() -> Vec<u8> {
    const VALUE: u16 = 4000;
    let mut octets = vec![0xff; 16];
    octets.extend((19 + 4 + 4 + VALUE).to_be_bytes());
    octets.extend([2, 0, 0]);
    octets.extend((4 + VALUE).to_be_bytes());
    octets.extend([0xd0, 99]);
    octets.extend(VALUE.to_be_bytes());
    octets.resize(octets.len() + usize::from(VALUE), 7);
    octets
}

/// The application does not read the events of received UPDATEs. The UPDATEs wait in the peer
/// rather than in our memory, and none is lost.
#[tokio::test]
async fn unread_events_stop_reading_from_their_peer_only() {
    const UPDATES: usize = 10_000;
    let (router, mut events) = speaker::spawn(options(1, true)).unwrap();
    let address = router.local_addresses()[0];
    for name in ["127.0.0.27", "127.0.0.28"] {
        let remote = SocketAddr::new(name.parse().unwrap(), 0);
        router
            .set_peer(PeerConfig {
                transport: Transport {
                    passive: true,
                    ..Transport::default()
                },
                families: FAMILIES.to_vec(),
                receive: true,
                ..PeerConfig::new(name, remote, Asn(65002), Asn(65001))
            })
            .unwrap();
    }
    let mut flooder = manual_peer(address, "127.0.0.27").await;
    let mut quiet = manual_peer(address, "127.0.0.28").await;
    until_established(&router, "127.0.0.28").await;
    let flood = tokio::spawn(async move {
        for _ in 0..UPDATES / 10 {
            flooder.write_all(&bulky().repeat(10)).await.unwrap();
        }
        flooder
    });
    let received = async |name: &str| {
        let status = router.snapshot().await;
        let peer = status.iter().find(|peer| peer.name == name).unwrap();
        usize::try_from(peer.received.update).unwrap()
    };
    // Of 40 MB, 1 MB waits as events.
    let mut before = 0;
    timeout(TIMEOUT, async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = received("127.0.0.27").await;
            if now == before && now > 200 {
                break;
            }
            before = now;
        }
    })
    .await
    .expect("back-pressure");
    assert!(before < 500, "{before}");
    quiet
        .write_all(&end_of_rib(Family::IPV4_UNICAST))
        .await
        .unwrap();
    timeout(UNDELAYED, async {
        while received("127.0.0.28").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("an UPDATE of the other peer");
    timeout(TIMEOUT, async {
        let mut count = 0;
        while count < UPDATES + 1 {
            let event = events.recv().await.expect("a running speaker");
            count += usize::from(matches!(event, Event::Received { .. }));
        }
    })
    .await
    .expect("all UPDATEs");
    drop(flood.await.unwrap());
}

/// More than one task of tokio may poll before it must yield.
#[tokio::test]
async fn all_of_150_flooding_peers_are_served() {
    let addresses: Vec<String> = (0..150)
        .map(|number| format!("127.0.1.{}", 1 + number))
        .collect();
    let (router, address) = speaker(&addresses);
    let (announced, mut tasks) = (Arc::new(AtomicUsize::new(0)), Vec::new());
    for source in &addresses {
        let (mut read, mut write) = manual_peer(address, source).await.into_split();
        let octets = bulky().repeat(16);
        tasks.push(tokio::spawn(async move {
            while write.write_all(&octets).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }));
        let announced = announced.clone();
        tasks.push(tokio::spawn(async move {
            until_announced(&mut read, 1).await;
            announced.fetch_add(1, Ordering::Relaxed);
            let mut buffer = vec![0; 65536];
            while matches!(read.read(&mut buffer).await, Ok(1..)) {}
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for source in &addresses {
        announce(&router, source, std::iter::once(prefix(1)));
    }
    timeout(TIMEOUT, async {
        while announced.load(Ordering::Relaxed) < addresses.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("no timeout");
    let received = async || -> Vec<u64> {
        let status = router.snapshot().await;
        status.iter().map(|peer| peer.received.update).collect()
    };
    let before = received().await;
    timeout(TIMEOUT, async {
        while received()
            .await
            .iter()
            .zip(&before)
            .any(|(now, then)| now == then)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("an UPDATE of each peer");
    for task in tasks {
        task.abort();
    }
}
