//! Splits path attributes without decoding their values.

/// An attribute as in a message.
#[derive(Clone, Copy)]
pub(crate) struct RawAttribute<'a> {
    /// The type code.
    pub(crate) code: u8,
    /// The value.
    pub(crate) value: &'a [u8],
    /// The whole attribute, flags first.
    pub(crate) octets: &'a [u8],
}

/// The attributes of a field; `None` if one is truncated.
pub(crate) fn attributes(field: &[u8]) -> Option<Vec<RawAttribute<'_>>> {
    let mut all = Vec::new();
    let mut rest = field;
    while let [flags, code, length @ ..] = rest {
        let (length, value) = match flags & 0x10 {
            0 => length
                .split_first_chunk()
                .map(|([a], value)| ([0, *a], value))?,
            _ => length
                .split_first_chunk()
                .map(|(wide, value)| (*wide, value))?,
        };
        let (value, behind) = value.split_at_checked(u16::from_be_bytes(length).into())?;
        all.push(RawAttribute {
            code: *code,
            value,
            octets: rest.get(..rest.len() - behind.len())?,
        });
        rest = behind;
    }
    rest.is_empty().then_some(all)
}
