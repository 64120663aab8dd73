//! What an admin credential may do: the permissions of keys in the `system` workspace.

use std::fmt;

use super::{
    Invalid,
    id::WorkspaceId,
    permission::{ANY, PermissionSet},
};

/// Something that only some callers may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// See keys.
    KeysRead,
    /// Create and change keys.
    KeysWrite,
    /// Create workspaces.
    WorkspacesWrite,
    /// See the fleet. It belongs to no workspace, so only `*:fleet.read` grants it.
    FleetRead,
    /// Ask Check on the admin listener.
    Check,
}

impl Act {
    const ALL: [Self; 5] = [
        Self::KeysRead,
        Self::KeysWrite,
        Self::WorkspacesWrite,
        Self::FleetRead,
        Self::Check,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::KeysRead => "keys.read",
            Self::KeysWrite => "keys.write",
            Self::WorkspacesWrite => "workspaces.write",
            Self::FleetRead => "fleet.read",
            Self::Check => "check",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Every,
    One(WorkspaceId),
}

impl Scope {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Every, _) => true,
            (Self::One(mine), Self::One(other)) => mine == other,
            (Self::One(_), Self::Every) => false,
        }
    }
}

/// One act on one workspace, or on every one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    scope: Scope,
    act: Act,
}

impl Grant {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let malformed = || {
            Invalid::new(
                "must be '*', or {workspace or *}: and one of keys.read, keys.write, workspaces.write, check; or *:fleet.read",
            )
        };
        let (scope, act) = text.split_once(':').ok_or_else(malformed)?;
        let act = Act::ALL
            .into_iter()
            .find(|known| known.name() == act)
            .ok_or_else(malformed)?;
        let scope = match scope {
            ANY => Scope::Every,
            _ => Scope::One(WorkspaceId::parse(scope).map_err(|_| malformed())?),
        };
        if act == Act::FleetRead && scope != Scope::Every {
            return Err(malformed());
        }
        Ok(Self { scope, act })
    }

    fn covers(&self, other: &Self) -> bool {
        self.act == other.act && self.scope.covers(&other.scope)
    }
}

/// All that an admin credential may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants(Held);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    /// Exactly `*`.
    Root,
    Listed(Vec<Grant>),
}

impl Grants {
    /// Everything.
    #[must_use]
    pub const fn root() -> Self {
        Self(Held::Root)
    }

    /// Reads the permissions of a `system` key.
    ///
    /// # Errors
    /// If one is no grant, or `*` stands beside others.
    pub fn parse(permissions: &PermissionSet) -> Result<Self, Invalid> {
        let names: Vec<&str> = permissions.iter().collect();
        match names[..] {
            [ANY] => Ok(Self(Held::Root)),
            _ if names.contains(&ANY) => Err(Invalid::new("'*' must stand alone")),
            _ => Ok(Self(Held::Listed(
                names
                    .into_iter()
                    .map(Grant::parse)
                    .collect::<Result<_, _>>()?,
            ))),
        }
    }

    /// True if the act on the workspace is granted.
    #[must_use]
    pub fn allow(&self, act: Act, workspace: &WorkspaceId) -> bool {
        self.holds(&Grant {
            scope: Scope::One(workspace.clone()),
            act,
        })
    }

    /// True if the act is granted on every workspace, present or future.
    #[must_use]
    pub fn allow_everywhere(&self, act: Act) -> bool {
        self.holds(&Grant {
            scope: Scope::Every,
            act,
        })
    }

    /// True if anything is granted on the workspace, so that its existence is no secret.
    #[must_use]
    pub fn see(&self, workspace: &WorkspaceId) -> bool {
        Act::ALL
            .into_iter()
            .filter(|&act| act != Act::FleetRead)
            .any(|act| self.allow(act, workspace))
    }

    /// True if all that `other` grants is granted here too: then giving `other` away gives nothing new.
    #[must_use]
    pub fn cover(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Held::Root, _) => true,
            (Held::Listed(_), Held::Root) => false,
            (Held::Listed(_), Held::Listed(others)) => others.iter().all(|other| self.holds(other)),
        }
    }

    fn holds(&self, asked: &Grant) -> bool {
        match &self.0 {
            Held::Root => true,
            Held::Listed(grants) => grants.iter().any(|held| held.covers(asked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(names: &[&str]) -> Grants {
        Grants::parse(&PermissionSet::new(names.iter().copied())).unwrap()
    }

    fn workspace(id: &str) -> WorkspaceId {
        WorkspaceId::parse(id).unwrap()
    }

    #[test]
    fn a_grant_reaches_its_workspace_and_no_other() {
        let held = grants(&["acme:keys.read", "*:check"]);
        assert!(held.allow(Act::KeysRead, &workspace("acme")));
        assert!(!held.allow(Act::KeysRead, &workspace("acme2")));
        assert!(!held.allow(Act::KeysWrite, &workspace("acme")));
        assert!(held.allow(Act::Check, &workspace("other")));
        assert!(held.allow_everywhere(Act::Check) && !held.allow_everywhere(Act::KeysRead));
    }

    #[test]
    fn only_a_superset_covers() {
        let root = Grants::root();
        let wide = grants(&["*:keys.write", "*:keys.read"]);
        let narrow = grants(&["acme:keys.write"]);
        assert!(root.cover(&root) && root.cover(&wide) && wide.cover(&narrow) && wide.cover(&wide));
        assert!(
            !wide.cover(&root)
                && !narrow.cover(&wide)
                && !narrow.cover(&grants(&["acme:keys.read"]))
        );
        assert!(!grants(&[]).allow(Act::Check, &workspace("acme")));
    }

    #[test]
    fn what_grants_nothing_cannot_be_given() {
        for bad in [
            &["sms.send"][..],
            &["acme:everything"],
            &["*:*"],
            &["*", "acme:check"],
            &["Acme:check"],
            &["acme:fleet.read"],
            &[":check"],
            &["acme:"],
        ] {
            assert!(
                Grants::parse(&PermissionSet::new(bad.iter().copied())).is_err(),
                "{bad:?}"
            );
        }
        assert!(grants(&["*:fleet.read"]).allow_everywhere(Act::FleetRead));
    }

    #[test]
    fn existence_is_shown_only_to_who_may_act_there() {
        assert!(grants(&["acme:check"]).see(&workspace("acme")));
        assert!(!grants(&["acme:check", "*:fleet.read"]).see(&workspace("other")));
    }
}
