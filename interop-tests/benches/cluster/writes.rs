//! How fast the API server takes the allocator's writes: the same ones, by a client that decides nothing.

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use super::api::ApiClient;
use super::{milliseconds, row};

/// As many at a time as the allocator, and many more.
const AT_ONCE: [usize; 2] = [8, 32];

/// Writes the status of Services while neither allocator nor announcer runs, and clears it again.
pub(crate) fn measure(api: &ApiClient, services: Range<usize>) -> Result<()> {
    // In no pool, and cleared before ferrolb starts again.
    let ingress = json!([{"ip": "203.0.113.1"}]);
    for at_once in AT_ONCE {
        let began = Instant::now();
        api.write_statuses(services.clone(), at_once, &ingress)?;
        row::print(
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
