//! BFDProfile: the settings of BFD sessions.

use std::num::NonZeroU8;

use ferrolb_bgp::bfd::{Interval, Role, SessionConfig, Timers};

use crate::core::api::metallb::{BFD_INTERVAL_MAX, BFD_INTERVAL_MIN, BfdProfileSpec};
use crate::core::api::{Errors, FieldError};

/// The intervals that are accepted, in milliseconds.
const INTERVALS: std::ops::RangeInclusive<u32> = BFD_INTERVAL_MIN..=BFD_INTERVAL_MAX;

/// Checks a BFDProfile. Calls `notice` for fields that have no effect.
///
/// # Errors
/// Every invalid field, and what to write instead.
pub(crate) fn parse(
    spec: &BfdProfileSpec,
    mut notice: impl FnMut(&'static str),
) -> Result<SessionConfig, FieldError> {
    let BfdProfileSpec {
        receive_interval,
        transmit_interval,
        detect_multiplier,
        echo_interval,
        echo_mode,
        passive_mode,
        minimum_ttl,
    } = spec;
    let default = SessionConfig::default();
    if *echo_mode == Some(true) || echo_interval.is_some() {
        notice(
            "spec.echoMode and spec.echoInterval: have no effect, because ferrolb doesn't support \
             BFD echo: sessions use control packets only",
        );
    }
    let mut errors = Errors::default();
    errors.record(interval("spec.echoInterval", *echo_interval));
    let transmit = errors.record(interval("spec.transmitInterval", *transmit_interval));
    let receive = errors.record(interval("spec.receiveInterval", *receive_interval));
    let detect = errors.record(within("spec.detectMultiplier", *detect_multiplier, 2, 255));
    let min_ttl = errors.record(within("spec.minimumTtl", *minimum_ttl, 1, 254));
    let config = || {
        Some(SessionConfig {
            timers: Timers {
                desired_min_tx: transmit?.unwrap_or(default.timers.desired_min_tx),
                required_min_rx: receive?.unwrap_or(default.timers.required_min_rx),
                detect_mult: detect?
                    .and_then(NonZeroU8::new)
                    .unwrap_or(default.timers.detect_mult),
            },
            role: if *passive_mode == Some(true) {
                Role::Passive
            } else {
                Role::Active
            },
            min_ttl: min_ttl?.unwrap_or(default.min_ttl),
        })
    };
    errors.into_result(config())
}

fn interval(path: &str, millis: Option<u32>) -> Result<Option<Interval>, FieldError> {
    match millis {
        Some(millis) if !INTERVALS.contains(&millis) => {
            let (min, max) = INTERVALS.into_inner();
            let message = format!("{millis} ms: use {min} to {max}");
            Err(FieldError::new(path, message))
        }
        millis => Ok(millis.map(Interval::from_millis)),
    }
}

fn within(path: &str, value: Option<u32>, min: u8, max: u8) -> Result<Option<u8>, FieldError> {
    let Some(value) = value else { return Ok(None) };
    let fits = u8::try_from(value).ok();
    fits.filter(|value| (min..=max).contains(value))
        .map(Some)
        .ok_or_else(|| FieldError::new(path, format!("{value}: use {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(spec: &BfdProfileSpec) -> (Result<SessionConfig, String>, usize) {
        let mut notices = 0;
        let parsed = parse(spec, |_| notices += 1);
        (parsed.map_err(|error| error.to_string()), notices)
    }

    #[test]
    fn an_empty_profile_has_the_defaults_of_metallb() {
        let (parsed, notices) = profile(&BfdProfileSpec::default());
        let parsed = parsed.expect("a valid profile");
        assert_eq!(parsed, SessionConfig::default());
        // MetalLB leaves these to FRR: they are FRR's defaults.
        assert_eq!(parsed.timers.desired_min_tx, Interval::from_millis(300));
        assert_eq!(parsed.timers.required_min_rx, Interval::from_millis(300));
        assert_eq!(parsed.timers.detect_mult.get(), 3);
        assert_eq!((parsed.min_ttl, notices), (254, 0));
    }

    #[test]
    fn every_field_reaches_the_session_and_echo_gets_a_notice() {
        let (parsed, notices) = profile(&BfdProfileSpec {
            receive_interval: Some(50),
            transmit_interval: Some(60),
            detect_multiplier: Some(5),
            echo_interval: Some(50),
            echo_mode: Some(true),
            passive_mode: Some(true),
            minimum_ttl: Some(1),
        });
        let parsed = parsed.expect("a valid profile");
        assert_eq!(parsed.timers.required_min_rx, Interval::from_millis(50));
        assert_eq!(parsed.timers.desired_min_tx, Interval::from_millis(60));
        assert_eq!(parsed.timers.detect_mult.get(), 5);
        assert_eq!(
            (parsed.role, parsed.min_ttl, notices),
            (Role::Passive, 1, 1)
        );
    }

    #[test]
    fn an_out_of_range_value_is_rejected_with_the_range() {
        let default = BfdProfileSpec::default;
        let cases = [
            (
                BfdProfileSpec {
                    receive_interval: Some(9),
                    ..default()
                },
                "spec.receiveInterval: 9 ms: use 10 to 60000",
            ),
            (
                BfdProfileSpec {
                    transmit_interval: Some(60_001),
                    ..default()
                },
                "spec.transmitInterval: 60001 ms: use 10 to 60000",
            ),
            (
                BfdProfileSpec {
                    detect_multiplier: Some(1),
                    ..default()
                },
                "spec.detectMultiplier: 1: use 2 to 255",
            ),
            (
                BfdProfileSpec {
                    minimum_ttl: Some(255),
                    ..default()
                },
                "spec.minimumTtl: 255: use 1 to 254",
            ),
            (
                BfdProfileSpec {
                    echo_interval: Some(5),
                    ..default()
                },
                "spec.echoInterval: 5 ms: use 10 to 60000",
            ),
        ];
        for (spec, message) in cases {
            assert_eq!(profile(&spec).0, Err(message.to_owned()));
        }
    }
}
