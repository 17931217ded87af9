//! Parses durations in Go's notation.

use std::time::Duration;

use super::FieldError;

/// Parses a Go duration (`1m30s`).
///
/// # Errors
/// The text is no duration, or the duration is negative.
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
