//! Communities (RFC 1997) and large communities (RFC 8092).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A community: by convention an AS number and a value, of two octets each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Community(pub u32);

/// Declares each well-known community once: its constant and its name.
macro_rules! well_known {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Community {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name of a well-known community (IANA registry).
            pub(super) fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            const WELL_KNOWN: &[Self] = &[$(Self::$name),*];
        }
    };
}

well_known! {
    /// The route will be withdrawn soon: prefer others (RFC 8326 §5).
    GRACEFUL_SHUTDOWN = 0xffff_0000;
    /// Accept the route although it originates from the receiver (RFC 7611 §2).
    ACCEPT_OWN = 0xffff_0001;
    /// Stale for longer than the restart time: prefer any other route (RFC 9494 §4.6).
    LLGR_STALE = 0xffff_0006;
    /// Don't keep the route for longer than the restart time (RFC 9494 §4.7).
    NO_LLGR = 0xffff_0007;
    /// Drop traffic to the prefix (RFC 7999 §5).
    BLACKHOLE = 0xffff_029a;
    /// Don't advertise outside the confederation or AS (RFC 1997).
    NO_EXPORT = 0xffff_ff01;
    /// Don't advertise to any peer (RFC 1997).
    NO_ADVERTISE = 0xffff_ff02;
    /// Don't advertise to any external peer (RFC 1997).
    NO_EXPORT_SUBCONFED = 0xffff_ff03;
    /// Don't advertise across bilateral peerings (RFC 3765 §2).
    NOPEER = 0xffff_ff04;
}

impl Community {
    /// `high:low`.
    pub const fn new(high: u16, low: u16) -> Self {
        Self(((high as u32) << 16) | low as u32)
    }

    /// The names of the well-known communities, such as `NO_EXPORT`.
    pub fn well_known_names() -> impl Iterator<Item = &'static str> {
        Self::WELL_KNOWN
            .iter()
            .filter_map(|community| community.name())
    }

    /// Parses a name, case-insensitive, with `-` or `_`.
    fn from_name(text: &str) -> Option<Self> {
        let text = text.replace('-', "_");
        Self::WELL_KNOWN.iter().copied().find(|community| {
            community
                .name()
                .is_some_and(|name| name.eq_ignore_ascii_case(&text))
        })
    }
}

/// The name of a well-known community (`NO_EXPORT`), else two numbers (`64700:120`).
impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// A large community: three numbers of four octets each. The AS in the first defines the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LargeCommunity {
    /// Global administrator: an AS number.
    pub global: u32,
    /// Local data part 1.
    pub local1: u32,
    /// Local data part 2.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// The error for a text that is not a community.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not {expected}")]
pub struct CommunityParseError {
    /// The text.
    pub text: String,
    /// The expected form.
    pub expected: &'static str,
}

/// Splits `text` at its colons into exactly `N` decimal numbers.
fn numbers<const N: usize, T: FromStr + Copy + Default>(text: &str) -> Option<[T; N]> {
    let mut parts = text.split(':');
    let mut numbers = [T::default(); N];
    for number in &mut numbers {
        let part = parts.next()?;
        // The integers' FromStr accepts a sign.
        if !part.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

impl FromStr for Community {
    type Err = CommunityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        numbers::<2, u16>(text)
            .map(|[high, low]| Self::new(high, low))
            .or_else(|| Self::from_name(text))
            .ok_or_else(|| CommunityParseError {
                text: text.to_owned(),
                expected: "two numbers from 0 to 65535 separated by a colon, or a name like \
                           NO_EXPORT",
            })
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        numbers::<3, u32>(text)
            .map(|[global, local1, local2]| Self {
                global,
                local1,
                local2,
            })
            .ok_or_else(|| CommunityParseError {
                text: text.to_owned(),
                expected: "three numbers from 0 to 4294967295 separated by colons",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_communities_parse_back() {
        for text in [
            "64700:120",
            "0:0",
            "65535:2",
            "NO_EXPORT",
            "NO_ADVERTISE",
            "NO_EXPORT_SUBCONFED",
            "GRACEFUL_SHUTDOWN",
            "BLACKHOLE",
            "ACCEPT_OWN",
            "LLGR_STALE",
            "NO_LLGR",
            "NOPEER",
        ] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        assert_eq!("65535:65281".parse(), Ok(Community::NO_EXPORT));
        assert_eq!("no-export".parse(), Ok(Community::NO_EXPORT));
        assert_eq!("65535:666".parse(), Ok(Community::BLACKHOLE));
        let large = LargeCommunity {
            global: 64700,
            local1: 1,
            local2: 4294967295,
        };
        assert_eq!("64700:1:4294967295".parse(), Ok(large));
        assert_eq!(large.to_string(), "64700:1:4294967295");
    }

    #[test]
    fn other_texts_are_not_communities() {
        for text in [
            "",
            "1",
            "1:",
            ":1",
            "1:2:3",
            "65536:1",
            "+1:2",
            "-1:2",
            "1: 2",
            "a:b",
            "NO",
            "NO_EXPORT:",
        ] {
            assert!(text.parse::<Community>().is_err(), "{text:?}");
        }
        for text in ["1:2", "1:2:3:4", "4294967296:1:1", "1:+2:3", "::"] {
            assert!(text.parse::<LargeCommunity>().is_err(), "{text:?}");
        }
    }
}
