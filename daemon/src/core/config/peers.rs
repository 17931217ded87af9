//! Compiles the BGPPeers of both API groups, with the BFDProfiles and Secrets that they name.

use std::collections::BTreeMap;

use ferrolb_bgp::bfd::SessionConfig;

use super::peer::{self, Peer, PeerResource};
use super::{Config, ConfigObjects, bfd, both_groups, report_unknown_field, spec};
use crate::core::api::core::ByteString;
use crate::core::api::ferrolb::FerrolbBgpPeerSpec;
use crate::core::api::metallb::{BfdProfileSpec, BgpPeerSpec, BgpPeerV1Beta1Spec};
use crate::core::api::{
    BGP_PEER_V1BETA1, FieldError, Kind, ObjectKey, ObjectName, Partial, Password, RawObject,
};

/// BFDProfiles of both groups by name, with their objects. None for one that never had a good
/// value.
type Profiles = BTreeMap<ObjectName, (ObjectKey, Option<SessionConfig>)>;

impl ConfigObjects {
    pub(super) fn compile_peers(&mut self, config: &mut Config) {
        let profiles = self.compile_bfd_profiles(config);
        let mut good = BTreeMap::new();
        for (key, raw) in self.of_both_groups(Kind::BgpPeer) {
            let parsed = self.peer(key, raw, &profiles, config).and_then(|peer| {
                let other = config.peers.get(&*peer.name).map(|other| &other.object);
                both_groups::check_name(other).map(|()| peer)
            });
            let peer = parsed.or_else(|error| {
                config.refuse(key, &error);
                self.good_peers.get(key).cloned().ok_or(())
            });
            if let Ok(peer) = peer {
                good.insert(key.clone(), peer.clone());
                config.peers.entry(peer.name.to_string()).or_insert(peer);
            }
        }
        self.good_peers = good;
    }

    fn peer(
        &self,
        key: &ObjectKey,
        raw: &RawObject,
        profiles: &Profiles,
        config: &mut Config,
    ) -> Result<Peer, FieldError> {
        let resource = if raw.api_version == BGP_PEER_V1BETA1 {
            v1beta1_spec(raw, key, config).map(|spec| (spec, None))
        } else {
            both_groups::spec::<BgpPeerSpec, FerrolbBgpPeerSpec>(raw, key, config)
        };
        let checked = resource.check(|(spec, ferrolb)| {
            self.checked_peer(key, raw, &spec, ferrolb.as_ref(), profiles)
        });
        let (peer, notices) = checked?;
        for notice in notices {
            config.notice(key.clone(), notice);
        }
        Ok(peer)
    }

    /// The BGPPeer, and notices about it.
    fn checked_peer(
        &self,
        key: &ObjectKey,
        raw: &RawObject,
        spec: &BgpPeerSpec,
        ferrolb: Option<&FerrolbBgpPeerSpec>,
        profiles: &Profiles,
    ) -> Result<(Peer, Vec<String>), FieldError> {
        let namespace = &key.name.namespace;
        let may_be_unread = self.for_allocation_only && self.is_any_unreadable(Kind::BfdProfile);
        let mut absent = None;
        let mut peer = peer::parse(
            PeerResource {
                object: key,
                created: &raw.metadata.creation_timestamp,
                spec,
                ferrolb,
            },
            |name| {
                let secret = ObjectName::new(namespace, name);
                if self.for_allocation_only {
                    return Ok(None);
                }
                if self.is_absent_secret(&secret) {
                    absent = Some(secret);
                    return Ok(None);
                }
                self.password(namespace, name).map(Some)
            },
            |name| match bfd_profile(profiles, namespace, name) {
                Err(_) if may_be_unread => Ok(SessionConfig::default()),
                found => found,
            },
        )?;
        let mut notices = Vec::new();
        if spec.ebgp_multi_hop && !peer::multihop_has_effect(spec) {
            notices.push(MULTIHOP_NOTICE.to_owned());
        }
        if let Some(secret) = absent {
            notices.push(format!(
                "spec.passwordSecret: the Secret {secret} was not read: its password \
                 was not checked, and the BGPPeer is treated as valid"
            ));
            peer.password_unknown = true;
        }
        if ends_with_newline(&peer) {
            notices.push(NEWLINE_NOTICE.to_owned());
        }
        Ok((peer, notices))
    }

    fn compile_bfd_profiles(&mut self, config: &mut Config) -> Profiles {
        let mut profiles = Profiles::new();
        let mut good = BTreeMap::new();
        for (key, raw) in self.of_both_groups(Kind::BfdProfile) {
            let parsed = spec::<BfdProfileSpec>(raw, key, config).check(|spec| {
                let mut notices = Vec::new();
                let profile = bfd::parse(&spec, |notice| notices.push(notice))?;
                both_groups::check_name(usable(&profiles, &key.name))?;
                Ok((profile, notices))
            });
            let profile = match parsed {
                Ok((profile, notices)) => {
                    for notice in notices {
                        config.notice(key.clone(), notice.to_owned());
                    }
                    Some(profile)
                }
                Err(error) => {
                    config.refuse(key, &error);
                    self.good_bfd_profiles.get(key).copied()
                }
            };
            if let Some(profile) = profile {
                good.insert(key.clone(), profile);
            }
            if usable(&profiles, &key.name).is_none() {
                profiles.insert(key.name.clone(), (key.clone(), profile));
            }
        }
        self.good_bfd_profiles = good;
        profiles
    }

    /// Whether a Secret is absent and the input may lack it.
    fn is_absent_secret(&self, name: &ObjectName) -> bool {
        let key = ObjectKey::new(Kind::Secret, name.clone());
        self.without_secrets && !self.raw.contains_key(&key)
    }

    /// The password in a Secret of the BGPPeer's namespace.
    fn password(&self, namespace: &str, name: &str) -> Result<Password, String> {
        const TYPE: &str = "kubernetes.io/basic-auth";
        let key = ObjectKey::new(Kind::Secret, ObjectName::new(namespace, name));
        let raw = self.raw.get(&key).ok_or_else(|| {
            format!(
                "there is no Secret {namespace}/{name} of type {TYPE}: create it, with the key \
                 password"
            )
        })?;
        let kind: String = raw.field("type").map_err(|error| error.to_string())?;
        if kind != TYPE {
            return Err(format!(
                "Secret {namespace}/{name} has type {kind:?}, it must be {TYPE}: delete it and \
                 create it again"
            ));
        }
        match password_of(raw) {
            Ok(Some(password)) => Ok(password),
            Ok(None) => Err(format!(
                "Secret {namespace}/{name} has no key password: add it"
            )),
            Err(error) => Err(format!("Secret {namespace}/{name}: {error}")),
        }
    }
}

/// Reads the fields of MetalLB's BGPPeer v1beta1. Reports the others, which the API server drops.
fn v1beta1_spec(raw: &RawObject, key: &ObjectKey, config: &mut Config) -> Partial<BgpPeerSpec> {
    let (mut unknown, mut unknown_to_v1beta2) = (Vec::new(), Vec::new());
    let old: Partial<BgpPeerV1Beta1Spec> = raw.partial("spec", &mut unknown);
    let _: Partial<BgpPeerSpec> = raw.partial("spec", &mut unknown_to_v1beta2);
    for path in &unknown {
        if unknown_to_v1beta2.contains(path) {
            report_unknown_field(config, key, path);
        } else {
            let message = format!(
                "{path}: has no effect, because {BGP_PEER_V1BETA1} doesn't have this field: \
                 change apiVersion to {}",
                key.kind.api_version()
            );
            config.unknown_field(key.clone(), message);
        }
    }
    old.map(BgpPeerSpec::from)
}

const MULTIHOP_NOTICE: &str = "spec.ebgpMultiHop: has no effect with dynamicASN internal: an iBGP \
    session may cross any number of hops";

/// `echo` appends a newline, which the router's password doesn't have.
const NEWLINE_NOTICE: &str = "the password ends with a newline, which is part of it: if the \
    session stays down, create the Secret from printf '%s', or with kubectl create secret \
    --from-literal";

fn ends_with_newline(peer: &Peer) -> bool {
    let password = peer.session.transport.password.as_ref();
    password.is_some_and(|password| password.expose().ends_with(b"\n"))
}

/// The object of the BFDProfile with a name, if it has a good value.
fn usable<'a>(profiles: &'a Profiles, name: &ObjectName) -> Option<&'a ObjectKey> {
    let (object, profile) = profiles.get(name)?;
    profile.is_some().then_some(object)
}

fn bfd_profile(profiles: &Profiles, namespace: &str, name: &str) -> Result<SessionConfig, String> {
    match profiles.get(&ObjectName::new(namespace, name)) {
        Some((_, Some(profile))) => Ok(*profile),
        Some((_, None)) => Err(format!("BFDProfile {namespace}/{name} is invalid: fix it")),
        None => Err(format!(
            "there is no BFDProfile {namespace}/{name}: create it, or remove bfdProfile to run \
             without BFD"
        )),
    }
}

/// `data.password` (base64) or, in manifests, `stringData.password`. Errors never repeat the value.
fn password_of(raw: &RawObject) -> Result<Option<Password>, &'static str> {
    const KEY: &str = "password";
    let string_data: BTreeMap<String, Password> = raw
        .field("stringData")
        .map_err(|_| "stringData has a value that is not text: put it in quotes")?;
    if let Some(password) = string_data.get(KEY) {
        return Ok(Some(password.clone()));
    }
    let data: BTreeMap<String, ByteString> = raw
        .field("data")
        .map_err(|_| "data has a value that is not base64: encode it, or use stringData")?;
    let Some(octets) = data.get(KEY) else {
        return Ok(None);
    };
    String::from_utf8(octets.0.clone())
        .map(|text| Some(Password::new(text)))
        .map_err(|_| "the key password is not text in UTF-8: use a password that can be typed")
}
