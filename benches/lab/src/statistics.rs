//! Rounding, median and percentiles of measured times.

use std::time::Duration;

/// Milliseconds with three decimals: the clocks are precise to about a microsecond.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// The value with three decimals.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The median; the lower of the two middle values of an even number, 0 for none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

/// The nearest-rank percentile of sorted values, with three decimals: always a measured value.
#[must_use]
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().map(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_measured_value() {
        let times = [1.0, 2.0, 3.0, 10.0];
        assert_eq!(percentile(&times, 50), Some(2.0));
        assert_eq!(percentile(&times, 99), Some(10.0));
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(median(times.into_iter()), 2.0);
    }
}
