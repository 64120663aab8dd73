//! Makes TLS out of PEM.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use super::{provider, validity::not_after};

/// TLS of a listener, ready for handshakes.
pub struct Material {
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since 1970.
    pub(super) not_after: Option<i64>,
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificate.
    Cert,
    /// Its key.
    Key,
    /// The authorities of clients.
    ClientCa,
}

/// Why the files make no TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Which one is at fault.
    pub part: Part,
    /// What is wrong with it. Its name goes before.
    pub why: String,
}

impl Unusable {
    fn new(part: Part, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { part, why }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Material {
    /// Makes TLS 1.2 and 1.3 out of a certificate's chain, its key, and the authorities of clients; without these no client
    /// is asked for a certificate.
    ///
    /// # Errors
    /// If one of them is not what it should be.
    pub fn read(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, Unusable> {
        let chain = certificates(cert, Part::Cert)?;
        let private = private_key(key, Part::Key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::new(Part::Cert, error.to_string()))?;
        let builder = match client_ca {
            Some(client_ca) => {
                let roots = authorities(client_ca, Part::ClientCa)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|error| Unusable::new(Part::ClientCa, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let not_after = chain.first().and_then(|leaf| not_after(leaf));
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|error| mismatch(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A session that is taken up again skips the look at the peer's certificate, which may have expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            not_after,
        })
    }
}

/// All certificates in a PEM text; at least one.
pub(super) fn certificates(
    pem: &[u8],
    part: Part,
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(chain) if chain.is_empty() => Err(Unusable::new(
            part,
            "holds no certificate; name a PEM file with -----BEGIN CERTIFICATE-----",
        )),
        Ok(chain) => Ok(chain),
        Err(error) => Err(Unusable::new(
            part,
            format!("is no whole PEM file of certificates: {error}"),
        )),
    }
}

/// The private key in a PEM text.
pub(super) fn private_key(pem: &[u8], part: Part) -> Result<PrivateKeyDer<'static>, Unusable> {
    // The error of the PEM reader may quote what it could not read.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        Unusable::new(
            part,
            "holds no whole private key; name a PEM file with an unencrypted -----BEGIN PRIVATE KEY-----",
        )
    })
}

/// The certificates in a PEM text, as those that others are signed with.
pub(super) fn authorities(pem: &[u8], part: Part) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, part)? {
        roots.add(certificate).map_err(|error| {
            Unusable::new(part, format!("holds what is no certificate: {error}"))
        })?;
    }
    Ok(roots)
}

fn mismatch(error: &rustls::Error) -> Unusable {
    match error {
        rustls::Error::InconsistentKeys(_) => Unusable::new(
            Part::Key,
            "is not the key of the certificate; name the two that belong together",
        ),
        rustls::Error::InvalidCertificate(_) => {
            Unusable::new(Part::Cert, format!("holds what is no certificate: {error}"))
        }
        _ => Unusable::new(Part::Key, format!("cannot be used: {error}")),
    }
}
