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

/// `kubectl get` of a kind in one or in all namespaces, and in both API groups.
pub(super) fn get_in(kind: Kind, namespace: Option<&str>) -> String {
    let kinds: Vec<String> = kind.groups().map(resource).collect();
    let place = namespace.map_or_else(|| "-A".to_owned(), |name| format!("-n {name}"));
    format!("kubectl get {} {place}", kinds.join(","))
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
            get_in(Kind::L2Advertisement, None)
        }
        Reason::NodeNotSelected
        | Reason::ServiceNotSelected
        | Reason::PeerNotSelected
        | Reason::TooManyAggregates
        | Reason::AggregateTooWide => get_in(Kind::BgpAdvertisement, None),
        Reason::NoEndpoints
        | Reason::NoLocalEndpoints
        | Reason::NoLocalEndpointsOfSharer
        | Reason::NoEligibleNode
        | Reason::NoCommonNode => format!(
            "kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name}"
        ),
        Reason::NoPeer => get_in(Kind::BgpPeer, None),
        Reason::PeerRefused | Reason::FamilyNotCarried => {
            let peer = verdict.peer.as_deref()?;
            edit(index, &index.config().peers.get(peer)?.object)
        }
        Reason::NoNextHop => format!("kubectl get node {node} -o yaml"),
        Reason::AddressConflict => {
            let addresses = list(service.addresses()).replace(", ", " -e ");
            format!("kubectl get services -A | grep -w -e {addresses}")
        }
        Reason::AddressNotInPool => get_in(Kind::IpAddressPool, None),
        Reason::NoAdvertisement => Explainer::advertisements_command(),
        Reason::ForeignLoadBalancerClass | Reason::NoAddress | Reason::Announced => return None,
    })
}
