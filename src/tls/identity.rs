//! Who a peer is, by its certificate.

use std::fmt;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The longest SPIFFE ID.
const MAX_SPIFFE: usize = 2_048;
/// The longest DNS name.
const MAX_DNS: usize = 253;

/// A name that a certificate may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerName {
    /// A SPIFFE ID.
    Spiffe(String),
    /// A DNS name, in lower case.
    Dns(String),
}

impl CallerName {
    /// Reads a SPIFFE ID.
    ///
    /// # Errors
    /// If it is none, or one of a whole trust domain.
    pub fn spiffe(text: &str) -> Result<Self, String> {
        if is_spiffe(text) {
            return Ok(Self::Spiffe(text.to_owned()));
        }
        Err("is no SPIFFE ID of a workload; write spiffe://TRUST-DOMAIN/PATH, the domain in lower case".into())
    }

    /// Reads a DNS name. A pattern is none: it would stand for names that nobody has yet.
    ///
    /// # Errors
    /// If it is none.
    pub fn dns(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        if is_dns(&name) {
            return Ok(Self::Dns(name));
        }
        Err(
            "is no DNS name; write it out, as gateway.example.org, without * and the last dot"
                .into(),
        )
    }
}

/// As the principal of a call: the SPIFFE ID, or `dns:` and the name.
impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => f.write_str(id),
            Self::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

/// Whom a peer's certificate names, once its chain was verified. The subject counts for nothing: it is free text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    spiffe: Option<String>,
    dns: Vec<String>,
}

impl PeerIdentity {
    /// The names in a certificate.
    #[must_use]
    pub fn of(leaf: &CertificateDer<'_>) -> Self {
        let Ok(leaf) = EndEntityCert::try_from(leaf) else {
            return Self::default();
        };
        // A SPIFFE certificate has one URI and no other: with two it could be taken for either.
        let mut uris = leaf.valid_uri_names();
        let spiffe = match (uris.next(), uris.next()) {
            (Some(uri), None) if is_spiffe(uri) => Some(uri.to_owned()),
            _ => None,
        };
        let dns = leaf.valid_dns_names().map(str::to_ascii_lowercase);
        Self {
            spiffe,
            dns: dns.collect(),
        }
    }

    /// True if the certificate has this name.
    #[must_use]
    pub fn has(&self, name: &CallerName) -> bool {
        match name {
            CallerName::Spiffe(id) => self.spiffe.as_ref() == Some(id),
            CallerName::Dns(name) => self.dns.contains(name),
        }
    }
}

/// The names, for a log.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A certificate may have any number.
        const MOST_SHOWN: usize = 4;
        let names = self.spiffe.iter().chain(&self.dns);
        for (index, name) in names.take(MOST_SHOWN).enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{name}")?;
        }
        Ok(())
    }
}

fn is_spiffe(text: &str) -> bool {
    let Some((domain, path)) = text
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_domain = !domain.is_empty()
        && domain.len() <= 255
        && domain
            .bytes()
            .all(|byte| is_plain(byte) && !byte.is_ascii_uppercase());
    let is_path = path
        .split('/')
        .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain));
    text.len() <= MAX_SPIFFE && is_domain && is_path
}

fn is_dns(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= MAX_DNS && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn identity(names: &[SanType]) -> PeerIdentity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params
            .distinguished_name
            .push(DnType::CommonName, "subject.example");
        let key = KeyPair::generate().unwrap();
        PeerIdentity::of(params.self_signed(&key).unwrap().der())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn a_peer_has_the_names_of_its_certificate_and_no_other() {
        let edge = CallerName::spiffe("spiffe://example.org/edge").unwrap();
        let peer = identity(&[uri("spiffe://example.org/edge"), dns("Gate.Example.ORG")]);
        assert!(peer.has(&edge));
        assert!(peer.has(&CallerName::dns("gate.example.org").unwrap()));
        for other in [
            CallerName::spiffe("spiffe://example.org/edge/x").unwrap(),
            CallerName::spiffe("spiffe://example.com/edge").unwrap(),
            CallerName::dns("example.org").unwrap(),
            CallerName::dns("a.gate.example.org").unwrap(),
            // The subject is free text.
            CallerName::dns("subject.example").unwrap(),
        ] {
            assert!(!peer.has(&other), "{other}");
        }
        assert_eq!(
            peer.to_string(),
            "spiffe://example.org/edge gate.example.org"
        );
        assert_eq!(identity(&[]), PeerIdentity::default());
    }

    #[test]
    fn a_certificate_with_two_uris_has_no_spiffe_id() {
        let edge = CallerName::spiffe("spiffe://example.org/edge").unwrap();
        for names in [
            [
                uri("spiffe://example.org/edge"),
                uri("spiffe://example.org/other"),
            ],
            [
                uri("https://example.org/"),
                uri("spiffe://example.org/edge"),
            ],
        ] {
            assert!(!identity(&names).has(&edge), "{names:?}");
        }
    }

    #[test]
    fn a_pattern_in_a_certificate_stands_for_nobody() {
        let peer = identity(&[dns("*.example.org")]);
        assert!(!peer.has(&CallerName::dns("gate.example.org").unwrap()));
        assert!(CallerName::dns("*.example.org").is_err());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("spiffe://a/{}", "b".repeat(2_048));
        for text in [
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe:///a",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/./b",
            "spiffe://A/b",
            "SPIFFE://a/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/%62",
            "https://a/b",
            " spiffe://a/b",
            &long,
        ] {
            assert!(CallerName::spiffe(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a/b",
            "spiffe://a/b",
            "ä",
        ] {
            assert!(CallerName::dns(text).is_err(), "{text:?}");
        }
        for text in [
            "spiffe://example.org/ns/edge/sa/gateway",
            "spiffe://a_b-c.d/E_f-g.h",
        ] {
            assert_eq!(CallerName::spiffe(text).unwrap().to_string(), text);
        }
        assert_eq!(CallerName::dns("A.b").unwrap().to_string(), "dns:a.b");
    }
}
