//! TLS, from files that may change while the server runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use agnes_core::{Error, Kind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// The files of a certificate, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and whoever signed it up to a root that clients know.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, without a password.
    pub key: PathBuf,
}

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// What a connection is begun with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls {
    files: TlsFiles,
    seen: Look,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

/// What tells that files have changed: a renewed one has another time, size or place on the disk.
type Look = [Option<(SystemTime, u64, u64)>; 2];

fn look(files: &TlsFiles) -> Look {
    [&files.certificate, &files.key].map(|file| {
        let is = std::fs::metadata(file).ok()?;
        Some((is.modified().ok()?, is.len(), is.ino()))
    })
}

/// Reads the files, and checks that they fit each other.
fn read(files: &TlsFiles) -> Result<ServerConfig> {
    let wrong = |path: &PathBuf, what: String| {
        Error::new(Kind::Invalid, format!("`{}` {what}", path.display()))
    };
    let pem = |path: &PathBuf| {
        std::fs::read(path).map_err(|e| wrong(path, format!("can't be read: {e}")))
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pem(&files.certificate)?)
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| wrong(&files.certificate, format!("is no PEM: {e}")))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, "has no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem(&files.key)?).map_err(|e| {
        wrong(&files.key, format!("has no private key in it that can be read: {e}"))
    })?;
    // TLS 1.2 and 1.3, whose ciphers are all still safe.
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Internal, "TLS can't be set up").because(e))?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(|e| {
        wrong(&files.key, format!("isn't the key of `{}`: {e}", files.certificate.display()))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether files can be served with.
///
/// # Errors
/// `Invalid` when one of them can't be read, is something else, or they don't belong together.
pub(crate) fn check(files: &TlsFiles) -> Result<()> {
    read(files).map(drop)
}

impl Tls {
    /// # Errors
    /// As [`check`].
    pub(crate) fn new(files: TlsFiles) -> Result<Tls> {
        let seen = look(&files);
        let current = Arc::new(RwLock::new(Arc::new(read(&files)?)));
        Ok(Tls { files, seen, current })
    }

    pub(super) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: I,
    ) -> std::io::Result<TlsStream<I>> {
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept(io).await
    }

    /// Takes what the files become. Connections that are open keep what they began with; files that
    /// can't be used change nothing, and are told of.
    pub(crate) async fn follow(self) {
        let mut seen = self.seen;
        // What couldn't be used is told once, and tried again: what was in the way may pass.
        let mut told = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let files = self.files.clone();
            let changed = move || {
                let now = look(&files);
                (now != seen).then(|| (now, read(&files)))
            };
            // A file system may take its time.
            let Ok(Some((now, read))) = tokio::task::spawn_blocking(changed).await else {
                continue;
            };
            match read {
                Ok(config) => {
                    seen = now;
                    let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                    *current = Arc::new(config);
                    tracing::info!(certificate = %self.files.certificate.display(), "new certificate");
                }
                // Whoever renews writes one file after the other.
                Err(error) if told != Some(now) => {
                    told = Some(now);
                    tracing::warn!(
                        error = error.message(),
                        "the files of the certificate have changed and can't be used; the old one stays"
                    );
                }
                Err(_) => {}
            }
        }
    }
}
