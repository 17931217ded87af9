//! The last desired state on disk, so that a restart while the API server is down announces it again.
//!
//! It holds session passwords: the file is readable by its owner only, and lies in an emptyDir of the Pod's own.

use std::collections::BTreeMap;
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

/// The folder that the state lies in.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// Sessions and routes of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedState {
    /// After a reboot nothing forwards yet: what was saved before it is not announced.
    boot_id: String,
    peers: Vec<SavedPeer>,
    routes: Vec<SavedRoutes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedPeer {
    config: PeerConfig,
    /// Left out of the configuration when that is written.
    #[serde(serialize_with = "revealed")]
    password: Option<Password>,
}

/// The state file is the only output that contains passwords.
fn revealed<S: Serializer>(password: &Option<Password>, serializer: S) -> Result<S::Ok, S::Error> {
    password
        .as_ref()
        .map(Password::reveal)
        .serialize(serializer)
}

/// Routes with the same attributes, all of which these peers have. Most peers have the same routes,
/// and most routes the same attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedRoutes {
    peers: Vec<String>,
    attributes: RouteAttributes,
    prefixes: Vec<IpNet>,
}

impl StateDir {
    /// A folder that exists and may be written to.
    pub const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Writes the state: a new file takes the place of the old one at once.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, saved: &SavedState) -> io::Result<()> {
        let new = self.0.join(format!("{FILE}.new"));
        // The mode counts only for a file that is made: one that a dead process left goes first.
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

    /// Reads the state, if there is one from this boot of the host.
    ///
    /// # Errors
    /// What the file system says, or a file that is not ours.
    pub fn load(&self) -> io::Result<Option<SavedState>> {
        let octets = match fs::read(self.0.join(FILE)) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let saved: SavedState = serde_json::from_slice(&octets)?;
        Ok(is_of_boot(&saved, &boot_id()).then_some(saved))
    }
}

/// Where the system gives no boot ID, nothing says that a state is of this boot.
fn is_of_boot(saved: &SavedState, boot_id: &str) -> bool {
    !boot_id.is_empty() && saved.boot_id == boot_id
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default()
}

/// A thread that writes the state to disk: the disk does not delay what announces.
#[derive(Debug)]
pub struct StateWriter {
    /// One slot.
    states: SyncSender<SavedState>,
    /// Set by the thread when it takes a state that it may write at once.
    idle: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Writing takes at most this part of the time.
const PAUSE_PER_WRITE: u32 = 50;
/// However slow the disk is, a change waits no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a failure the same state is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

impl StateWriter {
    /// Starts the thread. The file stays as it is until there is a state to write.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(dir: StateDir) -> io::Result<Self> {
        Self::spawn(move |received, idle| keep(&dir, received, idle, RETRY))
    }

    /// Starts a thread that takes the states, and logs its panic.
    fn spawn(
        work: impl FnOnce(&Receiver<SavedState>, &AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        let (states, received) = sync_channel(1);
        let idle = Arc::new(AtomicBool::new(true));
        let thread = thread::Builder::new().name("state".to_owned()).spawn({
            let idle = idle.clone();
            move || {
                let _unwinding = Unwinding;
                work(&received, &idle);
            }
        })?;
        Ok(Self {
            states,
            idle,
            thread,
        })
    }

    /// Whether the thread writes what it is given next without delay. If not, a later state is
    /// better.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// Gives a state to the thread, in place of all earlier ones. Waits if it is not idle.
    pub fn write(&self, state: SavedState) {
        self.idle.store(false, Ordering::Release);
        // The thread ends only with this sender, or by a panic, which the log has.
        let _ = self.states.send(state);
    }

    /// Waits until the last state is on disk, and ends the thread.
    pub fn finish(self) {
        drop(self.states);
        let _ = self.thread.join();
    }
}

/// Logs what follows from a panic of the thread.
struct Unwinding;

impl Drop for Unwinding {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                "the thread that saves the desired state has panicked: a restart without the API server will announce what was saved before"
            );
        }
    }
}

/// Writes until there are no more states to come. The last one is written without a pause before it.
/// After a failure the same state is tried again after `retry`.
fn keep(dir: &StateDir, states: &Receiver<SavedState>, idle: &AtomicBool, retry: Duration) {
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
            let pause = (began.elapsed() * PAUSE_PER_WRITE).min(LONGEST_PAUSE);
            not_before = Instant::now() + pause;
            if let Err(error) = outcome {
                not_before += retry;
                // Logged once.
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(
                        "the desired state can't be saved, a restart without the API server will announce nothing: {error}"
                    );
                }
            } else {
                (unsaved, failed) = (None, false);
            }
        }
        if ended {
            return;
        }
        // At the end of a turn: before the first one a state may have been given already. While a
        // state can't be written, a later one replaces it.
        wait = not_before.saturating_duration_since(Instant::now());
        idle.store(failed || wait.is_zero(), Ordering::Release);
    }
}

impl SavedState {
    /// From what runs: the routes in the order of peers and prefixes.
    pub fn new<'a>(
        sessions: &BTreeMap<String, PeerConfig>,
        routes: impl IntoIterator<Item = (&'a RouteKey, &'a Route)>,
    ) -> Self {
        let mut saved = Shared::default();
        let mut of_peer: Vec<SavedRoutes> = Vec::new();
        let mut last: Option<(&Arc<str>, &Route)> = None;
        for ((peer, prefix), route) in routes {
            if last.is_some_and(|(last, _)| last != peer) {
                saved.add(of_peer.drain(..));
            }
            // Pointers that are equal are compared without a look at the values.
            if last.replace((peer, route)) != Some((peer, route)) {
                of_peer.push(SavedRoutes {
                    peers: vec![peer.to_string()],
                    attributes: RouteAttributes::clone(route),
                    prefixes: Vec::new(),
                });
            }
            if let Some(group) = of_peer.last_mut() {
                group.prefixes.push(*prefix);
            }
        }
        saved.add(of_peer.drain(..));
        Self {
            boot_id: boot_id(),
            peers: sessions.values().map(SavedPeer::new).collect(),
            routes: saved.routes,
        }
    }

    /// Whether there is no session in it, and so nothing that could be kept.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Back to what runs.
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

/// The routes of all peers. Equal ones of several peers are stored once.
#[derive(Default)]
struct Shared {
    routes: Vec<SavedRoutes>,
    /// Places in `routes`, by the first prefix there: at most one for each peer.
    starting_with: BTreeMap<IpNet, Vec<usize>>,
}

impl Shared {
    /// Adds the routes of one peer.
    fn add(&mut self, of_peer: impl Iterator<Item = SavedRoutes>) {
        for new in of_peer {
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
    fn the_writer_saves_the_last_state_before_it_ends() {
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
    fn routes_that_several_peers_have_are_stored_once_and_all_come_back() {
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
    fn a_writer_is_idle_again_after_it_has_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        let writer = StateWriter::start(state.clone()).expect("a thread");
        assert!(writer.is_idle());
        writer.write(saved());
        wait_until_idle(&writer);
        assert!(state.load().expect("readable").is_some());
    }

    /// How long anything may take.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn wait_until_idle(writer: &StateWriter) {
        let deadline = Instant::now() + PATIENCE;
        while !writer.is_idle() {
            assert!(Instant::now() < deadline, "not idle");
            thread::yield_now();
        }
    }

    /// Ends the writer. Fails if that takes longer than [`PATIENCE`].
    fn finish(writer: StateWriter) {
        let (finished, received) = sync_channel(1);
        thread::spawn(move || {
            writer.finish();
            finished.send(()).expect("the test waits");
        });
        received.recv_timeout(PATIENCE).expect("the writer ends");
    }

    #[test]
    fn the_end_waits_for_no_pause() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().join("absent"));
        let an_hour = Duration::from_secs(3600);
        let writer = StateWriter::spawn(move |states, idle| keep(&state, states, idle, an_hour));
        let writer = writer.expect("a thread");
        writer.write(saved());
        finish(writer);
    }

    #[test]
    fn a_panic_of_the_thread_is_logged() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let file = Mutex::new(fs::File::create(&log).expect("a file"));
        let lines = tracing_subscriber::fmt().with_writer(file).finish();
        let writer = StateWriter::spawn(move |_, _| {
            // For the whole life of the thread.
            Box::leak(Box::new(tracing::subscriber::set_default(lines)));
            panic!("a test of a panic");
        });
        finish(writer.expect("a thread"));
        let log = fs::read_to_string(&log).expect("text");
        assert!(
            log.contains("the thread that saves the desired state has panicked"),
            "{log}"
        );
    }

    #[test]
    fn a_writer_whose_thread_has_panicked_takes_states_and_ends() {
        let writer = StateWriter::spawn(|_, _| panic!("a test of a panic")).expect("a thread");
        let (written, received) = sync_channel(1);
        thread::spawn(move || {
            // More than there is room for.
            for _ in 0..3 {
                writer.write(saved());
            }
            written.send(writer).expect("the test waits");
        });
        let writer = received.recv_timeout(PATIENCE).expect("nothing blocks");
        finish(writer);
    }

    #[test]
    fn a_state_that_can_not_be_written_is_tried_again() {
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
    fn a_writer_that_ends_without_a_state_leaves_the_file_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        state.save(&saved()).expect("written");
        let writer = StateWriter::start(state.clone()).expect("a thread");
        writer.finish();
        let saved = state.load().expect("readable").expect("of this boot");
        assert_eq!(saved.into_parts(), (sessions(), routes()));
    }

    #[test]
    fn what_is_saved_comes_back_and_is_for_its_owner_only() {
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
    fn a_file_that_a_dead_process_left_does_not_give_the_state_its_mode() {
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
    fn without_a_boot_id_no_state_is_used() {
        let of = |boot_id: &str| SavedState {
            boot_id: boot_id.into(),
            ..saved()
        };
        assert!(!is_of_boot(&of(""), ""));
        assert!(!is_of_boot(&of("a"), ""));
        assert!(is_of_boot(&of("a"), "a"));
    }

    #[test]
    fn what_was_saved_before_a_reboot_is_not_used() {
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
