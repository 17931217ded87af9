//! MetalLB whose sessions belong to frr-k8s, the default of its newest Helm chart.

use anyhow::{Result, ensure};
use ferrolb_interop_tests::eventually::eventually;
use ferrolb_interop_tests::kube::{frr_k8s_image, metallb_with_frr_k8s};
use serde_json::Value;

use super::{Cluster, TIMEOUT, with_metallb};

const WEBHOOKS: &str = "validatingwebhookconfiguration/frr-k8s-validating-webhook-configuration";
/// The label of the Pods of frr-k8s.
const PODS: &str = "app=frr-k8s";

/// Sessions of another program, in an FRRConfiguration.
const FOREIGN: &str = "
apiVersion: frrk8s.metallb.io/v1beta1
kind: FRRConfiguration
metadata: {name: transit, namespace: default}
spec: {bgp: {routers: [{asn: 64999}]}, nodeSelector: {matchLabels: {transit: here}}}
";

#[test]
fn sessions_that_frr_k8s_has_move_with_the_speakers_and_back() {
    let manifest = metallb_with_frr_k8s().expect("the manifest");
    // The control plane has no kube-proxy, so it does not reach the webhook.
    let (webhooks, manifest): (Vec<Value>, Vec<Value>) = manifest.into_iter().partition(|object| {
        WEBHOOKS.ends_with(object["metadata"]["name"].as_str().unwrap_or_default())
            && object["kind"] == "ValidatingWebhookConfiguration"
    });
    let images = vec![frr_k8s_image().expect("the image")];
    let daemonsets = ["daemonset/speaker", "daemonset/frr-k8s-daemon"];
    with_metallb("frr-k8s", images, &manifest, &daemonsets, |cluster| {
        cluster.refuses_to_end_sessions_of_others()?;

        cluster.migrate_under_load()?;
        cluster.check_runs("ferrolb")?;
        cluster.await_frr_k8s(0)?;

        cluster.migrate_back()?;
        cluster.check_runs("metallb")?;
        cluster.await_frr_k8s(cluster.topology.nodes.len())?;

        ensure!(!webhooks.is_empty(), "the manifest has no {WEBHOOKS}");
        cluster.apply(&webhooks)?;
        cluster.migrate_again()?;
        cluster.finish()?;
        cluster.check_deleted(&[
            "deployment/controller",
            "deployment/frr-k8s-webhook-server",
            "daemonset/speaker",
            "daemonset/frr-k8s-daemon",
            WEBHOOKS,
        ])
    });
}

impl Cluster<'_> {
    fn refuses_to_end_sessions_of_others(&self) -> Result<()> {
        self.cp.apply(FOREIGN)?;
        let Err(error) = self.migrate(&["--dry-run"]) else {
            anyhow::bail!("migrate would end the sessions of default/transit");
        };
        let error = format!("{error:#}");
        ensure!(error.contains("default/transit"), "{error}");
        self.cp.kubectl(&["delete", "frrconfiguration/transit"])?;
        Ok(())
    }

    fn await_frr_k8s(&self, expected: usize) -> Result<()> {
        eventually(format!("{expected} Pods of frr-k8s"), TIMEOUT, || {
            let pods = self.pods(PODS)?;
            ensure!(pods.len() == expected, "{pods:?}");
            Ok(())
        })
    }
}
