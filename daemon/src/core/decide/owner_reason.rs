//! Why a node owns an address by layer 2, or why there is no owner, in words. The log, `ferrolb l2`
//! and docs/reasons.md use this table.

use ferrolb_layer2::status::OwnerReason;

/// A reason in words.
#[derive(Clone, Copy, Debug)]
pub struct OwnerText {
    /// The stable code.
    pub code: &'static str,
    /// The meaning, in a sentence.
    pub meaning: &'static str,
    /// The same in a few words. `{before}` stands for the owner before.
    short: &'static str,
    /// What the operator can do. None if the state ends by itself or needs no action.
    pub remedy: Option<&'static str>,
}

macro_rules! owner_texts {
    ($($(#[doc = $doc:literal])+ $name:ident => $short:literal, $remedy:expr;)+) => {
        /// All reasons.
        pub const OWNER_TEXTS: &[OwnerText] = &[$(owner_text(OwnerReason::$name)),+];

        /// A reason in words.
        pub(crate) const fn owner_text(reason: OwnerReason) -> OwnerText {
            match reason {
                $(OwnerReason::$name => OwnerText {
                    code: stringify!($name),
                    meaning: concat!($($doc),+),
                    short: $short,
                    remedy: $remedy,
                },)+
            }
        }
    };
}

owner_texts! {
    /// The node settles: it listens before it claims anything.
    Settling => "this node listens before it claims", None;
    /// Placement chose the owner when the address had none.
    Placed => "placed, had no owner", None;
    /// The owner before became silent and did not answer probes.
    OwnerSilent => "{before} became silent", None;
    /// The owner before handed it over: it left, was drained, or lost its endpoints.
    HandedOver => "{before} handed it over", None;
    /// An operator moved it (`ferrolb l2 move` or `rebalance`).
    Moved => "moved from {before} on request", None;
    /// A node with a higher preference took over after the hold-down.
    Preferred => "preferred to {before}", None;
    /// Two nodes claimed it; this claim has the higher epoch.
    ConflictWon => "{before} has an older claim", None;
    /// The same process or a new one of the same node resumed its claim.
    Resumed => "resumed after a restart", None;
    /// The address is being probed before its first use.
    Probing => "probed before its first use", None;
    /// No candidate is alive.
    NoCandidate => "no candidate is alive", Some("check that ferrolb-layer2 runs on the \
        candidates. Without candidates, ferrolb plan names the reason of each node");
    /// This node has no usable interface for it.
    NoInterface => "no usable interface here", Some("check spec.interfaces of the \
        L2Advertisement and the list of excluded interfaces");
    /// A host that is no peer answers for it.
    AddressConflict => "another host answers", Some("find it in the switch's table of Ethernet \
        addresses and remove the address there, or exclude the address from the pool");
    /// A peer node answers for it though it doesn't claim it: another load balancer runs there.
    OtherSpeaker => "another load balancer answers", Some("stop the other load balancer \
        (MetalLB's speaker) on that node, or set strictARP if kube-proxy runs in IPVS mode");
    /// The node receives from no peer and no other host: its own link may be dead. It takes nothing
    /// over.
    Isolated => "no other host is received", Some("check the node's cable, switch port and VLAN");
    /// There is no key to authenticate hellos.
    NoKey => "there is no key for hellos", Some("create the Secret memberlist, or let the \
        allocator create ferrolb-layer2 (is it running?)");
    /// Peers wait for a process that restarts.
    OwnerRestarting => "its owner restarts", None;
}

/// A reason in a few words. `before` is the owner before.
pub(crate) fn in_words(reason: OwnerReason, before: Option<&str>) -> String {
    let before = before.unwrap_or("the owner before");
    owner_text(reason).short.replace("{before}", before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_before_is_named_if_it_is_known() {
        let reason = OwnerReason::OwnerSilent;
        assert_eq!(in_words(reason, Some("node-a")), "node-a became silent");
        assert_eq!(in_words(reason, None), "the owner before became silent");
        let reason = OwnerReason::Placed;
        assert_eq!(in_words(reason, Some("node-a")), "placed, had no owner");
    }
}
