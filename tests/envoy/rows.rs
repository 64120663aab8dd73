//! The rows 1 to 57 of the project's list of bad inputs, as far as Envoy lets them through. Each says who answers it, and
//! what must not reach the service does not, however Envoy is set.
//!
//! What Envoy would not send is in `messages.rs`. Rows 36 to 44 are about paths that the gate's own route table judges, and
//! row 28 about a setting: see `tables.rs`. Row 57 is refused on write, and is with those in `tests/bad_inputs`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis::proto::v1::{IssuedKey, Key};

use crate::{
    authz::Turncoat,
    clients::{Ask, BOTH, Protocol},
    harness::{Config, Envoy},
    scene::{
        BAD_SETTING, DISABLED, Denial, EXPIRED, IC, INV, NO_POLICY, PD, SD, SEND, Scene, id, may,
        name, test_hosts,
    },
    support::{Address, Mutation, Setup},
    upstream::{GREETING, Upstream},
};

const HTTP1: &[Protocol] = &[Protocol::Http1];
const HTTP2: &[Protocol] = &[Protocol::Http2];

/// A bad request, and who must answer it.
struct Row {
    number: &'static str,
    what: &'static str,
    ask: Ask,
    over: &'static [Protocol],
    due: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Portcullis, and so.
    Ours(Denial),
    /// Envoy does not ask: this status; 0 is an end without an answer.
    Envoys(u16),
    /// Nothing is wrong with it by the time it is judged.
    Passes,
}

impl Row {
    /// What is wrong with how it was taken.
    async fn fault(
        &self,
        protocol: Protocol,
        envoy: &Envoy,
        upstream: &Upstream,
    ) -> Option<String> {
        let answered = self.ask.send(envoy.edge(), protocol).await;
        let reached = upstream.take();
        let fault = |what: &str| {
            let Self {
                number,
                what: row,
                due,
                ..
            } = self;
            Some(format!(
                "row {number}, {row} ({protocol:?}): {what}; {due:?}, got {answered:?}"
            ))
        };
        match self.due {
            Due::Passes if reached.len() == 1 && answered.body == GREETING => None,
            Due::Passes => fault("stopped"),
            _ if !reached.is_empty() => fault("reached the service"),
            Due::Envoys(status) if answered.status == status && answered.reason().is_none() => None,
            Due::Ours(denial)
                if answered.status == denial.status
                    && answered.reason().as_deref() == Some(denial.reason) =>
            {
                denial.is(self.what, &answered);
                None
            }
            Due::Ours(_) | Due::Envoys(_) => fault("another answer"),
        }
    }
}

/// The keys that the rows are about.
pub struct Keys {
    pub good: IssuedKey,
    other: IssuedKey,
    disabled: IssuedKey,
    archived: IssuedKey,
    deleted: IssuedKey,
    expired: IssuedKey,
    pub local: IssuedKey,
    foreign: IssuedKey,
    system: String,
}

impl Keys {
    pub async fn of(scene: &Scene) -> Self {
        let local = Key {
            ip_allowlist: vec!["203.0.113.7".into()],
            ..may(&["sms.send"])
        };
        let keys = Self {
            good: scene.sender().await,
            other: scene.sender().await,
            disabled: scene.sender().await,
            archived: scene.sender().await,
            deleted: scene.sender().await,
            expired: scene.expired().await,
            local: scene.create(local).await,
            foreign: scene.root.create("of `default`", &["sms.send"]).await,
            system: scene.server.root_token(),
        };
        scene.change(Mutation::disable(name(&keys.disabled))).await;
        scene.change(Mutation::archive(name(&keys.archived))).await;
        scene.change(Mutation::delete(name(&keys.deleted))).await;
        keys
    }

    fn rows(&self) -> Vec<Row> {
        let token = &*self.good.token;
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let bearer = format!("Bearer {token}");
        let with = |headers: &[(&str, &[u8])]| {
            let ask = Ask::of(SEND);
            headers
                .iter()
                .fold(ask, |ask, (name, value)| ask.header(name, value))
        };
        let one = |value: &str| with(&[("authorization", value.as_bytes())]);
        let of = |key: &IssuedKey| Ask::of(SEND).bearer(&key.token);
        let unknown = {
            // Of another key id, with that one's own secret: nobody has the pair.
            let (head, secret) = self.deleted.token.rsplit_once('_').expect("a token");
            assert!(!head.is_empty() && !secret.is_empty());
            self.deleted.token.clone()
        };
        let mut flipped = token.to_owned();
        let last = flipped.pop().expect("a token is not empty");
        flipped.push(if last == '0' { '1' } else { '0' });
        let (prefix, rest) = token.split_once('_').expect("a token has a prefix");
        let long = "a".repeat(8 << 10);
        let inside = |what: &[u8]| {
            let (a, b) = bearer.as_bytes().split_at(20);
            with(&[("authorization", &[a, what, b].concat())])
        };
        let forwarded = |entries: usize| {
            of(&self.local).header("x-forwarded-for", vec!["203.0.113.7"; entries].join(","))
        };

        let mut rows = Vec::new();
        let mut row = |number, what, ask, over, due| {
            rows.push(Row {
                number,
                what,
                ask,
                over,
                due,
            });
        };
        let ours = Due::Ours;
        row("1", "none", Ask::of(SEND), &BOTH, ours(IC));
        row("2", "blank", one(""), &BOTH, ours(IC));
        row(
            "2",
            "blanks",
            with(&[("x-api-key", b"  ")]),
            &BOTH,
            ours(IC),
        );
        let auth = ("authorization", bearer.as_bytes());
        let key = ("x-api-key", token.as_bytes());
        row(
            "3",
            "two headers",
            with(&[auth, ("authorization", b"Bearer x")]),
            &BOTH,
            ours(INV),
        );
        row(
            "3",
            "two equal headers",
            with(&[auth, auth]),
            &BOTH,
            ours(INV),
        );
        row("3", "two keys", with(&[key, key]), &BOTH, ours(INV));
        // Envoy itself drops an empty line of that one, so that there is one only, for whoever reads it.
        let empty = with(&[auth, ("authorization", b"")]);
        row("3", "an empty one more", empty, &BOTH, Due::Passes);
        let empty = with(&[key, ("x-api-key", b"")]);
        row("3", "an empty key more", empty, &BOTH, ours(INV));
        row(
            "4",
            "joined",
            one(&format!("{bearer},{bearer}")),
            &BOTH,
            ours(INV),
        );
        row(
            "4",
            "joined with nothing",
            one(&format!("{bearer},")),
            &BOTH,
            ours(INV),
        );
        row("5", "both headers", with(&[auth, key]), &BOTH, ours(INV));
        row(
            "5",
            "both headers, other",
            with(&[auth, ("x-api-key", b"x")]),
            &BOTH,
            ours(INV),
        );
        row(
            "5",
            "both headers, one empty",
            with(&[auth, ("x-api-key", b"")]),
            &BOTH,
            ours(INV),
        );
        row("6", "Basic, no base64", one("Basic !!!!"), &BOTH, ours(IC));
        row("7", "Basic, no colon", one(&basic(token)), &BOTH, ours(IC));
        row(
            "8",
            "Basic, no user",
            one(&basic(&format!(":{token}"))),
            &BOTH,
            ours(IC),
        );
        row("9", "bare Bearer", one("Bearer"), &BOTH, ours(IC));
        row(
            "10",
            "two spaces",
            one(&format!("Bearer  {token}")),
            &BOTH,
            ours(IC),
        );
        // White space around a value is no part of it in HTTP/1.1.
        row(
            "11",
            "trailing tab",
            one(&format!("{bearer}\t")),
            HTTP1,
            Due::Passes,
        );
        row(
            "11",
            "trailing tab",
            one(&format!("{bearer}\t")),
            HTTP2,
            ours(IC),
        );
        row("12", "NUL", inside(b"\0"), HTTP1, Due::Envoys(400));
        row("13", "CRLF", inside(b"\r\n"), HTTP1, Due::Envoys(400));
        row("13", "LF", inside(b"\n"), HTTP1, Due::Envoys(400));
        row("13", "a folded line", inside(b"\r\n "), HTTP1, ours(IC));
        row("14", "`!`", inside(b"!"), &BOTH, ours(IC));
        row("15", "0xFF", inside(b"\xff"), &BOTH, ours(IC));
        row(
            "16",
            "8 KiB",
            one(&format!("Bearer {long}")),
            &BOTH,
            ours(IC),
        );
        row(
            "16",
            "8 KiB as a key",
            with(&[("x-api-key", long.as_bytes())]),
            &BOTH,
            ours(IC),
        );
        let full_width = format!("Bearer \u{ff50}\u{ff43}_{rest}");
        row("17", "full-width prefix", one(&full_width), &BOTH, ours(IC));
        row(
            "18",
            "zero-width joiner",
            inside("\u{200d}".as_bytes()),
            &BOTH,
            ours(IC),
        );
        row(
            "19",
            "%5F",
            one(&bearer.replace('_', "%5F")),
            &BOTH,
            ours(IC),
        );
        let upper = format!("Bearer {}_{rest}", prefix.to_uppercase());
        row("20", "upper-case prefix", one(&upper), &BOTH, ours(IC));
        row(
            "21",
            "bad CRC",
            one(&format!("Bearer {flipped}")),
            &BOTH,
            ours(IC),
        );
        row(
            "22",
            "unknown key id",
            one(&format!("Bearer {unknown}")),
            &BOTH,
            ours(IC),
        );
        let mixed = basic(&format!("{}:{}", id(&self.good), self.other.secret));
        row("23", "another key's secret", one(&mixed), &BOTH, ours(IC));
        row("24", "deleted", of(&self.deleted), &BOTH, ours(IC));
        row("24", "archived", of(&self.archived), &BOTH, ours(IC));
        row("25", "expired", of(&self.expired), &BOTH, ours(EXPIRED));
        row("25", "disabled", of(&self.disabled), &BOTH, ours(DISABLED));
        row(
            "26",
            "of another workspace",
            of(&self.foreign),
            &BOTH,
            ours(IC),
        );
        let query = Ask::of(SEND).path(&format!("/?api_key={token}"));
        row("27", "query credential while off", query, &BOTH, ours(IC));
        row(
            "29",
            "bEaReR",
            one(&format!("bEaReR {token}")),
            &BOTH,
            Due::Passes,
        );
        row(
            "29a",
            "a `system` key",
            Ask::of(SEND).bearer(&self.system),
            &BOTH,
            ours(IC),
        );
        let wrong = basic(&format!("default:{token}"));
        row(
            "29b",
            "Basic, wrong workspace",
            one(&wrong),
            &BOTH,
            ours(IC),
        );
        let setting = of(&self.good).header("x-sms-sender", "Nobody");
        row("29c", "a bad setting", setting, &BOTH, ours(BAD_SETTING));
        let method = of(&self.good).method("G\0T");
        row("35", "method with NUL", method, HTTP1, Due::Envoys(400));
        // As long as the HTTP/2 client can say it, and too long for Envoy.
        let path = format!("/{}", "a".repeat(63 << 10));
        row(
            "45",
            "63 KiB path",
            of(&self.good).path(&path),
            HTTP1,
            Due::Envoys(431),
        );
        row(
            "45",
            "63 KiB path",
            of(&self.good).path(&path),
            HTTP2,
            Due::Envoys(0),
        );
        let path = format!("/{}", "a".repeat(40 << 10));
        row(
            "45",
            "40 KiB path",
            of(&self.good).path(&path),
            &BOTH,
            ours(INV),
        );
        let forged = of(&self.good).header("x-portcullis-key", "forged");
        row("48", "an identity", forged, &BOTH, Due::Passes);
        let forged = of(&self.good).header("X-Portcullis_Key", "forged");
        row("48a", "a folded identity", forged, &BOTH, Due::Passes);
        for (number, what, host, denial) in [
            ("54", "unknown policy", "undeclared.test", PD),
            (
                "54",
                "policy of an unknown workspace",
                "no-such-workspace.test",
                IC,
            ),
            ("54a", "no policy", "no-policy.test", NO_POLICY),
            ("54b", "no workspace", "no-workspace.test", NO_POLICY),
        ] {
            let ask = Ask::of(host).bearer(token);
            row(number, what, ask, &BOTH, ours(denial));
        }
        row(
            "55",
            "x-forwarded-for while not asked for",
            forwarded(1),
            &BOTH,
            ours(SD),
        );
        row(
            "56",
            "3,000 forwarded entries",
            forwarded(3_000),
            &BOTH,
            ours(SD),
        );
        row(
            "56",
            "10,000 forwarded entries",
            forwarded(10_000),
            HTTP1,
            Due::Envoys(431),
        );
        row(
            "56",
            "10,000 forwarded entries",
            forwarded(10_000),
            HTTP2,
            Due::Envoys(0),
        );
        rows
    }
}

/// What is wrong with how the rows were taken.
async fn faults(rows: &[Row], envoy: &Envoy, upstream: &Upstream) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        for protocol in row.over {
            faults.extend(row.fault(*protocol, envoy, upstream).await);
        }
    }
    faults
}

fn told(failure_mode_allow: bool) -> impl FnOnce(Config) -> Config {
    move |config| {
        let allow = format!("failure_mode_allow: {failure_mode_allow}");
        config.with("failure_mode_allow: false", &allow)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_answered_as_listed_and_reach_nothing() {
    let Ok(scene) = Scene::start_as(Setup::new(), told(false)).await else {
        return;
    };
    let rows = Keys::of(&scene).await.rows();
    let faults = faults(&rows, &scene.envoy, &scene.upstream).await;
    assert_eq!(faults, [""; 0]);
    scene.upstream.untouched("later, something");
}

/// Envoy lets pass what it gets no answer for, if it is told to. So there is one for everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_reach_nothing_either_where_envoy_lets_failures_pass() {
    let Ok(scene) = Scene::start_as(Setup::new(), told(true)).await else {
        return;
    };
    let rows = Keys::of(&scene).await.rows();
    let missed = faults(&rows, &scene.envoy, &scene.upstream).await;
    assert_eq!(missed, [""; 0]);
    scene.upstream.untouched("later, something");
    assert_eq!(
        scene.envoy.stat("http.edge.ext_authz.error"),
        0,
        "no errors"
    );

    // A gate that denies by gRPC errors would be seen at every one of our rows, and only there.
    let turncoat = Turncoat::before(scene.server.gate()).await;
    let config = told(true)(test_hosts(Config::shipped("envoy.yaml")));
    let config = config.between(&Address::Tcp(turncoat.address()), scene.upstream.address());
    let Ok(envoy) = Envoy::start(&config) else {
        return;
    };
    let seen = faults(&rows, &envoy, &scene.upstream).await;
    let ours = rows.iter().filter(|row| matches!(row.due, Due::Ours(_)));
    let ours: usize = ours.map(|row| row.over.len()).sum();
    assert!(ours > 80, "{ours} of our own denials");
    assert_eq!(seen.len(), ours, "each is seen: {seen:#?}");
    for fault in &seen {
        assert!(fault.contains("reached the service"), "{fault}");
    }
    assert_eq!(envoy.stat("http.edge.ext_authz.error"), ours as u64);
}

#[test]
fn every_row_is_here_or_elsewhere() {
    let here = concat!(include_str!("rows.rs"), include_str!("messages.rs"));
    let here: String = here.split_whitespace().collect();
    let elsewhere = [
        "28", "36", "37", "38", "39", "40", "41", "42", "43", "44", "57",
    ];
    for number in (1..=57).map(|number| number.to_string()) {
        let named = here.contains(&format!("(\"{number}\",\""))
            || here.contains(&format!("\"row{number}:"));
        let elsewhere = elsewhere.contains(&&*number);
        assert!(named != elsewhere, "row {number}: {named} {elsewhere}");
    }
}
