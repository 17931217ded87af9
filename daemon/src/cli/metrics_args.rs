//! The options of `ferrolb run` about the port for metrics and probes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use crate::runtime::serve::http::access::Access;
use crate::runtime::serve::http::tls::Tls;
use crate::runtime::source::kube::Reviewer;

#[derive(Debug, Args)]
pub(super) struct MetricsArgs {
    /// Address of /metrics, /livez and /readyz.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7472")]
    pub metrics_addr: SocketAddr,
    /// Serve them over HTTPS. /metrics then needs a bearer token of a user that may get /metrics:
    /// the API server decides (TokenReview, SubjectAccessReview).
    #[arg(long, conflicts_with = "manifests")]
    metrics_tls: bool,
    /// Folder with the certificate: tls.crt and tls.key, as a Secret of type kubernetes.io/tls has
    /// them. Changes take effect within a minute. [default: a self-signed certificate]
    #[arg(long, value_name = "DIR", requires = "metrics_tls")]
    metrics_tls_cert_dir: Option<PathBuf>,
}

impl MetricsArgs {
    /// If the port speaks TLS: its certificate, and who may read the metrics. The client of the API
    /// server runs on the runtime that serves.
    pub(super) async fn protection(
        &self,
        kubeconfig: Option<PathBuf>,
        serving: &tokio::runtime::Handle,
    ) -> anyhow::Result<Option<(Tls, Arc<Access>)>> {
        if !self.metrics_tls {
            return Ok(None);
        }
        let tls = Tls::new(self.metrics_tls_cert_dir.clone())?;
        let reviewer = serving.spawn(async move { Reviewer::connect(kubeconfig.as_deref()).await });
        let reviewer = reviewer
            .await
            .context("the thread for HTTP ended")?
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Some((tls, Arc::new(Access::new(reviewer)))))
    }
}
