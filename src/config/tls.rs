//! Reads the TLS settings of a listener.

use super::{
    Listen, Origin, ReadFile, Setting,
    layers::{Layers, Noted},
    pem::{self, PemFile},
};
use crate::tls::{Material, Part, TlsFiles};

/// The settings of one listener's TLS.
pub(super) struct TlsNames {
    pub(super) listen: Setting,
    pub(super) cert: Setting,
    pub(super) key: Setting,
    pub(super) client_ca: Setting,
}

impl TlsNames {
    const fn of(&self, part: Part) -> Setting {
        match part {
            Part::Cert => self.cert,
            Part::Key => self.key,
            Part::ClientCa => self.client_ca,
        }
    }

    /// Reads the settings and notes their rows; `None` if the listener is without TLS.
    ///
    /// # Errors
    /// If a fault was noted, of the settings or of the files that they name.
    pub(super) fn read(
        &self,
        layers: &mut Layers<'_>,
        listen: Option<&Listen>,
        read_file: ReadFile<'_>,
    ) -> Result<Option<TlsFiles>, Noted> {
        let pem = |layers: &mut Layers<'_>, setting, holds| {
            let parse = |text: &str| pem::parse(text, holds, read_file);
            layers.read_unquoted(setting, parse, |file: &PemFile| {
                file.path.display().to_string()
            })
        };
        let cert = pem(layers, self.cert, "CERTIFICATE");
        let key = pem(layers, self.key, "PRIVATE KEY");
        let client_ca = pem(layers, self.client_ca, "CERTIFICATE");
        self.check_together(layers, listen);
        let (cert, key, client_ca) = (cert?, key?, client_ca?);
        let (Some(cert), Some(key)) = (cert, key) else {
            return Ok(None);
        };
        let ca = client_ca.as_ref().map(|ca| ca.content.as_bytes());
        let made = Material::read(cert.content.as_bytes(), key.content.as_bytes(), ca);
        if let Err(unusable) = made {
            let setting = self.of(unusable.part);
            let path = match unusable.part {
                Part::Cert => &cert.path,
                Part::Key => &key.path,
                Part::ClientCa => client_ca.as_ref().map_or(&cert.path, |ca| &ca.path),
            };
            layers.fault(&format!(
                "{}, from {}: {} {}",
                setting.name(),
                layers.origin(setting),
                path.display(),
                unusable.why
            ));
            return Err(Noted);
        }
        Ok(Some(TlsFiles {
            cert: cert.path,
            key: key.path,
            client_ca: client_ca.map(|ca| ca.path),
        }))
    }

    /// Notes what is given without what it needs.
    fn check_together(&self, layers: &mut Layers<'_>, listen: Option<&Listen>) {
        let given =
            [self.cert, self.key, self.client_ca].map(|setting| (setting, layers.source(setting)));
        let is_given = |setting: Setting| {
            given
                .iter()
                .any(|(other, origin)| *other == setting && *origin != Origin::Default)
        };
        for (setting, origin) in &given {
            let needed = if *setting == self.cert {
                self.key
            } else {
                self.cert
            };
            if *origin != Origin::Default && !is_given(needed) {
                layers.conflict(&format!(
                    "{}, from {origin}: is of no use without {}; give both, or neither",
                    setting.name(),
                    needed.name()
                ));
            }
            if *origin != Origin::Default && matches!(listen, Some(Listen::Unix(_))) {
                layers.conflict(&format!(
                    "{}, from {origin}: is for TLS, and {} is a Unix socket, to which the file system says who may \
                     connect; take this out, or listen on host:port",
                    setting.name(),
                    self.listen.name(),
                ));
            }
        }
    }
}
