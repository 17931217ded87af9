//! Splits a stream of octets into messages and checks their headers (RFC 4271 §4.1, §6.1).

use bytes::{Buf, BytesMut};
use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16};

use super::codes::MessageType;
use super::context::DecodeContext;
use super::error::DecodeError;
use super::notification::Notification;
use super::open::Open;
use super::route_refresh::RouteRefresh;
use super::update::Update;
use super::{HEADER_LENGTH, MARKER, MAX_LENGTH, Message, Parsed};

/// Splits the octets of one connection into messages.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// After an error the rest of the stream is unreadable.
    failed: bool,
}

impl Framer {
    /// Appends received octets.
    pub fn push(&mut self, octets: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// The octets pushed that belong to no complete message yet.
    pub fn incomplete(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns the next complete message. An invalid header is reported before its body arrives.
    ///
    /// After an error it returns `None` forever: the session must end.
    pub fn next(&mut self, context: &DecodeContext) -> Option<Result<Message, DecodeError>> {
        let message = match header(&self.buffer, context)? {
            Ok((kind, length)) => {
                let octets = self.buffer.get(..length)?;
                let message = decode_message(kind, octets, context);
                self.buffer.advance(length);
                message
            }
            Err(error) => Err(error),
        };
        if message.is_err() {
            self.failed = true;
            self.buffer = BytesMut::new();
        }
        Some(message)
    }
}

impl Message {
    /// Decodes exactly one message; `None` if `octets` is shorter or longer than the message.
    ///
    /// # Errors
    /// [`DecodeError`] if the message ends the session.
    pub fn decode(octets: &[u8], context: &DecodeContext) -> Option<Result<Self, DecodeError>> {
        match header(octets, context)? {
            Ok((kind, length)) if length == octets.len() => {
                Some(decode_message(kind, octets, context))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Type and length of the first message in `input`; `None` if its header is incomplete.
fn header(
    input: &[u8],
    context: &DecodeContext,
) -> Option<Result<(MessageType, usize), DecodeError>> {
    let fields: Parsed<'_, (&[u8], u16, u8)> = (take(MARKER.len()), be_u16, be_u8).parse(input);
    let (_, (marker, length, kind)) = fields.ok()?;
    let kind = MessageType(kind);
    Some(if marker != MARKER {
        Err(DecodeError::NotSynchronized)
    } else if !(HEADER_LENGTH..=longest(kind, context)).contains(&length.into()) {
        Err(DecodeError::BadLength { kind, length })
    } else {
        check_length(kind, length, context).map(|()| (kind, length.into()))
    })
}

/// The longest message of a type in octets (RFC 4271 §4.1, RFC 8654 §4).
fn longest(kind: MessageType, context: &DecodeContext) -> usize {
    match kind {
        MessageType::OPEN | MessageType::KEEPALIVE => MAX_LENGTH,
        _ => context.max_length,
    }
}

/// Checks the length against the limits of the message type (RFC 4271 §6.1, RFC 2918 §3).
fn check_length(
    kind: MessageType,
    length: u16,
    context: &DecodeContext,
) -> Result<(), DecodeError> {
    let fits = match kind {
        MessageType::OPEN => length >= 29,
        MessageType::UPDATE => length >= 23,
        MessageType::NOTIFICATION => length >= 21,
        MessageType::KEEPALIVE => length == 19,
        // The error for another length depends on the subtype, the third octet of the body.
        MessageType::ROUTE_REFRESH if context.enhanced_route_refresh => length >= 22,
        MessageType::ROUTE_REFRESH => length == 23,
        MessageType(other) => return Err(DecodeError::BadType(other)),
    };
    if fits {
        Ok(())
    } else {
        Err(DecodeError::BadLength { kind, length })
    }
}

/// Decodes a message whose header is valid.
fn decode_message(
    kind: MessageType,
    octets: &[u8],
    context: &DecodeContext,
) -> Result<Message, DecodeError> {
    let body = octets.get(HEADER_LENGTH..).unwrap_or_default();
    match kind {
        MessageType::OPEN => Open::decode(body).map(Message::Open),
        MessageType::UPDATE => Update::decode(body, context).map(Message::Update),
        MessageType::NOTIFICATION => Ok(Message::Notification(Notification::decode(body))),
        MessageType::ROUTE_REFRESH => RouteRefresh::decode(octets).map(Message::RouteRefresh),
        _ => Ok(Message::Keepalive),
    }
}

#[cfg(test)]
mod tests;
