//! Durations as Go writes them.

use std::time::Duration;

use super::FieldError;

/// Reads a Go duration (`1m30s`).
///
/// # Errors
/// The text is not a duration, or a negative one.
pub(crate) fn duration(path: &str, text: &str) -> Result<Duration, FieldError> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| {
            FieldError::new(
                path,
                format!("{text:?} is not a duration: write it as 90s or 1m30s"),
            )
        })
}
