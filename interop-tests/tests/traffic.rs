//! What users of a Service lose, held to what is promised: nothing by a restart, of a node's announcer
//! or of the router's bgpd, where both have graceful restart, nor while the API server is away; new
//! connections for a moment only when a Pod becomes unready; no more than BFD's detection time by a
//! node that is cut off. docs/benchmarks.md has all of the numbers.

use anyhow::{Result, ensure};
use ferrolb_interop_tests::kube::{Disruption, FailureDetection, Rack, Report, losses};
use ferrolb_interop_tests::process::{Scratch, scenario};
use ferrolb_interop_tests::topology::Topology;

/// Connections that fail until 100 ms × 3 are over and the kernel's routes follow, with what a busy machine adds: those of a
/// second. The client makes 200 a second; the hold time would cost 800.
const DETECTED: u64 = 200;

/// From EndpointSlice to the router's kernel: milliseconds, and what a busy machine makes of them.
const WITHDRAWN: u64 = 140;

/// A rack whose nodes and router watch each other that way, with a Service on all nodes.
fn on_a_rack(
    scratch: &Scratch,
    watched: FailureDetection,
    test: impl FnOnce(&mut dyn FnMut(Disruption) -> Result<Report>) -> Result<()>,
) -> Result<()> {
    let mut topology = Topology::new(2)?;
    topology.add_client()?;
    let mut rack = Rack::start(
        scratch,
        &topology,
        watched.example(),
        &watched.configuration(),
    )?;
    let address = rack.await_addresses("web")?[0];
    test(&mut |disturbance| losses(&mut rack, address, disturbance))
}

#[test]
fn restarts_of_an_announcer_and_of_the_router_break_nothing_nor_does_the_api_server_s_absence() {
    scenario("traffic-restart", |scratch| {
        on_a_rack(scratch, FailureDetection::GracefulRestart, |losses| {
            for disturbance in [
                Disruption::Nothing,
                Disruption::PlannedRestart,
                Disruption::Kill,
                Disruption::ApiServerDown,
                Disruption::RouterKilled,
            ] {
                let report = losses(disturbance)?;
                ensure!(
                    (report.failed, report.broken) == (0, 0),
                    "{}: {report:?}",
                    disturbance.name()
                );
            }
            Ok(())
        })
    });
}

#[test]
fn with_bfd_too_a_restart_breaks_nothing_and_a_silent_cut_costs_the_detection_time() {
    scenario("traffic-cut", |scratch| {
        on_a_rack(scratch, FailureDetection::Both, |losses| {
            let report = losses(Disruption::PlannedRestart)?;
            ensure!(
                (report.failed, report.broken) == (0, 0),
                "restart: {report:?}"
            );
            // kube-proxy and the routers hear of it at the same time: who is faster, the router's kernel is last.
            let report = losses(Disruption::PodUnready)?;
            ensure!(report.failed <= WITHDRAWN, "unready: {report:?}");
            ensure!(report.broken > 0, "nothing was withdrawn: {report:?}");
            let report = losses(Disruption::RouterKilled)?;
            ensure!(
                (report.failed, report.broken) == (0, 0),
                "router: {report:?}"
            );
            let report = losses(Disruption::SilentCut)?;
            ensure!(report.failed > 0, "nothing was cut: {report:?}");
            ensure!(report.failed <= DETECTED, "cut: {report:?}");
            Ok(())
        })
    });
}
