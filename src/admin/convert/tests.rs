use std::collections::BTreeMap;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::*;

/// A key with something in every field that a caller may set.
fn full() -> v1::Key {
    v1::Key {
        display_name: "a name".into(),
        description: "a text".into(),
        permissions: vec!["sms.send".into()],
        ip_allowlist: vec!["10.0.0.0/8".into()],
        labels: BTreeMap::from([("team".into(), "payments".into())]),
        settings: BTreeMap::from([("default_sender".into(), "Acme".into())]),
        expire_time: Some(prost_types::Timestamp {
            seconds: 4_000_000_000,
            nanos: 5,
        }),
        ..v1::Key::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as a request carries it")]
fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(ToString::to_string).collect();
    Some(FieldMask { paths })
}

fn default_workspace() -> WorkspaceId {
    WorkspaceId::default_workspace()
}

fn edit(key: v1::Key, mask: Option<FieldMask>) -> KeyEdit {
    read_edit(key, mask, &default_workspace())
        .map_err(Status::from)
        .unwrap()
}

/// The names of the fields that an edit sets.
fn set(edit: &KeyEdit) -> Vec<&'static str> {
    let KeyEdit {
        display_name,
        description,
        permissions,
        ip_allowlist,
        labels,
        expire_time,
        settings,
    } = edit;
    [
        ("display_name", display_name.is_some()),
        ("description", description.is_some()),
        ("permissions", permissions.is_some()),
        ("ip_allowlist", ip_allowlist.is_some()),
        ("labels", labels.is_some()),
        ("expire_time", expire_time.is_some()),
        ("settings", settings.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect()
}

/// The fields that a refusal names, each as often as it does.
fn named<T>(result: Result<T, Failure>) -> Vec<String> {
    let Err(failure) = result else {
        panic!("accepted");
    };
    let status = Status::from(failure);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().expect("field violations");
    details
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

fn refused(key: v1::Key, mask: Option<FieldMask>) -> Vec<String> {
    named(read_edit(key, mask, &default_workspace()))
}

/// The one table that ties a path of the mask to its place in `SETTABLE`, in the list of what is populated, and in
/// `read_fields`.
#[test]
fn every_settable_field_has_its_place() {
    let mut seen = Vec::new();
    for (place, path) in SETTABLE.into_iter().enumerate() {
        let at_place = read_fields(full(), &default_workspace(), |wanted| wanted == place);
        let at_place = at_place.map_err(Status::from).unwrap();
        assert_eq!(set(&at_place), [path], "read_fields at {place}");

        assert_eq!(
            set(&edit(full(), mask(&[path]))),
            [path],
            "the mask {path:?}"
        );
        assert_eq!(
            set(&edit(v1::Key::default(), mask(&[path]))),
            [path],
            "{path:?} is cleared by its name"
        );
        assert_eq!(
            set(&edit(only(path), None)),
            [path],
            "{path:?} populated, without a mask"
        );
        seen.push(path);
    }
    assert_eq!(set(&edit(full(), None)), seen, "all of them");
}

/// A key in which just this field is populated.
fn only(path: &str) -> v1::Key {
    let (full, mut key) = (full(), v1::Key::default());
    match path {
        "display_name" => key.display_name = full.display_name,
        "description" => key.description = full.description,
        "permissions" => key.permissions = full.permissions,
        "ip_allowlist" => key.ip_allowlist = full.ip_allowlist,
        "labels" => key.labels = full.labels,
        "expire_time" => key.expire_time = full.expire_time,
        "settings" => key.settings = full.settings,
        other => unreachable!("{other} is not settable"),
    }
    key
}

/// Every field of the message is either settable or output only, by the descriptor that clients see.
#[test]
fn every_field_is_settable_or_output_only() {
    let pool = prost_reflect::DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap();
    let key = pool.get_message_by_name("portcullis.v1.Key").unwrap();
    let mut fields: Vec<String> = key.fields().map(|field| field.name().to_owned()).collect();
    let mut known: Vec<String> = [&SETTABLE[..], &OUTPUT_ONLY[..]]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    fields.sort_unstable();
    known.sort_unstable();
    assert_eq!(fields, known);
}

#[test]
fn what_is_named_is_read_as_it_stands_there() {
    let all = edit(full(), mask(&SETTABLE));
    assert_eq!(all.display_name.as_deref(), Some("a name"));
    assert_eq!(all.description.as_deref(), Some("a text"));
    let permissions = all.permissions.expect("permissions");
    assert_eq!(permissions.iter().collect::<Vec<_>>(), ["sms.send"]);
    let entries = all.ip_allowlist.expect("a list");
    assert_eq!(entries.entries().len(), 1);
    assert_eq!(
        all.labels.expect("labels").iter().collect::<Vec<_>>(),
        [("team", "payments")]
    );
    assert_eq!(
        all.expire_time,
        Some(Some(Timestamp::new(4_000_000_000, 5).unwrap()))
    );
}

#[test]
fn a_field_named_by_the_mask_and_empty_is_cleared() {
    let cleared = edit(v1::Key::default(), mask(&SETTABLE));
    assert_eq!(cleared.display_name.as_deref(), Some(""));
    assert_eq!(cleared.description.as_deref(), Some(""));
    // Later clearing means none: the default `*` is for new keys alone.
    assert_eq!(cleared.permissions, Some(PermissionSet::none()));
    assert_eq!(cleared.ip_allowlist, Some(IpAllowlist::default()));
    assert_eq!(cleared.labels, Some(TextMap::default()));
    assert_eq!(cleared.expire_time, Some(None));
}

#[test]
fn without_a_mask_what_is_populated_changes_and_nothing_is_cleared() {
    for no_mask in [None, mask(&[])] {
        assert!(set(&edit(v1::Key::default(), no_mask.clone())).is_empty());
        let mut key = only("labels");
        key.description = "more".into();
        assert_eq!(set(&edit(key, no_mask)), ["description", "labels"]);
    }
}

#[test]
fn a_star_replaces_everything_and_needs_the_etag() {
    assert_eq!(refused(full(), mask(&["*"])), ["key.etag"]);
    let mut key = v1::Key {
        etag: "1.5".into(),
        ..only("labels")
    };
    let all = edit(key.clone(), mask(&["*"]));
    assert_eq!(set(&all), SETTABLE);
    assert_eq!(all.expire_time, Some(None));
    assert_eq!(all.permissions, Some(PermissionSet::none()));
    for paths in [&["*", "labels"][..], &["labels", "*"], &["*", "*"]] {
        let named = refused(key.clone(), mask(paths));
        assert!(!named.is_empty(), "{paths:?}");
        assert!(
            named.iter().all(|field| field == "update_mask"),
            "{named:?}"
        );
    }
    // A field that is not in the mask is not judged either; with `*` all are.
    key.display_name = "n".repeat(129);
    assert_eq!(set(&edit(key.clone(), mask(&["labels"]))), ["labels"]);
    assert_eq!(refused(key, mask(&["*"])), ["key.display_name"]);
}

#[test]
fn a_mask_with_anything_else_is_refused_path_by_path() {
    for path in OUTPUT_ONLY {
        assert_eq!(refused(full(), mask(&[path])), ["update_mask"], "{path}");
        assert_eq!(
            refused(full(), mask(&["labels", path])),
            ["update_mask"],
            "{path} beside a good one"
        );
    }
    for path in [
        "",
        "colour",
        "key.labels",
        "labels.team",
        "displayName",
        "Labels",
        "labels ",
        "expire_time.seconds",
    ] {
        assert_eq!(refused(full(), mask(&[path])), ["update_mask"], "{path:?}");
    }
    let three = mask(&["state", "labels", "colour", "*"]);
    assert_eq!(refused(full(), three), ["update_mask"; 3]);
}

#[test]
fn every_malformed_field_is_named_at_once() {
    let key = v1::Key {
        display_name: "\0".into(),
        description: "\0".into(),
        permissions: vec![
            "good".into(),
            "SMS".into(),
            "also.good".into(),
            String::new(),
        ],
        ip_allowlist: vec!["10.0.0.1".into(), "nowhere".into()],
        labels: BTreeMap::from([("Team".into(), String::new())]),
        expire_time: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: -1,
        }),
        ..v1::Key::default()
    };
    let all = [
        "key.display_name",
        "key.description",
        "key.permissions[1]",
        "key.permissions[3]",
        "key.ip_allowlist[1]",
        "key.labels",
        "key.expire_time",
    ];
    assert_eq!(refused(key.clone(), mask(&SETTABLE)), all);
    assert_eq!(named(read_new_key(key, &default_workspace())), all);
}

fn with_permissions(names: &[&str]) -> v1::Key {
    v1::Key {
        permissions: names.iter().map(ToString::to_string).collect(),
        ..v1::Key::default()
    }
}

#[test]
fn a_new_key_that_chooses_no_permissions_says_so() {
    for workspace in [default_workspace(), WorkspaceId::system()] {
        let new = |key| {
            read_new_key(key, &workspace)
                .map_err(Status::from)
                .unwrap()
                .permissions
        };
        // What it gets then is the use case's to decide.
        assert_eq!(new(v1::Key::default()), None, "{workspace}");
        assert_eq!(new(with_permissions(&["*"])), Some(PermissionSet::any()));
    }
}

#[test]
fn names_are_free_in_a_workspace_and_grants_in_system() {
    let read = |names: &[&str], workspace: &WorkspaceId| {
        read_new_key(with_permissions(names), workspace).map(drop)
    };
    let (default, system) = (default_workspace(), WorkspaceId::system());
    for names in [
        &["default:keys.read"][..],
        &["*:check"],
        &["*:fleet.read", "acme:keys.write"],
    ] {
        assert!(read(names, &system).is_ok(), "{names:?}");
        assert_eq!(named(read(names, &default))[0], "key.permissions[0]");
    }
    for names in [&["sms.send"][..], &["*:*"], &["*", "default:check"]] {
        assert_eq!(
            named(read(names, &system)),
            ["key.permissions"],
            "{names:?}"
        );
    }
    assert!(read(&["sms.send"], &default).is_ok());
}

#[test]
fn a_set_has_at_most_a_hundred_names() {
    for workspace in [default_workspace(), WorkspaceId::system()] {
        let names = |count: usize| v1::Key {
            permissions: (0..count)
                .map(|n| {
                    if workspace.is_system() {
                        format!("w{n}:check")
                    } else {
                        format!("p{n}")
                    }
                })
                .collect(),
            ..v1::Key::default()
        };
        assert!(read_new_key(names(100), &workspace).is_ok(), "{workspace}");
        assert_eq!(
            named(read_new_key(names(101), &workspace)),
            ["key.permissions"]
        );
    }
}

#[test]
fn labels_have_limits() {
    let labels = |labels: Vec<(String, String)>| v1::Key {
        labels: labels.into_iter().collect(),
        ..v1::Key::default()
    };
    let many = |count: usize| labels((0..count).map(|n| (format!("l{n}"), "v".into())).collect());
    let one = |name: usize, value: usize| labels(vec![("n".repeat(name), "v".repeat(value))]);
    for (what, good) in [
        ("none", many(0)),
        ("64", many(64)),
        ("a name of 63", one(63, 1)),
        ("a value of 256", one(1, 256)),
        ("an empty value", one(1, 0)),
    ] {
        assert_eq!(set(&edit(good, mask(&["labels"]))), ["labels"], "{what}");
    }
    for (what, bad) in [
        ("65", many(65)),
        ("a name of 64", one(64, 1)),
        ("a value of 257", one(1, 257)),
        ("an empty name", one(0, 1)),
        (
            "a value of two lines",
            labels(vec![("n".into(), "a\nb".into())]),
        ),
    ] {
        assert_eq!(refused(bad, mask(&["labels"])), ["key.labels"], "{what}");
    }
}
