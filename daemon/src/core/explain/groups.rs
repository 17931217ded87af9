//! Steps that withhold something: equal ones of several nodes, peers and services are one step.

use std::collections::BTreeMap;

use super::{Stage, Step, command};
use crate::core::decide::{Detail, Reason, Verdict};
use crate::core::index::Index;
use crate::core::model::Service;

/// The steps, by stage, reason and text.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<(Stage, Reason, String), Step>);

/// What differs among the verdicts of an explanation, so that a step lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// The explanation is about one service.
    Nodes,
    /// The explanation is about one node.
    Services,
    /// The explanation is about one BGPPeer.
    NodesAndServices,
}

/// Whom a verdict concerns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Concerned<'a> {
    pub service: &'a Service,
    pub node: Option<&'a str>,
    /// What the step lists.
    pub listed: Listed,
}

impl Groups {
    /// Adds a verdict that withholds something.
    pub(super) fn add(
        &mut self,
        index: &Index,
        stage: Stage,
        concerned: Concerned<'_>,
        verdict: &Verdict,
    ) {
        let Concerned {
            service,
            node,
            listed,
        } = concerned;
        let text = shared_text(verdict, concerned);
        let step = self.0.entry((stage, verdict.reason, text.clone()));
        let step = step.or_insert_with(|| {
            let named = node.unwrap_or_default();
            Step::withheld(stage, text)
                .because(verdict.reason.code())
                .with_command(command::of_verdict(index, stage, service, named, verdict))
        });
        if listed != Listed::Services {
            step.nodes.extend(node.map(str::to_owned));
        }
        step.peers
            .extend(verdict.peer.as_deref().map(str::to_owned));
        if listed != Listed::Nodes {
            step.services.insert(service.name.to_string());
        }
    }

    /// The steps.
    pub(super) fn into_steps(self) -> impl Iterator<Item = Step> {
        self.0.into_values()
    }
}

/// The text without what the lists of the step name.
fn shared_text(verdict: &Verdict, concerned: Concerned<'_>) -> String {
    let is_listed = match &verdict.detail {
        Detail::Peer => true,
        Detail::Text(text) => concerned.node == Some(&**text),
        // The families of one service mean nothing for many.
        Detail::Families(_) | Detail::Addresses(_) => concerned.listed != Listed::Nodes,
        Detail::None => false,
    };
    let shared = Verdict {
        peer: None,
        reason: verdict.reason,
        detail: if is_listed {
            Detail::None
        } else {
            verdict.detail.clone()
        },
    };
    shared.message(&concerned.service.name)
}
