//! What a peer announced, counted: received routes are not kept.

use std::collections::BTreeMap;

use crate::fsm::history::received_prefixes::Held;
use crate::fsm::history::status::{PrefixLimit, UpdateErrors};
use crate::wire::{AttributeType, Family, Notification, Treatment, Update};

/// Prefixes of one family, counted as they came: one announced twice counts twice, so the
/// difference of the two numbers is not what the peer has announced just now.
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
    /// The attribute's type; none where the error was not in one.
    pub attribute: Option<u8>,
    /// The attribute's name.
    pub name: String,
    /// What was done: `discard` or `treat-as-withdraw` (RFC 7606).
    pub treatment: String,
    /// How often.
    pub count: u64,
}

/// The counts of one peer.
#[derive(Debug, Default)]
pub(in crate::fsm) struct Tally {
    families: BTreeMap<Family, (u64, u64)>,
    errors: BTreeMap<(Option<AttributeType>, Treatment), u64>,
    totals: UpdateErrors,
    /// Only where there is a limit, and a session.
    held: Option<Held>,
}

impl Tally {
    /// A new session begins: what the last one brought is gone.
    pub(in crate::fsm) fn session(&mut self) {
        self.families.clear();
    }

    /// What the peer announced in the session that ended counts no more.
    pub(in crate::fsm) fn session_over(&mut self) {
        self.held = None;
    }

    /// Takes an UPDATE of a peer that may announce so many prefixes.
    ///
    /// # Errors
    /// What to tell the peer if those are too many.
    pub(in crate::fsm) fn limit(
        &mut self,
        update: &Update,
        limit: Option<u32>,
    ) -> Result<(), Notification> {
        let Some(limit) = limit else {
            self.held = None;
            return Ok(());
        };
        let held = self.held.get_or_insert_default().update(update, limit);
        held.map_err(|family| Notification::maximum_prefixes(family, limit))
    }

    /// The limit and how near it is.
    pub(in crate::fsm) fn prefix_limit(&self, limit: Option<u32>) -> Option<PrefixLimit> {
        let held = self.held.as_ref().map_or(0, Held::most);
        Some(PrefixLimit {
            limit: limit?,
            received: u64::try_from(held).unwrap_or(u64::MAX),
        })
    }

    /// So many prefixes came with a path that nobody could use.
    pub(in crate::fsm) fn looped(&mut self, prefixes: u64) {
        self.totals.looped += prefixes;
    }

    pub(in crate::fsm) fn update(&mut self, update: &Update) {
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
