//! Connecting to the lab's API server.

use std::path::Path;

use anyhow::Result;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::runtime::{Builder, Runtime};

/// A client, and the runtime of the calling thread that drives it. The calling thread must be in a
/// namespace from which the API server is reachable.
///
/// # Errors
/// When the kubeconfig can't be read or is invalid.
pub fn connect(kubeconfig: &Path) -> Result<(Runtime, Client)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(async {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await?;
        anyhow::Ok(Client::try_from(config)?)
    })?;
    Ok((runtime, client))
}
