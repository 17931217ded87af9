//! The CRDs of MetalLB's kinds, for clusters that never had MetalLB: its objects can be applied as
//! they are. They have no webhook: BGPPeers of both versions have the same fields.

use serde_json::{Value, json};

use super::{Definition, require, schema};
use crate::core::api::Kind;
use crate::core::api::condition::ACCEPTED;
use crate::core::api::metallb::{
    BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, IpAddressPoolSpec, L2AdvertisementSpec,
    PoolStatus,
};

/// The CRDs.
pub(super) fn crds() -> [Value; 6] {
    let v1beta1 = &["v1beta1"][..];
    let mut pool = schema::<IpAddressPoolSpec>(&super::pool_defaults());
    require(&mut pool, "", &["addresses"]);
    let pool = Definition {
        spec: Some(pool),
        status: Some(schema::<PoolStatus>(&[])),
        ..super::pool()
    };
    let mut peer = schema::<BgpPeerSpec>(&super::peer_defaults());
    require(&mut peer, "", &["myASN"]);
    let peer = Definition {
        spec: Some(peer),
        status: None,
        ..super::peer()
    };
    let bfd_profile = Definition {
        spec: Some(schema::<BfdProfileSpec>(&super::bfd_defaults())),
        status: None,
        ..super::bfd_profile()
    };
    let advertisement = Definition {
        spec: Some(schema::<BgpAdvertisementSpec>(
            &super::advertisement_defaults(),
        )),
        status: None,
        ..super::advertisement()
    };
    let layer2_advertisement = Definition {
        spec: Some(schema::<L2AdvertisementSpec>(&[])),
        status: None,
        ..super::layer2_advertisement()
    };
    let community = Definition {
        status: None,
        ..super::community()
    };
    [
        crd(pool, v1beta1),
        crd(peer, &["v1beta2", "v1beta1"]),
        crd(bfd_profile, v1beta1),
        crd(advertisement, v1beta1),
        crd(layer2_advertisement, v1beta1),
        crd(community, v1beta1),
    ]
}

/// The CRD of MetalLB's kind instead of ferrolb's, with these versions. The first one is stored.
fn crd(definition: Definition, versions: &[&str]) -> Value {
    let (group, _) = Kind::IpAddressPool
        .api_version()
        .split_once('/')
        .unwrap_or_default();
    let name = format!("{}.{group}", definition.plural);
    let mut crd = super::crd(definition);
    crd["metadata"]["name"] = json!(name);
    crd["spec"]["group"] = json!(group);
    if let Some(names) = crd["spec"]["names"].as_object_mut() {
        names.remove("shortNames");
        names.remove("categories");
    }
    let mut own = crd["spec"]["versions"][0].take();
    if let Some(columns) = own["additionalPrinterColumns"].as_array_mut() {
        // MetalLB's kinds have no conditions.
        columns.retain(|column| column["name"] != ACCEPTED);
    }
    let versions = versions.iter().enumerate().map(|(place, version)| {
        let mut of_version = own.clone();
        of_version["name"] = json!(version);
        of_version["storage"] = json!(place == 0);
        of_version
    });
    crd["spec"]["versions"] = versions.collect();
    crd
}
