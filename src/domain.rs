//! What a key is and when it opens the gate.
//!
//! Pure: no runtime, no wire format, no store, no clock and no I/O. Time and randomness are arguments.

pub mod base62;
pub mod chain;
pub mod credential;
pub mod decision;
pub mod event;
pub mod filter;
pub mod grant;
pub mod id;
pub mod key;
pub mod name;
pub mod order;
pub mod permission;
pub mod role;
pub mod route;
pub mod secret;
pub mod setting;
pub mod source;
pub mod text;
pub mod time;
pub mod workspace;

use std::{borrow::Cow, fmt};

/// Why a value was refused, in words for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Cow<'static, str>);

impl Invalid {
    pub(crate) const fn new(message: &'static str) -> Self {
        Self(Cow::Borrowed(message))
    }

    pub(crate) fn owned(message: String) -> Self {
        Self(Cow::Owned(message))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}
