//! BFD Control packets: octets to a value and back (RFC 5880 §4.1), with the checks of §6.8.6 that
//! need no session.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Octets of a Control packet without authentication.
pub const PACKET_LENGTH: usize = 24;
/// The one version there is.
const VERSION: u8 = 1;
/// Octets of the shortest authentication section.
const AUTHENTICATION_MIN: usize = 2;

/// A span of time as the packets have it: microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Interval(pub u32);

impl Interval {
    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// As the standard library has it.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_micros(self.0.into())
    }
}

/// The states of RFC 5880 §4.1. All values of the two bits are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Held down by configuration.
    AdminDown,
    /// No session.
    #[default]
    Down,
    /// The peer is heard, but does not say yet that it hears us.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    fn from_bits(octet: u8) -> Self {
        match octet >> 6 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    fn bits(self) -> u8 {
        let value: u8 = match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        };
        value << 6
    }

    /// Its name in RFC 5880.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why an end last changed its state (RFC 5880 §4.1): five bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing to tell.
    pub const NONE: Self = Self(0);
    /// No packet within the detection time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The echo function failed.
    pub const ECHO_FAILED: Self = Self(2);
    /// The other end said it is down.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// The forwarding plane was reset.
    pub const FORWARDING_PLANE_RESET: Self = Self(4);
    /// The path is down.
    pub const PATH_DOWN: Self = Self(5);
    /// A path joined to this one is down.
    pub const CONCATENATED_PATH_DOWN: Self = Self(6);
    /// Held down by configuration.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
    /// The path back, joined to this one, is down.
    pub const REVERSE_CONCATENATED_PATH_DOWN: Self = Self(8);

    /// In words, where RFC 5880 has some.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NONE => "No Diagnostic",
            Self::DETECTION_TIME_EXPIRED => "Control Detection Time Expired",
            Self::ECHO_FAILED => "Echo Function Failed",
            Self::NEIGHBOR_SIGNALED_DOWN => "Neighbor Signaled Session Down",
            Self::FORWARDING_PLANE_RESET => "Forwarding Plane Reset",
            Self::PATH_DOWN => "Path Down",
            Self::CONCATENATED_PATH_DOWN => "Concatenated Path Down",
            Self::ADMINISTRATIVELY_DOWN => "Administratively Down",
            Self::REVERSE_CONCATENATED_PATH_DOWN => "Reverse Concatenated Path Down",
            Self(_) => return None,
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "diagnostic {}", self.0),
        }
    }
}

/// How a packet is authenticated (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthenticationType(pub u8);

impl AuthenticationType {
    /// A password in clear.
    pub const SIMPLE_PASSWORD: Self = Self(1);
    /// Keyed MD5.
    pub const KEYED_MD5: Self = Self(2);
    /// Keyed MD5 with a new sequence number in every packet.
    pub const METICULOUS_KEYED_MD5: Self = Self(3);
    /// Keyed SHA1.
    pub const KEYED_SHA1: Self = Self(4);
    /// Keyed SHA1 with a new sequence number in every packet.
    pub const METICULOUS_KEYED_SHA1: Self = Self(5);

    /// In words, where RFC 5880 has some.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SIMPLE_PASSWORD => "Simple Password",
            Self::KEYED_MD5 => "Keyed MD5",
            Self::METICULOUS_KEYED_MD5 => "Meticulous Keyed MD5",
            Self::KEYED_SHA1 => "Keyed SHA1",
            Self::METICULOUS_KEYED_SHA1 => "Meticulous Keyed SHA1",
            Self(_) => return None,
        })
    }

    /// The lengths a section of this type may have (RFC 5880 §4.2 to §4.4).
    fn lengths(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::SIMPLE_PASSWORD => 4..=19,
            Self::KEYED_MD5 | Self::METICULOUS_KEYED_MD5 => 24..=24,
            Self::KEYED_SHA1 | Self::METICULOUS_KEYED_SHA1 => 28..=28,
            Self(_) => AUTHENTICATION_MIN..=255,
        }
    }
}

impl fmt::Display for AuthenticationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "authentication type {}", self.0),
        }
    }
}

/// What can be told of an authentication section without the key. Its secret part is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// How.
    pub kind: AuthenticationType,
    /// With which key, where the type is known.
    pub key_id: Option<u8>,
    /// The sequence number, where the type has one.
    pub sequence: Option<u32>,
}

/// A BFD Control packet that passed the checks which need no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender last changed its state.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: answer at once.
    pub poll: bool,
    /// F: the answer.
    pub is_final: bool,
    /// C: the sender's BFD lives on when its control plane doesn't.
    pub control_plane_independent: bool,
    /// D: the sender wants no periodic packets while both ends are up.
    pub demand: bool,
    /// How many packets in a row may be lost. Not 0.
    pub detect_mult: u8,
    /// The sender's number for the session. Not 0.
    pub my_discriminator: u32,
    /// The receiver's number for it, 0 if the sender doesn't know it.
    pub your_discriminator: u32,
    /// How often the sender would like to send.
    pub desired_min_tx: Interval,
    /// How often it can take a packet; 0: it wants no periodic ones.
    pub required_min_rx: Interval,
    /// How often it can reflect an echo; 0: not at all.
    pub required_min_echo_rx: Interval,
    /// The authentication section, if there is one.
    pub authentication: Option<Authentication>,
}

/// Why octets are no Control packet that may be looked at further (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Fewer octets than any packet has.
    #[error("{octets} octets are too few for a BFD packet")]
    Short {
        /// As many came.
        octets: usize,
    },
    /// Not version 1.
    #[error("BFD version {0} is not known")]
    Version(u8),
    /// The length field is too small, or says more than came.
    #[error("length field {length} does not fit {octets} octets")]
    Length {
        /// What the packet says.
        length: u8,
        /// As many came.
        octets: usize,
    },
    /// A detection multiplier of 0.
    #[error("detection multiplier is 0")]
    DetectMult,
    /// The multipoint bit.
    #[error("multipoint bit is set")]
    Multipoint,
    /// The sender has no discriminator.
    #[error("My Discriminator is 0")]
    MyDiscriminator,
    /// 0 for our discriminator, in a state in which the sender must know it.
    #[error("Your Discriminator is 0 in state {0}")]
    YourDiscriminator(State),
    /// An authentication section of a length its type can't have.
    #[error("{kind} section of {length} octets")]
    AuthenticationLength {
        /// Its type.
        kind: AuthenticationType,
        /// What its length field says.
        length: u8,
    },
}

impl Packet {
    /// Reads the payload of a UDP datagram. Octets behind the packet's own length are ignored.
    ///
    /// # Errors
    /// The first check of RFC 5880 §6.8.6 that failed.
    pub fn decode(octets: &[u8]) -> Result<Self, PacketError> {
        let Some((header, _)) = octets.split_first_chunk::<PACKET_LENGTH>() else {
            return Err(PacketError::Short {
                octets: octets.len(),
            });
        };
        let [version, flags, detect_mult, length, words @ ..] = *header;
        let version_number = version >> 5;
        if version_number != VERSION {
            return Err(PacketError::Version(version_number));
        }
        let authenticated = flags & 0x04 != 0;
        let least = PACKET_LENGTH + if authenticated { AUTHENTICATION_MIN } else { 0 };
        let packet = octets.get(..length.into());
        let Some(packet) = packet.filter(|packet| packet.len() >= least) else {
            return Err(PacketError::Length {
                length,
                octets: octets.len(),
            });
        };
        let word = |index: usize| {
            let at = index * 4;
            u32::from_be_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]])
        };
        let state = State::from_bits(flags);
        let (my_discriminator, your_discriminator) = (word(0), word(1));
        if detect_mult == 0 {
            return Err(PacketError::DetectMult);
        }
        if flags & 0x01 != 0 {
            return Err(PacketError::Multipoint);
        }
        if my_discriminator == 0 {
            return Err(PacketError::MyDiscriminator);
        }
        if your_discriminator == 0 && matches!(state, State::Init | State::Up) {
            return Err(PacketError::YourDiscriminator(state));
        }
        let section = authenticated.then(|| &packet[PACKET_LENGTH..]);
        Ok(Self {
            diagnostic: Diagnostic(version & 0x1f),
            state,
            poll: flags & 0x20 != 0,
            is_final: flags & 0x10 != 0,
            control_plane_independent: flags & 0x08 != 0,
            demand: flags & 0x02 != 0,
            detect_mult,
            my_discriminator,
            your_discriminator,
            desired_min_tx: Interval(word(2)),
            required_min_rx: Interval(word(3)),
            required_min_echo_rx: Interval(word(4)),
            authentication: section.map(Authentication::decode).transpose()?,
        })
    }

    /// The packet's octets, without authentication: we never send any.
    #[must_use]
    pub fn encode(&self) -> [u8; PACKET_LENGTH] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = self.state.bits()
            | flag(self.poll, 0x20)
            | flag(self.is_final, 0x10)
            | flag(self.control_plane_independent, 0x08)
            | flag(self.demand, 0x02);
        let mut octets = [0; PACKET_LENGTH];
        octets[0] = VERSION << 5 | self.diagnostic.0 & 0x1f;
        octets[1] = flags;
        octets[2] = self.detect_mult;
        octets[3] = 24;
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx.0,
            self.required_min_rx.0,
            self.required_min_echo_rx.0,
        ];
        for (place, word) in octets[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }
}

impl Authentication {
    /// Reads the section, of at least two octets; what follows it is ignored.
    fn decode(section: &[u8]) -> Result<Self, PacketError> {
        let (kind, length) = (AuthenticationType(section[0]), section[1]);
        let fits = kind.lengths().contains(&length.into());
        let section = section.get(..length.into()).filter(|_| fits);
        let section = section.ok_or(PacketError::AuthenticationLength { kind, length })?;
        let known = kind.name().is_some();
        let numbered = known && kind != AuthenticationType::SIMPLE_PASSWORD;
        let sequence = section.get(4..).and_then(<[u8]>::first_chunk);
        Ok(Self {
            kind,
            key_id: section.get(2).copied().filter(|_| known),
            sequence: sequence
                .map(|octets| u32::from_be_bytes(*octets))
                .filter(|_| numbered),
        })
    }
}

#[cfg(test)]
mod tests;
