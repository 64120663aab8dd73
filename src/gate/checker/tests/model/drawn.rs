//! Worlds and requests by chance.

use proptest::prelude::*;

use super::{
    ModelKey, ModelRequest, ModelWorkspace, NETS, PERMISSIONS, SETTINGS, SOURCES, Values,
    WORKSPACES, World,
};

/// A world, and so many requests to it.
pub(super) fn world_with_requests(
    requests: usize,
) -> impl Strategy<Value = (World, Vec<ModelRequest>)> {
    let workspaces = prop::collection::vec(
        (model_workspace(), model_workspace()).prop_map(|(before, after)| [before, after]),
        WORKSPACES.len(),
    );
    let keys = prop::collection::vec(model_key(), 1..6);
    (keys, workspaces).prop_flat_map(move |(keys, workspaces)| {
        let requests = prop::collection::vec(model_request(keys.len()), requests);
        (Just(World { keys, workspaces }), requests)
    })
}

/// A value for some of the settings, and some that are not valid if there may be such.
fn values(may_be_bad: bool) -> impl Strategy<Value = Values> {
    let one = move |(name, good, refused): &(&'static str, &'static [&str], &'static [&str])| {
        let name = *name;
        let last = if may_be_bad { *refused } else { *good };
        prop_oneof![
            8 => Just(None),
            4 => prop::sample::select(*good).prop_map(move |value| Some((name, value))),
            1 => prop::sample::select(last).prop_map(move |value| Some((name, value))),
        ]
    };
    SETTINGS
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .prop_map(|values| values.into_iter().flatten().collect())
}

fn model_key() -> impl Strategy<Value = ModelKey> {
    let states = (
        prop::sample::select(WORKSPACES),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    let fields = (
        prop_oneof![
            1 => Just(vec!["*"]),
            4 => prop::sample::subsequence(PERMISSIONS, 0..=3),
        ],
        prop_oneof![1 => Just(vec![]), 1 => prop::sample::subsequence(NETS, 1..=3)],
        prop::option::of(1u64..20),
        prop::option::of(1u64..20),
        values(false),
    );
    (states, fields).prop_map(
        |(
            (workspace, disabled, archived, deleted),
            (permissions, allowlist, expires, overlap, settings),
        )| ModelKey {
            workspace,
            disabled,
            archived,
            deleted,
            permissions,
            allowlist,
            expires,
            overlap,
            settings,
        },
    )
}

fn model_workspace() -> impl Strategy<Value = ModelWorkspace> {
    let declaration = |(name, good, _): &(&'static str, &'static [&str], &'static [&str])| {
        let name = *name;
        let default = prop::option::of(prop::sample::select(*good));
        prop::option::of(default.prop_map(move |default| (name, default)))
    };
    let declared = SETTINGS.iter().map(declaration).collect::<Vec<_>>();
    prop_oneof![
        12 => declared.prop_map(|all| ModelWorkspace::Present(all.into_iter().flatten().collect())),
        1 => Just(ModelWorkspace::Gone),
        1 => Just(ModelWorkspace::Unreadable),
    ]
}

fn model_request(keys: usize) -> impl Strategy<Value = ModelRequest> {
    (
        0..keys,
        prop_oneof![9 => Just(None), 1 => (0..keys).prop_map(Some)],
        prop::bool::weighted(0.3),
        prop_oneof![4 => Just("default"), 2 => Just("acme"), 1 => Just("system")],
        prop::sample::subsequence(PERMISSIONS, 0..=2),
        prop::option::of(prop::sample::select(SOURCES)),
        values(true),
        0u64..22,
    )
        .prop_map(
            |(key, other, old_secret, workspace, permissions, source, settings, now)| {
                ModelRequest {
                    key,
                    secret_of: other.unwrap_or(key),
                    old_secret,
                    workspace,
                    permissions,
                    source,
                    settings,
                    now,
                }
            },
        )
}
