//! What an admin credential may do: the permissions of keys in the `system` workspace.

use std::fmt;

use super::{
    Invalid,
    id::WorkspaceId,
    key::Key,
    permission::{ANY, PermissionSet},
    source::IpAllowlist,
    time::Timestamp,
};

/// Something that only some callers may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// See keys.
    KeysRead,
    /// Create and change keys.
    KeysWrite,
    /// Create keys, and see and change those that one created oneself.
    KeysOwn,
    /// See who changed what.
    AuditRead,
    /// Create, change and delete workspaces.
    WorkspacesWrite,
    /// See the fleet. It belongs to no workspace, so only `*:fleet.read` grants it.
    FleetRead,
    /// Ask Check on the admin listener.
    Check,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::KeysRead,
        Self::KeysWrite,
        Self::KeysOwn,
        Self::AuditRead,
        Self::WorkspacesWrite,
        Self::FleetRead,
        Self::Check,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::KeysRead => "keys.read",
            Self::KeysWrite => "keys.write",
            Self::KeysOwn => "keys.own",
            Self::AuditRead => "audit.read",
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
                "must be '*', or {workspace or *}: and one of keys.read, keys.write, keys.own, audit.read, workspaces.write, check; or *:fleet.read",
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

    /// True if the act is granted on some workspace at least, whether it exists or not.
    #[must_use]
    pub fn allow_somewhere(&self, act: Act) -> bool {
        match &self.0 {
            Held::Root => true,
            // An act that is granted at all is granted in the scope of some grant.
            Held::Listed(grants) => grants.iter().any(|held| {
                self.holds(&Grant {
                    scope: held.scope.clone(),
                    act,
                })
            }),
        }
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
            Held::Listed(grants) => {
                let held = |asked: &Grant| grants.iter().any(|held| held.covers(asked));
                // Who may see and change every key may do so with their own.
                held(asked)
                    || (asked.act == Act::KeysOwn
                        && [Act::KeysRead, Act::KeysWrite].into_iter().all(|act| {
                            held(&Grant {
                                scope: asked.scope.clone(),
                                act,
                            })
                        }))
            }
        }
    }
}

/// All that an admin credential stands for: what it may do, from where, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    grants: Grants,
    sources: IpAllowlist,
    expire_time: Option<Timestamp>,
}

impl Authority {
    /// Everything, from anywhere, for good.
    #[must_use]
    pub fn root() -> Self {
        Self::granted(Grants::root())
    }

    /// All of this, from anywhere, for good.
    #[must_use]
    pub fn granted(grants: Grants) -> Self {
        Self {
            grants,
            sources: IpAllowlist::default(),
            expire_time: None,
        }
    }

    /// The authority of a `system` key.
    ///
    /// # Errors
    /// If one of its permissions is no grant.
    pub fn of(key: &Key) -> Result<Self, Invalid> {
        Ok(Self {
            grants: Grants::parse(&key.permissions)?,
            sources: key.ip_allowlist.clone(),
            expire_time: key.expire_time,
        })
    }

    /// What it may do.
    #[must_use]
    pub const fn grants(&self) -> &Grants {
        &self.grants
    }

    /// True if whoever holds this gains nothing by holding `other`: no grant, no source, no time.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let lasts = match (self.expire_time, other.expire_time) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(other)) => other <= mine,
        };
        lasts && self.sources.admits_all_of(&other.sources) && self.grants.cover(&other.grants)
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
    fn to_see_and_change_all_keys_is_to_see_and_change_ones_own() {
        let acme = workspace("acme");
        for held in [&["acme:keys.own"][..], &["*:keys.read", "acme:keys.write"]] {
            assert!(grants(held).allow(Act::KeysOwn, &acme), "{held:?}");
        }
        for held in [
            &["acme:keys.read"][..],
            &["acme:keys.write"],
            &["other:keys.own"],
        ] {
            assert!(!grants(held).allow(Act::KeysOwn, &acme), "{held:?}");
        }
        assert!(!grants(&["acme:keys.own"]).allow(Act::KeysRead, &acme));
        assert!(!grants(&["acme:keys.own"]).allow(Act::KeysWrite, &acme));
        assert!(!grants(&["acme:keys.own"]).cover(&grants(&["acme:keys.write"])));
    }

    #[test]
    fn an_act_is_allowed_somewhere_if_in_any_workspace() {
        for (held, somewhere) in [
            (&["*"][..], true),
            (&["acme:keys.own"], true),
            (&["*:keys.own"], true),
            (&["*:keys.read", "acme:keys.write"], true),
            (&["acme:keys.write", "*:keys.read"], true),
            (&["other:keys.read", "acme:keys.write"], false),
            (&["*:keys.read"], false),
            (&["*:fleet.read", "acme:check"], false),
            (&[], false),
        ] {
            assert_eq!(
                grants(held).allow_somewhere(Act::KeysOwn),
                somewhere,
                "{held:?}"
            );
        }
    }

    #[test]
    fn authority_is_bounded_in_place_and_time_too() {
        let authority = |sources: &[&str], expire: Option<u64>| Authority {
            grants: grants(&["*:keys.write"]),
            sources: IpAllowlist::parse(sources).unwrap(),
            expire_time: expire.map(Timestamp::from_unix_nanos),
        };
        let free = authority(&[], None);
        let here = authority(&["10.0.0.0/8"], None);
        let soon = authority(&[], Some(5));
        assert!(free.covers(&here) && free.covers(&soon) && Authority::root().covers(&free));
        assert!(!here.covers(&free) && !soon.covers(&free) && !free.covers(&Authority::root()));
        assert!(here.covers(&authority(&["10.1.0.0/16", "10.2.0.1"], Some(9))));
        assert!(!here.covers(&authority(&["10.1.0.0/16", "11.0.0.1"], None)));
        assert!(!here.covers(&authority(&["10.0.0.1", "::1"], None)));
        assert!(soon.covers(&authority(&[], Some(5))) && soon.covers(&authority(&[], Some(4))));
        assert!(!soon.covers(&authority(&[], Some(6))));
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
