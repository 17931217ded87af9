//! Baseline for the allocator: the same status writes from a client that does nothing else.

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::statistics::milliseconds;
use serde_json::{Value, json};

use super::api_client::ApiClient;

/// Concurrent requests: as many as the allocator makes, and four times as many.
const AT_ONCE: [usize; 2] = [8, 32];

/// Writes the status of Services while neither allocator nor announcer runs, then clears it.
pub(crate) fn measure(api: &ApiClient, services: Range<usize>) -> Result<()> {
    // Outside every pool; cleared before ferrolb starts again.
    let ingress = json!([{"ip": "203.0.113.1"}]);
    for at_once in AT_ONCE {
        let began = Instant::now();
        api.write_statuses(services.clone(), at_once, &ingress)?;
        measurement::print(
            "status_writes_of_a_bare_client",
            &[
                ("status_writes", json!(services.len())),
                ("at_once", json!(at_once)),
                ("all_ms", json!(milliseconds(began.elapsed()))),
            ],
        );
        api.write_statuses(services.clone(), at_once, &Value::Null)?;
    }
    Ok(())
}
