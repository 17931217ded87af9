//! Communities (RFC 1997) and large communities (RFC 8092).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A community: four octets, by custom an AS number and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Community(pub u32);

/// Declares the well-known communities once, for the constants, for printing and for parsing.
macro_rules! well_known {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Community {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name in the registry of well-known communities, for those that have one.
            pub fn name(self) -> Option<&'static str> {
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
    /// The route is about to go away: prefer others (RFC 8326 §5).
    GRACEFUL_SHUTDOWN = 0xffff_0000;
    /// To be accepted although it comes from the receiver itself (RFC 7611 §2).
    ACCEPT_OWN = 0xffff_0001;
    /// Kept for longer than the restart time, to be preferred least (RFC 9494 §4.6).
    LLGR_STALE = 0xffff_0006;
    /// Not to be kept for longer than the restart time (RFC 9494 §4.7).
    NO_LLGR = 0xffff_0007;
    /// Traffic to the prefix is to be dropped (RFC 7999 §5).
    BLACKHOLE = 0xffff_029a;
    /// Not to be advertised outside the confederation or AS (RFC 1997).
    NO_EXPORT = 0xffff_ff01;
    /// Not to be advertised to any peer (RFC 1997).
    NO_ADVERTISE = 0xffff_ff02;
    /// Not to be advertised to any external peer (RFC 1997).
    NO_EXPORT_SUBCONFED = 0xffff_ff03;
    /// Not to be advertised across bilateral peerings (RFC 3765 §2).
    NOPEER = 0xffff_ff04;
}

impl Community {
    /// `high:low`.
    pub const fn new(high: u16, low: u16) -> Self {
        Self(((high as u32) << 16) | low as u32)
    }

    /// Letters may be of either case, and a `-` does for a `_`.
    fn from_name(text: &str) -> Option<Self> {
        let text = text.replace('-', "_");
        Self::WELL_KNOWN.iter().copied().find(|community| {
            community
                .name()
                .is_some_and(|name| name.eq_ignore_ascii_case(&text))
        })
    }
}

/// A well-known one's name, as in `NO_EXPORT`, or two numbers, as in `64700:120`.
impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// Three numbers of four octets each; the first is the AS that gives the others their meaning.
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

/// A text that is not a community.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not {expected}")]
pub struct CommunityParseError {
    /// The text.
    pub text: String,
    /// The form that was wanted.
    pub expected: &'static str,
}

/// Splits `text` at its colons into exactly `N` decimal numbers.
fn numbers<const N: usize, T: FromStr + Copy + Default>(text: &str) -> Option<[T; N]> {
    let mut parts = text.split(':');
    let mut numbers = [T::default(); N];
    for number in &mut numbers {
        let part = parts.next()?;
        // FromStr of the integers would let a sign pass.
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
                expected: "two numbers from 0 to 65535 with a colon between, or a name like NO_EXPORT",
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
                expected: "three numbers from 0 to 4294967295 with colons between",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_read_back_what_they_print() {
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
    fn other_texts_are_refused() {
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
