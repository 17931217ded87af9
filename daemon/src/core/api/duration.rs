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

/// A duration in the form that Go prints, such as `1m30s`.
pub(crate) fn go(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{:09}", duration.subsec_nanos());
    let rest = match fraction.trim_end_matches('0') {
        "" => format!("{rest}s"),
        fraction => format!("{rest}.{fraction}s"),
    };
    match (hours, minutes) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_printed_as_go_does() {
        for (text, expected) in [
            ("90s", "1m30s"),
            ("3s", "3s"),
            ("0s", "0s"),
            ("1500ms", "1.5s"),
            ("1h", "1h0m0s"),
            ("60s", "1m0s"),
        ] {
            assert_eq!(
                duration("", text).map(go).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }
}
