//! The AS_PATH attribute (RFC 4271 §4.3, §5.1.2; RFC 6793).

use std::fmt;

use super::asn::Asn;

/// The autonomous systems a route has passed, nearest first.
///
/// One plain sequence: sets are no longer allowed and confederation segments never reach us
/// (RFC 9774, RFC 5065 §5), both make the decoder withdraw the route.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<Asn>);

impl AsPath {
    /// The AS that sent the route to us, or none for a route of our own AS.
    pub fn first(&self) -> Option<Asn> {
        self.0.first().copied()
    }

    /// Whether `asn` occurs anywhere, the loop test of RFC 4271 §9.1.2.
    pub fn contains(&self, asn: Asn) -> bool {
        self.0.contains(&asn)
    }
}

impl FromIterator<Asn> for AsPath {
    fn from_iter<I: IntoIterator<Item = Asn>>(asns: I) -> Self {
        Self(asns.into_iter().collect())
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, asn) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            asn.fmt(f)?;
        }
        Ok(())
    }
}
