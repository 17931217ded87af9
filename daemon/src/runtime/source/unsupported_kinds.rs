//! Advice about objects that ferrolb does not read although their authors may expect it: kinds of
//! other load balancers, MetalLB's older forms, and misspelt kinds.

use crate::core::api::{Kind, RawObject, group};
use crate::core::config::ConfigPlaces;
use crate::core::nearest::nearest;

/// What to do about an object that is not read; `None` for kinds unrelated to load balancers.
pub(super) fn advice(raw: &RawObject, config: &ConfigPlaces) -> Option<String> {
    let group = group(&raw.api_version);
    metallb(group, raw, config)
        .or_else(|| other_project(group, raw))
        .or_else(|| misspelt(group, &raw.kind))
}

/// MetalLB's kinds.
fn metallb(group: &str, raw: &RawObject, config: &ConfigPlaces) -> Option<String> {
    let advice = match (group, raw.kind.as_str()) {
        ("", "ConfigMap") if is_metallb_config(raw) => return Some(unread_config_map(raw, config)),
        ("", "ConfigMap") if has_frr_configuration(raw) => {
            "MetalLB appends its key extras to the configuration of FRR, which ferrolb does not \
             use: set what it sets in BGPPeers and BGPAdvertisements (ferrolb.io/v1alpha1 has \
             further fields), or in the routers"
        }
        ("", "ConfigMap") if raw.metadata.name == "kubevip" => {
            "kube-vip's address ranges are not read: write an IPAddressPool"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

/// MetalLB's ConfigMap, with another name or in another namespace.
fn unread_config_map(raw: &RawObject, config: &ConfigPlaces) -> String {
    let (name, namespace) = (&raw.metadata.name, raw.metadata.namespace.as_deref());
    let elsewhere = namespace.filter(|namespace| !config.contain(namespace));
    let mut options = Vec::new();
    if *name != config.config_map {
        options.push(format!("--config-map {name}"));
    }
    options.extend(elsewhere.map(|namespace| format!("--config-namespace {namespace}")));
    format!(
        "MetalLB's ConfigMap is read only if its name is {} and it is in the namespace {}: add \
         {}, or print the objects that it means with ferrolb convert",
        config.config_map,
        config.namespaces.join(" or "),
        options.join(" ")
    )
}

/// MetalLB's raw configuration of FRR, since 0.13.10.
fn has_frr_configuration(raw: &RawObject) -> bool {
    let extras = raw.body.get("data").and_then(|data| data.get("extras"));
    let extras = extras.and_then(|extras| extras.as_str());
    raw.metadata.name == "bgpextras" && extras.is_some_and(|extras| !extras.trim().is_empty())
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
            "{project}'s resources are not read: to get the same from ferrolb, write \
             IPAddressPool objects, with L2Advertisement, or BGPPeer and BGPAdvertisement objects"
        )
    })
}

/// A kind of ferrolb's in another case or group, or misspelt. The API server rejects it, or stores
/// an unrelated object.
fn misspelt(group: &str, kind: &str) -> Option<String> {
    let in_other_group = |known: &Kind| known.is_custom() && known.name() == kind;
    let mut kinds = Kind::ALL.into_iter();
    let expected = in_group(group, kind).or_else(|| kinds.find(in_other_group))?;
    let (name, version) = (expected.name(), expected.api_version());
    Some(format!(
        "no such kind: write kind {name} and apiVersion {version}"
    ))
}

/// The most similar kind of a group. The groups of Kubernetes have other kinds too, so names must
/// be closer there.
fn in_group(group: &str, kind: &str) -> Option<Kind> {
    let of_group = || Kind::ALL.into_iter().filter(|known| known.group() == group);
    let max_distance = if of_group().all(Kind::is_custom) {
        5
    } else {
        2
    };
    let max_distance = max_distance.min(kind.len() / 3);
    let name = nearest(kind, of_group().map(Kind::name), max_distance)?;
    // A ConfigMap that is not read, for instance, is not misspelt.
    if name == kind {
        return None;
    }
    of_group().find(|known| known.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_known_groups_are_not_misspelt() {
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
        assert_eq!(misspelt("ferrolb.io", "BGPSession"), None);
        // Knative's Service.
        assert_eq!(misspelt("serving.knative.dev", "Service"), None);
    }

    #[test]
    fn a_misspelt_kind_suggests_the_nearest_one() {
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
        for (group, kind, expected) in cases {
            let advice = misspelt(group, kind).expect("misspelt");
            assert!(advice.ends_with(expected), "{group} {kind}: {advice}");
        }
    }
}
