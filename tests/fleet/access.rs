//! The shipped access rules: they allow what Portcullis uses, and nothing beside.

use std::collections::BTreeSet;

use portcullis::proto::v1::ListEventsRequest;
use redis::{Client, Connection, RedisResult, Value};

use crate::{
    harness::{Fleet, LONG, PASSWORD, SHORT, done_at_last, users_acl},
    race::Seen,
    support::{Mutation, check},
};

/// The commands that the rules name, as Redis writes them.
fn granted() -> BTreeSet<String> {
    let rules = users_acl();
    let line = rules
        .lines()
        .find(|line| line.starts_with("user portcullis "))
        .expect("the rules name the user");
    let names: BTreeSet<_> = line
        .split(' ')
        .filter_map(|word| word.strip_prefix('+'))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 10, "{line}");
    assert!(
        names.iter().all(|name| !name.starts_with('@')),
        "commands are granted one by one: {line}"
    );
    names
}

/// A connection as Portcullis' user.
fn connection(fleet: &Fleet) -> Connection {
    let url = format!(
        "redis://portcullis:{PASSWORD}@127.0.0.1:{}",
        fleet.redis.port()
    );
    let client = Client::open(url).expect("an address");
    client.get_connection().expect("the user may log in")
}

fn refused(connection: &mut Connection, words: &[&str]) {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    let answer: RedisResult<Value> = command.query(connection);
    let error = answer.expect_err(&format!("{words:?} must be refused"));
    assert_eq!(error.code(), Some("NOPERM"), "{words:?}: {error}");
}

#[test]
fn the_rules_refuse_what_portcullis_does_not_use() {
    let Ok(fleet) = Fleet::unmade(&users_acl()) else {
        return;
    };
    let mut own = connection(&fleet);
    for words in [
        &["FLUSHALL"][..],
        &["FLUSHDB"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["RANDOMKEY"],
        &["DBSIZE"],
        &["SELECT", "1"],
        &["SWAPDB", "0", "1"],
        &["CONFIG", "SET", "appendfsync", "no"],
        &["CONFIG", "REWRITE"],
        &["CONFIG", "RESETSTAT"],
        &["SHUTDOWN", "NOSAVE"],
        &["REPLICAOF", "127.0.0.1", "1"],
        &["MONITOR"],
        &["BGREWRITEAOF"],
        &["ACL", "LIST"],
        &["ACL", "SETUSER", "portcullis", "allcommands"],
        &["CLIENT", "LIST"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["SCRIPT", "FLUSH"],
        &["SCRIPT", "KILL"],
        &["FUNCTION", "FLUSH"],
        &["MIGRATE", "127.0.0.1", "1", "{portcullis:0}:ctl", "0", "1"],
        &["RENAME", "{portcullis:0}:ctl", "{portcullis:0}:other"],
        &["RESTORE", "{portcullis:0}:ctl", "0", "x"],
        // What is allowed, elsewhere.
        &["HGET", "ctl", "store"],
        &["HGET", "{other:0}:ctl", "store"],
        &["HGET", "{portcullis:1}:ctl", "store"],
        &["HSET", "{portcullis:00}:ctl", "store", "x"],
        &["PUBLISH", "hints", "x"],
        &["PUBLISH", "{other:0}:hints", "x"],
        &["SUBSCRIBE", "{other:0}:hints"],
        &["PSUBSCRIBE", "*"],
        &[
            "EVAL",
            "return redis.call('GET', KEYS[1])",
            "1",
            "elsewhere",
        ],
    ] {
        refused(&mut own, words);
    }
    for script in [
        "return redis.call('GET', 'elsewhere')",
        "return redis.call('FLUSHALL')",
        "return redis.call('PUBLISH', 'elsewhere', 'x')",
    ] {
        let loaded: String = redis::cmd("SCRIPT")
            .arg(&["LOAD", script])
            .query(&mut own)
            .expect("scripts may be loaded");
        let answer: RedisResult<Value> = redis::cmd("EVALSHA").arg(loaded).arg(0).query(&mut own);
        let error = answer.expect_err(script).to_string();
        let due = "The user executing the script can't";
        assert!(error.contains(due), "{script}: {error}");
    }
    let nobody = Client::open(format!("redis://127.0.0.1:{}", fleet.redis.port()))
        .expect("an address")
        .get_connection();
    let asked = nobody.and_then(|mut nobody| redis::cmd("PING").query::<Value>(&mut nobody));
    let error = asked.expect_err("without a password there is nothing");
    assert_eq!(error.code(), Some("NOAUTH"), "{error}");
}

/// The commands that were called, within scripts too.
fn called(fleet: &Fleet) -> BTreeSet<String> {
    let stats: String = redis::from_redis_value(fleet.redis.cli(&["INFO", "commandstats"]))
        .expect("statistics in text");
    stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_"))
        // What was only ever refused is counted, too.
        .filter(|line| !line.contains(":calls=0,"))
        .filter_map(|line| line.split(':').next())
        .map(str::to_owned)
        .collect()
}

/// Whatever a fleet does in its life is allowed, and everything that is allowed is done at some time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_uses_all_that_the_rules_grant_and_needs_no_more() {
    let Ok(mut fleet) = Fleet::made(SHORT) else {
        return;
    };
    let mut done = called(&fleet);
    let mut replicas = fleet.start_all(3).await;
    let key = replicas[0].root.create("key", &[]).await;
    let name = key.key.expect("an issued key is shown").name;
    let disable = Mutation::disable(&name).with_id("disable");
    for replica in &replicas {
        disable.done(&replica.root).await;
    }
    replicas[0].verified_events().await;
    let newest_first = ListEventsRequest {
        parent: "workspaces/-".into(),
        ..ListEventsRequest::default()
    };
    let mut audit = replicas[0].root.audit.clone();
    let listed = audit.list_events(newest_first).await;
    listed.expect("the events are listed");
    // One leaves, one is lost and taken out, and the server is restarted.
    let leaving = replicas.remove(2);
    leaving.server.stop();
    let lost = replicas.remove(1);
    lost.server.kill();
    replicas[0].until_members(&["r1"]).await;
    done.extend(called(&fleet));
    fleet.redis.restart();
    done_at_last(&disable, &replicas[0]).await;
    let open = replicas[0].root.create("open", &[]).await.token;
    replicas[0].until(&check(&open), &Seen::Open).await;
    let late = fleet.start("r4");
    late.until(&check(&open), &Seen::Open).await;
    done.extend(called(&fleet));

    let unused: Vec<_> = granted().difference(&done).cloned().collect();
    assert!(unused.is_empty(), "granted, and never used: {unused:?}");
    let log = fleet.redis.cli(&["ACL", "LOG"]);
    let Value::Array(refusals) = log else {
        panic!("the log of refusals is a list: {log:?}");
    };
    let wanting: Vec<_> = refusals
        .into_iter()
        .map(|entry| format!("{entry:?}"))
        // The client library introduces itself, which servers before 7.2 do not know, and does without.
        .filter(|entry| !entry.contains("client|setinfo"))
        .collect();
    assert!(wanting.is_empty(), "used, and not granted: {wanting:#?}");
}

/// The rules without one command: what comes of `init`, and of a replica if it gets so far.
fn without(command: &str) -> Option<String> {
    let rules = users_acl();
    let less = rules.replace(&format!(" +{command}"), "");
    assert_ne!(less, rules, "{command} is granted");
    let fleet = Fleet::unmade(&less).ok()?;
    let output = fleet.init_in("init", LONG);
    if !output.status.success() {
        return Some(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    match fleet.setup("r1").try_start() {
        Ok(_) => Some(String::new()),
        Err(exit) => Some(exit.stderr),
    }
}

/// Nobody is left to wonder why it does not start.
#[test]
fn a_missing_right_is_found_at_the_start_and_named() {
    // The server does not tell which command of a script it was.
    let in_a_script = "can't run this command";
    for (command, named) in [
        ("acl|getuser", "acl|getuser"),
        ("config|get", "config"),
        ("evalsha", "evalsha"),
        ("info", "info"),
        ("hscan", "hscan"),
        ("xadd", in_a_script),
        ("subscribe", "subscribe"),
    ] {
        let Some(said) = without(command) else {
            return;
        };
        let names_it = said.to_lowercase().contains(named);
        assert!(names_it, "without {command} it says: {said:?}");
    }
}
