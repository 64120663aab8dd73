//! A tenant.

use super::{
    Invalid,
    id::{TokenPrefix, WorkspaceId},
    permission::{ANY, PermissionSet, check_name},
    setting::Declarations,
    text::TextMap,
    time::Timestamp,
};

/// Owns keys, and declares what they may do and which settings they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Never used again after deletion.
    pub id: WorkspaceId,
    /// For people.
    pub display_name: String,
    /// What its new tokens begin with.
    pub token_prefix: TokenPrefix,
    /// The permissions that there are; none: keys may hold any name.
    pub permissions: PermissionSet,
    /// The settings that there are.
    pub settings: Declarations,
    /// How many archived keys it keeps.
    pub archive_limit: ArchiveLimit,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// What a workspace says of the checks of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The permissions that there are; none: any name is one.
    pub permissions: PermissionSet,
    /// The settings that there are.
    pub settings: Declarations,
}

impl Declared {
    /// True if all that is asked for are permissions here. One that is not opens nothing, not even to a key that holds `*`.
    #[must_use]
    pub fn knows_all<S: AsRef<str>>(&self, asked: &[S]) -> bool {
        self.permissions.is_empty()
            || asked.iter().all(|asked| {
                asked.as_ref() == ANY || self.permissions.holds_by_name(asked.as_ref())
            })
    }
}

impl Workspace {
    /// What it says of the checks of its keys.
    #[must_use]
    pub fn declared(&self) -> Declared {
        Declared {
            permissions: self.permissions.clone(),
            settings: self.settings.clone(),
        }
    }
}

/// How many archived keys a workspace keeps: 1 to 1,000, by default 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimit(u16);

impl ArchiveLimit {
    const DEFAULT: u16 = 10;
    const MOST: i64 = 1_000;

    /// Reads a limit; 0 is the default.
    ///
    /// # Errors
    /// If it is not 0 to 1,000.
    pub fn new(limit: i64) -> Result<Self, Invalid> {
        match u16::try_from(limit) {
            Ok(0) => Ok(Self::default()),
            Ok(number) if limit <= Self::MOST => Ok(Self(number)),
            _ => Err(Invalid::new("must be 1 to 1,000, or 0 for 10")),
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for ArchiveLimit {
    fn default() -> Self {
        Self(Self::DEFAULT)
    }
}

/// How much of its workspace a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Full,
    /// Less.
    Partial,
}

impl Workspace {
    /// A workspace that declares nothing.
    #[must_use]
    pub fn new(id: WorkspaceId, token_prefix: TokenPrefix, now: Timestamp) -> Self {
        Self {
            id,
            display_name: String::new(),
            token_prefix,
            permissions: PermissionSet::none(),
            settings: Declarations::default(),
            archive_limit: ArchiveLimit::default(),
            create_time: now,
            update_time: now,
        }
    }

    /// True if keys may hold only what is declared.
    #[must_use]
    pub fn declares_permissions(&self) -> bool {
        self.permissions.iter().len() > 0
    }

    /// The first permission of a set that keys here may not hold.
    #[must_use]
    pub fn undeclared<'a>(&self, held: &'a PermissionSet) -> Option<&'a str> {
        let known = |name: &&str| *name == ANY || self.permissions.holds_by_name(name);
        held.iter()
            .find(|name| self.declares_permissions() && !known(name))
    }

    /// The first of a key's values that its setting does not take, and why.
    #[must_use]
    pub fn refused_setting<'a>(&self, settings: &'a TextMap) -> Option<(&'a str, Invalid)> {
        settings
            .iter()
            .find_map(|(name, value)| Some((name, self.settings.check(name, value).err()?)))
    }

    /// How much a key that holds these permissions may do.
    #[must_use]
    pub fn access(&self, held: &PermissionSet) -> Access {
        let all_declared = self.declares_permissions()
            && self.permissions.iter().all(|name| held.holds_by_name(name));
        if held.is_any() || all_declared {
            Access::Full
        } else {
            Access::Partial
        }
    }
}

/// Checks a permission that a workspace is to declare.
///
/// # Errors
/// If it is no permission's name, or `*`, which is always there.
pub fn check_declared_permission(name: &str) -> Result<(), Invalid> {
    if name == ANY {
        return Err(Invalid::new("'*' is never declared: it is always there"));
    }
    check_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_list_bounds_what_keys_hold() {
        let mut workspace = Workspace::new(
            WorkspaceId::default_workspace(),
            TokenPrefix::default(),
            Timestamp::from_unix_nanos(1),
        );
        let held = PermissionSet::new(["otp.send", "sms.send"]);
        assert_eq!(workspace.undeclared(&held), None);
        assert_eq!(workspace.access(&held), Access::Partial);

        workspace.permissions = PermissionSet::new(["sms.send"]);
        assert_eq!(workspace.undeclared(&held), Some("otp.send"));
        assert_eq!(workspace.undeclared(&PermissionSet::any()), None);
        assert_eq!(workspace.access(&PermissionSet::any()), Access::Full);
        assert_eq!(workspace.access(&PermissionSet::none()), Access::Partial);

        workspace.permissions = held.clone();
        assert_eq!(workspace.undeclared(&held), None);
        assert_eq!(workspace.access(&held), Access::Full);
        assert_eq!(
            workspace.access(&PermissionSet::new(["sms.send"])),
            Access::Partial
        );
    }

    #[test]
    fn an_archive_limit_has_bounds() {
        assert_eq!(ArchiveLimit::new(0).unwrap().get(), 10);
        assert_eq!(ArchiveLimit::new(1_000).unwrap().get(), 1_000);
        for bad in [-1, 1_001, 65_536 + 5, i64::MAX, i64::MIN] {
            assert!(ArchiveLimit::new(bad).is_err(), "{bad}");
        }
    }
}
