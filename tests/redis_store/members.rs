//! The members: who they are, how far each is, and how one that is silent is taken out.

use portcullis::{
    domain::id::Revision,
    store::{Store as _, shared::SharedStore as _},
};

use super::{Site, nth_report, report, revision, standing, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_what_it_reported_last() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("a name with spaces – Süd").await;
    let other = site.open("").await;
    assert_ne!(store.own().1, other.own().1);
    assert_eq!(store.own().0, "a name with spaces – Süd");
    let before = standing(&store).await;
    assert!(store.roll().await.expect("the members").members.is_empty());
    write(&store, 1, "").await.expect("written");
    for renewals in 1..=3 {
        let told = store
            .renew(nth_report(revision(1), renewals))
            .await
            .expect("renewed");
        assert_eq!(told.head, revision(1));
        assert_eq!(told.floor, revision(0));
        assert_eq!(told.history, before.history);
        assert!(told.time >= before.time);
        assert_eq!(told.lease, portcullis::config::DEFAULT_LEASE);
        let roll = other.roll().await.expect("the members");
        let [member] = &roll.members[..] else {
            panic!("{roll:?}");
        };
        assert_eq!((&*member.name, &*member.incarnation), store.own());
        assert_eq!(member.applied, revision(1));
        assert_eq!(member.renewals, renewals);
        assert!(member.renewed >= before.time.min(member.renewed));
        assert!(member.renewed <= roll.standing.time);
    }
    other.renew(report(revision(0))).await.expect("renewed");
    let roll = store.roll().await.expect("the members");
    assert_eq!(roll.members.len(), 2);
    let nameless = roll.members.iter().find(|member| member.name.is_empty());
    assert_eq!(nameless.expect("a member").applied, revision(0));
    assert_eq!(roll.standing.head, revision(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_taken_out_only_if_it_did_not_renew() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let silent = site.open("silent").await;
    let reaper = site.open("reaper").await;
    silent.renew(report(revision(0))).await.expect("renewed");
    let second = nth_report(revision(0), 2);
    silent.renew(second).await.expect("renewed");
    let (_, incarnation) = silent.own();
    let out = |renewals| reaper.remove(incarnation, renewals);
    for wrong in [0, 1, 3] {
        assert!(!out(wrong).await.expect("an answer"), "{wrong}");
    }
    assert_eq!(reaper.roll().await.expect("the members").members.len(), 1);
    assert!(out(2).await.expect("an answer"));
    assert!(reaper.roll().await.expect("the members").members.is_empty());
    assert!(out(2).await.expect("an answer"), "it is out");
    // It comes back by renewing, and leaves by itself.
    silent.renew(report(revision(0))).await.expect("renewed");
    reaper.renew(report(revision(0))).await.expect("renewed");
    silent.leave().await.expect("it leaves");
    silent.leave().await.expect("it has left");
    let roll = reaper.roll().await.expect("the members");
    let names: Vec<_> = roll.members.iter().map(|member| &*member.name).collect();
    assert_eq!(names, ["reaper"]);
}

/// What nobody of ours wrote never counts as an acknowledgement, and can be taken out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_be_read_has_acknowledged_nothing() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    let members = Site::key("members");
    let incarnation = "0".repeat(32);
    for entry in [
        "",
        "garbage",
        "1.9",
        "1.9 1 x name",
        "01.9 1 1 name",
        "9999999.9 1 1 name",
        "1.9 -1 1 name",
        "1.9 1 99999999999999999999 name",
    ] {
        site.server.cli(&["HSET", &*members, &*incarnation, entry]);
        let roll = store.roll().await.expect("the members");
        assert_eq!(roll.members.len(), 1, "{entry:?}");
        assert_eq!(roll.members[0].applied, Revision::default(), "{entry:?}");
        let renewals = roll.members[0].renewals;
        let is_out = store.remove(&incarnation, renewals).await;
        let is_out = is_out.expect("an answer");
        assert_eq!(
            is_out,
            store.roll().await.expect("the members").members.is_empty()
        );
        site.server.cli(&["HDEL", &*members, &*incarnation]);
    }
    // One's own is simply written anew.
    site.server
        .cli(&["HSET", &*members, store.own().1, "garbage"]);
    store.renew(report(revision(0))).await.expect("renewed");
    let roll = store.roll().await.expect("the members");
    assert_eq!(roll.members[0].renewals, 1);
    // Nothing of all that is a commit.
    assert_eq!(store.head().await.expect("a head"), revision(0));
}
