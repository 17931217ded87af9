//! Checks the times of a BGPPeer: Go durations (`1m30s`) within their limits.

use std::time::Duration;

use ferrolb_bgp::config::{GracefulRestart, HoldTime, Timers, limits};

use crate::core::api::duration::duration;
use crate::core::api::ferrolb::{DrainSpec, FerrolbBgpPeerSpec};
use crate::core::api::metallb::BgpPeerSpec;
use crate::core::api::{Errors, FieldError};
use crate::core::model::drain::{Drain, drain_time};

/// The session's timers. None if one is invalid.
pub(crate) fn timers(
    spec: &BgpPeerSpec,
    ferrolb: &FerrolbBgpPeerSpec,
    errors: &mut Errors,
) -> Option<Timers> {
    const SEND_HOLD: &str = "spec.sendHoldTime";
    let hold_and_keepalive = errors.record(hold_and_keepalive(
        spec.hold_time.as_deref(),
        spec.keepalive_time.as_deref(),
    ));
    let connect = spec.connect_time.as_deref();
    let connect_retry = errors.record(connect.map(connect_time).transpose());
    let send_hold = ferrolb.send_hold_time.as_deref();
    let send_hold = send_hold.map(|text| whole_seconds(SEND_HOLD, text, u16::MAX));
    let send_hold_time = errors.record(send_hold.transpose());
    let (hold_time, keepalive_time) = hold_and_keepalive?;
    let (connect_retry, send_hold_time) = (connect_retry?, send_hold_time?);
    let hold = Duration::from_secs(hold_time.as_secs().into());
    if send_hold_time.is_some_and(|time| time <= hold) {
        let message = format!(
            "must be longer than {} s, which holdTime or keepaliveTime sets (RFC 9687)",
            hold.as_secs()
        );
        errors.add(FieldError::new(SEND_HOLD, message));
    }
    Some(Timers {
        hold_time,
        keepalive_time,
        connect_retry,
        send_hold_time,
    })
}

/// Graceful restart, if it is enabled: by default in ferrolb's BGPPeer, on request in MetalLB's.
///
/// # Errors
/// The restart time exceeds what the OPEN message can carry, or is set although graceful restart is
/// disabled.
pub(crate) fn graceful_restart(
    spec: &BgpPeerSpec,
    ferrolb: Option<&FerrolbBgpPeerSpec>,
    bfd: bool,
) -> Result<Option<GracefulRestart>, FieldError> {
    const FIELD: &str = "spec.restartTime";
    let enabled = spec.enable_graceful_restart.unwrap_or(ferrolb.is_some());
    let restart_time = ferrolb.and_then(|ferrolb| ferrolb.restart_time.as_deref());
    match (enabled, restart_time) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(FieldError::new(
            FIELD,
            "conflicts with enableGracefulRestart: false: remove one of them",
        )),
        (true, text) => {
            let max = limits::RESTART_TIME_MAX;
            let time = text
                .map(|text| whole_seconds(FIELD, text, max))
                .transpose()?;
            Ok(Some(GracefulRestart {
                restart_time: time.map_or(limits::RESTART_TIME_DEFAULT, |time| {
                    u16::try_from(time.as_secs()).unwrap_or(max)
                }),
                // Without BFD the routes of a dead node would stay beyond the hold time (RFC 8538).
                notification: bfd,
            }))
        }
    }
}

/// The drain settings.
///
/// # Errors
/// The time is no duration, or exceeds [`Drain::MAX_TIME`].
pub(crate) fn drain(spec: &DrainSpec) -> Result<Drain, FieldError> {
    let DrainSpec { time, on_cordon } = spec;
    let time = match time {
        Some(text) => drain_time("spec.drain.time", text)?,
        None => Drain::DEFAULT_TIME,
    };
    Ok(Drain {
        time,
        on_cordon: *on_cordon,
    })
}

/// The hold time and the keepalive time in whole seconds, as BGP carries them. A time below a
/// second is an error: truncated to 0 it would disable the timer.
fn hold_and_keepalive(
    hold: Option<&str>,
    keepalive: Option<&str>,
) -> Result<(HoldTime, Option<Duration>), FieldError> {
    const HOLD: &str = "spec.holdTime";
    const KEEPALIVE: &str = "spec.keepaliveTime";
    let hold = hold.map(|text| duration(HOLD, text)).transpose()?;
    let keepalive = keepalive
        .map(|text| duration(KEEPALIVE, text))
        .transpose()?;
    // With a hold time, MetalLB writes 0 s for an absent field: a third of the hold time.
    let keepalive = keepalive.filter(|time| hold.is_none() || !time.is_zero());
    let hold = match (hold, keepalive) {
        (Some(hold), _) => hold,
        (None, Some(keepalive)) => keepalive.saturating_mul(3),
        (None, None) => HoldTime::DEFAULT.duration().unwrap_or_default(),
    };
    let whole = u16::try_from(hold.as_secs()).ok();
    let hold_time = whole
        .filter(|seconds| *seconds > 0 || hold.is_zero())
        .and_then(|seconds| HoldTime::from_secs(seconds).ok())
        .ok_or_else(|| {
            let message = format!(
                "{} s: use 0 (off) or {} s to {} s (RFC 4271 §4.2)",
                hold.as_secs_f32(),
                HoldTime::MIN.as_secs(),
                HoldTime::MAX.as_secs()
            );
            FieldError::new(HOLD, message)
        })?;
    if keepalive.is_some_and(|keepalive| keepalive > hold) {
        return Err(FieldError::new(
            KEEPALIVE,
            "is longer than holdTime: use a third of it",
        ));
    }
    let min = limits::KEEPALIVE_TIME_MIN;
    if keepalive.is_some_and(|keepalive| keepalive < min) && !hold.is_zero() {
        let message = format!("is too short: use {}s or more", min.as_secs());
        return Err(FieldError::new(KEEPALIVE, message));
    }
    let whole = |time: Duration| Duration::from_secs(time.as_secs());
    Ok((hold_time, keepalive.map(whole)))
}

/// MetalLB's schema rejects fractions of a second, down to the millisecond.
fn connect_time(text: &str) -> Result<Duration, FieldError> {
    const FIELD: &str = "spec.connectTime";
    if duration(FIELD, text)?.subsec_millis() == 0 {
        return whole_seconds(FIELD, text, u16::MAX);
    }
    let message = format!("{text}: the API server accepts only whole seconds, such as 2s");
    Err(FieldError::new(FIELD, message))
}

/// A duration from 1 to `max` seconds. Fractions of a second are cut off.
fn whole_seconds(path: &str, text: &str, max: u16) -> Result<Duration, FieldError> {
    let time = duration(path, text)?;
    if (1..=u64::from(max)).contains(&time.as_secs()) {
        Ok(Duration::from_secs(time.as_secs()))
    } else {
        let message = format!("{text}: use 1s to {max}s");
        Err(FieldError::new(path, message))
    }
}
