//! The last desired state on disk, so that a restart while the API server is down announces it again.
//!
//! It holds session passwords: the file is readable by its owner only, and lies in an emptyDir of the Pod's own.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_bgp::config::{HoldTime, NextHops, PeerConfig, Secret};
use ferrolb_bgp::rib::{Route, RouteAttributes};
use ferrolb_bgp::wire::{Asn, Community, Family, LargeCommunity};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::api::Password;

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
    name: String,
    address: SocketAddr,
    local_asn: u32,
    remote_asn: u32,
    source_address: Option<IpAddr>,
    router_id: Option<Ipv4Addr>,
    hold_time: u16,
    keepalive_time: Option<Duration>,
    connect_retry: Option<Duration>,
    password: Option<Password>,
    ipv4: bool,
    ipv6: bool,
    next_hop_v4: Option<Ipv4Addr>,
    next_hop_v6: Option<Ipv6Addr>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedRoute {
    peer: String,
    prefix: IpNet,
    local_pref: Option<u32>,
    communities: Vec<u32>,
    large_communities: Vec<String>,
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
    pub fn new(
        sessions: &BTreeMap<String, PeerConfig>,
        routes: &BTreeMap<(String, IpNet), Route>,
    ) -> Self {
        let routes = routes.iter().map(|((peer, prefix), route)| SavedRoute {
            peer: peer.clone(),
            prefix: *prefix,
            local_pref: route.local_pref,
            communities: route
                .communities
                .iter()
                .map(|community| community.0)
                .collect(),
            large_communities: route
                .large_communities
                .iter()
                .map(LargeCommunity::to_string)
                .collect(),
        });
        Self {
            boot_id: boot_id(),
            peers: sessions.values().map(SavedPeer::new).collect(),
            routes: routes.collect(),
        }
    }

    /// Back to what runs.
    pub fn into_parts(
        self,
    ) -> (
        BTreeMap<String, PeerConfig>,
        BTreeMap<(String, IpNet), Route>,
    ) {
        let peers = self
            .peers
            .into_iter()
            .map(|peer| (peer.name.clone(), peer.into_config()))
            .collect();
        let routes = self.routes.into_iter().map(|saved| {
            let route = RouteAttributes {
                local_pref: saved.local_pref,
                communities: saved.communities.into_iter().map(Community).collect(),
                large_communities: saved
                    .large_communities
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .collect(),
                ..RouteAttributes::default()
            };
            ((saved.peer, saved.prefix), Arc::new(route))
        });
        (peers, routes.collect())
    }
}

impl SavedPeer {
    fn new(config: &PeerConfig) -> Self {
        // Every field is named here, so that a new one does not compile until somebody decides whether it is saved.
        let PeerConfig {
            name,
            address,
            local_asn,
            remote_asn,
            source_address,
            router_id,
            hold_time,
            keepalive_time,
            connect_retry,
            password,
            passive: _, // never set by the daemon
            families,
            next_hops,
            receive: _, // never set by the daemon
        } = config;
        Self {
            name: name.clone(),
            address: *address,
            local_asn: local_asn.0,
            remote_asn: remote_asn.0,
            source_address: *source_address,
            router_id: *router_id,
            hold_time: hold_time.as_secs(),
            keepalive_time: *keepalive_time,
            connect_retry: *connect_retry,
            password: password
                .as_ref()
                .and_then(|password| String::from_utf8(password.expose().to_vec()).ok())
                .map(Password::new),
            ipv4: families.contains(&Family::IPV4_UNICAST),
            ipv6: families.contains(&Family::IPV6_UNICAST),
            next_hop_v4: next_hops.v4,
            next_hop_v6: next_hops.v6,
        }
    }

    fn into_config(self) -> PeerConfig {
        let families = [
            (self.ipv4, Family::IPV4_UNICAST),
            (self.ipv6, Family::IPV6_UNICAST),
        ];
        PeerConfig {
            source_address: self.source_address,
            router_id: self.router_id,
            hold_time: HoldTime::from_secs(self.hold_time).unwrap_or_default(),
            keepalive_time: self.keepalive_time,
            connect_retry: self.connect_retry,
            password: self.password.map(|password| Secret::new(password.reveal())),
            families: families
                .into_iter()
                .filter(|(carried, _)| *carried)
                .map(|(_, family)| family)
                .collect(),
            next_hops: NextHops {
                v4: self.next_hop_v4,
                v6: self.next_hop_v6,
            },
            ..PeerConfig::new(
                self.name,
                self.address,
                Asn(self.local_asn),
                Asn(self.remote_asn),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> BTreeMap<String, PeerConfig> {
        let address = SocketAddr::from(([10, 0, 0, 1], 179));
        let config = PeerConfig {
            password: Some(Secret::new("secret")),
            families: vec![Family::IPV4_UNICAST],
            hold_time: HoldTime::from_secs(9).expect("a hold time"),
            source_address: Some(IpAddr::from([10, 0, 0, 2])),
            keepalive_time: Some(Duration::from_secs(3)),
            ..PeerConfig::new("tor", address, Asn(64512), Asn(64513))
        };
        BTreeMap::from([("tor".to_owned(), config)])
    }

    fn routes() -> BTreeMap<(String, IpNet), Route> {
        let route = RouteAttributes {
            local_pref: Some(7),
            communities: vec![Community(1)],
            large_communities: vec!["1:2:3".parse().expect("a community")],
            ..RouteAttributes::default()
        };
        let prefix = "192.0.2.1/32".parse().expect("a prefix");
        BTreeMap::from([(("tor".to_owned(), prefix), Arc::new(route))])
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
