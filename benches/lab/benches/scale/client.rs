//! Commands that read the whole cluster from a laptop.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::kube::ControlPlane;
use ferrolb_interop_tests::process::ferrolb;
use ferrolb_lab_bench::measurement;
use ferrolb_lab_bench::proc_stats::memory;
use ferrolb_lab_bench::statistics::milliseconds;
use serde_json::json;

use crate::timed;

/// How often the memory of a command is read.
const INTERVAL: Duration = Duration::from_millis(5);

/// Measures time and memory of `status` and `explain`.
pub(crate) fn measure(cp: &ControlPlane<'_>, nodes: usize, services: usize) -> Result<()> {
    for arguments in [&["status"][..], &["explain", "svc", "default/bench-0"]] {
        let mut command = cp.command(ferrolb()?);
        command.args(arguments);
        command.arg("--kubeconfig").arg(cp.admin_kubeconfig());
        let (peak, time) = timed(|| run(&mut command))?;
        measurement::print(
            "scale_commands",
            &[
                ("command", json!(arguments.join(" "))),
                ("nodes", json!(nodes)),
                ("services", json!(services)),
                ("ms", json!(milliseconds(time))),
                ("vm_hwm_kib", json!(peak)),
            ],
        );
    }
    Ok(())
}

/// Runs a command. Returns the most memory that was seen.
fn run(command: &mut Command) -> Result<u64> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // Fails when it has just ended.
        peak = memory(child.id()).map_or(peak, |memory| memory.peak.max(peak));
        sleep(INTERVAL);
    };
    // 3: something is wrong, since no session is established.
    ensure!(matches!(status.code(), Some(0 | 1 | 3)), "{status}");
    Ok(peak)
}
