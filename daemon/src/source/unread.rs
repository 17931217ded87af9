//! Objects that ferrolb does not read though their authors may expect it: other load balancers' kinds, MetalLB's
//! older forms, and kinds that are spelt wrong.

use crate::api::{Kind, RawObject, group};

/// What to do about an object that is not read; none for kinds that have nothing to do with load balancers.
pub(super) fn advice(raw: &RawObject) -> Option<String> {
    let group = group(&raw.api_version);
    metallb(group, raw)
        .or_else(|| other_project(group, raw))
        .or_else(|| misspelt(group, &raw.kind))
}

/// MetalLB's own.
fn metallb(group: &str, raw: &RawObject) -> Option<String> {
    let advice = match (group, raw.kind.as_str()) {
        ("metallb.io", "L2Advertisement") => {
            "ferrolb does not announce by layer 2: addresses of these pools are announced only by BGP, where a \
             BGPAdvertisement selects them"
        }
        ("metallb.io", "AddressPool") => {
            "this older form is not read: write its addresses into an IPAddressPool, and its bgpAdvertisements into \
             BGPAdvertisements"
        }
        ("", "ConfigMap") if is_metallb_config(raw) => {
            "MetalLB's ConfigMap is not read: write IPAddressPool, BGPPeer and BGPAdvertisement objects instead"
        }
        ("", "ConfigMap") if raw.metadata.name == "kubevip" => {
            "kube-vip's addresses are not read: write an IPAddressPool"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

/// `data.config` of MetalLB before its custom resources.
fn is_metallb_config(raw: &RawObject) -> bool {
    let config = raw
        .body
        .get("data")
        .and_then(|data| data.get("config")?.as_str());
    config.is_some_and(|text| text.contains("address-pools") || text.contains("peer-address"))
}

fn other_project(group: &str, raw: &RawObject) -> Option<String> {
    let (project, kinds): (&str, &[&str]) = match group {
        "cilium.io" => ("Cilium", &["CiliumLoadBalancer", "CiliumBGP", "CiliumL2"]),
        "crd.projectcalico.org" | "projectcalico.org" => ("Calico", &["BGP", "IPPool"]),
        "purelb.io" => ("PureLB", &["ServiceGroup", "LBNodeAgent"]),
        "network.kubesphere.io" => ("OpenELB", &["Eip", "Bgp"]),
        _ => return None,
    };
    let concerned = kinds.iter().any(|kind| raw.kind.starts_with(kind));
    concerned.then(|| {
        format!(
            "it belongs to {project} and is not read: if ferrolb is to do the same, write IPAddressPool, BGPPeer and \
             BGPAdvertisement objects"
        )
    })
}

/// A kind of ours in another case or another group. The API server refuses those or stores something else.
fn misspelt(group: &str, kind: &str) -> Option<String> {
    let mut kinds = Kind::ALL.into_iter();
    let meant = kinds.find(|known| {
        let same = known.name().eq_ignore_ascii_case(kind);
        same && (known.group() == group || known.is_custom() && known.name() == kind)
    })?;
    let (name, version) = (meant.name(), meant.api_version());
    Some(format!(
        "there is no such kind: write kind {name} and apiVersion {version}"
    ))
}
