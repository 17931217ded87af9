//! The nodes that own addresses of services by layer 2, as far as objects of a cluster say it. No
//! decision depends on it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::core::api::ObjectName;

/// A node that owns addresses of a service, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The node.
    pub node: String,
    /// The kind of the object that says so.
    pub source: OwnerSource,
    /// When it was written (RFC 3339).
    pub at: String,
}

/// What says who the owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum OwnerSource {
    /// An Event `nodeAssigned`. There is none for a failover, and Events expire.
    Event,
    /// MetalLB's ServiceL2Status, with `--metallb-status`: always current.
    ServiceL2Status,
}

/// The owners of each service. Its addresses may have several.
pub(crate) type Owners = BTreeMap<ObjectName, Vec<Owner>>;

/// The owners that Events and ServiceL2Status objects name: all that the latter name, or else that
/// of the newest Event.
pub(crate) fn owners(events: &[Value], statuses: &[Value]) -> Owners {
    let mut owners = Owners::new();
    for (service, owner) in statuses.iter().filter_map(of_status) {
        owners.entry(service).or_default().push(owner);
    }
    for (service, owner) in events.iter().filter_map(of_event) {
        let known = owners.entry(service).or_default();
        // RFC 3339 in UTC: text order is time order.
        let is_older = |one: &Owner| one.source == OwnerSource::Event && one.at <= owner.at;
        if known.iter().all(is_older) {
            *known = vec![owner];
        }
    }
    owners
}

fn of_event(event: &Value) -> Option<(ObjectName, Owner)> {
    if event["reason"] != "nodeAssigned" || event["involvedObject"]["kind"] != "Service" {
        return None;
    }
    // The text is MetalLB's.
    let message = event["message"].as_str()?;
    let rest = message.strip_prefix("announcing from node \"")?;
    let node = rest.strip_suffix("\" with protocol \"layer2\"")?;
    let object = &event["involvedObject"];
    let times = [&event["lastTimestamp"], &event["eventTime"]];
    let at = times.into_iter().find_map(Value::as_str);
    let owner = Owner {
        node: node.to_owned(),
        source: OwnerSource::Event,
        at: at.unwrap_or_default().to_owned(),
    };
    let name = ObjectName::new(text(&object["namespace"]), text(&object["name"]));
    Some((name, owner))
}

fn of_status(object: &Value) -> Option<(ObjectName, Owner)> {
    let status = &object["status"];
    let field = |name: &str| status[name].as_str().filter(|text| !text.is_empty());
    let name = ObjectName::new(field("serviceNamespace")?, field("serviceName")?);
    let owner = Owner {
        node: field("node")?.to_owned(),
        source: OwnerSource::ServiceL2Status,
        at: text(&object["metadata"]["creationTimestamp"]),
    };
    Some((name, owner))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(service: &str, node: &str, at: &str) -> Value {
        let message = format!("announcing from node \"{node}\" with protocol \"layer2\"");
        json!({
            "reason": "nodeAssigned", "message": message, "lastTimestamp": at,
            "involvedObject": { "kind": "Service", "namespace": "shop", "name": service },
        })
    }

    fn status(service: &str, node: &str) -> Value {
        let fields = json!({
            "serviceName": service, "serviceNamespace": "shop", "node": node,
        });
        json!({ "status": fields })
    }

    #[test]
    fn statuses_name_the_owners_and_else_the_newest_event() {
        let statuses = [status("web", "a"), status("web", "b"), status("", "c")];
        let mut events = [
            event("web", "c", "2026-01-01T00:00:02Z"),
            event("api", "b", "2026-01-01T00:00:02Z"),
            event("api", "a", "2026-01-01T00:00:01Z"),
            event("other", "a", "2026-01-01T00:00:01Z"),
        ];
        events[3]["message"] = "announcing from node \"a\" with protocol \"bgp\"".into();
        let owners = owners(&events, &statuses);
        let of = |service: &str| -> Vec<&str> {
            let owners = owners.get(&ObjectName::new("shop", service));
            let nodes = owners.into_iter().flatten();
            nodes.map(|owner| owner.node.as_str()).collect()
        };
        assert_eq!(of("web"), ["a", "b"]);
        assert_eq!(of("api"), ["b"]);
        assert_eq!(of("other"), [""; 0]);
    }
}
