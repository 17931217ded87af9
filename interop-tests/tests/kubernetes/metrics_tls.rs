//! Metrics over HTTPS: the API server decides who may read them.

use std::time::Duration;

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{ControlPlane, Ferrolb, Nodes, manifests};
use ferrolb_interop_tests::manifest::NAMESPACE;
use ferrolb_interop_tests::scenario::scenario;

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn metrics_over_https_need_the_token_of_a_user_that_may_get_them() {
    scenario("metrics", |scratch| {
        let cp = ControlPlane::start(scratch, Nodes::Objects)?;
        cp.install_ferrolb_rbac()?;
        let mut allocator = Ferrolb::allocator(&cp, "allocator1")?;
        allocator.process().terminate(TIMEOUT)?;
        allocator.add_argument("--metrics-tls");
        allocator.start_again()?;
        await_answer(&allocator, "/livez", None, "200", "ok")?;
        await_answer(&allocator, "/metrics", None, "401", "needs a bearer token")?;

        let token = |account: &str| cp.kubectl(&["create", "token", account, "-n", NAMESPACE]);
        let own = token("ferrolb-allocator")?;
        let answer = "did not check the token";
        await_answer(&allocator, "/metrics", Some(&own), "503", answer)?;
        allocator.await_log(&["tokenreviews", "metrics-tls.yaml"], TIMEOUT)?;
        cp.apply_path(&manifests().join("../monitoring/metrics-tls.yaml"))?;
        let reader = token("ferrolb-metrics-reader")?;
        let series = "metallb_k8s_client_config_loaded_bool";
        await_answer(&allocator, "/metrics", Some(&reader), "200", series)?;
        let answer = "ferrolb-allocator may not get /metrics";
        await_answer(&allocator, "/metrics", Some(&own), "403", answer)?;
        await_answer(&allocator, "/metrics", Some("forged"), "401", "bearer")
    });
}

/// Waits for a response with this status and text.
fn await_answer(
    process: &Ferrolb<'_>,
    path: &str,
    token: Option<&str>,
    status: &str,
    text: &str,
) -> Result<()> {
    eventually(format!("{path}: {status}"), TIMEOUT, || {
        let response = process.get_over_tls(path, token.map(str::trim))?;
        let line = response.lines().next().unwrap_or_default();
        ensure!(
            line.contains(&format!(" {status} ")) && response.contains(text),
            "{response}"
        );
        Ok(())
    })
}
