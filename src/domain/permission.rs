//! What a key may do.

use std::sync::Arc;

use super::{Invalid, text::is_dotted_name};

/// The most permissions a key holds, and a Check asks for.
pub const MAX_PERMISSIONS: usize = 100;
/// The longest permission's name, in characters.
pub const MAX_NAME: usize = 128;
/// All permissions.
pub const ANY: &str = "*";

/// The permissions of one key, sorted and without duplicates. Cheap to clone and to share between keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PermissionSet(Arc<Names>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Names {
    any: bool,
    sorted: Box<[Box<str>]>,
}

impl PermissionSet {
    /// Collects names, whose form the caller has checked.
    pub fn new(names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        let mut sorted: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let any = sorted.iter().any(|name| **name == *ANY);
        Self(Arc::new(Names {
            any,
            sorted: sorted.into(),
        }))
    }

    /// Every permission.
    #[must_use]
    pub fn any() -> Self {
        Self::new([ANY])
    }

    /// No permission.
    #[must_use]
    pub fn none() -> Self {
        Self::new(std::iter::empty::<&str>())
    }

    /// True if every permission asked for is held.
    #[must_use]
    pub fn holds_all<S: AsRef<str>>(&self, asked: &[S]) -> bool {
        self.0.any || asked.iter().all(|asked| self.holds_by_name(asked.as_ref()))
    }

    /// True if it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.sorted.is_empty()
    }

    /// True if it holds everything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.any
    }

    /// True if the name itself is held, `*` or not.
    #[must_use]
    pub fn holds_by_name(&self, asked: &str) -> bool {
        self.0
            .sorted
            .binary_search_by(|held| (**held).cmp(asked))
            .is_ok()
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.sorted.iter().map(|name| &**name)
    }
}

/// Checks a permission of an ordinary workspace: a dotted name, or `*`.
///
/// # Errors
/// If it is neither.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    if is_permission(name) {
        return Ok(());
    }
    Err(Invalid::new(
        "must be '*', or a lower-case letter, then up to 127 of a-z, 0-9, '-', '_' and '.'",
    ))
}

/// True if the text is of a permission's form, `*` included.
#[must_use]
pub fn is_permission(name: &str) -> bool {
    name == ANY || is_dotted_name(name, MAX_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_asked_must_be_held() {
        let held = PermissionSet::new(["sms.send", "otp.send"]);
        let nothing: [&str; 0] = [];
        assert!(held.holds_all(&nothing));
        assert!(held.holds_all(&["otp.send", "sms.send"]));
        for asked in [
            &["otp.verify"][..],
            &["sms.send", "otp.verify"],
            &["sms"],
            &["sms.send.x"],
            &["*"],
            &[""],
        ] {
            assert!(!held.holds_all(asked), "{asked:?}");
        }
        assert!(PermissionSet::any().holds_all(&["anything", "*"]));
        assert!(
            PermissionSet::none().holds_all(&nothing) && !PermissionSet::none().holds_all(&["a"])
        );
    }

    #[test]
    fn a_permission_has_a_plain_name() {
        for good in ["*", "sms.send", "a", "a-b_c.d1", &"a".repeat(128)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "SMS",
            "sms send",
            "sms.*",
            "**",
            "ä",
            "1a",
            ".a",
            "a:b",
            &"a".repeat(129),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
