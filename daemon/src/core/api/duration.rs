//! Parses and prints durations in Go's notation.

use std::time::Duration;

use super::FieldError;

/// What the API server accepts as a duration, as a regular expression: what [`duration`] reads, and
/// no sign but `+`.
pub(crate) const DURATION_PATTERN: &str =
    "^[+]?(0|(([0-9]+[.]?[0-9]*|[.][0-9]+)(h|m|s|ms|us|\u{b5}s|\u{3bc}s|ns))+)$";

/// The units, with their lengths in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    // The micro sign, and the Greek letter.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];
/// The longest duration in nanoseconds: Go counts them in 64 bits with a sign, 292 years.
const MAX: u128 = i64::MAX as u128;
/// Digits of a fraction that count. Of no unit do more than 13 reach a nanosecond.
const FRACTION_DIGITS: usize = 18;

/// Parses a duration in the notation of Go's `time.ParseDuration`, as MetalLB does: numbers with
/// their units, such as `1m30s` or `1.5h`, or a 0 without a unit. Fractions of a nanosecond are cut
/// off.
///
/// # Errors
/// The text is no duration, or the duration is negative.
pub(crate) fn duration(path: &str, text: &str) -> Result<Duration, FieldError> {
    parse(text).map_err(|problem| {
        let message = format!("{text:?} is not a duration{problem}: write it as 90s or 1m30s");
        FieldError::new(path, message)
    })
}

/// The error describes what is wrong with the text.
fn parse(text: &str) -> Result<Duration, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(String::new());
    }
    let (mut nanos, mut rest) = (0, unsigned);
    while !rest.is_empty() {
        let (part, after) = first_part(rest)?;
        nanos += part;
        if nanos > MAX {
            return Err(", because it is longer than 292 years".to_owned());
        }
        rest = after;
    }
    if nanos > 0 && text.starts_with('-') {
        return Err(", because it is negative".to_owned());
    }
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    Ok(Duration::from_nanos(nanos))
}

/// The nanoseconds of the first number with its unit, and the text after them.
fn first_part(text: &str) -> Result<(u128, &str), String> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, rest) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
    let (unit, rest) = rest.split_at(rest.find(is_number).unwrap_or(rest.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_decimal = number.len() > usize::from(number.contains('.')) && !fraction.contains('.');
    if !is_decimal {
        return Err(format!(", because {text:?} does not begin with a number"));
    }
    if unit.is_empty() {
        return Err(format!(", because {number} has no unit"));
    }
    let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            ", because {unit:?} is not a unit (h, m, s, ms, us, ns)"
        ));
    };
    let length = u128::from(*length);
    // More digits than a u64 has are too long in every unit.
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().unwrap_or(u64::MAX),
    };
    let fraction = fraction.get(..FRACTION_DIGITS).unwrap_or(fraction);
    let scale = fraction.bytes().fold(1, |scale: u128, _| scale * 10);
    let numerator: u128 = fraction.parse().unwrap_or(0);
    let nanos = u128::from(whole) * length + numerator * length / scale;
    Ok((nanos, rest))
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

    /// Texts that Go's `time.ParseDuration` accepts, in nanoseconds.
    #[test]
    fn each_form_of_gos_notation_is_read() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("-0s", 0),
            ("0s", 0),
            ("90s", 90_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1.0000000019s", 1_000_000_001),
            ("0.25000000000000000000h", 900_000_000_000),
            ("30s1m", 90_000_000_000),
            ("1s1s", 2_000_000_000),
            ("00090s", 90_000_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            let expected = Ok(Duration::from_nanos(nanos));
            assert_eq!(duration("", text), expected, "{text}");
        }
    }

    #[test]
    fn any_other_text_is_rejected_with_the_reason() {
        for (text, reason) in [
            ("", ""),
            ("+", ""),
            ("soon", ", because \"soon\" does not begin with a number"),
            ("90", ", because 90 has no unit"),
            ("1m30", ", because 30 has no unit"),
            ("00", ", because 00 has no unit"),
            (
                "1.2.3s",
                ", because \"1.2.3s\" does not begin with a number",
            ),
            (".s", ", because \".s\" does not begin with a number"),
            ("1d", ", because \"d\" is not a unit (h, m, s, ms, us, ns)"),
            ("90S", ", because \"S\" is not a unit (h, m, s, ms, us, ns)"),
            (
                "90 seconds",
                ", because \" seconds\" is not a unit (h, m, s, ms, us, ns)",
            ),
            (
                "1 hour, 2 minutes",
                ", because \" hour, \" is not a unit (h, m, s, ms, us, ns)",
            ),
            ("PT90S", ", because \"PT90S\" does not begin with a number"),
            (" 90s", ", because \" 90s\" does not begin with a number"),
            (
                "90s ",
                ", because \"s \" is not a unit (h, m, s, ms, us, ns)",
            ),
            ("--5s", ", because \"-5s\" does not begin with a number"),
            ("-5s", ", because it is negative"),
            (
                "9223372036854775808ns",
                ", because it is longer than 292 years",
            ),
            ("2562048h", ", because it is longer than 292 years"),
            (
                "99999999999999999999999999999s",
                ", because it is longer than 292 years",
            ),
        ] {
            let message = format!("{text:?} is not a duration{reason}: write it as 90s or 1m30s");
            let expected = Err(FieldError::new("spec.time", message));
            assert_eq!(duration("spec.time", text), expected);
        }
    }

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
