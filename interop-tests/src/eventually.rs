//! Waits for a condition; after the timeout the error contains what the last probe found.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two probes: short compared with a hold time of 3 s, long compared with a call of
/// `vtysh`, which takes about 20 ms.
const INTERVAL: Duration = Duration::from_millis(100);

/// Calls `probe` until it returns `Ok`, for at most `timeout`.
///
/// A failed test shows the last error of the probe, which should therefore say what was found
/// ("2 next hops: …"), not what was expected.
///
/// # Errors
/// `"{what}: timed out after 20.0 s: last seen: …"` with the last error of the probe.
pub fn eventually<T, E: Display>(
    what: impl Display,
    timeout: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() >= timeout => {
                // `{:#}` prints an anyhow error with all its causes.
                bail!(
                    "{what}: timed out after {:.1} s: last seen: {seen:#}",
                    start.elapsed().as_secs_f64()
                );
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

/// Checks that `probe` returns `Ok` for the whole `duration`.
///
/// # Errors
/// The first error of the probe, with its time.
pub fn consistently<E: Display>(
    what: impl Display,
    duration: Duration,
    mut probe: impl FnMut() -> Result<(), E>,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        if let Err(seen) = probe() {
            bail!(
                "{what}: failed after {:.1} s: {seen:#}",
                start.elapsed().as_secs_f64()
            );
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eventually_returns_the_first_success() {
        let mut calls = 0;
        let got = eventually("third call", Duration::from_secs(5), || {
            calls += 1;
            if calls < 3 { Err("not yet") } else { Ok(calls) }
        });
        assert_eq!(got.unwrap(), 3);
    }

    #[test]
    fn eventually_reports_the_condition_and_the_last_error() {
        let error = eventually("a route", Duration::from_millis(1), || {
            Err::<(), _>("2 next hops")
        });
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("a route: timed out after "), "{text}");
        assert!(text.ends_with("last seen: 2 next hops"), "{text}");
    }

    #[test]
    fn consistently_stops_at_the_first_error() {
        let mut calls = 0;
        let error = consistently("session up", Duration::from_secs(60), || {
            calls += 1;
            if calls < 2 { Ok(()) } else { Err("Idle") }
        });
        assert!(error.unwrap_err().to_string().contains("Idle"));
        assert_eq!(calls, 2);
    }
}
