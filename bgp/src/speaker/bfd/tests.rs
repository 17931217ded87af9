//! The BFD driver with real sockets on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::sockopt::request_metadata;
use super::*;
use crate::bfd::{Cause, Change, Interval, Packet, SessionConfig, Timers};

const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 78);

/// A driver with one session. The test plays the peer. It sends to a port of the test, because
/// another program on this host may use the BFD port.
struct Bench {
    driver: BfdDriver,
    events: mpsc::Receiver<PeerBfdEvent>,
    _commands: mpsc::Sender<(String, Command)>,
    peer: UdpSocket,
    path: Path,
}

impl Bench {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.77:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        request_metadata(&socket, true).unwrap();
        let peer = UdpSocket::bind(SocketAddr::from((PEER, 0))).unwrap();
        peer.set_ttl(255).unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        let (commands, receiver) = mpsc::channel(outbox::OUTBOX_MAX);
        let (sender, events) = mpsc::channel(outbox::OUTBOX_MAX);
        let mut driver = BfdDriver::new(receiver, sender, Arc::default());
        let place = (Hops::Single, true);
        driver
            .receivers
            .insert(place, Receiver::new(socket).unwrap());
        let target = BfdTarget {
            remote: IpAddr::from(PEER),
            local: Some("127.0.0.77".parse().unwrap()),
            interface: None,
            hops: Hops::Single,
            config: SessionConfig {
                timers: Timers {
                    required_min_rx: Interval::from_millis(20),
                    ..Timers::default()
                },
                ..SessionConfig::default()
            },
        };
        driver.set("tor".to_owned(), target);
        let path = driver.peers["tor"].path;
        Self {
            driver,
            events,
            _commands: commands,
            peer,
            path,
        }
    }

    fn status(&self) -> SessionStatus {
        self.driver.status(self.path).unwrap()
    }

    fn send(&self, state: State) {
        let packet = Packet {
            diagnostic: crate::bfd::Diagnostic::NONE,
            state,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            detect_mult: 3,
            my_discriminator: 7,
            your_discriminator: self.status().discriminator,
            desired_min_tx: Interval::from_millis(20),
            required_min_rx: Interval::from_millis(20),
            required_min_echo_rx: Interval(0),
            authentication: None,
        };
        self.peer.send(&packet.encode()).unwrap();
    }

    /// One turn of the driver.
    async fn turn(&mut self) {
        std::future::poll_fn(|cx| Poll::Ready(self.driver.poll(cx).is_ready())).await;
        self.driver.set_timer();
    }

    async fn bring_up(&mut self) {
        loop {
            match self.status().state {
                State::Down => self.send(State::Down),
                State::Init => self.send(State::Init),
                _ => return,
            }
            tokio::task::yield_now().await;
            self.turn().await;
        }
    }

    fn downs(&mut self) -> usize {
        let mut downs = 0;
        while let Ok((_, event)) = self.events.try_recv() {
            downs += usize::from(
                matches!(event, BfdEvent::Changed { change, .. } if change.is_failure()),
            );
        }
        downs
    }
}

#[tokio::test]
async fn packets_that_arrive_while_the_thread_is_delayed_prevent_expiry() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    let time = bench.status().detection_time.unwrap();
    for round in 1..=5 {
        // The runtime notices a due timer but no datagram; then the thread is delayed.
        let soon = Instant::now() + Duration::from_millis(1);
        bench.driver.timer.set(Some(soon));
        std::future::poll_fn(|cx| Poll::Ready(bench.driver.poll(cx).is_ready())).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        bench.send(State::Up);
        std::thread::sleep(2 * time);
        bench.turn().await;
        assert_eq!(bench.status().state, State::Up, "{round}");
        assert_eq!(bench.downs(), 0);
    }
    // Without packets the detection time expires.
    std::thread::sleep(2 * time);
    while bench.status().state == State::Up {
        bench.turn().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.downs(), 1);
}

/// Unknown senders send faster than the driver reads.
#[tokio::test]
async fn a_flood_of_datagrams_does_not_delay_the_detection_of_a_failed_peer() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    bench.downs();
    let to = bench.peer.peer_addr().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let floods = [80, 81].map(|host| {
        let over = over.clone();
        std::thread::spawn(move || {
            let sender = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
            while !over.load(Ordering::Relaxed) {
                // Fails while the receive buffer is full.
                drop(sender.send_to(&[0; 24], to));
            }
        })
    });
    let Bench {
        driver,
        mut events,
        _commands,
        ..
    } = bench;
    let lost = async {
        loop {
            let (_, event) = events.recv().await.expect("the driver runs");
            if matches!(event, BfdEvent::Changed { change, .. } if change.is_failure()) {
                return;
            }
        }
    };
    let result = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! {
            () = driver.run() => false,
            () = lost => true,
        }
    })
    .await;
    over.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    assert_eq!(result, Ok(true));
}

/// A new interface with the same name has another index.
#[tokio::test]
async fn a_session_moves_to_an_interface_that_was_created_again() {
    let mut bench = Bench::new();
    let driver = &mut bench.driver;
    let old = bench.path;
    let target = BfdTarget {
        interface: Some("lo".to_owned()),
        ..driver.peers["tor"].target.clone()
    };
    let gone = Path {
        interface: Some(u32::MAX),
        ..old
    };
    let sender = Sender::new(&gone, None, 50_000).unwrap();
    let admin_down_until = None;
    driver.sessions.insert(
        gone,
        SessionSocket {
            sender,
            admin_down_until,
        },
    );
    driver.watch("tor".to_owned(), gone, target.clone());
    driver.last_status -= STATUS_INTERVAL;
    driver.report_status();
    let path = driver.peers["tor"].path;
    assert_eq!(path.interface, interface_index("lo").ok());
    assert_eq!(driver.status(path).unwrap().state, State::Down);
    assert!(driver.sessions[&gone].admin_down_until.is_some());

    // While the interface is missing, the session stays.
    let target = BfdTarget {
        interface: Some("eth77".to_owned()),
        ..target
    };
    driver
        .peers
        .insert("tor".to_owned(), PeerBfd { path, target });
    driver.rebind_interfaces();
    assert_eq!(driver.peers["tor"].path, path);
}

/// The port stays bound while a peer uses it, and until AdminDown was sent for the detection time.
#[tokio::test]
async fn an_unused_port_is_released() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    let port = bench.peer.peer_addr().unwrap();
    let time = bench.status().remote_detection_time;
    let driver = &mut bench.driver;
    let target = driver.peers["tor"].target.clone();
    driver.set("second".to_owned(), target);
    driver.remove("second");
    driver.remove_finished();
    driver.remove("tor");
    driver.remove_finished();
    assert!(UdpSocket::bind(port).is_err());
    tokio::time::sleep(time + Duration::from_millis(50)).await;
    driver.remove_finished();
    assert!(UdpSocket::bind(port).is_ok());
}

/// Each sender is logged once, and the number of logged senders is limited.
#[tokio::test]
async fn packets_without_session_are_discarded_and_counted_rfc5880_6_8_6() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    bench.driver.feed(Input::Remove { path: bench.path });
    let sent = |bench: &Bench| {
        let packet = [
            0x20, 0x40, 3, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 78, 32, 0, 0, 78, 32,
        ];
        let rest = [0, 0, 0, 0];
        bench.peer.send(&[&packet[..], &rest].concat()).unwrap();
    };
    for count in 1..=3 {
        sent(&bench);
        while bench.driver.without_session.load(Ordering::Relaxed) < count {
            bench.turn().await;
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(bench.driver.bfd.without_session().count, 3);
    assert_eq!(
        bench.driver.logged_senders,
        BTreeSet::from([IpAddr::from(PEER)])
    );
    for forged in 0..1000_u32 {
        let forged = Ipv4Addr::from(0x0a00_0000 + forged);
        bench.driver.log_sender_without_session(forged.into());
    }
    assert_eq!(bench.driver.logged_senders.len(), SENDERS_LOGGED_MAX);
}

/// The BGP thread is stalled: a failure is kept, and the queue is bounded.
#[tokio::test]
async fn a_full_queue_keeps_a_failure_and_drops_status_reports() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    bench.downs();
    let (path, status) = (bench.path, bench.status());
    let change = |from, to, cause| BfdEvent::Changed {
        change: Change {
            path,
            from,
            to,
            cause,
        },
        status,
    };
    let up = change(State::Init, State::Up, Cause::Handshake);
    let down = change(State::Up, State::Down, Cause::DetectionTimeExpired);
    for _ in 0..outbox::OUTBOX_MAX {
        bench.driver.report(path, &BfdEvent::Status(status));
        bench.driver.report(path, &up);
    }
    for event in [&down, &up, &up] {
        bench.driver.report(path, event);
    }
    let mut taken = 0;
    let mut statuses = 0;
    while let Ok((_, event)) = bench.events.try_recv() {
        taken += 1;
        statuses += usize::from(matches!(event, BfdEvent::Status(_)));
    }
    assert_eq!(taken, outbox::OUTBOX_MAX);
    // Status reports stop when the queue is half full, with equal numbers of both kinds.
    assert!(statuses <= outbox::OUTBOX_MAX / 4 + 1, "{statuses}");
    bench.driver.events.flush();
    assert_eq!(bench.downs(), 1);
}
