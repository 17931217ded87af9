//! What users of a Service lose by each thing that may happen, by how nodes and router watch each other. One line of
//! JSON each; docs/benchmarks.md says how it is measured.

#[path = "cluster/row.rs"]
mod row;

use ferrolb_interop_tests::kube::{Disruption, FailureDetection, Rack, losses};
use ferrolb_interop_tests::process::scenario;
use ferrolb_interop_tests::topology::Topology;
use serde_json::json;

fn main() {
    for watched in FailureDetection::ALL {
        scenario("bench-traffic", |scratch| {
            let mut topology = Topology::new(2)?;
            topology.add_client()?;
            let mut rack = Rack::start(
                scratch,
                &topology,
                watched.example(),
                &watched.configuration(),
            )?;
            let address = rack.await_addresses("web")?[0];
            for disturbance in Disruption::ALL {
                let report = losses(&mut rack, address, disturbance)?;
                row::print(
                    "traffic",
                    &[
                        ("watched_by", json!(watched.name())),
                        ("event", json!(disturbance.name())),
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
