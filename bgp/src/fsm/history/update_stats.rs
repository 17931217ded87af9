//! Counters of the UPDATEs of one peer. The routes themselves are not stored.

use std::collections::BTreeMap;

use crate::fsm::history::received_prefixes::ReceivedPrefixes;
use crate::wire::{AttributeType, Family, Notification, Treatment, Update};

/// Prefixes of one family, counted as they came. A prefix announced twice counts twice, so the
/// difference of both numbers is not the number of present announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PrefixCount {
    /// The family.
    pub family: Family,
    /// Announcements.
    pub announced: u64,
    /// Withdrawals.
    pub withdrawn: u64,
}

/// One kind of error in UPDATEs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AttributeErrorCount {
    /// The attribute's type; `None` if the error was in no attribute.
    pub attribute: Option<u8>,
    /// The attribute's name.
    pub name: String,
    /// The treatment: `discard` or `treat-as-withdraw` (RFC 7606).
    pub treatment: String,
    /// Number of errors.
    pub count: u64,
}

/// A limit of the prefixes that a peer may announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PrefixLimit {
    /// The most prefixes of each family.
    pub limit: u32,
    /// Prefixes announced at present, of the family with most; counted since the limit was set.
    #[cfg_attr(feature = "serde", serde(rename = "held"))]
    pub received: u64,
}

/// Errors in UPDATEs that did not end the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct UpdateErrors {
    /// UPDATEs treated as withdrawals (RFC 7606).
    pub treated_as_withdraw: u64,
    /// Attributes discarded (RFC 7606).
    pub attributes_discarded: u64,
    /// Looped prefixes: announced with our own AS in the path, or with our own address as next hop
    /// (RFC 4271 §6.3, §9.1.2). These are no errors: many routers send back what they receive.
    #[cfg_attr(feature = "serde", serde(rename = "ineligible"))]
    pub looped: u64,
}

/// Counters of the UPDATEs of one peer.
#[derive(Debug, Default)]
pub(in crate::fsm) struct UpdateStats {
    families: BTreeMap<Family, (u64, u64)>,
    errors: BTreeMap<(Option<AttributeType>, Treatment), u64>,
    totals: UpdateErrors,
    /// Only during a session, and only if there is a limit.
    prefixes: Option<ReceivedPrefixes>,
}

impl UpdateStats {
    /// A new session starts with empty counters of prefixes.
    pub(super) fn session_established(&mut self) {
        self.families.clear();
    }

    /// The announcements of the session are void.
    pub(super) fn session_ended(&mut self) {
        self.prefixes = None;
    }

    /// Takes an UPDATE of a peer that may announce at most `limit` prefixes of each family.
    ///
    /// # Errors
    /// The NOTIFICATION to send if there are more.
    pub(in crate::fsm) fn limit(
        &mut self,
        update: &Update,
        limit: Option<u32>,
    ) -> Result<(), Notification> {
        let Some(limit) = limit else {
            self.prefixes = None;
            return Ok(());
        };
        let prefixes = self.prefixes.get_or_insert_default();
        prefixes
            .update(update, limit)
            .map_err(|family| Notification::maximum_prefixes(family, limit))
    }

    /// The limit, and the number of prefixes that count against it.
    pub(in crate::fsm) fn prefix_limit(&self, limit: Option<u32>) -> Option<PrefixLimit> {
        let received = self.prefixes.as_ref().map_or(0, ReceivedPrefixes::most);
        Some(PrefixLimit {
            limit: limit?,
            received: u64::try_from(received).unwrap_or(u64::MAX),
        })
    }

    /// Counts prefixes with a looped path or next hop.
    pub(in crate::fsm) fn looped(&mut self, prefixes: u64) {
        self.totals.looped += prefixes;
    }

    pub(super) fn update(&mut self, update: &Update) {
        for prefix in update.announced() {
            self.families.entry(Family::of(&prefix)).or_default().0 += 1;
        }
        for prefix in update.withdrawn_prefixes() {
            self.families.entry(Family::of(&prefix)).or_default().1 += 1;
        }
        for error in &update.errors {
            *self
                .errors
                .entry((error.attribute, error.treatment))
                .or_default() += 1;
            if error.treatment == Treatment::Discard {
                self.totals.attributes_discarded += 1;
            }
        }
        if update.treatment() == Some(Treatment::TreatAsWithdraw) {
            self.totals.treated_as_withdraw += 1;
        }
    }

    /// Announcements in this session.
    pub(in crate::fsm) fn announced(&self) -> u64 {
        self.families.values().map(|(announced, _)| announced).sum()
    }

    pub(in crate::fsm) fn totals(&self) -> UpdateErrors {
        self.totals
    }

    pub(in crate::fsm) fn prefixes(&self) -> Vec<PrefixCount> {
        let count = |(family, (announced, withdrawn)): (&Family, &(u64, u64))| PrefixCount {
            family: *family,
            announced: *announced,
            withdrawn: *withdrawn,
        };
        self.families.iter().map(count).collect()
    }

    pub(in crate::fsm) fn errors(&self) -> Vec<AttributeErrorCount> {
        let errors = self.errors.iter();
        errors
            .map(|((attribute, treatment), count)| AttributeErrorCount {
                attribute: attribute.map(|attribute| attribute.0),
                name: attribute.map_or_else(|| "UPDATE".to_owned(), |a| a.to_string()),
                treatment: treatment.to_string(),
                count: *count,
            })
            .collect()
    }
}
