//! The command that shows or mends the cause of a reason.

use super::{Explainer, Stage, list};
use crate::core::api::{Kind, ObjectKey, ObjectName};
use crate::core::decide::{Reason, Verdict};
use crate::core::index::Index;
use crate::core::model::Service;
use crate::core::model::annotations::EXCLUDE_LABEL;

impl Explainer {
    /// `kubectl edit` of an object, or of the ConfigMap that means it.
    pub(super) fn edit(&self, object: &ObjectKey) -> String {
        edit(&self.index, object)
    }
}

fn edit(index: &Index, object: &ObjectKey) -> String {
    let object = index.config().sources.origin(object);
    let ObjectName { namespace, name } = &object.name;
    format!(
        "kubectl edit -n {namespace} {} {name}",
        resource(object.kind)
    )
}

/// `kubectl get` of kinds in all namespaces, and in the API groups that are in use: kubectl fails
/// for a group without CRDs.
pub(super) fn get(index: &Index, kinds: &[Kind]) -> String {
    let all = || kinds.iter().flat_map(|kind| kind.groups());
    let used: Vec<Kind> = all().filter(|kind| index.has_group(kind.group())).collect();
    let used = if used.is_empty() {
        all().collect()
    } else {
        used
    };
    let kinds: Vec<String> = used.into_iter().map(resource).collect();
    format!("kubectl get {} -A", kinds.join(","))
}

/// `kubectl get` of the advertisements of both protocols.
pub(super) fn get_advertisements(index: &Index) -> String {
    get(index, &[Kind::BgpAdvertisement, Kind::L2Advertisement])
}

/// The name of a kind for kubectl, with its group: two groups have kinds of one name.
fn resource(kind: Kind) -> String {
    let name = kind.name().to_lowercase();
    match kind.group() {
        "" => name,
        group => format!("{name}.{group}"),
    }
}

/// For a reason of a node, or of a node and a BGPPeer.
pub(super) fn of_verdict(
    index: &Index,
    stage: Stage,
    service: &Service,
    node: &str,
    verdict: &Verdict,
) -> Option<String> {
    let ObjectName { namespace, name } = &*service.name;
    Some(match verdict.reason {
        Reason::InvalidAddress => format!(
            "kubectl patch service -n {namespace} {name} --subresource status --type merge -p \
             '{{\"status\":{{\"loadBalancer\":null}}}}'"
        ),
        Reason::NodeUnknown
        | Reason::NodeNetworkUnavailable
        | Reason::NodeLeaving
        | Reason::ServiceProxyNotReady
        | Reason::MetallbSpeaker
        | Reason::CannotDiscard => format!("kubectl describe node {node}"),
        Reason::NodeExcluded => format!("kubectl label node {node} {EXCLUDE_LABEL}-"),
        Reason::NodeCordoned => format!("kubectl uncordon {node}"),
        Reason::NodeNotSelected | Reason::ServiceNotSelected if stage == Stage::Layer2 => {
            get(index, &[Kind::L2Advertisement])
        }
        Reason::NodeNotSelected
        | Reason::ServiceNotSelected
        | Reason::PeerNotSelected
        | Reason::TooManyAggregates
        | Reason::AggregateTooWide => get(index, &[Kind::BgpAdvertisement]),
        Reason::NoEndpoints
        | Reason::NoLocalEndpoints
        | Reason::NoLocalEndpointsOfSharer
        | Reason::NoEligibleNode
        | Reason::NoCommonNode => format!(
            "kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name}"
        ),
        Reason::NoPeer => get(index, &[Kind::BgpPeer]),
        Reason::PeerRefused | Reason::FamilyNotCarried => {
            let peer = verdict.peer.as_deref()?;
            edit(index, &index.config().peers.get(peer)?.object)
        }
        Reason::NoNextHop => format!("kubectl get node {node} -o yaml"),
        Reason::AddressConflict => {
            let addresses = list(service.addresses()).replace(", ", " -e ");
            format!("kubectl get services -A | grep -w -e {addresses}")
        }
        Reason::AddressNotInPool => get(index, &[Kind::IpAddressPool]),
        Reason::NoAdvertisement => get_advertisements(index),
        Reason::ForeignLoadBalancerClass | Reason::NoAddress | Reason::Announced => return None,
    })
}
