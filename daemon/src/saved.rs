//! The last desired state on disk, so that a restart while the API server is down announces it again.
//!
//! It holds session passwords: the file is readable by its owner only, and lies in an emptyDir of the Pod's own.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use ferrolb_bgp::config::{PeerConfig, Secret};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::api::Password;
use crate::desired::RouteKey;

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
    routes: Vec<SavedRoute>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedPeer {
    config: PeerConfig,
    /// Left out of the configuration when that is written.
    password: Option<Password>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedRoute {
    peer: String,
    prefix: IpNet,
    attributes: RouteAttributes,
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
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
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
        Ok((saved.boot_id == boot_id()).then_some(saved))
    }
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default()
}

impl Saved {
    /// From what runs.
    pub fn new<'a>(
        sessions: &BTreeMap<String, PeerConfig>,
        routes: impl IntoIterator<Item = (&'a RouteKey, &'a Route)>,
    ) -> Self {
        let routes = routes
            .into_iter()
            .map(|((peer, prefix), route)| SavedRoute {
                peer: peer.to_string(),
                prefix: *prefix,
                attributes: RouteAttributes::clone(route),
            });
        Self {
            boot_id: boot_id(),
            peers: sessions.values().map(SavedPeer::new).collect(),
            routes: routes.collect(),
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
        let route = |saved: SavedRoute| {
            (
                (Arc::from(saved.peer), saved.prefix),
                Arc::new(saved.attributes),
            )
        };
        let routes = self.routes.into_iter().map(route);
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

    #[test]
    fn what_is_saved_comes_back_and_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        assert_eq!(state.load().expect("readable"), None);
        state
            .save(&Saved::new(&sessions(), &routes()))
            .expect("written");
        let mode = fs::metadata(folder.path().join(FILE))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let saved = state.load().expect("readable").expect("of this boot");
        assert_eq!(saved.into_parts(), (sessions(), routes()));
    }

    #[test]
    fn what_was_saved_before_a_reboot_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::new(folder.path().to_owned());
        let saved = Saved {
            boot_id: "another".into(),
            ..Saved::new(&sessions(), &routes())
        };
        state.save(&saved).expect("written");
        assert_eq!(state.load().expect("readable"), None);
    }
}
