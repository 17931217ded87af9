//! The times of a BGPPeer: Go durations (`1m30s`) within their bounds.

use std::time::Duration;

use ferrolb_bgp::config::{GracefulRestart, HoldTime, Timers};

use crate::core::api::duration::duration;
use crate::core::api::ferrolb::{DrainSpec, FerrolbBgpPeerSpec};
use crate::core::api::metallb::BgpPeerSpec;
use crate::core::api::{Errors, FieldError};
use crate::core::model::drain::{Drain, drain_time};

/// The session's timers; none where one is wrong.
pub(crate) fn timers(
    spec: &BgpPeerSpec,
    own: &FerrolbBgpPeerSpec,
    errors: &mut Errors,
) -> Option<Timers> {
    const SEND_HOLD: &str = "spec.sendHoldTime";
    let hold_and_keepalive = errors.record(hold_and_keepalive(
        spec.hold_time.as_deref(),
        spec.keepalive_time.as_deref(),
    ));
    let connect = spec.connect_time.as_deref();
    let connect_retry = errors.record(connect.map(connect_time).transpose());
    let send_hold = own.send_hold_time.as_deref();
    let send_hold = send_hold.map(|text| whole_seconds(SEND_HOLD, text, 1, 65535));
    let send_hold_time = errors.record(send_hold.transpose());
    let (hold_time, keepalive_time) = hold_and_keepalive?;
    let (connect_retry, send_hold_time) = (connect_retry?, send_hold_time?);
    let hold = Duration::from_secs(hold_time.as_secs().into());
    if send_hold_time.is_some_and(|time| time <= hold) {
        let message = format!(
            "must be longer than {} s, which holdTime or keepaliveTime leads to (RFC 9687)",
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

/// Graceful restart, if it is offered. Our own BGPPeer offers it unless told not to, MetalLB's only if told to.
///
/// # Errors
/// A restart time that OPEN can't carry, or one for a restart that is turned off.
pub(crate) fn graceful_restart(
    spec: &BgpPeerSpec,
    own: Option<&FerrolbBgpPeerSpec>,
    bfd: bool,
) -> Result<Option<GracefulRestart>, FieldError> {
    const FIELD: &str = "spec.restartTime";
    let enabled = spec.enable_graceful_restart.unwrap_or(own.is_some());
    let restart_time = own.and_then(|own| own.restart_time.as_deref());
    match (enabled, restart_time) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(FieldError::new(
            FIELD,
            "contradicts enableGracefulRestart: false, leave out one of them",
        )),
        (true, text) => {
            let most = GracefulRestart::MAX_RESTART_TIME;
            let time = text
                .map(|text| whole_seconds(FIELD, text, 1, most))
                .transpose()?;
            Ok(Some(GracefulRestart {
                restart_time: time.map_or(GracefulRestart::DEFAULT_RESTART_TIME, |time| {
                    u16::try_from(time.as_secs()).unwrap_or(most)
                }),
                // Without BFD a dead node's routes would outlive the hold timer.
                notification: bfd,
            }))
        }
    }
}

/// How routes leave.
///
/// # Errors
/// A time that is no duration, or longer than any Pod's last seconds.
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

/// Hold time and keepalive time in whole seconds, as BGP carries them. What is below a second would be truncated to
/// "no timer at all", so it is refused.
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
    // Beside a hold time 0 s is what MetalLB writes for a field that is left out: a third of the hold time.
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
                "{} s: use 0 (off) or 3 s to 65535 s (RFC 4271 §4.2)",
                hold.as_secs_f32()
            );
            FieldError::new(HOLD, message)
        })?;
    if keepalive.is_some_and(|keepalive| keepalive > hold) {
        return Err(FieldError::new(
            KEEPALIVE,
            "is longer than holdTime: use a third of it",
        ));
    }
    if keepalive.is_some_and(|keepalive| keepalive.as_secs() == 0) && !hold.is_zero() {
        return Err(FieldError::new(
            KEEPALIVE,
            "is less than a second: use 1s or more",
        ));
    }
    let whole = |time: Duration| Duration::from_secs(time.as_secs());
    Ok((hold_time, keepalive.map(whole)))
}

/// MetalLB's schema refuses parts of a second, to the millisecond.
fn connect_time(text: &str) -> Result<Duration, FieldError> {
    const FIELD: &str = "spec.connectTime";
    if duration(FIELD, text)?.subsec_millis() == 0 {
        return whole_seconds(FIELD, text, 1, 65535);
    }
    let message = format!("{text}: the API server takes whole seconds only, such as 2s");
    Err(FieldError::new(FIELD, message))
}

/// A duration of so many seconds; parts of a second are cut off.
fn whole_seconds(path: &str, text: &str, least: u16, most: u16) -> Result<Duration, FieldError> {
    let time = duration(path, text)?;
    if (u64::from(least)..=u64::from(most)).contains(&time.as_secs()) {
        Ok(Duration::from_secs(time.as_secs()))
    } else {
        let message = format!("{text}: use {least}s to {most}s");
        Err(FieldError::new(path, message))
    }
}
