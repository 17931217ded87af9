//! Connections that fail or break during each [`Disruption`], for each [`FailureDetection`]. Prints
//! one line of JSON per combination; docs/benchmarks.md describes the measurement.

use ferrolb_interop_tests::kube::{Disruption, FailureDetection, Rack, measure_disruption};
use ferrolb_interop_tests::scenario::scenario;
use ferrolb_interop_tests::topology::Topology;
use ferrolb_lab_bench::measurement;
use serde_json::json;

fn main() {
    for detection in FailureDetection::ALL {
        scenario("bench-traffic", |scratch| {
            let mut topology = Topology::new(2)?;
            topology.add_client()?;
            let mut rack = Rack::start(
                scratch,
                &topology,
                detection.example(),
                &detection.configuration(),
            )?;
            let address = rack.await_addresses("web")?[0];
            for disruption in Disruption::ALL {
                let report = measure_disruption(&mut rack, address, disruption)?;
                measurement::print(
                    "traffic",
                    &[
                        ("watched_by", json!(detection.name())),
                        ("event", json!(disruption.name())),
                        (
                            "new_connections",
                            json!(report.total_answered() + report.failed),
                        ),
                        ("failed", json!(report.failed)),
                        ("failing_for_ms", json!(report.failing_ms)),
                        ("long_lived", json!(report.long_lived)),
                        ("broken", json!(report.broken)),
                    ],
                );
            }
            Ok(())
        });
    }
}
