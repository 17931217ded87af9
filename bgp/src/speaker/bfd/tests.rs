use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::sockopt::ask_for_origin;
use super::*;
use crate::bfd::{Cause, Change, Interval, Packet, SessionConfig, Timers};

const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 78);

/// A driver with a session towards a peer that is played by hand: what the peer sends comes to
/// another port than BFD's, which this host may have in use.
struct Bench {
    driver: Driver,
    news: mpsc::Receiver<News>,
    _commands: mpsc::Sender<(String, Command)>,
    peer: UdpSocket,
    path: Path,
}

impl Bench {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.77:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        ask_for_origin(&socket, true).unwrap();
        let peer = UdpSocket::bind(SocketAddr::from((PEER, 0))).unwrap();
        peer.set_ttl(255).unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        let (commands, receiver) = mpsc::channel(outbox::OUTBOX_MAX);
        let (sender, news) = mpsc::channel(outbox::OUTBOX_MAX);
        let mut driver = Driver::new(receiver, sender, Arc::default());
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
            news,
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

    /// One round of the loop.
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
        while let Ok((_, news)) = self.news.try_recv() {
            downs += usize::from(
                matches!(news, BfdEvent::Changed { change, .. } if change.is_failure()),
            );
        }
        downs
    }
}

#[tokio::test]
async fn packets_that_wait_while_the_thread_is_held_up_are_no_silence() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    let time = bench.status().detection_time.unwrap();
    for held_up in 1..=5 {
        // The runtime finds nothing to read and a timer that is over; then the thread stands still
        // before it gets to the two.
        let soon = Instant::now() + Duration::from_millis(1);
        bench.driver.timer = Some((soon, Box::pin(sleep_until(soon))));
        std::future::poll_fn(|cx| Poll::Ready(bench.driver.poll(cx).is_ready())).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        bench.send(State::Up);
        std::thread::sleep(2 * time);
        bench.turn().await;
        assert_eq!(bench.status().state, State::Up, "{held_up}");
        assert_eq!(bench.downs(), 0);
    }
    // Silence is still silence.
    std::thread::sleep(2 * time);
    while bench.status().state == State::Up {
        bench.turn().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.downs(), 1);
}

/// Strangers send faster than we read: a peer that falls silent is noticed all the same.
#[tokio::test]
async fn a_flood_of_datagrams_hides_nobodys_silence() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    bench.downs();
    let to = bench.peer.peer_addr().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let floods = [80, 81].map(|host| {
        let over = over.clone();
        std::thread::spawn(move || {
            let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
            while !over.load(Ordering::Relaxed) {
                // What doesn't fit is lost.
                drop(stranger.send_to(&[0; 24], to));
            }
        })
    });
    let Bench {
        driver,
        mut news,
        _commands,
        ..
    } = bench;
    let lost = async {
        loop {
            let (_, news) = news.recv().await.expect("it runs");
            if matches!(news, BfdEvent::Changed { change, .. } if change.is_failure()) {
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

/// The number of an interface is its identity; a name that means another one now isn't the same.
#[tokio::test]
async fn an_interface_that_was_made_again_is_bound_again() {
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
    let leaving = None;
    driver.sessions.insert(gone, Session { sender, leaving });
    driver.watch("tor".to_owned(), gone, target.clone());
    driver.told -= STATUS_INTERVAL;
    driver.tell_status();
    let path = driver.peers["tor"].path;
    assert_eq!(path.interface, interface_index("lo").ok());
    assert_eq!(driver.status(path).unwrap().state, State::Down);
    assert!(driver.sessions[&gone].leaving.is_some());

    // Missing for a while, it is waited for.
    let target = BfdTarget {
        interface: Some("eth77".to_owned()),
        ..target
    };
    driver
        .peers
        .insert("tor".to_owned(), Watched { path, target });
    driver.bind_again();
    assert_eq!(driver.peers["tor"].path, path);
}

/// The port is bound as long as anybody needs it, until the peer has heard that we leave.
#[tokio::test]
async fn a_port_nobody_needs_any_more_is_given_back() {
    let mut bench = Bench::new();
    bench.bring_up().await;
    let port = bench.peer.peer_addr().unwrap();
    let time = bench.status().remote_detection_time;
    let driver = &mut bench.driver;
    let target = driver.peers["tor"].target.clone();
    driver.set("second".to_owned(), target);
    driver.remove("second");
    driver.forget_departed();
    driver.remove("tor");
    driver.forget_departed();
    assert!(UdpSocket::bind(port).is_err());
    tokio::time::sleep(time + Duration::from_millis(50)).await;
    driver.forget_departed();
    assert!(UdpSocket::bind(port).is_ok());
}

/// RFC 5880 §6.8.6: such packets are discarded. Each sender is named once in the log, and forged
/// addresses don't fill it.
#[tokio::test]
async fn packets_that_belong_to_no_session_are_counted_and_each_sender_is_remembered_once() {
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
    assert_eq!(bench.driver.logged, BTreeSet::from([IpAddr::from(PEER)]));
    for forged in 0..1000_u32 {
        let forged = Ipv4Addr::from(0x0a00_0000 + forged);
        bench.driver.report_stranger(forged.into());
    }
    assert_eq!(bench.driver.logged.len(), STRANGERS_LOGGED);
}

/// While the thread of BGP stands still: what it must not miss stays, and nothing piles up.
#[tokio::test]
async fn a_lost_path_outlasts_what_comes_after_it_and_status_is_left_out() {
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
        bench.driver.tell(path, &BfdEvent::Status(status));
        bench.driver.tell(path, &up);
    }
    for news in [&down, &up, &up] {
        bench.driver.tell(path, news);
    }
    let mut taken = 0;
    let mut statuses = 0;
    while let Ok((_, news)) = bench.news.try_recv() {
        taken += 1;
        statuses += usize::from(matches!(news, BfdEvent::Status(_)));
    }
    assert_eq!(taken, outbox::OUTBOX_MAX);
    // They stop when half of it is taken, by as many changes as statuses.
    assert!(statuses <= outbox::OUTBOX_MAX / 4 + 1, "{statuses}");
    bench.driver.news.flush();
    assert_eq!(bench.downs(), 1);
}
