//! The state file: sessions and routes of this node, announced again after a restart while the API
//! server is unavailable.
//!
//! It contains session passwords: it is readable by its owner only, and is stored in an emptyDir of
//! the Pod.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ferrolb_bgp::config::{PeerConfig, Secret};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use crate::core::api::Password;
use crate::core::decide::node_routes::RouteKey;

const FILE: &str = "desired.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The folder of the state file.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// Sessions and routes of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedState {
    /// After a reboot nothing is forwarded yet, so state from another boot is not used.
    boot_id: String,
    peers: Vec<SavedPeer>,
    routes: Vec<SavedRoutes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedPeer {
    config: PeerConfig,
    /// Serialized separately, since the configuration leaves it out.
    #[serde(serialize_with = "serialize_password")]
    password: Option<Password>,
}

/// The state file is the only output that contains passwords.
fn serialize_password<S: Serializer>(
    password: &Option<Password>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    password
        .as_ref()
        .map(Password::reveal)
        .serialize(serializer)
}

/// Routes with the same attributes and the same peers. Most peers have the same routes, and most
/// routes the same attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedRoutes {
    peers: Vec<String>,
    attributes: RouteAttributes,
    prefixes: Vec<IpNet>,
}

impl StateDir {
    /// An existing, writable folder.
    pub const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Replaces the state file atomically.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub fn save(&self, saved: &SavedState) -> io::Result<()> {
        let new = self.0.join(format!("{FILE}.new"));
        // The mode applies only when a file is created: remove one that an earlier process left
        // behind.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let mut file = BufWriter::new(file);
        serde_json::to_writer(&mut file, saved)?;
        file.flush()?;
        fs::rename(new, self.0.join(FILE))
    }

    /// Reads the state file. Returns `None` if there is none from this boot of the host.
    ///
    /// # Errors
    ///
    /// I/O errors, or invalid contents.
    pub fn load(&self) -> io::Result<Option<SavedState>> {
        let octets = match fs::read(self.0.join(FILE)) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let saved: SavedState = serde_json::from_slice(&octets)?;
        Ok(is_from_boot(&saved, &boot_id()).then_some(saved))
    }
}

/// Without a boot ID nothing proves that a state is from this boot.
fn is_from_boot(saved: &SavedState, boot_id: &str) -> bool {
    !boot_id.is_empty() && saved.boot_id == boot_id
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default()
}

/// A thread that writes the state file, so that a slow disk doesn't delay announcements.
#[derive(Debug)]
pub struct StateWriter {
    /// Has one slot.
    states: SyncSender<SavedState>,
    /// Set by the thread when it can write the next state at once.
    idle: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Writing takes at most one part in this many of the time.
const PAUSE_PER_WRITE: u32 = 50;
/// Upper limit of the pause after a slow write.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Delay before a failed write is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl StateWriter {
    /// Starts the thread. The file is unchanged until the first state is written.
    ///
    /// # Errors
    ///
    /// The thread can't be created.
    pub fn start(dir: StateDir) -> io::Result<Self> {
        Self::spawn(move |received, idle| write_states(&dir, received, idle, RETRY_INTERVAL))
    }

    /// Starts a thread that runs `work` on the received states. Logs a panic of the thread.
    fn spawn(
        work: impl FnOnce(&Receiver<SavedState>, &AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        let (states, received) = sync_channel(1);
        let idle = Arc::new(AtomicBool::new(true));
        let thread = thread::Builder::new().name("state".to_owned()).spawn({
            let idle = idle.clone();
            move || {
                let _panic_log = PanicLog;
                work(&received, &idle);
            }
        })?;
        Ok(Self {
            states,
            idle,
            thread,
        })
    }

    /// Whether the next state is written without delay. If not, wait and pass a later one.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// Passes a state to the thread; it replaces all earlier ones. Blocks if the thread is not
    /// idle.
    pub fn write(&self, state: SavedState) {
        self.idle.store(false, Ordering::Release);
        // The receiver is gone only after a panic of the thread, which was logged.
        let _ = self.states.send(state);
    }

    /// Waits until the last state is written, and ends the thread.
    pub fn finish(self) {
        drop(self.states);
        let _ = self.thread.join();
    }
}

/// Logs the consequence if the thread panics.
struct PanicLog;

impl Drop for PanicLog {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                "the thread that writes the state file panicked: a restart while the API server \
                 is unavailable will announce the routes saved before the panic. Restart this Pod \
                 to save again"
            );
        }
    }
}

/// Writes states until the channel closes. The last one is written without a pause before it. A
/// failed write is retried after `retry`.
fn write_states(dir: &StateDir, states: &Receiver<SavedState>, idle: &AtomicBool, retry: Duration) {
    let mut unsaved: Option<SavedState> = None;
    let mut failed = false;
    let mut not_before = Instant::now();
    let mut wait = Duration::ZERO;
    loop {
        let received = if unsaved.is_none() && wait.is_zero() {
            states.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            states.recv_timeout(wait)
        };
        let ended = received.as_ref().err() == Some(&RecvTimeoutError::Disconnected);
        unsaved = received.ok().or(unsaved);
        let began = Instant::now();
        if let Some(state) = &unsaved
            && (ended || began >= not_before)
        {
            let outcome = dir.save(state);
            let pause = (began.elapsed() * PAUSE_PER_WRITE).min(MAX_PAUSE);
            not_before = Instant::now() + pause;
            if let Err(error) = outcome {
                not_before += retry;
                // Logged once per series of failures.
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(
                        "can't write the state file: a restart while the API server is \
                         unavailable will announce the routes saved last, if any. Check \
                         --state-dir: {error}"
                    );
                }
            } else {
                (unsaved, failed) = (None, false);
            }
        }
        if ended {
            return;
        }
        // Only at the end of an iteration: a state may already be queued before the first one.
        // While writes fail, a later state replaces the current one.
        wait = not_before.saturating_duration_since(Instant::now());
        idle.store(failed || wait.is_zero(), Ordering::Release);
    }
}

impl SavedState {
    /// From the current sessions and routes; the routes must be sorted by peer and prefix.
    pub fn new<'a>(
        sessions: &BTreeMap<String, PeerConfig>,
        routes: impl IntoIterator<Item = (&'a RouteKey, &'a Route)>,
    ) -> Self {
        let mut saved = SharedRoutes::default();
        let mut groups: Vec<SavedRoutes> = Vec::new();
        let mut last: Option<(&Arc<str>, &Route)> = None;
        for ((peer, prefix), route) in routes {
            if last.is_some_and(|(last, _)| last != peer) {
                saved.add(groups.drain(..));
            }
            // `Arc`s that point to the same route compare equal without a look at it.
            if last.replace((peer, route)) != Some((peer, route)) {
                groups.push(SavedRoutes {
                    peers: vec![peer.to_string()],
                    attributes: RouteAttributes::clone(route),
                    prefixes: Vec::new(),
                });
            }
            if let Some(group) = groups.last_mut() {
                group.prefixes.push(*prefix);
            }
        }
        saved.add(groups.drain(..));
        Self {
            boot_id: boot_id(),
            peers: sessions.values().map(SavedPeer::new).collect(),
            routes: saved.routes,
        }
    }

    /// Whether it has no session, and so no routes that peers could have kept.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The prefixes of its routes.
    pub fn prefixes(&self) -> BTreeSet<IpNet> {
        let routes = self.routes.iter();
        routes
            .flat_map(|saved| saved.prefixes.iter().copied())
            .collect()
    }

    /// Converts it back to sessions and routes.
    pub fn into_parts(self) -> (BTreeMap<String, PeerConfig>, BTreeMap<RouteKey, Route>) {
        let peers = self
            .peers
            .into_iter()
            .map(|peer| (peer.config.name.clone(), peer.into_config()))
            .collect();
        let routes = self.routes.into_iter().flat_map(|saved| {
            let route = Arc::new(saved.attributes);
            let prefixes = saved.prefixes;
            saved.peers.into_iter().flat_map(move |peer| {
                let (peer, route): (Arc<str>, _) = (peer.into(), route.clone());
                let prefixes = prefixes.clone().into_iter();
                prefixes.map(move |prefix| ((peer.clone(), prefix), route.clone()))
            })
        });
        (peers, routes.collect())
    }
}

/// Routes of all peers, with equal ones of several peers stored once.
#[derive(Default)]
struct SharedRoutes {
    routes: Vec<SavedRoutes>,
    /// Indexes in `routes` by the first prefix there: at most one for each peer.
    starting_with: BTreeMap<IpNet, Vec<usize>>,
}

impl SharedRoutes {
    /// Adds the routes of one peer.
    fn add(&mut self, groups: impl Iterator<Item = SavedRoutes>) {
        for new in groups {
            let Some(first) = new.prefixes.first() else {
                continue;
            };
            let places = self.starting_with.entry(*first).or_default();
            let routes = &mut self.routes;
            let same = places.iter().copied().find(|place| {
                routes.get(*place).is_some_and(|known| {
                    known.prefixes == new.prefixes && known.attributes == new.attributes
                })
            });
            match same.and_then(|place| routes.get_mut(place)) {
                Some(known) => known.peers.extend(new.peers),
                None => {
                    places.push(routes.len());
                    routes.push(new);
                }
            }
        }
    }
}

impl SavedPeer {
    fn new(config: &PeerConfig) -> Self {
        let password = config.transport.password.as_ref();
        Self {
            config: config.clone(),
            password: password
                .and_then(|password| String::from_utf8(password.expose().to_vec()).ok())
                .map(Password::new),
        }
    }

    fn into_config(mut self) -> PeerConfig {
        let password = self.password;
        self.config.transport.password = password.map(|password| Secret::new(password.reveal()));
        self.config
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Mutex;
    use std::time::Duration;

    use ferrolb_bgp::config::{HoldTime, Timers, Transport};
    use ferrolb_bgp::wire::{Asn, Community, Family};

    use super::*;

    fn sessions() -> BTreeMap<String, PeerConfig> {
        let address = SocketAddr::from(([10, 0, 0, 1], 179));
        let config = PeerConfig {
            timers: Timers {
                hold_time: HoldTime::from_secs(9).expect("a hold time"),
                keepalive_time: Some(Duration::from_secs(3)),
                ..Timers::default()
            },
            transport: Transport {
                password: Some(Secret::new("secret")),
                source_address: Some(IpAddr::from([10, 0, 0, 2])),
                ..Transport::default()
            },
            families: vec![Family::IPV4_UNICAST],
            ..PeerConfig::new("tor", address, Asn(64512), Asn(64513))
        };
        BTreeMap::from([("tor".to_owned(), config)])
    }

    fn routes() -> BTreeMap<RouteKey, Route> {
        let route = RouteAttributes {
            local_pref: Some(7),
            prepend: 1,
            communities: vec![Community(1)],
            extended_communities: vec!["0x4004fde94cee6b28".parse().expect("a community")],
            large_communities: vec!["1:2:3".parse().expect("a community")],
            ..RouteAttributes::default()
        };
        let prefix = "192.0.2.1/32".parse().expect("a prefix");
        BTreeMap::from([(("tor".into(), prefix), Arc::new(route))])
    }

    fn saved() -> SavedState {
        SavedState::new(&sessions(), &routes())
    }

    #[test]
    fn finish_writes_the_last_state() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        let writer = StateWriter::start(state.clone()).expect("a thread");
        for _ in 0..3 {
            writer.write(SavedState::new(&sessions(), &BTreeMap::new()));
        }
        writer.write(saved());
        writer.finish();
        let saved = state.load().expect("readable").expect("of this boot");
        assert_eq!(saved.into_parts(), (sessions(), routes()));
    }

    #[test]
    fn routes_shared_by_several_peers_are_stored_once_and_all_restored() {
        let mut routes = BTreeMap::new();
        for peer in ["a", "b", "c"] {
            for ((_, prefix), route) in self::routes() {
                routes.insert((Arc::from(peer), prefix), route);
            }
        }
        let other = Arc::new(RouteAttributes::default());
        routes.insert(
            ("b".into(), "192.0.2.2/32".parse().expect("a prefix")),
            other,
        );
        let saved = SavedState::new(&sessions(), &routes);
        let peers: Vec<Vec<String>> = saved.routes.iter().map(|r| r.peers.clone()).collect();
        assert_eq!(peers, [vec!["a", "b", "c"], vec!["b"]]);
        assert_eq!(saved.into_parts().1, routes);
    }

    #[test]
    fn a_writer_is_idle_again_after_a_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        let writer = StateWriter::start(state.clone()).expect("a thread");
        assert!(writer.is_idle());
        writer.write(saved());
        wait_until_idle(&writer);
        assert!(state.load().expect("readable").is_some());
    }

    /// Upper limit for any wait.
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn wait_until_idle(writer: &StateWriter) {
        let deadline = Instant::now() + TIMEOUT;
        while !writer.is_idle() {
            assert!(Instant::now() < deadline, "not idle");
            thread::yield_now();
        }
    }

    /// Ends the writer. Fails if that takes longer than [`TIMEOUT`].
    fn finish(writer: StateWriter) {
        let (finished, received) = sync_channel(1);
        thread::spawn(move || {
            writer.finish();
            finished.send(()).expect("the test waits");
        });
        received.recv_timeout(TIMEOUT).expect("the writer ends");
    }

    #[test]
    fn finish_does_not_wait_for_a_retry() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().join("absent"));
        let an_hour = Duration::from_secs(3600);
        let writer =
            StateWriter::spawn(move |states, idle| write_states(&state, states, idle, an_hour));
        let writer = writer.expect("a thread");
        writer.write(saved());
        finish(writer);
    }

    #[test]
    fn a_panic_of_the_writer_thread_is_logged() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let file = Mutex::new(fs::File::create(&log).expect("a file"));
        let lines = tracing_subscriber::fmt().with_writer(file).finish();
        let writer = StateWriter::spawn(move |_, _| {
            // Stays set for the whole life of the thread.
            Box::leak(Box::new(tracing::subscriber::set_default(lines)));
            panic!("a test of a panic");
        });
        finish(writer.expect("a thread"));
        let log = fs::read_to_string(&log).expect("text");
        assert!(
            log.contains("the thread that writes the state file panicked"),
            "{log}"
        );
    }

    #[test]
    fn a_writer_with_a_panicked_thread_does_not_block() {
        let writer = StateWriter::spawn(|_, _| panic!("a test of a panic")).expect("a thread");
        let (written, received) = sync_channel(1);
        thread::spawn(move || {
            // More than the channel's capacity.
            for _ in 0..3 {
                writer.write(saved());
            }
            written.send(writer).expect("the test waits");
        });
        let writer = received.recv_timeout(TIMEOUT).expect("nothing blocks");
        finish(writer);
    }

    #[test]
    fn a_failed_write_is_retried() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        let state = StateDir::new(inner.clone());
        let writer = StateWriter::start(state.clone()).expect("a thread");
        writer.write(saved());
        thread::sleep(Duration::from_millis(50));
        fs::create_dir(&inner).expect("a folder");
        writer.finish();
        assert!(state.load().expect("readable").is_some());
    }

    #[test]
    fn a_writer_without_a_state_does_not_change_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        state.save(&saved()).expect("written");
        let writer = StateWriter::start(state.clone()).expect("a thread");
        writer.finish();
        let saved = state.load().expect("readable").expect("of this boot");
        assert_eq!(saved.into_parts(), (sessions(), routes()));
    }

    #[test]
    fn a_saved_state_can_be_loaded_and_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        assert_eq!(state.load().expect("readable"), None);
        state.save(&saved()).expect("written");
        let mode = fs::metadata(folder.path().join(FILE))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let saved = state.load().expect("readable").expect("of this boot");
        assert_eq!(saved.into_parts(), (sessions(), routes()));
    }

    #[test]
    fn the_mode_does_not_depend_on_a_file_left_by_an_earlier_process() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let left = folder.path().join(format!("{FILE}.new"));
        fs::write(&left, "half a state").expect("written");
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).expect("a mode");
        let state = StateDir::new(folder.path().to_owned());
        state.save(&saved()).expect("written");
        let file = fs::metadata(folder.path().join(FILE)).expect("a file");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert!(state.load().expect("readable").is_some());
    }

    #[test]
    fn without_a_boot_id_no_state_is_loaded() {
        let of = |boot_id: &str| SavedState {
            boot_id: boot_id.into(),
            ..saved()
        };
        assert!(!is_from_boot(&of(""), ""));
        assert!(!is_from_boot(&of("a"), ""));
        assert!(is_from_boot(&of("a"), "a"));
    }

    #[test]
    fn a_state_from_before_a_reboot_is_not_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        let saved = SavedState {
            boot_id: "another".into(),
            ..saved()
        };
        state.save(&saved).expect("written");
        assert_eq!(state.load().expect("readable"), None);
    }
}
