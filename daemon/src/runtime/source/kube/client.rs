//! Creates the client of the API server, from a kubeconfig or the Pod's service account, with
//! timeouts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Duration of a watch, after which the API server ends it and it is resumed. A dead connection is
/// detected soon after this time.
pub(super) const WATCH_SECONDS: u32 = 60;

/// Limit without any data before a connection counts as dead; longer than an idle watch.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// Limit for connecting, for addresses that drop packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no client can be created. An unavailable API server is not an error here: it may come back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The given kubeconfig is invalid.
    #[error(
        "kubeconfig {path}: {source}. Check it with: kubectl --kubeconfig {path} config view \
         --minify",
        path = path.display()
    )]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The error.
        source: Box<kube::config::KubeconfigError>,
    },
    /// No kubeconfig was given, this is not a Pod, and there is no default kubeconfig.
    #[error(
        "no Kubernetes API is configured: not running in a Pod, and the default kubeconfig can't \
         be used ({0}). Name one with --kubeconfig, or run without a cluster: ferrolb run \
         --manifests DIR"
    )]
    NoCluster(Box<kube::config::KubeconfigError>),
    /// This is a Pod, but its service account can't be used.
    #[error(
        "in-cluster configuration: {0}. The Pod needs its service account's token \
         (automountServiceAccountToken); check with: kubectl get pod -o yaml"
    )]
    InCluster(Box<kube::config::InClusterError>),
    /// The configuration is readable, but no client can be created from it.
    #[error(
        "can't create the Kubernetes client: {0}. Try: kubectl --kubeconfig FILE get --raw /readyz"
    )]
    Client(Box<kube::Error>),
    /// No namespace to read the configuration from.
    #[error("no configuration namespace was given: add --config-namespace metallb-system")]
    NoConfigNamespace,
}

/// Creates a client. Sends no request, since the API server may be unavailable.
pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<Client, StartError> {
    connect_to(kubeconfig, None).await
}

/// The same, with a context of the kubeconfig instead of its current one.
pub(super) async fn connect_to(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Client, StartError> {
    let mut config = configuration(kubeconfig, context).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    // The callers retry: a retry inside the client could exceed the deadline of a leader's write.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| StartError::Client(Box::new(error)))
}

async fn configuration(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Config, StartError> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
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
    if context.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Config::incluster().map_err(|error| StartError::InCluster(Box::new(error)));
    }
    Config::from_kubeconfig(&options)
        .await
        .map_err(|error| StartError::NoCluster(Box::new(error)))
}
