//! TLS for metrics and probes, with a certificate from a folder or a self-signed one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, version};
use tokio_rustls::server::TlsStream;

use super::certificate::self_signed;

/// How long a certificate is used before the folder is read again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

/// Accepts TLS connections.
pub(crate) struct Tls {
    /// Folder with tls.crt and tls.key. None: the certificate is self-signed.
    folder: Option<PathBuf>,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    loaded: Instant,
    /// Whether the folder could not be read the last time.
    failing: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificate of the folder, or creates one.
    ///
    /// # Errors
    ///
    /// A file is missing or invalid; the message names it and the remedy.
    pub(crate) fn new(folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let acceptor = match &folder {
            Some(folder) => load(folder)?,
            None => {
                let no_randomness = |_| anyhow::anyhow!("the system has no randomness for a key");
                acceptor(self_signed().map_err(no_randomness)?)?
            }
        };
        let current = Mutex::new(Current {
            acceptor,
            loaded: Instant::now(),
            failing: false,
        });
        Ok(Self { folder, current })
    }

    /// Performs the handshake.
    ///
    /// # Errors
    ///
    /// The handshake fails.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.acceptor(Instant::now()).accept(stream).await
    }

    /// The acceptor with the current certificate. If the folder can't be read, the last certificate
    /// stays in use.
    fn acceptor(&self, now: Instant) -> TlsAcceptor {
        // A panic leaves the acceptor valid.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &self.folder
            && now.saturating_duration_since(current.loaded) >= RELOAD_INTERVAL
        {
            current.loaded = now;
            let was_failing = current.failing;
            match load(folder) {
                Ok(acceptor) => {
                    current.acceptor = acceptor;
                    current.failing = false;
                }
                Err(error) => {
                    current.failing = true;
                    if !was_failing {
                        tracing::warn!("{error:#}; the last certificate stays in use");
                    }
                }
            }
        }
        current.acceptor.clone()
    }
}

fn load(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let read = |name: &str| {
        let path = folder.join(name);
        let text = fs::read(&path);
        text.with_context(|| {
            format!(
                "can't read {} of --metrics-tls-cert-dir: mount a Secret of type kubernetes.io/tls \
                 there",
                path.display()
            )
        })
    };
    let (certificate, key) = (read("tls.crt")?, read("tls.key")?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
    let key = PrivateKeyDer::from_pem_slice(&key);
    // The errors are dropped: they could contain a part of the key.
    let (Ok(chain), Ok(key)) = (chain, key) else {
        anyhow::bail!(
            "tls.crt or tls.key in {} is not valid PEM: expected certificates and a private key",
            folder.display()
        );
    };
    acceptor((chain, key)).with_context(|| {
        format!(
            "tls.crt and tls.key in {} don't belong together, or have an unsupported algorithm",
            folder.display()
        )
    })
}

type Certificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn acceptor((chain, key): Certificate) -> anyhow::Result<TlsAcceptor> {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_valid_certificate_names_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = || {
            let error = Tls::new(Some(folder.path().to_owned())).expect_err("no certificate");
            format!("{error:#}")
        };
        assert!(error().contains("tls.crt of --metrics-tls-cert-dir: mount a Secret"));
        for name in ["tls.crt", "tls.key"] {
            fs::write(folder.path().join(name), "no PEM").expect("written");
        }
        assert!(error().contains("is not valid PEM"), "{}", error());
    }

    #[test]
    fn the_last_certificate_stays_in_use_while_the_folder_can_not_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = Tls {
            folder: Some(folder.path().to_owned()),
            ..Tls::new(None).expect("self-signed")
        };
        let now = Instant::now();
        let failing = |seconds| {
            let _acceptor = tls.acceptor(now + Duration::from_secs(seconds));
            tls.current.lock().expect("no panic").failing
        };
        assert!(!failing(0), "read within a minute");
        assert!(failing(61));
    }
}
