//! Autonomous system numbers (RFC 6793).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use bytes::BufMut;

/// A four-octet autonomous system number, written in decimal ("asplain", RFC 5396 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Asn(pub u32);

impl Asn {
    /// Reserved, and an error wherever it is received (RFC 7607).
    pub const ZERO: Self = Self(0);
    /// Stands in for a number above 65535 where only two octets are available (RFC 6793 §9).
    pub const TRANS: Self = Self(23456);

    /// The two-octet form: the number itself, or [`Asn::TRANS`] when it does not fit
    /// (RFC 6793 §4.2.2).
    pub fn two_octet(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }

    /// Appends the number in four octets or in two.
    pub(super) fn put(self, buffer: &mut impl BufMut, four_octet: bool) {
        if four_octet {
            buffer.put_u32(self.0)
        } else {
            buffer.put_u16(self.two_octet())
        }
    }

    /// Whether the number needs more than two octets.
    pub(crate) fn is_four_octet(self) -> bool {
        u16::try_from(self.0).is_err()
    }
}

impl From<u32> for Asn {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<u16> for Asn {
    fn from(number: u16) -> Self {
        Self(number.into())
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Asn {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}
