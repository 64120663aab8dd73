use std::fmt;

use zeroize::Zeroizing;

use super::{Environment, Origin, layers::Layers};
use crate::domain::credential::NativeToken;

const VARIABLE: &str = "PORTCULLIS_ROOT_TOKEN";

/// The token of a new store's first root, well-formed. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct RootToken(NativeToken);

impl RootToken {
    /// The token.
    #[must_use]
    pub const fn native(&self) -> &NativeToken {
        &self.0
    }
}

impl fmt::Debug for RootToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootToken")
    }
}

/// Reads the token. `None` if none is given, or if it is none and a fault was noted.
pub(super) fn read(layers: &mut Layers<'_>, env: Environment<'_>) -> Option<RootToken> {
    let Some(raw) = env(VARIABLE) else {
        layers.row("root-token", "not set".into(), Origin::Default);
        return None;
    };
    let token = raw
        .into_string()
        .ok()
        .map(Zeroizing::new)
        .and_then(|text| NativeToken::parse(&text));
    if token.is_some() {
        layers.row(
            "root-token",
            "set".into(),
            Origin::Variable(VARIABLE.into()),
        );
    } else {
        // The value is a secret, or close to one: it is not quoted.
        layers.fault(&format!(
            "root-token, from {VARIABLE}: is not a token of Portcullis's own form \
                 ({{prefix}}_{{key id}}_{{secret}}, with its checksum); set a whole token as Portcullis made it, or \
                 unset the variable and one is generated"
        ));
    }
    token.map(RootToken)
}
