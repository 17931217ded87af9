//! Objects that ferrolb does not read though their authors may expect it: other load balancers' kinds, MetalLB's
//! older forms, and kinds that are spelt wrong.

use crate::core::api::{Kind, RawObject, group};
use crate::core::nearest::nearest;

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
        "isovalent.com" => (
            "Isovalent (Cilium)",
            &[
                "IsovalentBGP",
                "IsovalentBFD",
                "IsovalentLoadBalancer",
                "LB",
            ],
        ),
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

/// A kind of ours in another case, another group, or with slips of the pen. The API server refuses those or stores
/// something else.
fn misspelt(group: &str, kind: &str) -> Option<String> {
    let in_other_group = |known: &Kind| known.is_custom() && known.name() == kind;
    let mut kinds = Kind::ALL.into_iter();
    let meant = in_group(group, kind).or_else(|| kinds.find(in_other_group))?;
    let (name, version) = (meant.name(), meant.api_version());
    Some(format!(
        "there is no such kind: write kind {name} and apiVersion {version}"
    ))
}

/// The kind of a group that is meant by a name. Kubernetes' own groups have other kinds, so there the name must be nearer.
fn in_group(group: &str, kind: &str) -> Option<Kind> {
    let of_group = || Kind::ALL.into_iter().filter(|known| known.group() == group);
    let most = if of_group().all(Kind::is_custom) {
        5
    } else {
        2
    };
    let most = most.min(kind.len() / 3);
    let name = nearest(kind, of_group().map(Kind::name), most)?;
    of_group().find(|known| known.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_the_groups_that_are_read_are_no_misspelt_ones() {
        let core = [
            "Pod",
            "Event",
            "Endpoints",
            "ConfigMap",
            "ServiceAccount",
            "Binding",
            "PodTemplate",
            "LimitRange",
            "ResourceQuota",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "ReplicationController",
            "Volume",
        ];
        for kind in core {
            assert_eq!(misspelt("", kind), None, "{kind}");
        }
        for kind in ["Ingress", "IngressClass", "NetworkPolicy", "IPAddress"] {
            assert_eq!(misspelt("networking.k8s.io", kind), None, "{kind}");
        }
        for kind in ["ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"] {
            assert_eq!(misspelt("metallb.io", kind), None, "{kind}");
        }
        // Knative's.
        assert_eq!(misspelt("serving.knative.dev", "Service"), None);
    }

    #[test]
    fn a_misspelt_kind_is_answered_by_the_nearest_one() {
        let cases = [
            ("", "Servise", "Service and apiVersion v1"),
            ("", "node", "Node and apiVersion v1"),
            (
                "discovery.k8s.io",
                "EndpointSlices",
                "EndpointSlice and apiVersion discovery.k8s.io/v1",
            ),
            (
                "metallb.io",
                "IPAddressPol",
                "IPAddressPool and apiVersion metallb.io/v1beta1",
            ),
            (
                "metallb.io",
                "BGPAdvertisment",
                "BGPAdvertisement and apiVersion metallb.io/v1beta1",
            ),
            (
                "metallb.io",
                "BFDProfil",
                "BFDProfile and apiVersion metallb.io/v1beta1",
            ),
            (
                "ferrolb.io",
                "BGPPer",
                "BGPPeer and apiVersion ferrolb.io/v1alpha1",
            ),
            (
                "metallb.com",
                "IPAddressPool",
                "IPAddressPool and apiVersion metallb.io/v1beta1",
            ),
        ];
        for (group, kind, meant) in cases {
            let advice = misspelt(group, kind).expect("misspelt");
            assert!(advice.ends_with(meant), "{group} {kind}: {advice}");
        }
    }
}
