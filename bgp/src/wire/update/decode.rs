//! Octets to UPDATEs.
use super::super::error::DecodeError;
use super::super::framer::DecodeContext;
use super::Update;
impl Update {
    /// Reads a body.
    pub(in crate::wire) fn decode(_: &[u8], _: &DecodeContext) -> Result<Self, DecodeError> {
        Err(DecodeError::MalformedAttributeList)
    }
}
