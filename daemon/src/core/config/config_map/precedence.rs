//! Objects take precedence over the ConfigMap. While they are created from what it means, it stays
//! in effect: `kubectl apply` creates one after the other.

use std::collections::BTreeMap;

use super::convert::Object;
use crate::core::api::duration::{duration, go};
use crate::core::api::metallb::{
    BgpAdvertisementSpec, BgpPeerSpec, IpAddressPoolSpec, L2AdvertisementSpec,
};
use crate::core::api::{Kind, ObjectKey, RawObject};
use crate::core::config::peer::BGP_PORT;

/// Whether objects of a kind take precedence over the ConfigMap.
pub(super) const fn takes_precedence(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AddressPool
            | Kind::IpAddressPool
            | Kind::FerrolbIpAddressPool
            | Kind::BgpPeer
            | Kind::FerrolbBgpPeer
            | Kind::BgpAdvertisement
            | Kind::FerrolbBgpAdvertisement
            | Kind::L2Advertisement
            | Kind::FerrolbL2Advertisement
    )
}

/// Whether objects of a kind have addresses.
pub(super) const fn is_pool(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AddressPool | Kind::IpAddressPool | Kind::FerrolbIpAddressPool
    )
}

/// The objects that are not exactly what a ConfigMap means.
pub(super) fn others<'a>(
    objects: &BTreeMap<&'a ObjectKey, &'a RawObject>,
    meant: &[Object],
) -> Vec<&'a ObjectKey> {
    let is_meant = |key: &ObjectKey, raw: &RawObject| {
        let mut meant = meant.iter();
        let object = meant.find(|object| object.key == *key);
        object.is_some_and(|object| agree(key.kind, raw, &object.raw))
    };
    let others = objects.iter().filter(|(key, raw)| !is_meant(key, raw));
    others.map(|(key, _)| *key).collect()
}

/// Whether two objects have the same meaning. The API server adds the defaults of the CRDs.
fn agree(kind: Kind, one: &RawObject, other: &RawObject) -> bool {
    match kind {
        Kind::IpAddressPool => equal(one, other, |spec: &mut IpAddressPoolSpec| {
            spec.auto_assign.get_or_insert(true);
        }),
        Kind::BgpPeer => equal(one, other, |spec: &mut BgpPeerSpec| {
            spec.peer_port.get_or_insert(BGP_PORT);
            spec.enable_graceful_restart.get_or_insert(false);
            for time in [&mut spec.hold_time, &mut spec.keepalive_time] {
                let parsed = time.as_deref().and_then(|text| duration("", text).ok());
                *time = parsed.map(go);
            }
        }),
        Kind::BgpAdvertisement => equal(one, other, |spec: &mut BgpAdvertisementSpec| {
            spec.aggregation_length.get_or_insert(32);
            spec.aggregation_length_v6.get_or_insert(128);
        }),
        Kind::L2Advertisement => equal(one, other, |_: &mut L2AdvertisementSpec| {}),
        _ => false,
    }
}

fn equal<T>(one: &RawObject, other: &RawObject, add_defaults: impl Fn(&mut T)) -> bool
where
    T: for<'de> serde::Deserialize<'de> + Default + PartialEq,
{
    let spec = |raw: &RawObject| {
        let mut spec: T = raw.field("spec").ok()?;
        add_defaults(&mut spec);
        Some(spec)
    };
    matches!((spec(one), spec(other)), (Some(one), Some(other)) if one == other)
}
