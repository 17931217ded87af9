//! Waiting for the world to become as expected, with an error that says how far it came.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often [`eventually`] looks. Short beside a hold time of 3 s, long beside one `vtysh` (about 20
/// ms).
const INTERVAL: Duration = Duration::from_millis(100);

/// Calls `probe` until it gives `Ok`, at most for `timeout`.
///
/// What the probe's error says is what a reader of a failed test sees, so it should describe what
/// was found instead of what was expected ("2 next hops: …").
///
/// # Errors
/// `"{what}: not so after 20.0 s: last seen: …"` with the last error of the probe.
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
                    "{what}: not so after {:.1} s: last seen: {seen:#}",
                    start.elapsed().as_secs_f64()
                );
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

/// Checks that `probe` stays `Ok` for the whole of `duration`.
///
/// # Errors
/// The first error of the probe, with the time at which it came.
pub fn consistently<E: Display>(
    what: impl Display,
    duration: Duration,
    mut probe: impl FnMut() -> Result<(), E>,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        if let Err(seen) = probe() {
            bail!(
                "{what}: ceased to hold after {:.1} s: {seen:#}",
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
    fn eventually_names_what_it_waited_for_and_what_it_saw() {
        let error = eventually("a route", Duration::from_millis(1), || {
            Err::<(), _>("2 next hops")
        });
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("a route: not so after "), "{text}");
        assert!(text.ends_with("last seen: 2 next hops"), "{text}");
    }

    #[test]
    fn consistently_stops_at_the_first_failure() {
        let mut calls = 0;
        let error = consistently("session up", Duration::from_secs(60), || {
            calls += 1;
            if calls < 2 { Ok(()) } else { Err("Idle") }
        });
        assert!(error.unwrap_err().to_string().contains("Idle"));
        assert_eq!(calls, 2);
    }
}
