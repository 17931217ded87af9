//! The NOTIFICATION message (RFC 4271 §4.5).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::codes::{ErrorCode, MessageType, subcode, subcode_name};
use super::{HEADER_LENGTH, MAX_LENGTH, put_header};

/// Why a session ends, told to the other side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// The kind of error.
    pub code: ErrorCode,
    /// The error itself, meaningful together with `code`; zero is "unspecific".
    pub subcode: u8,
    /// What the error was found in; its form depends on code and subcode.
    pub data: Bytes,
}

/// Longest shutdown text in octets (RFC 9003 §2).
const SHUTDOWN_TEXT_LENGTH: usize = 255;

impl Notification {
    /// A NOTIFICATION without data.
    pub const fn new(code: ErrorCode, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Bytes::new(),
        }
    }

    /// The same with data.
    pub fn with_data(self, data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            ..self
        }
    }

    /// Cease with one of [`subcode::cease`] (RFC 4486).
    pub const fn cease(subcode: u8) -> Self {
        Self::new(ErrorCode::CEASE, subcode)
    }

    /// Cease/Administrative Shutdown with a text for the other side's operator, cut to 255 octets
    /// (RFC 9003 §2). An empty text sends none.
    pub fn administrative_shutdown(text: &str) -> Self {
        Self::cease(subcode::cease::ADMINISTRATIVE_SHUTDOWN).with_text(text)
    }

    /// Cease/Administrative Reset with a text as in
    /// [`administrative_shutdown`](Self::administrative_shutdown).
    pub fn administrative_reset(text: &str) -> Self {
        Self::cease(subcode::cease::ADMINISTRATIVE_RESET).with_text(text)
    }

    /// Nothing was heard for the hold time (RFC 4271 §6.5).
    pub const fn hold_timer_expired() -> Self {
        Self::new(ErrorCode::HOLD_TIMER_EXPIRED, 0)
    }

    /// Nothing could be sent for too long (RFC 9687).
    pub const fn send_hold_timer_expired() -> Self {
        Self::new(ErrorCode::SEND_HOLD_TIMER_EXPIRED, 0)
    }

    /// A message that the state doesn't allow, with one of [`subcode::fsm`] (RFC 6608 §3). The
    /// data is the type of that message.
    pub fn unexpected_message(subcode: u8, received: MessageType) -> Self {
        Self::new(ErrorCode::FSM, subcode).with_data(vec![received.0])
    }

    /// The text that came with Cease/Administrative Shutdown or Reset (RFC 9003 §2).
    ///
    /// Senders get the length and the encoding wrong: what is there is taken as far as it goes,
    /// and whatever isn't text or could disturb a log becomes U+FFFD.
    pub fn shutdown_text(&self) -> Option<String> {
        let with_text = self.code == ErrorCode::CEASE
            && [
                subcode::cease::ADMINISTRATIVE_SHUTDOWN,
                subcode::cease::ADMINISTRATIVE_RESET,
            ]
            .contains(&self.subcode);
        let (&length, rest) = self.data.split_first().filter(|_| with_text)?;
        let text = &rest[..rest.len().min(length.into())];
        let text = String::from_utf8_lossy(text);
        let printable = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        (!text.is_empty()).then(|| text.chars().map(printable).collect())
    }

    /// The whole message. Data beyond the 4096 octets of a message is cut off.
    pub fn encode(&self) -> Bytes {
        let data = &self.data[..self.data.len().min(MAX_LENGTH - HEADER_LENGTH - 2)];
        let mut message = BytesMut::with_capacity(HEADER_LENGTH + 2 + data.len());
        put_header(
            &mut message,
            HEADER_LENGTH + 2 + data.len(),
            MessageType::NOTIFICATION,
        );
        message.put_u8(self.code.0);
        message.put_u8(self.subcode);
        message.put_slice(data);
        message.freeze()
    }

    /// Reads a body. The framer has made sure of the two octets; without them both are zero.
    pub(super) fn decode(body: &[u8]) -> Self {
        let octet = |position| body.get(position).copied().unwrap_or(0);
        Self {
            code: ErrorCode(octet(0)),
            subcode: octet(1),
            data: Bytes::copy_from_slice(body.get(2..).unwrap_or_default()),
        }
    }

    fn with_text(self, text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(SHUTDOWN_TEXT_LENGTH)];
        let Some(length) = u8::try_from(text.len()).ok().filter(|&length| length > 0) else {
            return self;
        };
        self.with_data([&[length], text.as_bytes()].concat())
    }
}

/// Name and numbers, for example `Cease/Administrative Shutdown (6/2)`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt(f)?;
        if let Some(name) = subcode_name(self.code, self.subcode) {
            write!(f, "/{name}")?;
        }
        write!(f, " ({}/{})", self.code.0, self.subcode)
    }
}

#[cfg(test)]
mod tests;
