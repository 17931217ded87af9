//! Reports all sessions and their UPDATEs to a BMP collector (RFC 7854, RFC 8671).
//!
//! BGP never waits for the collector. If that reads too slowly, what is missing can't be made up
//! for, so the connection ends and the next one begins with the whole table.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ferrolb_bgp::bmp::{self, Statistic};
use ferrolb_bgp::fsm::SessionUp;
use ferrolb_bgp::rib::table_updates;
use ferrolb_bgp::speaker::{Handle, MonitorEnd, Monitored};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

/// Limit for a connection to be established, name lookup included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the collector may accept nothing.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// Interval of statistics.
const STATISTICS_INTERVAL: Duration = Duration::from_mins(1);
/// First delay between two connections; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(2);
/// After a connection of this length, the delay is the first one again.
const STABLE: Duration = Duration::from_mins(2);

/// Where the collector listens: `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collector(String);

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':');
        let valid = parts.is_some_and(|(host, port)| {
            let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            !host.is_empty() && !bare_ipv6 && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        valid.then(|| Self(text.to_owned())).ok_or_else(|| {
            "expected HOST:PORT, such as collector.example.org:5000 or [2001:db8::1]:5000".into()
        })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("can't connect: {0}")]
    Connect(io::Error),
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    #[error("it has closed the connection")]
    Closed,
    #[error(transparent)]
    Monitor(MonitorEnd),
}

/// Reports to the collector until the engine ends.
pub(crate) async fn report(engine: Handle, collector: Collector, node: String) {
    let mut failures = 0;
    let mut logged = None;
    loop {
        let begin = Instant::now();
        let Err(broken) = connection(&engine, &collector, &node).await else {
            return;
        };
        if begin.elapsed() >= STABLE {
            failures = 0;
            logged = None;
        }
        let delay = retry_delay(failures, fastrand::f64());
        failures += 1;
        let text = broken.to_string();
        if logged.as_ref() != Some(&text) {
            tracing::warn!(
                %collector,
                "BMP collector: {text}; trying again, each time later, at most every {} s",
                RETRY_MAX.as_secs()
            );
            logged = Some(text);
        }
        sleep(delay).await;
    }
}

/// The delay after this many earlier failures: `random`, below 1, shortens it by up to a half.
fn retry_delay(failures: u32, random: f64) -> Duration {
    let delay = RETRY_FIRST * 2_u32.saturating_pow(failures.min(10));
    delay.min(RETRY_MAX).mul_f64(1.0 - random / 2.0)
}

/// One connection to the collector. Succeeds when the engine has ended.
async fn connection(engine: &Handle, collector: &Collector, node: &str) -> Result<(), Broken> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&collector.0)).await;
    let stream = connected.map_err(io::Error::from).flatten();
    let stream = stream.map_err(Broken::Connect)?;
    let limit = u32::try_from(WRITE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    set_tcp_user_timeout(&stream, limit).map_err(io::Error::from)?;
    // From here on nothing is missed.
    let Some(mut monitor) = engine.monitor().await else {
        return Ok(());
    };
    tracing::info!(%collector, "connected to the BMP collector");
    let (mut read, write) = stream.into_split();
    let mut station = Station {
        write,
        up: BTreeMap::new(),
    };
    let description = concat!("ferrolb ", env!("CARGO_PKG_VERSION"));
    station.send(bmp::initiation(description, node)).await?;
    for up in std::mem::take(&mut monitor.sessions) {
        let name = up.session.peer.clone();
        station.peer_up(since_1970(), up).await?;
        station.table(engine, &name).await?;
    }
    let first = Instant::now() + STATISTICS_INTERVAL;
    let mut statistics = interval_at(first, STATISTICS_INTERVAL);
    statistics.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ignored = [0; 1024];
    loop {
        tokio::select! {
            event = monitor.recv() => match event {
                Ok(event) => station.event(event).await?,
                Err(MonitorEnd::SpeakerEnded) => {
                    station.send(bmp::termination()).await?;
                    return Ok(());
                }
                Err(end) => return Err(Broken::Monitor(end)),
            },
            _ = statistics.tick() => station.statistics(engine).await?,
            // A collector sends nothing (RFC 7854 §3.2).
            octets = read.read(&mut ignored) => if octets? == 0 {
                return Err(Broken::Closed);
            },
        }
    }
}

/// The collector, as it knows our sessions.
struct Station {
    write: OwnedWriteHalf,
    /// The sessions that it knows, by peer.
    up: BTreeMap<String, SessionUp>,
}

impl Station {
    async fn send(&mut self, message: Bytes) -> io::Result<()> {
        timeout(WRITE_TIMEOUT, self.write.write_all(&message)).await?
    }

    async fn peer_up(&mut self, at: Duration, up: SessionUp) -> io::Result<()> {
        self.send(bmp::peer_up(&up, at)).await?;
        self.up.insert(up.session.peer.clone(), up);
        Ok(())
    }

    /// Sends what the peer has received so far. What it receives meanwhile follows as events.
    async fn table(&mut self, engine: &Handle, peer: &str) -> io::Result<()> {
        let Some(up) = self.up.get(peer) else {
            return Ok(());
        };
        let encoding = up.encoding.clone();
        let routes = engine.advertised(peer).await;
        // On another thread, since the table may be large.
        let encoded = tokio::task::spawn_blocking(move || {
            let routes = routes.into_iter().map(|route| (route.prefix, route.route));
            table_updates(&encoding, routes.collect())
        });
        let at = since_1970();
        for update in encoded.await.map_err(io::Error::other)? {
            let message = self
                .up
                .get(peer)
                .map(|up| bmp::route_monitoring(up, at, true, &update));
            if let Some(message) = message {
                self.send(message).await?;
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: Monitored) -> io::Result<()> {
        match event {
            Monitored::Up(at, up) => self.peer_up(at, *up).await,
            Monitored::Update(update) => {
                // The last UPDATEs of a session may come after its end.
                let up = self.up.get(&update.session.peer);
                let same = up.filter(|up| {
                    let (ours, theirs) = (&up.session, &update.session);
                    (ours.local, ours.remote) == (theirs.local, theirs.remote)
                });
                match same {
                    Some(up) => {
                        let octets = &update.octets;
                        let message = bmp::route_monitoring(up, update.at, update.sent, octets);
                        self.send(message).await
                    }
                    None => Ok(()),
                }
            }
            Monitored::Down(at, peer, cause) => match self.up.remove(&peer) {
                Some(up) => self.send(bmp::peer_down(&up, at, &cause)).await,
                None => Ok(()),
            },
        }
    }

    async fn statistics(&mut self, engine: &Handle) -> io::Result<()> {
        let at = since_1970();
        for peer in engine.snapshot().await {
            let Some(up) = self.up.get(&peer.name) else {
                continue;
            };
            let treated = peer.update_errors.treated_as_withdraw;
            let statistics = [
                Statistic::TreatedAsWithdraw(u32::try_from(treated).unwrap_or(u32::MAX)),
                Statistic::AdjRibOut(peer.prefixes_advertised),
            ];
            let report = bmp::statistics_report(up, at, &statistics);
            self.send(report).await?;
        }
        Ok(())
    }
}

fn since_1970() -> Duration {
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ferrolb_bgp::config::PeerConfig;
    use ferrolb_bgp::fsm::{PeerRoutes, SpeakerConfig, State};
    use ferrolb_bgp::rib::Route;
    use ferrolb_bgp::speaker::{self, SpeakerOptions};
    use ferrolb_bgp::wire::Asn;
    use tokio::net::TcpListener;
    use tokio::task::yield_now;
    use tokio::time::{advance, pause};

    use super::*;

    /// Message types (RFC 7854 §4.1).
    const ROUTE_MONITORING: u8 = 0;
    const STATISTICS_REPORT: u8 = 1;
    const PEER_UP: u8 = 3;
    /// The O flag of the per-peer header (RFC 8671 §4).
    const ADJ_RIB_OUT: u8 = 0x10;
    /// The length of the common header and the per-peer header.
    const HEADERS: usize = 6 + 42;

    /// An engine with these listeners, and the last octet of its address as router ID.
    fn engine(listen: Vec<SocketAddr>, last: u8) -> Handle {
        let speaker = SpeakerConfig {
            router_id_fallback: [127, 0, 0, last].into(),
            ..SpeakerOptions::default().speaker
        };
        let (engine, _) = speaker::spawn(SpeakerOptions { speaker, listen }).expect("an engine");
        engine.open_gate();
        engine
    }

    /// An engine with an established session `tor`, and the router of the session.
    async fn session() -> (Handle, Handle) {
        let router = engine(vec!["127.0.0.141:0".parse().expect("an address")], 141);
        let node = "127.0.0.142:179".parse().expect("an address");
        let mut passive = PeerConfig::new("node", node, Asn(64513), Asn(64512));
        passive.transport.passive = true;
        router.set_peer(passive).expect("a good peer");
        let engine = engine(Vec::new(), 142);
        let address = router.local_addresses()[0];
        let mut tor = PeerConfig::new("tor", address, Asn(64512), Asn(64513));
        tor.transport.source_address = Some(node.ip());
        engine.set_peer(tor).expect("a good peer");
        let deadline = Instant::now() + Duration::from_secs(20);
        while engine.snapshot().await[0].state != State::Established {
            assert!(Instant::now() < deadline, "no session");
            sleep(Duration::from_millis(10)).await;
        }
        (engine, router)
    }

    fn announce(engine: &Handle, prefix: &str) {
        let prefix = prefix.parse().expect("a prefix");
        engine.routes(vec![PeerRoutes {
            peer: "tor".to_owned(),
            changes: vec![(prefix, Some(Route::default()))],
        }]);
    }

    /// Reads octets. The limit is of the host's clock, since tokio's may stand still.
    async fn fill(stream: &TcpStream, octets: &mut [u8]) {
        let begun = std::time::Instant::now();
        let mut filled = 0;
        while filled < octets.len() {
            match stream.try_read(&mut octets[filled..]) {
                Ok(0) => panic!("closed"),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(begun.elapsed() < Duration::from_secs(20), "no message");
                    // tokio would advance a paused clock if no task ran.
                    yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next message.
    async fn read(stream: &TcpStream) -> Vec<u8> {
        let mut message = vec![0; 6];
        fill(stream, &mut message).await;
        let length = u32::from_be_bytes(message[1..5].try_into().expect("four octets"));
        message.resize(length as usize, 0);
        fill(stream, &mut message[6..]).await;
        message
    }

    /// Reads UPDATEs up to a message that is as expected.
    async fn until(stream: &TcpStream, expected: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            let message = read(stream).await;
            if expected(&message) {
                return message;
            }
            assert_eq!(message[5], ROUTE_MONITORING, "{message:?}");
        }
    }

    /// Routes in the Adj-RIB-Out as in a statistics report.
    fn adj_rib_out(report: &[u8]) -> u64 {
        // Two statistics: type 11 with four octets, type 15 with eight.
        let expected = [0, 0, 0, 2, 0, 11, 0, 4, 0, 0, 0, 0, 0, 15, 0, 8];
        let (begin, count) = report[HEADERS..].split_at(expected.len());
        assert_eq!(begin, expected);
        u64::from_be_bytes(count.try_into().expect("eight octets"))
    }

    /// The clock stands still, so that an early report would come before the route.
    #[tokio::test]
    async fn statistics_are_reported_once_a_minute() {
        let (engine, _router) = session().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let collector = address.parse().expect("a collector");
        tokio::spawn(report(engine.clone(), collector, "node-a".to_owned()));
        let (stream, _) = listener.accept().await.expect("a connection");
        while read(&stream).await[5] != PEER_UP {}
        // The table ends with the End-of-RIB of IPv6. The first minute begins then.
        let is_last = |message: &[u8]| {
            message[7] & ADJ_RIB_OUT != 0 && message.ends_with(&[0x80, 15, 3, 0, 2, 1])
        };
        until(&stream, is_last).await;
        pause();
        let margin = Duration::from_secs(2);
        for routes in 1..=3 {
            advance(STATISTICS_INTERVAL - margin).await;
            announce(&engine, &format!("192.0.2.{routes}/32"));
            let announced = [32, 192, 0, 2, routes];
            until(&stream, |message| message.ends_with(&announced)).await;
            // Timers round up to milliseconds.
            advance(2 * margin).await;
            let report = until(&stream, |message| message[5] == STATISTICS_REPORT).await;
            assert_eq!(adj_rib_out(&report), u64::from(routes));
        }
    }

    #[test]
    fn a_collector_has_a_host_and_a_port() {
        for text in [
            "10.0.0.9:5000",
            "[2001:db8::1]:5000",
            "bmp.example.org:1790",
        ] {
            assert_eq!(
                text.parse::<Collector>().map(|it| it.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "10.0.0.9",
            "2001:db8::1:5000",
            ":5000",
            "a:0",
            "a:70000",
            "a:http",
            "",
        ] {
            let error = text.parse::<Collector>().expect_err(text);
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn the_delay_grows_to_a_limit_and_is_random() {
        let seconds = |failures, random| retry_delay(failures, random).as_secs_f64();
        assert_eq!(
            [seconds(0, 0.0), seconds(1, 0.0), seconds(6, 0.0)],
            [1.0, 2.0, 64.0]
        );
        assert_eq!([seconds(7, 0.0), seconds(u32::MAX, 0.0)], [120.0, 120.0]);
        assert_eq!(seconds(1, 0.5), 1.5);
    }
}
