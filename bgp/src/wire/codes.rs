//! Code points: message types, attribute types, error codes and subcodes of NOTIFICATIONs.

use std::fmt;

/// Type of a message (RFC 4271 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(pub u8);

impl MessageType {
    /// RFC 4271 §4.2.
    pub const OPEN: Self = Self(1);
    /// RFC 4271 §4.3.
    pub const UPDATE: Self = Self(2);
    /// RFC 4271 §4.5.
    pub const NOTIFICATION: Self = Self(3);
    /// RFC 4271 §4.4.
    pub const KEEPALIVE: Self = Self(4);
    /// RFC 2918 §3.
    pub const ROUTE_REFRESH: Self = Self(5);
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OPEN => f.write_str("OPEN"),
            Self::UPDATE => f.write_str("UPDATE"),
            Self::NOTIFICATION => f.write_str("NOTIFICATION"),
            Self::KEEPALIVE => f.write_str("KEEPALIVE"),
            Self::ROUTE_REFRESH => f.write_str("ROUTE-REFRESH"),
            Self(other) => write!(f, "message type {other}"),
        }
    }
}

/// Type code of a path attribute. The constants are in the table of attributes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u8);

/// Error code of a NOTIFICATION (RFC 4271 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u8);

impl ErrorCode {
    /// RFC 4271 §6.1.
    pub const MESSAGE_HEADER: Self = Self(1);
    /// RFC 4271 §6.2.
    pub const OPEN: Self = Self(2);
    /// RFC 4271 §6.3.
    pub const UPDATE: Self = Self(3);
    /// RFC 4271 §6.5.
    pub const HOLD_TIMER_EXPIRED: Self = Self(4);
    /// RFC 4271 §6.6, RFC 6608.
    pub const FSM: Self = Self(5);
    /// RFC 4271 §6.7, RFC 4486.
    pub const CEASE: Self = Self(6);
    /// RFC 7313 §5.
    pub const ROUTE_REFRESH: Self = Self(7);
    /// RFC 9687.
    pub const SEND_HOLD_TIMER_EXPIRED: Self = Self(8);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MESSAGE_HEADER => f.write_str("Message Header Error"),
            Self::OPEN => f.write_str("OPEN Message Error"),
            Self::UPDATE => f.write_str("UPDATE Message Error"),
            Self::HOLD_TIMER_EXPIRED => f.write_str("Hold Timer Expired"),
            Self::FSM => f.write_str("Finite State Machine Error"),
            Self::CEASE => f.write_str("Cease"),
            Self::ROUTE_REFRESH => f.write_str("ROUTE-REFRESH Message Error"),
            Self::SEND_HOLD_TIMER_EXPIRED => f.write_str("Send Hold Timer Expired"),
            Self(other) => write!(f, "error code {other}"),
        }
    }
}

/// Declares each subcode of one error code once: its constant and its name.
macro_rules! subcodes {
    ($(#[$module_doc:meta])* $module:ident: $($name:ident = $code:literal, $text:literal;)*) => {
        $(#[$module_doc])*
        pub mod $module {
            $(#[doc = concat!($text, ".")] pub const $name: u8 = $code;)*

            /// The name that the RFCs use.
            pub(in crate::wire) fn name(subcode: u8) -> Option<&'static str> {
                match subcode {
                    $($name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

/// Subcodes, one module per error code.
pub mod subcode {
    /// Unspecific, the subcode 0 of every error code (RFC 4271 §4.5).
    pub const UNSPECIFIC: u8 = 0;

    subcodes! {
        /// Subcodes of [`ErrorCode::MESSAGE_HEADER`](super::ErrorCode::MESSAGE_HEADER)
        /// (RFC 4271 §6.1).
        header:
        CONNECTION_NOT_SYNCHRONIZED = 1, "Connection Not Synchronized";
        BAD_MESSAGE_LENGTH = 2, "Bad Message Length";
        BAD_MESSAGE_TYPE = 3, "Bad Message Type";
    }
    subcodes! {
        /// Subcodes of [`ErrorCode::OPEN`](super::ErrorCode::OPEN) (RFC 4271 §6.2, RFC 5492 §5,
        /// RFC 9234); 5 is deprecated.
        open:
        UNSUPPORTED_VERSION_NUMBER = 1, "Unsupported Version Number";
        BAD_PEER_AS = 2, "Bad Peer AS";
        BAD_BGP_IDENTIFIER = 3, "Bad BGP Identifier";
        UNSUPPORTED_OPTIONAL_PARAMETER = 4, "Unsupported Optional Parameter";
        AUTHENTICATION_FAILURE = 5, "Authentication Failure";
        UNACCEPTABLE_HOLD_TIME = 6, "Unacceptable Hold Time";
        UNSUPPORTED_CAPABILITY = 7, "Unsupported Capability";
        ROLE_MISMATCH = 11, "Role Mismatch";
    }
    subcodes! {
        /// Subcodes of [`ErrorCode::UPDATE`](super::ErrorCode::UPDATE) (RFC 4271 §6.3); 7 is
        /// deprecated.
        update:
        MALFORMED_ATTRIBUTE_LIST = 1, "Malformed Attribute List";
        UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 2, "Unrecognized Well-known Attribute";
        MISSING_WELL_KNOWN_ATTRIBUTE = 3, "Missing Well-known Attribute";
        ATTRIBUTE_FLAGS_ERROR = 4, "Attribute Flags Error";
        ATTRIBUTE_LENGTH_ERROR = 5, "Attribute Length Error";
        INVALID_ORIGIN_ATTRIBUTE = 6, "Invalid ORIGIN Attribute";
        AS_ROUTING_LOOP = 7, "AS Routing Loop";
        INVALID_NEXT_HOP_ATTRIBUTE = 8, "Invalid NEXT_HOP Attribute";
        OPTIONAL_ATTRIBUTE_ERROR = 9, "Optional Attribute Error";
        INVALID_NETWORK_FIELD = 10, "Invalid Network Field";
        MALFORMED_AS_PATH = 11, "Malformed AS_PATH";
    }
    subcodes! {
        /// Subcodes of [`ErrorCode::FSM`](super::ErrorCode::FSM) (RFC 6608).
        fsm:
        UNEXPECTED_MESSAGE_IN_OPEN_SENT = 1, "Unexpected Message in OpenSent";
        UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM = 2, "Unexpected Message in OpenConfirm";
        UNEXPECTED_MESSAGE_IN_ESTABLISHED = 3, "Unexpected Message in Established";
    }
    subcodes! {
        /// Subcodes of [`ErrorCode::CEASE`](super::ErrorCode::CEASE) (RFC 4486 §4, RFC 8538 §3.1,
        /// RFC 9384).
        cease:
        MAXIMUM_NUMBER_OF_PREFIXES_REACHED = 1, "Maximum Number of Prefixes Reached";
        ADMINISTRATIVE_SHUTDOWN = 2, "Administrative Shutdown";
        PEER_DE_CONFIGURED = 3, "Peer De-configured";
        ADMINISTRATIVE_RESET = 4, "Administrative Reset";
        CONNECTION_REJECTED = 5, "Connection Rejected";
        OTHER_CONFIGURATION_CHANGE = 6, "Other Configuration Change";
        CONNECTION_COLLISION_RESOLUTION = 7, "Connection Collision Resolution";
        OUT_OF_RESOURCES = 8, "Out of Resources";
        HARD_RESET = 9, "Hard Reset";
        BFD_DOWN = 10, "BFD Down";
    }
    subcodes! {
        /// Subcodes of [`ErrorCode::ROUTE_REFRESH`](super::ErrorCode::ROUTE_REFRESH) (RFC 7313 §5).
        route_refresh:
        INVALID_MESSAGE_LENGTH = 1, "Invalid Message Length";
    }
}

/// The name of a subcode of `code`.
pub(in crate::wire) fn subcode_name(code: ErrorCode, number: u8) -> Option<&'static str> {
    match code {
        ErrorCode::MESSAGE_HEADER => subcode::header::name(number),
        ErrorCode::OPEN => subcode::open::name(number),
        ErrorCode::UPDATE => subcode::update::name(number),
        ErrorCode::FSM => subcode::fsm::name(number),
        ErrorCode::CEASE => subcode::cease::name(number),
        ErrorCode::ROUTE_REFRESH => subcode::route_refresh::name(number),
        _ => None,
    }
}
