//! The documented roles: sets of permissions for admin credentials.

use super::{Invalid, id::WorkspaceId, permission::ANY};

/// A role that an admin credential is commonly made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs workspaces and every key in them.
    Admin,
    /// Runs every key.
    Operator,
    /// Runs the keys that it created itself.
    Developer,
    /// Sees everything and changes nothing.
    Auditor,
    /// Asks Check.
    Checker,
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleScope {
    /// In every workspace, present or future.
    Every,
    /// In one workspace.
    One(WorkspaceId),
}

impl Role {
    /// All roles, the mightiest first.
    pub const ALL: [Self; 5] = [
        Self::Admin,
        Self::Operator,
        Self::Developer,
        Self::Auditor,
        Self::Checker,
    ];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::Auditor => "auditor",
            Self::Checker => "checker",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// What it is for, in one line.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Admin => "runs workspaces and every key in them",
            Self::Operator => "runs every key and sees who changed what",
            Self::Developer => "creates keys, and sees and changes only those",
            Self::Auditor => "sees keys and who changed what, and changes nothing",
            Self::Checker => "asks Check, as a gateway does",
        }
    }

    /// The permissions of a `system` key that has this role there, sorted as they are documented.
    ///
    /// The fleet belongs to no workspace, so only a role in every workspace sees it.
    #[must_use]
    pub fn permissions(self, scope: &RoleScope) -> Vec<String> {
        let (acts, sees_fleet): (&[&str], bool) = match self {
            Self::Admin => (
                &[
                    "keys.read",
                    "keys.write",
                    "audit.read",
                    "workspaces.write",
                    "check",
                ],
                true,
            ),
            Self::Operator => (&["keys.read", "keys.write", "audit.read"], true),
            Self::Developer => (&["keys.own"], false),
            Self::Auditor => (&["keys.read", "audit.read"], true),
            Self::Checker => (&["check"], false),
        };
        let place = match scope {
            RoleScope::Every => ANY,
            RoleScope::One(workspace) => workspace.as_str(),
        };
        let fleet = (sees_fleet && *scope == RoleScope::Every).then_some("fleet.read");
        acts.iter()
            .copied()
            .chain(fleet)
            .map(|act| format!("{place}:{act}"))
            .collect()
    }
}

impl RoleScope {
    /// Reads `*` or a workspace's id.
    ///
    /// # Errors
    /// If the text is neither.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text == ANY {
            return Ok(Self::Every);
        }
        WorkspaceId::parse(text)
            .map(Self::One)
            .map_err(|why| Invalid::owned(format!("{why}, or '*' for all of them")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        grant::{Act, Grants},
        permission::PermissionSet,
    };

    fn grants(role: Role, scope: &RoleScope) -> Grants {
        Grants::parse(&PermissionSet::new(role.permissions(scope))).unwrap()
    }

    fn acme() -> RoleScope {
        RoleScope::parse("acme").unwrap()
    }

    #[test]
    fn every_role_is_a_set_of_grants_in_every_scope() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
            let everywhere = grants(role, &RoleScope::Every);
            assert!(everywhere.cover(&grants(role, &acme())), "{role:?}");
            assert!(!grants(role, &acme()).cover(&everywhere), "{role:?}");
        }
        assert_eq!(Role::from_name("root"), None);
    }

    #[test]
    fn no_role_is_root_and_each_lesser_one_does_no_more() {
        for scope in [RoleScope::Every, acme()] {
            let admin = grants(Role::Admin, &scope);
            assert!(!admin.cover(&Grants::root()));
            let operator = grants(Role::Operator, &scope);
            let auditor = grants(Role::Auditor, &scope);
            assert!(admin.cover(&operator) && operator.cover(&auditor));
            assert!(!auditor.cover(&operator) && !operator.cover(&admin));
        }
    }

    #[test]
    fn a_role_in_one_workspace_reaches_no_other_and_no_fleet() {
        let other = WorkspaceId::parse("other").unwrap();
        for role in Role::ALL {
            let held = grants(role, &acme());
            assert!(!held.see(&other) && !held.see(&WorkspaceId::system()));
            assert!(!held.allow_everywhere(Act::FleetRead), "{role:?}");
        }
        for (role, sees) in [
            (Role::Admin, true),
            (Role::Operator, true),
            (Role::Developer, false),
            (Role::Auditor, true),
            (Role::Checker, false),
        ] {
            let held = grants(role, &RoleScope::Every);
            assert_eq!(held.allow_everywhere(Act::FleetRead), sees, "{role:?}");
        }
    }

    #[test]
    fn who_only_looks_or_asks_changes_nothing() {
        let acme = WorkspaceId::parse("acme").unwrap();
        for role in [Role::Auditor, Role::Checker] {
            let held = grants(role, &RoleScope::Every);
            for act in [Act::KeysWrite, Act::KeysOwn, Act::WorkspacesWrite] {
                assert!(!held.allow(act, &acme), "{role:?} {act}");
            }
        }
        let developer = grants(Role::Developer, &RoleScope::Every);
        assert!(developer.allow(Act::KeysOwn, &acme));
        for act in [Act::KeysRead, Act::KeysWrite, Act::AuditRead, Act::Check] {
            assert!(!developer.allow(act, &acme), "{act}");
        }
    }

    #[test]
    fn a_scope_is_a_workspace_or_all() {
        assert_eq!(RoleScope::parse("*"), Ok(RoleScope::Every));
        assert_eq!(
            Role::Admin.permissions(&acme()),
            [
                "acme:keys.read",
                "acme:keys.write",
                "acme:audit.read",
                "acme:workspaces.write",
                "acme:check"
            ]
        );
        for text in ["", "**", "Acme", "a:b", "acme "] {
            assert!(RoleScope::parse(text).is_err(), "{text}");
        }
    }
}
