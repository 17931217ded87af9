//! Decoding and encoding of BFD Control packets (RFC 5880 §4.1), with the checks of §6.8.6 that
//! need no session.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Length of a Control packet without authentication section, in octets.
pub const PACKET_LENGTH: usize = 24;
/// The only defined protocol version.
const VERSION: u8 = 1;
/// Length of the shortest authentication section, in octets.
const AUTHENTICATION_MIN: usize = 2;

/// An interval as encoded in packets, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Interval(pub u32);

impl Interval {
    /// Converts from milliseconds, saturating.
    #[must_use]
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Converts to a [`Duration`].
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_micros(self.0.into())
    }
}

/// Session state (RFC 5880 §4.1, §6.2). The field has two bits, so every value is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Administratively down.
    AdminDown,
    /// No communication with the peer.
    #[default]
    Down,
    /// Packets of the peer are received, but it has not confirmed ours.
    Init,
    /// Communication works in both directions.
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

    /// Name in RFC 5880.
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

/// Diagnostic: reason of the sender's last state change (RFC 5880 §4.1). Five bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// No Diagnostic.
    pub const NONE: Self = Self(0);
    /// Control Detection Time Expired.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// Echo Function Failed.
    pub const ECHO_FAILED: Self = Self(2);
    /// Neighbor Signaled Session Down.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// Forwarding Plane Reset.
    pub const FORWARDING_PLANE_RESET: Self = Self(4);
    /// Path Down.
    pub const PATH_DOWN: Self = Self(5);
    /// Concatenated Path Down.
    pub const CONCATENATED_PATH_DOWN: Self = Self(6);
    /// Administratively Down.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
    /// Reverse Concatenated Path Down.
    pub const REVERSE_CONCATENATED_PATH_DOWN: Self = Self(8);

    /// Name in RFC 5880; `None` for unassigned values.
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

/// Authentication type of a packet (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthenticationType(pub u8);

impl AuthenticationType {
    /// Simple Password.
    pub const SIMPLE_PASSWORD: Self = Self(1);
    /// Keyed MD5.
    pub const KEYED_MD5: Self = Self(2);
    /// Meticulous Keyed MD5.
    pub const METICULOUS_KEYED_MD5: Self = Self(3);
    /// Keyed SHA1.
    pub const KEYED_SHA1: Self = Self(4);
    /// Meticulous Keyed SHA1.
    pub const METICULOUS_KEYED_SHA1: Self = Self(5);

    /// Name in RFC 5880; `None` for unassigned values.
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

    /// Reads the type from an authentication section of at least two octets and checks its length.
    /// Octets after the section are ignored.
    fn decode(section: &[u8]) -> Result<Self, PacketError> {
        let (kind, length) = (Self(section[0]), section[1]);
        let octets = usize::from(length);
        if octets <= section.len() && kind.lengths().contains(&octets) {
            return Ok(kind);
        }
        Err(PacketError::AuthenticationLength { kind, length })
    }

    /// Permitted lengths of a section of this type (RFC 5880 §4.2 to §4.4).
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

/// A BFD Control packet that passed the checks that need no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Reason of the sender's last state change.
    pub diagnostic: Diagnostic,
    /// State of the sender.
    pub state: State,
    /// Poll (P): the receiver must answer at once.
    pub poll: bool,
    /// Final (F): answer to a poll.
    pub is_final: bool,
    /// Control Plane Independent (C): BFD survives a failure of the sender's control plane.
    pub control_plane_independent: bool,
    /// Demand (D): the sender wants no periodic packets while both ends are Up.
    pub demand: bool,
    /// Detect Mult; never 0.
    pub detect_mult: u8,
    /// Discriminator of the sender; never 0.
    pub my_discriminator: u32,
    /// Discriminator of the receiver; 0 if the sender does not know it.
    pub your_discriminator: u32,
    /// Desired Min TX Interval.
    pub desired_min_tx: Interval,
    /// Required Min RX Interval; 0 requests no periodic packets.
    pub required_min_rx: Interval,
    /// Required Min Echo RX Interval; 0 disables the Echo function.
    pub required_min_echo_rx: Interval,
    /// Type of the authentication section, if there is one.
    pub authentication: Option<AuthenticationType>,
}

/// Why octets are not a valid Control packet (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Shorter than the mandatory section.
    #[error("{octets} octets are too few for a BFD packet")]
    Short {
        /// Length of the datagram.
        octets: usize,
    },
    /// Not version 1.
    #[error("unsupported BFD version {0}")]
    Version(u8),
    /// The length field is below the minimum or exceeds the datagram.
    #[error("length field {length} does not fit {octets} octets")]
    Length {
        /// Value of the length field.
        length: u8,
        /// Length of the datagram.
        octets: usize,
    },
    /// Detect Mult is 0.
    #[error("detection multiplier is 0")]
    DetectMult,
    /// The Multipoint bit is set.
    #[error("multipoint bit is set")]
    Multipoint,
    /// My Discriminator is 0.
    #[error("My Discriminator is 0")]
    MyDiscriminator,
    /// Your Discriminator is 0 in a state other than Down and AdminDown.
    #[error("Your Discriminator is 0 in state {0}")]
    YourDiscriminator(State),
    /// The length of the authentication section does not match its type or exceeds the packet.
    #[error("invalid length {length} of a {kind} section")]
    AuthenticationLength {
        /// Authentication type.
        kind: AuthenticationType,
        /// Value of the section's length field.
        length: u8,
    },
}

impl Packet {
    /// Decodes the payload of a UDP datagram. Octets after the packet's own length are ignored.
    ///
    /// # Errors
    /// The first failed check of RFC 5880 §6.8.6.
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
        let min = PACKET_LENGTH + if authenticated { AUTHENTICATION_MIN } else { 0 };
        let packet = octets.get(..length.into());
        let Some(packet) = packet.filter(|packet| packet.len() >= min) else {
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
            authentication: section.map(AuthenticationType::decode).transpose()?,
        })
    }

    /// Encodes the packet without authentication section.
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

#[cfg(test)]
mod tests;
