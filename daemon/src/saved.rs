//! The last desired state on disk, so that a restart while the API server is down announces it again.
//!
//! It holds session passwords: the file is readable by its owner only, and lies in an emptyDir of the Pod's own.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ferrolb_bgp::config::{PeerConfig, Secret};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use crate::api::Password;
use crate::desired::{RouteChange, RouteKey};

const FILE: &str = "desired.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The folder that the state lies in.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// Sessions and routes of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
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

/// Routes of one peer with the same attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedRoutes {
    peer: String,
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
    pub fn save(&self, saved: &Saved) -> io::Result<()> {
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
    pub fn load(&self) -> io::Result<Option<Saved>> {
        let octets = match fs::read(self.0.join(FILE)) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let saved: Saved = serde_json::from_slice(&octets)?;
        Ok(is_of_boot(&saved, &boot_id()).then_some(saved))
    }
}

/// Where the system gives no boot ID, nothing says that a state is of this boot.
fn is_of_boot(saved: &Saved, boot_id: &str) -> bool {
    !boot_id.is_empty() && saved.boot_id == boot_id
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default()
}

/// What changed of sessions and routes.
#[derive(Debug, Default)]
pub struct StateChanges {
    /// All sessions, if there are others.
    pub sessions: Option<BTreeMap<String, PeerConfig>>,
    /// The latest of each peer and prefix; none: withdrawn.
    pub routes: BTreeMap<RouteKey, Option<Route>>,
}

impl StateChanges {
    /// Adds what was announced or withdrawn last.
    pub fn add_routes(&mut self, changes: &[RouteChange]) {
        self.routes.extend(changes.iter().map(|change| {
            let key = (change.peer.clone(), change.prefix);
            (key, change.route.clone())
        }));
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_none() && self.routes.is_empty()
    }
}

/// A thread that keeps the state on disk up to date: neither the disk nor ten thousands of routes delay what announces.
#[derive(Debug)]
pub struct StateWriter {
    /// One slot: what does not fit is collected by the sender, the latest of each route.
    changes: SyncSender<StateChanges>,
    thread: JoinHandle<()>,
}

/// The state is written at most this often,
const PAUSE: Duration = Duration::from_secs(1);
/// and writing takes at most this part of the time.
const PAUSE_PER_WRITE: u32 = 50;

impl StateWriter {
    /// Starts the thread. The file stays as it is until something changes.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(state: StateDir) -> io::Result<Self> {
        let (changes, received) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || keep(&state, &received))?;
        Ok(Self { changes, thread })
    }

    /// Takes changes in; they are on disk a second or so later. Where the thread is behind, they stay.
    pub fn write(&self, changes: &mut StateChanges) {
        match self.changes.try_send(std::mem::take(changes)) {
            Err(TrySendError::Full(behind)) => *changes = behind,
            // The thread ends only with this sender, or by a panic, which the log has.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Waits until everything is on disk, these last changes included, and ends the thread.
    pub fn finish(self, last: StateChanges) {
        // The file stays as it is where nothing changed.
        if !last.is_empty() {
            // As above.
            let _ = self.changes.send(last);
        }
        drop(self.changes);
        let _ = self.thread.join();
    }
}

/// What the thread knows.
#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<String, PeerConfig>,
    routes: BTreeMap<Arc<str>, BTreeMap<IpNet, Route>>,
}

impl State {
    fn apply(&mut self, changes: StateChanges) {
        if let Some(sessions) = changes.sessions {
            self.sessions = sessions;
        }
        for ((peer, prefix), route) in changes.routes {
            let routes = self.routes.entry(peer).or_default();
            match route {
                Some(route) => routes.insert(prefix, route),
                None => routes.remove(&prefix),
            };
        }
        self.routes.retain(|_, routes| !routes.is_empty());
    }

    fn saved(&self) -> Saved {
        let routes = self.routes.iter().flat_map(|(peer, routes)| {
            let routes = routes.iter();
            routes.map(move |(prefix, route)| (&**peer, prefix, route))
        });
        Saved::new(&self.sessions, routes)
    }
}

/// Writes until there are no more changes to come.
fn keep(dir: &StateDir, changes: &Receiver<StateChanges>) {
    let mut state = State::default();
    let mut not_before = Instant::now();
    let mut unsaved = false;
    let mut failed = false;
    loop {
        let wait = not_before.saturating_duration_since(Instant::now());
        let received = if unsaved {
            changes.recv_timeout(wait)
        } else {
            changes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let ended = received.as_ref().err() == Some(&RecvTimeoutError::Disconnected);
        if let Ok(changes) = received {
            state.apply(changes);
            unsaved = true;
        }
        if unsaved && (ended || Instant::now() >= not_before) {
            let began = Instant::now();
            match dir.save(&state.saved()) {
                Ok(()) => (unsaved, failed) = (false, false),
                // Tried again after the pause, logged once.
                Err(error) if !std::mem::replace(&mut failed, true) => tracing::warn!(
                    "the desired state can't be saved, a restart without the API server will announce nothing: {error}"
                ),
                Err(_) => {}
            }
            not_before = Instant::now() + PAUSE.max(began.elapsed() * PAUSE_PER_WRITE);
        }
        if ended {
            return;
        }
    }
}

impl Saved {
    /// From what runs. Neighbours with equal attributes stand together: those of a peer one after another.
    pub fn new<'a>(
        sessions: &BTreeMap<String, PeerConfig>,
        routes: impl IntoIterator<Item = (&'a str, &'a IpNet, &'a Route)>,
    ) -> Self {
        let mut saved: Vec<SavedRoutes> = Vec::new();
        for (peer, prefix, route) in routes {
            match saved.last_mut() {
                Some(last) if last.peer == peer && last.attributes == **route => {
                    last.prefixes.push(*prefix);
                }
                _ => saved.push(SavedRoutes {
                    peer: peer.to_owned(),
                    attributes: RouteAttributes::clone(route),
                    prefixes: vec![*prefix],
                }),
            }
        }
        Self {
            boot_id: boot_id(),
            peers: sessions.values().map(SavedPeer::new).collect(),
            routes: saved,
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
            let peer: Arc<str> = saved.peer.into();
            let route = Arc::new(saved.attributes);
            let prefixes = saved.prefixes.into_iter();
            prefixes.map(move |prefix| ((peer.clone(), prefix), route.clone()))
        });
        (peers, routes.collect())
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

    fn saved() -> Saved {
        let routes = routes();
        let routes = routes
            .iter()
            .map(|((peer, prefix), route)| (&**peer, prefix, route));
        Saved::new(&sessions(), routes)
    }

    fn changes(routes: BTreeMap<RouteKey, Option<Route>>) -> StateChanges {
        StateChanges {
            sessions: Some(sessions()),
            routes,
        }
    }

    #[test]
    fn the_writer_saves_all_changes_before_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        let writer = StateWriter::start(state.clone()).expect("a thread");
        let announced = routes()
            .into_iter()
            .map(|(key, route)| (key, Some(route)))
            .collect();
        let mut unsaved = changes(announced);
        writer.write(&mut unsaved);
        let other: IpNet = "192.0.2.2/32".parse().expect("a prefix");
        for route in [Some(Arc::new(RouteAttributes::default())), None] {
            let peer = "tor".into();
            unsaved.add_routes(&[RouteChange {
                peer,
                prefix: other,
                route,
            }]);
            writer.write(&mut unsaved);
        }
        writer.finish(unsaved);
        let saved = state.load().expect("readable").expect("of this boot");
        assert_eq!(saved.into_parts(), (sessions(), routes()));
    }

    #[test]
    fn a_writer_that_ends_without_a_change_leaves_the_file_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        state.save(&saved()).expect("written");
        let writer = StateWriter::start(state.clone()).expect("a thread");
        writer.finish(StateChanges::default());
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
        let of = |boot_id: &str| Saved {
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
        let saved = Saved {
            boot_id: "another".into(),
            ..saved()
        };
        state.save(&saved).expect("written");
        assert_eq!(state.load().expect("readable"), None);
    }
}
