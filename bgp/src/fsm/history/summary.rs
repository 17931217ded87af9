//! Messages and causes as people and programs read them: words beside the numbers.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::fsm::history::cause::Cause;
use crate::wire::{Asn, Capability, Notification, Open};

/// Capabilities kept of one OPEN: nobody has more, unless to fill our memory.
const CAPABILITIES_KEPT: usize = 64;
/// Octets of a NOTIFICATION's data, or of an UPDATE with errors, that are kept.
const OCTETS_KEPT: usize = 1024;

/// Octets of text about one capability that are kept.
const CAPABILITY_TEXT_MAX: usize = 256;
/// Octets of text about one cause, NOTIFICATION or UPDATE that are kept and logged.
pub(crate) const TEXT_MAX: usize = 2048;

/// The text, or as much of it as fits into `max` octets, and how many octets were left out.
pub(crate) fn shortened(mut text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let kept = text.floor_char_boundary(max);
    let left_out = text.len() - kept;
    text.truncate(kept);
    // Writing to a String doesn't fail.
    let _ = write!(text, "… ({left_out} octets more)");
    text.shrink_to_fit();
    text
}

/// An OPEN, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OpenSummary {
    /// The version of BGP.
    pub version: u8,
    /// The AS number, from the capability where the field is too small for it.
    pub asn: Asn,
    /// The hold time offered, in seconds.
    pub hold_time: u16,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// What was offered, in the order sent; the first 64.
    pub capabilities: Vec<CapabilitySummary>,
}

/// One capability of an OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CapabilitySummary {
    /// Its code.
    pub code: u8,
    /// What it says.
    pub text: String,
}

impl OpenSummary {
    /// Octets of memory that it takes beside itself.
    pub(in crate::fsm) fn octets(&self) -> usize {
        capability_octets(&self.capabilities)
    }
}

/// Octets of memory that the list takes.
pub(in crate::fsm) fn capability_octets(list: &Vec<CapabilitySummary>) -> usize {
    let texts = list.iter().map(|capability| capability.text.capacity());
    list.capacity() * size_of::<CapabilitySummary>() + texts.sum::<usize>()
}

impl From<&Open> for OpenSummary {
    fn from(open: &Open) -> Self {
        let four_octets = open.capabilities.iter().find_map(|c| match c {
            Capability::FourOctetAsn(asn) => Some(*asn),
            _ => None,
        });
        let capabilities = open.capabilities.iter().take(CAPABILITIES_KEPT);
        Self {
            version: open.version,
            asn: four_octets.unwrap_or(Asn(open.asn.into())),
            hold_time: open.hold_time,
            router_id: open.router_id,
            capabilities: capabilities.map(CapabilitySummary::from).collect(),
        }
    }
}

impl From<&Capability> for CapabilitySummary {
    fn from(capability: &Capability) -> Self {
        Self {
            code: capability.code().0,
            text: shortened(capability.to_string(), CAPABILITY_TEXT_MAX),
        }
    }
}

/// A NOTIFICATION, in words and in octets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NotificationSummary {
    /// We sent it; otherwise the peer did.
    pub sent: bool,
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Both by name and number, as `Cease/Administrative Shutdown (6/2)`.
    pub name: String,
    /// What the operator on the other side has to say (RFC 9003).
    pub text: Option<String>,
    /// What the data says besides, as `at most 100 of ipv4-unicast`.
    #[cfg_attr(feature = "serde", serde(default))]
    pub data_in_words: Option<String>,
    /// The data field in hexadecimal, its first 1024 octets.
    pub data: String,
}

impl NotificationSummary {
    pub(in crate::fsm) fn new(notification: &Notification, sent: bool) -> Self {
        Self {
            sent,
            code: notification.code.0,
            subcode: notification.subcode,
            name: notification.to_string(),
            text: notification.shutdown_text(),
            data_in_words: notification
                .data_in_words()
                .map(|words| shortened(words, TEXT_MAX)),
            data: hexadecimal(&notification.data),
        }
    }
}

impl NotificationSummary {
    /// Octets of memory that it takes beside itself.
    fn octets(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        self.name.capacity()
            + optional(&self.text)
            + optional(&self.data_in_words)
            + self.data.capacity()
    }
}

/// The first 1024 octets.
pub(in crate::fsm) fn hexadecimal(octets: &[u8]) -> String {
    let octets = octets.iter().take(OCTETS_KEPT);
    let text = String::with_capacity(2 * octets.len());
    octets.fold(text, |mut text, octet| {
        // Writing to a String doesn't fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Why a session, or an attempt at one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CauseSummary {
    /// [`Cause::code`].
    pub code: Cow<'static, str>,
    /// In words, with what to do about it where that is known.
    pub text: String,
    /// The NOTIFICATION that ended it, if one did.
    pub notification: Option<NotificationSummary>,
}

impl CauseSummary {
    /// Octets of memory that it takes beside itself.
    pub(in crate::fsm) fn octets(&self) -> usize {
        let notification = self.notification.as_ref();
        self.text.capacity() + notification.map_or(0, NotificationSummary::octets)
    }
}

impl From<&Cause> for CauseSummary {
    fn from(cause: &Cause) -> Self {
        let notification = cause.notification();
        Self {
            code: cause.code().into(),
            text: shortened(cause.to_string(), TEXT_MAX),
            notification: notification.map(|(n, sent)| NotificationSummary::new(n, sent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(shortened("short".to_owned(), 5), "short");
        assert_eq!(shortened("häuser".to_owned(), 2), "h… (6 octets more)");
    }
}
