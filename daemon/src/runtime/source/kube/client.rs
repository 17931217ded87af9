//! The connection to the API server: from a kubeconfig or from the Pod we run in, with time-outs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a watch lasts before the server ends it and we resume it. A connection that died without a word is noticed
/// after this and a little more.
pub(super) const WATCH_SECONDS: u32 = 60;

/// A dead connection is given up when nothing was read for this long: more than a quiet watch takes.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// An address that swallows packets is given up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client. That the API server doesn't answer is none of these: it may come later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The kubeconfig that was named can't be used.
    #[error(
        "kubeconfig {path}: {source}. See what it says with: kubectl --kubeconfig {path} config view --minify",
        path = path.display()
    )]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// No kubeconfig was named, this is no Pod, and the usual places hold none.
    #[error(
        "no Kubernetes API is configured: this is no Pod, and the default kubeconfig can't be used ({0}). \
         Name one with --kubeconfig, or run without a cluster: ferrolb run --manifests DIR"
    )]
    NoCluster(Box<kube::config::KubeconfigError>),
    /// This is a Pod, but what a Pod is given to reach the API server is not there.
    #[error(
        "in-cluster configuration: {0}. The Pod needs its service account's token \
         (automountServiceAccountToken); look with: kubectl get pod -o yaml"
    )]
    InCluster(Box<kube::config::InClusterError>),
    /// The configuration was read, but no client can be made from it.
    #[error(
        "the Kubernetes client can't be made: {0}. Try: kubectl --kubeconfig FILE get --raw /readyz"
    )]
    Client(Box<kube::Error>),
    /// Configuration is read from somewhere, or there is none.
    #[error("no configuration namespace was given: add --config-namespace metallb-system")]
    NoConfigNamespace,
}

/// Makes a client. The API server is not asked anything: it may be away.
pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<Client, StartError> {
    let mut config = configuration(kubeconfig).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    // Whoever asks decides when to ask again: a retry behind the back of the allocator would pass by its deadline.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| StartError::Client(Box::new(error)))
}

async fn configuration(kubeconfig: Option<&Path>) -> Result<Config, StartError> {
    let options = KubeConfigOptions::default();
    if let Some(path) = kubeconfig {
        let failed = |source| StartError::Kubeconfig {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let file = Kubeconfig::read_from(path).map_err(failed)?;
        return Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(failed);
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Config::incluster().map_err(|error| StartError::InCluster(Box::new(error)));
    }
    Config::from_kubeconfig(&options)
        .await
        .map_err(|error| StartError::NoCluster(Box::new(error)))
}
