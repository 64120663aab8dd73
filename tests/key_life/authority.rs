//! What an admin credential stands for, told by trying it out: on every workspace, every act, from every address.

use crate::calls::{Minute, Names, SOURCES, WORKSPACES};

const ACTS: [&str; 7] = [
    "keys.read",
    "keys.write",
    "keys.own",
    "audit.read",
    "workspaces.write",
    "fleet.read",
    "check",
];
/// Stands for every workspace that nobody named: only a grant on `*` reaches it.
const UNBORN: &str = "unborn";

/// True if these permissions allow the act on the workspace.
pub fn allows(held: Names, act: &str, workspace: &str) -> bool {
    let listed = |act: &str| {
        held.iter().any(|held| match held.split_once(':') {
            Some((scope, held)) => held == act && (scope == "*" || scope == workspace),
            None => *held == "*",
        })
    };
    listed(act) || (act == "keys.own" && listed("keys.read") && listed("keys.write"))
}

/// True if a list admits a source.
pub fn admits(list: Names, source: Option<&str>) -> bool {
    list.is_empty()
        || source.is_some_and(|source| {
            list.iter().any(|entry| match *entry {
                "10.0.0.0/8" => source.starts_with("10."),
                "10.1.0.0/16" => source.starts_with("10.1."),
                "192.0.2.1/32" => source == "192.0.2.1",
                other => unreachable!("{other} is on no list"),
            })
        })
}

/// What a credential may do, from where, until when.
#[derive(Debug, Clone, Copy)]
pub struct Authority {
    pub held: Names,
    pub sources: Names,
    pub expire: Option<Minute>,
}

impl Authority {
    pub fn covers_grants(&self, other: &Self) -> bool {
        let root = |held: Names| held == ["*"];
        (root(self.held) || !root(other.held))
            && WORKSPACES.into_iter().chain([UNBORN]).all(|workspace| {
                ACTS.into_iter().all(|act| {
                    allows(self.held, act, workspace) || !allows(other.held, act, workspace)
                })
            })
    }

    pub fn covers_sources(&self, other: &Self) -> bool {
        SOURCES
            .into_iter()
            .all(|source| admits(self.sources, source) || !admits(other.sources, source))
    }

    pub fn outlasts(&self, other: &Self) -> bool {
        match (self.expire, other.expire) {
            (None, _) => true,
            (Some(mine), Some(other)) => other <= mine,
            (Some(_), None) => false,
        }
    }

    /// True if who holds this gains nothing by the other.
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_grants(other) && self.covers_sources(other) && self.outlasts(other)
    }
}
