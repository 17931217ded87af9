//! The UPDATE message (RFC 4271 §4.3, RFC 4760).

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};

use super::attribute::PathAttributes;
use super::error::{AttributeError, Treatment};
use super::family::Family;
use super::next_hop::NextHop;

mod decode;

/// Routes that come and go. Read it through [`announced`](Self::announced) and
/// [`withdrawn_prefixes`](Self::withdrawn_prefixes), which heed [`errors`](Self::errors).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The withdrawn field, without what the NLRI field announces (RFC 4271 §4.3).
    pub withdrawn: Vec<Ipv4Net>,
    /// The attributes.
    pub attributes: PathAttributes,
    /// The NLRI field.
    pub nlri: Vec<Ipv4Net>,
    /// MP_REACH_NLRI of a negotiated family.
    pub mp_reach: Option<MpReach>,
    /// MP_UNREACH_NLRI of a negotiated family, without what MP_REACH_NLRI announces.
    pub mp_unreach: Option<MpUnreach>,
    /// What was wrong with it, in the order found (RFC 7606): at most
    /// [`ERRORS_MAX`](Self::ERRORS_MAX), the first of the strongest treatment among them. An
    /// attribute that is repeated is one error, however often it is there.
    pub errors: Vec<AttributeError>,
    /// Errors that are not in `errors`, since there were too many.
    pub errors_left_out: usize,
    /// The body as received, kept for the log when there are errors (RFC 7606 §6).
    pub malformed: Option<Bytes>,
}

/// MP_REACH_NLRI (RFC 4760 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpReach {
    /// The family of the prefixes.
    pub family: Family,
    /// Where packets for them are to be sent.
    pub next_hop: NextHop,
    /// The prefixes.
    pub nlri: Vec<IpNet>,
}

/// MP_UNREACH_NLRI (RFC 4760 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpUnreach {
    /// The family of the prefixes.
    pub family: Family,
    /// The prefixes.
    pub nlri: Vec<IpNet>,
}

impl Update {
    /// Errors kept of one UPDATE.
    pub const ERRORS_MAX: usize = 16;

    /// The strongest treatment that its errors ask for.
    pub fn treatment(&self) -> Option<Treatment> {
        self.errors.iter().map(|error| error.treatment).max()
    }

    /// Its errors in words, and how many were left out.
    pub fn errors_in_words(&self) -> Vec<String> {
        let left_out =
            (self.errors_left_out > 0).then(|| format!("and {} more errors", self.errors_left_out));
        let errors = self.errors.iter().map(ToString::to_string);
        errors.chain(left_out).collect()
    }

    /// The family whose initial routes are complete with this (RFC 4724 §2): nothing in it but at
    /// most an empty MP_UNREACH_NLRI, and nothing wrong with it.
    pub fn end_of_rib(&self) -> Option<Family> {
        let empty = self.withdrawn.is_empty()
            && self.nlri.is_empty()
            && self.mp_reach.is_none()
            && self.errors.is_empty()
            && self.attributes == PathAttributes::default();
        match &self.mp_unreach {
            _ if !empty => None,
            None => Some(Family::IPV4_UNICAST),
            Some(unreach) if unreach.nlri.is_empty() => Some(unreach.family),
            Some(_) => None,
        }
    }

    /// The prefixes it announces; none when it is treated as a withdrawal.
    pub fn announced(&self) -> impl Iterator<Item = IpNet> {
        self.reachable(!self.treated_as_withdraw())
    }

    /// The prefixes it withdraws, with those it announces when it is treated as a withdrawal.
    pub fn withdrawn_prefixes(&self) -> impl Iterator<Item = IpNet> {
        let unreachable = self
            .mp_unreach
            .iter()
            .flat_map(|unreach| &unreach.nlri)
            .copied();
        let withdrawn = self
            .withdrawn
            .iter()
            .copied()
            .map(IpNet::V4)
            .chain(unreachable);
        withdrawn.chain(self.reachable(self.treated_as_withdraw()))
    }

    fn treated_as_withdraw(&self) -> bool {
        self.treatment() == Some(Treatment::TreatAsWithdraw)
    }

    /// The prefixes of NLRI and MP_REACH_NLRI; none unless they are `wanted`.
    fn reachable(&self, wanted: bool) -> impl Iterator<Item = IpNet> {
        let reach = self.mp_reach.iter().filter(move |_| wanted);
        let nlri = self.nlri.iter().take(if wanted { usize::MAX } else { 0 });
        nlri.copied()
            .map(IpNet::V4)
            .chain(reach.flat_map(|reach| &reach.nlri).copied())
    }
}

#[cfg(test)]
mod tests;
