//! Summaries of messages and causes for people and programs: text beside numbers, bounded in size.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::fsm::history::cause::Cause;
use crate::wire::{Asn, Capability, Notification, Open};

/// Capabilities stored of one OPEN. No real peer sends more.
const CAPABILITIES_KEPT: usize = 64;
/// Octets stored of a NOTIFICATION's data, or of an erroneous UPDATE.
const OCTETS_KEPT: usize = 1024;

/// Octets of text stored about one capability.
const CAPABILITY_TEXT_MAX: usize = 256;
/// Octets of text stored and logged about one cause, NOTIFICATION or UPDATE.
pub(crate) const TEXT_MAX: usize = 2048;

/// The text; if it is longer than `max` octets, its beginning and the number of omitted octets.
pub(crate) fn shortened(mut text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let kept = text.floor_char_boundary(max);
    let omitted = text.len() - kept;
    text.truncate(kept);
    // Writing to a String doesn't fail.
    let _ = write!(text, "… ({omitted} octets more)");
    text.shrink_to_fit();
    text
}

/// An OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OpenSummary {
    /// BGP version.
    pub version: u8,
    /// The AS number: that of the capability, if there is one (RFC 6793).
    pub asn: Asn,
    /// The hold time offered, in seconds.
    pub hold_time: u16,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The capabilities in the order sent, at most 64.
    pub capabilities: Vec<CapabilitySummary>,
}

/// One capability of an OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CapabilitySummary {
    /// Its code.
    pub code: u8,
    /// The capability as text.
    pub text: String,
}

impl OpenSummary {
    /// Octets of heap memory.
    pub(in crate::fsm) fn octets(&self) -> usize {
        capability_octets(&self.capabilities)
    }
}

/// Octets of heap memory of the list.
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

/// A NOTIFICATION as text and as octets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NotificationSummary {
    /// Whether we sent it; otherwise the peer did.
    pub sent: bool,
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Both as name and number, for example `Cease/Administrative Shutdown (6/2)`.
    pub name: String,
    /// The message of the sender's operator (RFC 9003).
    pub text: Option<String>,
    /// The data as text, for example `limit of 100 ipv4-unicast prefixes`.
    #[cfg_attr(feature = "serde", serde(default))]
    pub data_in_words: Option<String>,
    /// The first 1024 octets of the data in hexadecimal.
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

    /// Octets of heap memory.
    fn octets(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        self.name.capacity()
            + optional(&self.text)
            + optional(&self.data_in_words)
            + self.data.capacity()
    }
}

/// The first 1024 octets in hexadecimal.
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
    /// The cause as text, with what to do where that is known.
    pub text: String,
    /// The NOTIFICATION that ended it, if one did.
    pub notification: Option<NotificationSummary>,
}

impl CauseSummary {
    /// Octets of heap memory.
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
    fn a_long_text_is_cut_between_characters_with_the_number_of_omitted_octets() {
        assert_eq!(shortened("short".to_owned(), 5), "short");
        assert_eq!(shortened("häuser".to_owned(), 2), "h… (6 octets more)");
    }
}
