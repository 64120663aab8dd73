mod sim;

use std::sync::atomic::Ordering;

use tempfile::TempDir;

use self::sim::{LEASE, Link, RuntimeClock, Server};
use super::{spans::longest_lease, *};
use crate::{
    domain::{
        id::{KeyId, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
    },
    fleet::SettledBy,
    gate::{clock::Now, keyring::Keyring},
    store::{RecordId, Stored},
};

/// A member of a fleet on a store in memory.
struct Replica {
    member: Member,
    link: Arc<Link>,
    keyring: Keyring,
    lease: Arc<Lease>,
    clock: Arc<RuntimeClock>,
    directory: TempDir,
}

impl Replica {
    async fn join(server: &Arc<Server>, name: &str, incarnation: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let joined = Self::join_from(server, name, incarnation, directory).await;
        joined.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn join_from(
        server: &Arc<Server>,
        name: &str,
        incarnation: &str,
        directory: TempDir,
    ) -> Result<Self, JoinError> {
        let link = Link::new(server, name, incarnation);
        let keyring = KeyringWriter::new();
        let reader = keyring.reader();
        let lease = Arc::new(Lease::none());
        let clock = Arc::new(RuntimeClock(Instant::now()));
        let mark = directory.path().join("redis.mark");
        let member =
            Member::join(link.clone(), keyring, lease.clone(), clock.clone(), mark).await?;
        Ok(Self {
            member,
            link,
            keyring: reader,
            lease,
            clock,
            directory,
        })
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn may_answer(&self) -> bool {
        self.now().boottime < self.lease.deadline()
    }

    async fn applies(&self, revision: Revision) {
        let mut applied = self.keyring.watch();
        let waited = applied.wait_for(|&applied| applied >= revision);
        tokio::time::timeout(LEASE, waited).await.unwrap().unwrap();
    }

    async fn until(&self, may_answer: bool) -> Duration {
        let since = Instant::now();
        while self.may_answer() != may_answer {
            assert!(
                since.elapsed() < LEASE * 4,
                "it never comes to {may_answer}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        since.elapsed()
    }
}

async fn three(server: &Arc<Server>) -> [Replica; 3] {
    [
        Replica::join(server, "a", "a1").await,
        Replica::join(server, "b", "b1").await,
        Replica::join(server, "c", "c1").await,
    ]
}

#[tokio::test(start_paused = true)]
async fn a_change_is_settled_once_everyone_has_acknowledged_it() {
    let server = Server::new();
    let [a, b, c] = three(&server).await;
    let began = Instant::now();
    let revision = server.write(Vec::new());
    let settled = a.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::Acknowledgements(3));
    assert!(began.elapsed() < LEASE / 10, "{:?}", began.elapsed());
    for replica in [&a, &b, &c] {
        assert!(replica.keyring.applied() >= revision);
        assert!(replica.may_answer());
    }
    // And again, for a call that is repeated elsewhere.
    let settled = b.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::Acknowledgements(3));
}

/// Its lease may be in force for so long, so the caller is told nothing before; and when it is told, it is not.
#[tokio::test(start_paused = true)]
async fn a_replica_that_hears_nothing_is_waited_for_until_its_lease_is_over() {
    let server = Server::new();
    let [a, b, c] = three(&server).await;
    c.link.is_deaf.send_replace(true);
    let began = Instant::now();
    let revision = server.write(Vec::new());
    let soon = Some(Instant::now() + Duration::from_secs(1));
    let pending = a.member.settle(revision, soon).await.unwrap_err();
    assert_eq!(pending.waiting_for, ["c"]);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert!(c.may_answer(), "the lease from before the change");

    let settled = a.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::LeaseEnd);
    assert!(began.elapsed() >= longest_lease(LEASE));
    assert!(c.keyring.applied() < revision);
    assert!(
        !c.may_answer(),
        "it renews, but has not applied what it was answered"
    );
    assert!(a.may_answer() && b.may_answer());

    c.link.is_deaf.send_replace(false);
    c.until(true).await;
    assert!(c.keyring.applied() >= revision);
}

/// Counted from when the renewal was sent. Counted from the answer it would last longer than others wait.
#[tokio::test(start_paused = true)]
async fn a_lease_is_counted_from_before_its_renewal() {
    let server = Server::new();
    let a = Replica::join(&server, "a", "a1").await;
    for _ in 0..5 {
        tokio::time::sleep(LEASE / 5).await;
        let renewed = server.state().members["a1"].renewed;
        let length = u64::try_from(LEASE.as_nanos()).unwrap();
        let latest =
            u64::from(renewed.nanos()) + renewed.seconds().cast_unsigned() * 1_000_000_000 + length;
        assert!(
            a.lease.deadline().0 <= latest,
            "later than its renewal was executed"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_lease_is_not_noticed() {
    let server = Server::new();
    let [a, b, _c] = three(&server).await;
    tokio::time::sleep(LEASE).await;
    server.state().is_down = true;
    let began = Instant::now();
    while began.elapsed() < LEASE * 3 / 4 {
        assert!(a.may_answer() && b.may_answer());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.state().is_down = false;
    tokio::time::sleep(LEASE).await;
    assert!(a.may_answer() && b.may_answer());
    assert_eq!(server.state().removed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_longer_outage_fences_everyone_and_heals_by_itself() {
    let server = Server::new();
    let [a, b, c] = three(&server).await;
    server.state().is_down = true;
    for replica in [&a, &b, &c] {
        replica.until(false).await;
    }
    tokio::time::sleep(LEASE * 3).await;
    assert!(!a.may_answer());
    server.state().is_down = false;
    for replica in [&a, &b, &c] {
        replica.until(true).await;
    }
    assert_eq!(server.state().members.len(), 3);
    assert_eq!(
        server.state().removed,
        0,
        "the first one back takes nobody out"
    );
    let revision = server.write(Vec::new());
    let settled = a.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::Acknowledgements(3));
}

/// While the store is away its leases end all the same, and nobody gets another without the change.
#[tokio::test(start_paused = true)]
async fn a_change_is_settled_by_time_without_the_store() {
    let server = Server::new();
    let [a, ..] = three(&server).await;
    let revision = server.write(Vec::new());
    server.state().is_down = true;
    let began = Instant::now();
    let settled = a.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::LeaseEnd);
    assert!(began.elapsed() >= longest_lease(LEASE));
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_its_data_heals_and_acknowledgements_count_only_later() {
    let server = Server::new();
    let [a, b, c] = three(&server).await;
    let before = server.write(Vec::new());
    for replica in [&a, &b, &c] {
        replica.applies(before).await;
    }
    server.restart();
    let restarted = Instant::now();
    while server.state().members.len() < 3 || server.state().epochs_opened == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(restarted.elapsed() < LEASE, "before any lease is over");
    assert_eq!(server.state().epochs_opened, 1, "by one of them");
    assert!(!server.state().standing.settled);
    let revision = server.write(Vec::new());
    assert_eq!((revision.epoch, revision.number), (2, 2));
    let settled = a.member.settle(revision, None).await.unwrap();
    assert_eq!(
        settled.by,
        SettledBy::LeaseEnd,
        "all have acknowledged it, but there may be others"
    );
    for replica in [&a, &b, &c] {
        assert!(replica.keyring.applied() >= revision);
        assert!(replica.may_answer());
    }
    tokio::time::sleep(LEASE).await;
    let revision = server.write(Vec::new());
    let settled = b.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::Acknowledgements(3));
}

/// Changes are refused until then, so nobody waits for the next renewal.
#[tokio::test(start_paused = true)]
async fn after_a_restart_the_epoch_is_opened_at_once() {
    let server = Server::new();
    let [a, _b, _c] = three(&server).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    server.restart();
    let restarted = Instant::now();
    while server.state().members.len() < 3 || server.state().epochs_opened == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        restarted.elapsed() < LEASE / 10,
        "{:?}",
        restarted.elapsed()
    );
    assert!(a.may_answer());
}

/// A caller may have waited for it while nobody could tell that it is none.
#[tokio::test(start_paused = true)]
async fn a_revision_that_nobody_wrote_is_not_missed_later() {
    let server = Server::new();
    let [a, _b, _c] = three(&server).await;
    server.state().is_down = true;
    let mut never = server.next();
    never.number += 1_000;
    let waited = a.member.settle(never, Some(Instant::now())).await;
    assert_eq!(waited.unwrap_err().revision, never);
    server.state().is_down = false;
    server.restart();
    tokio::time::sleep(LEASE * 2).await;
    assert!(a.may_answer());
}

/// Who is missing among the members may not be the only one.
#[tokio::test(start_paused = true)]
async fn acknowledgements_do_not_count_where_members_are_missing() {
    let server = Server::new();
    let [a, _b, c] = three(&server).await;
    c.link.is_deaf.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    c.link.is_cut.store(true, Ordering::SeqCst);
    server.state().members.clear();
    let revision = server.write(Vec::new());
    let began = Instant::now();
    a.member.settle(revision, None).await.unwrap();
    assert!(began.elapsed() >= longest_lease(LEASE));
    assert!(!c.may_answer());
}

/// The next start must know a store that was put back to what it was before the last change.
#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_has_noted_how_far_it_came() {
    let server = Server::new();
    let a = Replica::join(&server, "a", "a1").await;
    let last = server.write(Vec::new());
    a.applies(last).await;
    a.member.leave().await;
    {
        let mut state = server.state();
        state.log.pop();
        state.standing.head.number -= 1;
    }
    let again = Replica::join_from(&server, "a", "a2", a.directory).await;
    assert!(matches!(again, Err(JoinError::Lost(_))));
}

/// The number of an epoch says nothing about what it was opened on.
#[tokio::test(start_paused = true)]
async fn an_epoch_that_was_opened_anew_on_older_data_is_never_adopted() {
    let server = Server::new();
    let [a, _b, _c] = three(&server).await;
    {
        let mut state = server.state();
        state.standing.history.server.push('+');
        state.standing.server.push('+');
    }
    a.until(false).await;
    tokio::time::sleep(LEASE * 3).await;
    assert!(!a.may_answer());
    assert_eq!(server.state().epochs_opened, 0);
}

/// Whatever stands there now, the lease runs out and nothing of it is taken over.
#[tokio::test(start_paused = true)]
async fn a_store_that_lost_something_is_never_adopted() {
    type Lose = fn(&Server);
    let lost: [(&str, Lose); 4] = [
        ("emptied and made anew", |server| {
            let mut state = server.state();
            state.standing.history.store = "another".into();
            state.standing.head = Revision {
                epoch: 1,
                number: 99,
            };
        }),
        ("put back to an older state", |server| {
            let mut state = server.state();
            state.standing.head.number -= 1;
            state.log.pop();
        }),
        ("restarted without its last change", |server| {
            let mut state = server.state();
            state.standing.head.number -= 1;
            state.log.pop();
            state.standing.server.push('+');
        }),
        ("opened by others after it lost a change", |server| {
            let mut state = server.state();
            let after = Revision {
                epoch: 1,
                number: state.standing.head.number - 1,
            };
            state.standing.history.epoch = 2;
            state.standing.history.server.push('+');
            state.standing.server.push('+');
            state.standing.opened_after.insert(2, after);
            state.standing.head = Revision {
                epoch: 2,
                number: 50,
            };
        }),
    ];
    for (what, lose) in lost {
        let server = Server::new();
        let [a, b, c] = three(&server).await;
        for _ in 0..3 {
            server.write(Vec::new());
        }
        let head = server.state().standing.head;
        for replica in [&a, &b, &c] {
            replica.applies(head).await;
        }
        // It is noted with the next renewal.
        tokio::time::sleep(LEASE / 4).await;
        lose(&server);
        a.until(false).await;
        tokio::time::sleep(LEASE * 3).await;
        for replica in [&a, &b, &c] {
            assert!(!replica.may_answer(), "{what}");
            assert_eq!(replica.keyring.applied(), head, "{what}");
        }
        assert_eq!(server.state().epochs_opened, 0, "{what}");
        let settled = a.member.settle(head, None).await;
        assert!(settled.is_err(), "{what}: nothing is certain any more");
        // Nor does one that comes back take it over.
        let again = Replica::join_from(&server, "a", "a2", a.directory).await;
        assert!(matches!(again, Err(JoinError::Lost(_))), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_missed_changes_reads_everything_again() {
    let server = Server::new();
    let [a, b, c] = three(&server).await;
    c.link.is_deaf.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        server.write(Vec::new());
    }
    let head = server.state().standing.head;
    a.applies(head).await;
    b.applies(head).await;
    server.state().trim();
    c.until(false).await;
    c.link.is_deaf.send_replace(false);
    c.applies(head).await;
    c.until(true).await;
    let revision = server.write(Vec::new());
    let settled = a.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::Acknowledgements(3));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_stops_answering_and_is_not_waited_for() {
    let server = Server::new();
    let [a, b, c] = three(&server).await;
    c.member.leave().await;
    assert!(!c.may_answer());
    assert_eq!(server.state().members.len(), 2);
    let began = Instant::now();
    let revision = server.write(Vec::new());
    let settled = a.member.settle(revision, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::Acknowledgements(2));
    assert!(began.elapsed() < LEASE / 10);
    tokio::time::sleep(LEASE).await;
    assert!(!c.may_answer());
    assert_eq!(server.state().members.len(), 2, "it never comes back");
    assert!(b.may_answer());
}

/// What it acknowledged says nothing about the one that has its name now.
#[tokio::test(start_paused = true)]
async fn a_replica_that_died_is_waited_for_until_its_lease_is_over_though_its_successor_is_there() {
    let server = Server::new();
    let [a, _b, c] = three(&server).await;
    let dead = c.member.stop.lock().await.take();
    drop(dead);
    c.link.is_deaf.send_replace(true);
    let successor = Replica::join(&server, "c", "c2").await;
    let began = Instant::now();
    let revision = server.write(Vec::new());
    let settled = a.member.settle(revision, None).await.unwrap();
    assert!(began.elapsed() >= LEASE * 4 / 5, "{:?}", began.elapsed());
    assert!(!c.may_answer());
    assert!(successor.keyring.applied() >= revision);
    // Taken out, or not needed any more.
    assert!(matches!(
        settled.by,
        SettledBy::LeaseEnd | SettledBy::Acknowledgements(3)
    ));
    tokio::time::sleep(LEASE * 2).await;
    assert!(
        !server.state().members.contains_key("c1"),
        "nobody waits for it again"
    );
    assert!(server.state().members.contains_key("c2"));
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_brought_to_a_state_that_a_caller_has_seen() {
    let server = Server::new();
    let [a, _b, c] = three(&server).await;
    let revision = server.write(Vec::new());
    assert_eq!(a.member.reach(revision).await, Ok(()));
    assert_eq!(
        a.member.reach(revision.next()).await,
        Err(NotReached::Ahead)
    );
    c.link.is_deaf.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let revision = server.write(Vec::new());
    let began = Instant::now();
    assert_eq!(c.member.reach(revision).await, Err(NotReached::Behind));
    assert!(began.elapsed() <= CATCH_UP);
    server.state().is_down = true;
    assert_eq!(c.member.reach(revision).await, Err(NotReached::Behind));
}

#[tokio::test(start_paused = true)]
async fn how_full_the_store_is_is_told() {
    let server = Server::new();
    server.state().fullness = Some(600);
    let a = Replica::join(&server, "a", "a1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(a.member.store_fullness(), 600);
    server.state().fullness = Some(710);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(a.member.store_fullness(), 710);
}

#[tokio::test(start_paused = true)]
async fn the_members_are_listed_with_how_far_each_has_come() {
    let server = Server::new();
    let [a, _b, c] = three(&server).await;
    c.link.is_deaf.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.write(Vec::new());
    let revision = server.write(Vec::new());
    a.applies(revision).await;
    tokio::time::sleep(LEASE / 5).await;
    let replicas = a.member.replicas().await.unwrap();
    let shown: Vec<(&str, &str, u64)> = replicas
        .iter()
        .map(|r| (&*r.name, &*r.incarnation, r.lag))
        .collect();
    assert_eq!(shown, [("a", "a1", 0), ("b", "b1", 0), ("c", "c1", 2)]);
    assert!(
        replicas
            .iter()
            .all(|r| r.lease_left.is_some_and(|left| left <= LEASE))
    );
}

/// A key's record, as it is written at a revision.
fn record(bits: u128, revision: Revision) -> (RecordId, Stored) {
    let time = Timestamp::from_unix_nanos(1);
    let key = Key {
        id: KeyId::from_bits(bits),
        workspace: WorkspaceId::default_workspace(),
        display_name: "a key".into(),
        description: "".into(),
        owner: "local:0".into(),
        token_prefix: TokenPrefix::default(),
        disabled: false,
        permissions: PermissionSet::any(),
        ip_allowlist: IpAllowlist::default(),
        labels: TextMap::default(),
        settings: TextMap::default(),
        create_time: time,
        update_time: time,
        expire_time: None,
        archive_time: None,
    };
    let record = KeyRecord {
        key,
        secrets: Vec::new(),
        revision,
    };
    (RecordId::Key(record.key.id), Stored::Key(Box::new(record)))
}

/// The log has a hole that nobody told of: whatever was in it is read from the records.
#[tokio::test(start_paused = true)]
async fn a_hole_in_the_log_is_never_stepped_over() {
    let server = Server::new();
    let [a, _b, c] = three(&server).await;
    c.link.is_deaf.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for bits in 1..=3 {
        server.write(vec![record(bits, server.next())]);
    }
    let head = server.state().standing.head;
    a.applies(head).await;
    server
        .state()
        .log
        .retain(|change| change.revision.number != 2);
    c.link.is_deaf.send_replace(false);
    c.applies(head).await;
    assert_eq!(c.keyring.len(), 3);
    assert_eq!(a.keyring.len(), 3);
}

/// Row 115 of the bad inputs: an older state in the log.
#[tokio::test(start_paused = true)]
async fn an_older_record_in_the_log_is_not_believed() {
    let server = Server::new();
    let a = Replica::join(&server, "a", "a1").await;
    let first = server.write(vec![record(1, server.next())]);
    a.applies(first).await;
    assert_eq!(a.keyring.unreadable(), 0);
    let later = server.write(vec![record(1, first)]);
    a.applies(later).await;
    assert_eq!(a.keyring.unreadable(), 1);
}

/// Nobody would tell of it before the next renewal, and whoever made the change would wait for so long.
#[tokio::test(start_paused = true)]
async fn what_arrives_while_a_replica_joins_is_acknowledged_at_once() {
    let server = Server::new();
    let a = Replica::join(&server, "a", "a1").await;
    server.state().is_raced = true;
    let b = Replica::join(&server, "b", "b1").await;
    let head = server.state().standing.head;
    assert_eq!(head.number, 1, "there was a change");
    let began = Instant::now();
    let settled = a.member.settle(head, None).await.unwrap();
    assert_eq!(settled.by, SettledBy::Acknowledgements(2));
    assert!(began.elapsed() < LEASE / 10, "{:?}", began.elapsed());
    assert!(b.may_answer());
}

/// Those that are not back yet have not been silent: nobody could be heard.
#[tokio::test(start_paused = true)]
async fn the_first_one_back_from_an_outage_takes_nobody_out() {
    let server = Server::new();
    let [a, b, c] = three(&server).await;
    tokio::time::sleep(LEASE).await;
    server.state().is_down = true;
    tokio::time::sleep(LEASE * 3).await;
    for late in [&b, &c] {
        late.link.is_cut.store(true, Ordering::SeqCst);
    }
    server.state().is_down = false;
    a.until(true).await;
    tokio::time::sleep(LEASE / 2).await;
    assert_eq!(server.state().removed, 0);
    // And then it does.
    tokio::time::sleep(longest_lease(LEASE)).await;
    assert_eq!(server.state().removed, 2);
    let settled = a.member.settle(server.write(Vec::new()), None).await;
    assert_eq!(settled.unwrap().by, SettledBy::Acknowledgements(1));
    // They come back by themselves.
    for late in [&b, &c] {
        late.link.is_cut.store(false, Ordering::SeqCst);
        late.until(true).await;
    }
    assert_eq!(server.state().members.len(), 3);
}
