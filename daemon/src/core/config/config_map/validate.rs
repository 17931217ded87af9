//! Checks the objects that the ConfigMap means, all together, with the checks of the objects
//! themselves. An error names the place in the ConfigMap.

use std::collections::BTreeMap;

use ferrolb_allocator::PoolSet;
use ferrolb_bgp::bfd::SessionConfig;
use serde::Deserialize;

use super::convert::Object;
use super::mistake::Mistake;
use crate::core::api::metallb::{
    BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec, IpAddressPoolSpec,
};
use crate::core::api::{FieldError, Kind};
use crate::core::config::advertisement::{self, Aliases};
use crate::core::config::peer::{self, PeerResource};
use crate::core::config::pool::{self, PoolResource};
use crate::core::config::{Config, aggregation, bfd};
use crate::core::model::Labels;

impl Object {
    fn spec<T: for<'de> Deserialize<'de> + Default>(&self) -> Result<T, FieldError> {
        self.raw.field("spec")
    }
}

/// The mistakes in the objects. Not in the peers, pools and profiles alone: they must also fit
/// together.
pub(super) fn mistakes(objects: &[Object]) -> Vec<Mistake> {
    let mut found = Found::default();
    found.report_repetitions(objects);
    let aliases = found.aliases(objects);
    let config = found.pools(objects);
    let profiles = found.profiles(objects);
    for object in objects {
        match object.key.kind {
            Kind::BgpPeer => found.peer(object, &profiles),
            Kind::BgpAdvertisement => found.advertisement(object, &aliases, &config),
            _ => {}
        }
    }
    found.mistakes.sort_by_key(|mistake| mistake.line);
    found.mistakes
}

#[derive(Default)]
struct Found {
    mistakes: Vec<Mistake>,
}

impl Found {
    fn add(&mut self, object: &Object, mut error: FieldError) {
        let more = std::mem::take(&mut error.more);
        for error in std::iter::once(error).chain(more) {
            self.mistakes
                .push(object.source.mistake(&error.path, &error.message));
        }
    }

    fn record<T>(&mut self, object: &Object, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|error| self.add(object, error)).ok()
    }

    /// Reports what is there twice: names of pools and profiles, peers, and advertisements of one
    /// pool.
    fn report_repetitions(&mut self, objects: &[Object]) {
        for (index, object) in objects.iter().enumerate() {
            let mut earlier = objects.iter().take(index);
            let same = earlier.find(|other| {
                other.key == object.key
                    || other.key.kind == object.key.kind
                        && object.key.kind != Kind::L2Advertisement
                        && object.key.kind != Kind::IpAddressPool
                        && object.key.kind != Kind::BfdProfile
                        && other.raw.body == object.raw.body
            });
            let Some(same) = same else { continue };
            let what = match object.key.kind {
                Kind::IpAddressPool | Kind::BfdProfile => "has the same name as",
                _ => "is the same as",
            };
            let message = format!(
                "{what} {} in line {}: remove or change one of them",
                same.source.path, same.source.line
            );
            self.mistakes.push(Mistake::new(
                object.source.line,
                &object.source.path,
                message,
            ));
        }
    }

    fn aliases(&mut self, objects: &[Object]) -> Aliases {
        let mut communities = objects.iter();
        let object = communities.find(|object| object.key.kind == Kind::Community);
        let parsed = object.and_then(|object| {
            let parsed = object
                .spec()
                .and_then(|spec: CommunitySpec| advertisement::parse_aliases(&spec));
            self.record(object, parsed)
        });
        parsed.unwrap_or_default()
    }

    /// The pools. Each address is also checked alone, so that the mistake names its line.
    fn pools(&mut self, objects: &[Object]) -> Config {
        let mut config = Config {
            pools: PoolSet::default(),
            ..Config::default()
        };
        for object in objects {
            if object.key.kind != Kind::IpAddressPool {
                continue;
            }
            let Some(spec) = self.record(object, object.spec::<IpAddressPoolSpec>()) else {
                continue;
            };
            let name = &object.key.name.name;
            let parse = |spec: &IpAddressPoolSpec| {
                let resource = PoolResource {
                    object: &object.key,
                    labels: &Labels::default(),
                    spec,
                    ferrolb: None,
                };
                pool::parse(resource, false, &BTreeMap::new())
            };
            let before = self.mistakes.len();
            for (index, address) in spec.addresses.iter().enumerate() {
                let alone = IpAddressPoolSpec {
                    addresses: vec![address.clone()],
                    ..IpAddressPoolSpec::default()
                };
                if let Err(error) = parse(&alone) {
                    let place = format!("spec.addresses[{index}]");
                    self.mistakes
                        .push(object.source.mistake(&place, &error.message));
                }
            }
            if self.mistakes.len() > before {
                continue;
            }
            let Some((pool, details)) = self.record(object, parse(&spec)) else {
                continue;
            };
            match config.pools.insert(pool) {
                Ok(()) => _ = config.pool_details.insert(name.clone(), details),
                // report_repetitions names the other one.
                Err(_) if config.pool_details.contains_key(name) => {}
                Err(error) => {
                    self.add(object, FieldError::new("spec.addresses", error.to_string()));
                }
            }
        }
        config
    }

    fn profiles<'a>(&mut self, objects: &'a [Object]) -> BTreeMap<&'a str, Option<SessionConfig>> {
        let mut profiles = BTreeMap::new();
        for object in objects {
            if object.key.kind == Kind::BfdProfile {
                let parsed = object
                    .spec()
                    .and_then(|spec: BfdProfileSpec| bfd::parse(&spec, |_| {}));
                let parsed = self.record(object, parsed);
                profiles.insert(object.key.name.name.as_str(), parsed);
            }
        }
        profiles
    }

    fn peer(&mut self, object: &Object, profiles: &BTreeMap<&str, Option<SessionConfig>>) {
        let parsed = object.spec().and_then(|spec: BgpPeerSpec| {
            let resource = PeerResource {
                object: &object.key,
                created: "",
                spec: &spec,
                ferrolb: None,
            };
            // The ConfigMap has no Secrets.
            let secret = |_: &str| Ok(None);
            peer::parse(resource, secret, |name| match profiles.get(name) {
                Some(Some(profile)) => Ok(*profile),
                Some(None) => Err(format!(
                    "the entry {name:?} of bfd-profiles is invalid: fix it"
                )),
                None => Err(format!(
                    "bfd-profiles has no entry {name:?}: add it, or remove bfd-profile to run \
                     without BFD"
                )),
            })
        });
        self.record(object, parsed);
    }

    fn advertisement(&mut self, object: &Object, aliases: &Aliases, config: &Config) {
        let parsed = object.spec().and_then(|spec: BgpAdvertisementSpec| {
            let ad = advertisement::parse(&object.key, "", &spec, None, aliases)?;
            aggregation::check(&ad, config)
        });
        self.record(object, parsed);
    }
}
