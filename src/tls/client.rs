//! TLS of the command line, towards a server.

use std::{error::Error, fs, io, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, pki_types::ServerName,
};
use tokio::{io::AsyncBufReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zeroize::Zeroizing;

use super::{
    material::{Part, Unusable, authorities, certificates, private_key},
    provider, with_path,
};

/// How long a server's first word is waited for.
const VERDICT_WITHIN: Duration = Duration::from_secs(1);

/// The files of a client, all PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that servers are believed by; `None`: the public ones.
    pub ca: Option<PathBuf>,
    /// Its own certificate, and the key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Makes encrypted connections.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read, or is not what it should be.
    pub fn open(files: &ClientFiles) -> Result<Self, String> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| with_path(path, &error));
        let of =
            |path: &PathBuf, unusable: Unusable| format!("{} {}", path.display(), unusable.why);
        let roots = match &files.ca {
            Some(ca) => authorities(&read(ca)?, Part::ClientCa).map_err(|why| of(ca, why))?,
            None => RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            },
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &files.identity {
            Some((cert, key)) => {
                let chain = certificates(&read(cert)?, Part::Cert).map_err(|why| of(cert, why))?;
                let secret = Zeroizing::new(read(key)?);
                let secret = private_key(&secret, Part::Key).map_err(|why| of(key, why))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| {
                        format!(
                            "{} and {} do not belong together: {error}",
                            cert.display(),
                            key.display()
                        )
                    })?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// What shakes hands.
    #[cfg(test)]
    pub(super) const fn connector(&self) -> &TlsConnector {
        &self.0
    }

    /// Connects to `host`, a name or an address without brackets, and makes sure that it is the one.
    ///
    /// # Errors
    /// If it cannot be reached, or is another.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let mut stream = self.0.connect(name, stream).await?;
        // The server judges our certificate once we are through with the handshake, and a refusal that comes while a call
        // is being sent is lost. Servers of HTTP/2 speak first; those that don't are not waited for long.
        if let Ok(verdict) = timeout(VERDICT_WITHIN, stream.fill_buf()).await {
            verdict?;
        }
        Ok(stream)
    }
}

/// What an error of TLS means, in words; `None`: it is none.
#[must_use]
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error hides the one it was made of from `source`.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(words(tls));
        }
        next = inner.or_else(|| error.source());
    }
    None
}

fn words(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the server's certificate is signed by nobody that is trusted here; name the authority's certificate with --ca"
                .to_owned()
        }
        InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired".to_owned(),
        InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet; is this machine's clock right?".to_owned(),
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the server's certificate is for another name; name the server as its certificate does".to_owned()
        }
        AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate; name one with --cert and --key".to_owned()
        }
        AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied,
        ) => "the server does not trust the client certificate".to_owned(),
        AlertReceived(AlertDescription::CertificateExpired) => {
            "the server refuses the client certificate: it has expired".to_owned()
        }
        InvalidMessage(_) => {
            "what answers there speaks no TLS; write host:port, without https://".to_owned()
        }
        other => format!("TLS: {other}"),
    }
}
