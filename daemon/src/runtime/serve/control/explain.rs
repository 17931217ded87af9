//! Requests about the decision of this process: the control loop explains it, and the BGP engine
//! adds its sessions.

use ferrolb_bgp::fsm::{PeerStatus, State};
use ferrolb_bgp::speaker::Handle;

use crate::core::api::ObjectName;
use crate::core::explain::{Explanation, OwnSession};
use crate::runtime::questions::Asker;

/// Explains a service as this process sees it.
///
/// # Errors
/// There is no such service, or the control loop doesn't answer.
pub(super) async fn explain(
    asker: &Asker,
    engine: Option<&Handle>,
    node: &str,
    service: &str,
) -> Result<Explanation, String> {
    let Some((namespace, name)) = service.split_once('/') else {
        return Err(format!("service: {service:?} is not NAMESPACE/NAME"));
    };
    let mut explanation = asker.explain(ObjectName::new(namespace, name)).await?;
    if let Some(engine) = engine {
        let wanted = explanation.peers();
        let peers = engine.snapshot().await;
        let of_peer = |name: &String| -> Option<OwnSession> {
            let named = peers.iter().filter(|peer| template(peer) == name);
            // Of several routers in the network of one BGPPeer, the best session counts.
            let best = named.max_by_key(|peer| peer.state == State::Established)?;
            Some(session(name, best))
        };
        let sessions: Vec<OwnSession> = wanted.iter().filter_map(of_peer).collect();
        explanation.add_sessions(node, &sessions);
    }
    Ok(explanation)
}

/// The name of the BGPPeer.
fn template(peer: &PeerStatus) -> &str {
    peer.template.as_ref().unwrap_or(&peer.name)
}

fn session(name: &str, peer: &PeerStatus) -> OwnSession {
    let established = peer.state == State::Established;
    let mut text = format!("{} for {} s", peer.state, peer.since.as_secs());
    if established {
        text += &format!("; prefixes sent: {}", peer.prefixes_advertised);
    } else if let Some(error) = &peer.last_error {
        let (cause, ago) = (&error.cause, error.ago.as_secs());
        text += &format!("; {} {ago} s ago: {}", cause.code, cause.text);
    }
    OwnSession {
        peer: name.to_owned(),
        established,
        text,
    }
}
