//! Limits on what clients of a Service lose during disruptions. With graceful restart on both
//! sides: nothing during a restart of an announcer or of the router's bgpd, nor during an outage of
//! the API server. When a Pod becomes unready: some new connections. When a node is cut off: new
//! connections for BFD's detection time. docs/benchmarks.md has the measurements.

use anyhow::{Result, ensure};
use ferrolb_interop_tests::kube::{Disruption, FailureDetection, Rack, Report, measure_disruption};
use ferrolb_interop_tests::scenario::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

/// Failed connections during BFD's detection time of 300 ms and the kernel's update, on a busy
/// machine: a second at 200 connections a second. The hold time would cost 800.
const MAX_FAILED_CUT: u64 = 200;

/// Failed connections from the change of the EndpointSlice to the update of the router's kernel:
/// milliseconds on an idle machine.
const MAX_FAILED_UNREADY: u64 = 140;

/// Runs `test` on a rack with this failure detection and a Service on all nodes.
fn on_rack(
    scratch: &Scratch,
    detection: FailureDetection,
    test: impl FnOnce(&mut dyn FnMut(Disruption) -> Result<Report>) -> Result<()>,
) -> Result<()> {
    let mut topology = Topology::new(2)?;
    topology.add_client()?;
    let mut rack = Rack::start(
        scratch,
        &topology,
        detection.example(),
        &detection.configuration(),
    )?;
    let address = rack.await_addresses("web")?[0];
    test(&mut |disruption| measure_disruption(&mut rack, address, disruption))
}

#[test]
fn restarts_of_announcer_and_router_and_an_api_server_outage_lose_no_connection() {
    scenario("traffic-restart", |scratch| {
        on_rack(scratch, FailureDetection::GracefulRestart, |measure| {
            for disruption in [
                Disruption::Nothing,
                Disruption::PlannedRestart,
                Disruption::Kill,
                Disruption::ApiServerDown,
                Disruption::RouterKilled,
            ] {
                let report = measure(disruption)?;
                ensure!(
                    (report.failed, report.broken) == (0, 0),
                    "{}: {report:?}",
                    disruption.name()
                );
            }
            Ok(())
        })
    });
}

#[test]
fn with_bfd_restarts_lose_no_connection_and_a_silent_cut_costs_the_detection_time() {
    scenario("traffic-cut", |scratch| {
        on_rack(scratch, FailureDetection::Both, |measure| {
            let report = measure(Disruption::PlannedRestart)?;
            ensure!(
                (report.failed, report.broken) == (0, 0),
                "restart: {report:?}"
            );
            // kube-proxy and ferrolb receive the change at the same time; the router's kernel is
            // last.
            let report = measure(Disruption::PodUnready)?;
            ensure!(report.failed <= MAX_FAILED_UNREADY, "unready: {report:?}");
            ensure!(report.broken > 0, "the route was not withdrawn: {report:?}");
            let report = measure(Disruption::RouterKilled)?;
            ensure!(
                (report.failed, report.broken) == (0, 0),
                "router: {report:?}"
            );
            let report = measure(Disruption::SilentCut)?;
            ensure!(report.failed > 0, "the node was not cut off: {report:?}");
            ensure!(report.failed <= MAX_FAILED_CUT, "cut: {report:?}");
            Ok(())
        })
    });
}
