//! The UPDATE message (RFC 4271 §4.3, RFC 4760).

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};

use super::attribute::{MpReach, MpUnreach, PathAttributes};
use super::error::{AttributeError, Treatment};
use super::family::Family;

mod attributes;
mod decode;

/// A decoded UPDATE. Use [`announced`](Self::announced) and
/// [`withdrawn_prefixes`](Self::withdrawn_prefixes) rather than the fields: they respect
/// [`errors`](Self::errors).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The withdrawn field, without prefixes that the NLRI field announces (RFC 4271 §4.3).
    pub withdrawn: Vec<Ipv4Net>,
    /// The attributes.
    pub attributes: PathAttributes,
    /// The NLRI field.
    pub nlri: Vec<Ipv4Net>,
    /// MP_REACH_NLRI of a negotiated family.
    pub mp_reach: Option<MpReach>,
    /// MP_UNREACH_NLRI of a negotiated family, without prefixes that MP_REACH_NLRI announces.
    pub mp_unreach: Option<MpUnreach>,
    /// The errors in the order found (RFC 7606): at most [`ERRORS_MAX`](Self::ERRORS_MAX), the
    /// first of the strongest treatment included. All repetitions of an attribute are one error.
    pub errors: Vec<AttributeError>,
    /// The number of errors beyond that limit.
    pub errors_omitted: usize,
    /// The body as received if there are errors, for the log (RFC 7606 §6).
    pub malformed: Option<Bytes>,
}

impl Update {
    /// The most errors kept of one UPDATE.
    pub const ERRORS_MAX: usize = 16;

    /// The strongest treatment that the errors require.
    pub fn treatment(&self) -> Option<Treatment> {
        self.errors.iter().map(|error| error.treatment).max()
    }

    /// The errors as text, followed by the number of errors beyond the limit.
    pub fn error_texts(&self) -> Vec<String> {
        let omitted =
            (self.errors_omitted > 0).then(|| format!("and {} more errors", self.errors_omitted));
        let errors = self.errors.iter().map(ToString::to_string);
        errors.chain(omitted).collect()
    }

    /// The family, if this is an End-of-RIB marker (RFC 4724 §2): an UPDATE without routes and
    /// attributes except an empty MP_UNREACH_NLRI, and without errors.
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

    /// The announced prefixes; none if the UPDATE is treated as withdraw.
    pub fn announced(&self) -> impl Iterator<Item = IpNet> {
        self.reachable(!self.treated_as_withdraw())
    }

    /// The withdrawn prefixes; with the announced ones if the UPDATE is treated as withdraw.
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

    /// The prefixes of NLRI and MP_REACH_NLRI if `wanted`, else none.
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
