//! The rules of the code's shape, read off the sources: which way dependencies point, what stays out of the domain,
//! where generated types and store crates may be seen, how long a file may be. Each rule is also fed a piece of code
//! that breaks it: a rule that catches nothing would pass as well.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// The layers from the inside out. A module may use those before it, never those after it.
const LAYERS: &[&str] = &["domain", "store", "gate", "fleet", "admin", "cli"];

/// Beside the layers: what any of them but the domain may use, and what uses no layer but the domain itself.
const BESIDE: &[&str] = &["config", "proto", "status", "telemetry", "tls"];

/// Where the generated types may be seen: the adapters. `*` stands for anything.
const ADAPTERS: &[&str] = &[
    "src/proto.rs",
    "src/status.rs",
    "src/admin/convert*",
    "src/admin/failure.rs",
    "src/admin/guarded_check.rs",
    "src/admin/server.rs",
    "src/admin/*_service.rs",
    "src/cli/*",
    "src/gate/check_service*",
    "src/gate/envoy*",
    "src/gate/listener*",
    "src/store/codec*",
];

/// What the domain does without: transport, runtime, store, I/O and clock. Paths as they would be written.
const NOT_IN_DOMAIN: &[&str] = &[
    "axum",
    "clap",
    "http",
    "http_body_util",
    "hyper",
    "hyper_util",
    "prost",
    "prost_types",
    "redb",
    "redis",
    "rustix",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "tokio",
    "tokio_stream",
    "tonic",
    "tonic_types",
    "tower",
    "tracing",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
];

/// Crates that are seen in one place only.
const CONFINED: &[(&str, &str)] = &[
    ("redb", "src/store/embedded*"),
    ("redis", "src/store/redis*"),
];

const MOST_LINES: usize = 500;

/// What breaks a rule, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Breach {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A source file, by its path from the root of the project.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// `src/store/embedded/tables.rs`: `["store", "embedded", "tables"]`.
    fn module(&self) -> Vec<&str> {
        let within = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let within = within.strip_suffix(".rs").unwrap_or(within);
        within
            .split('/')
            .filter(|part| !matches!(*part, "lib" | "main" | "mod"))
            .collect()
    }

    fn is_one_of(&self, patterns: &[&str]) -> bool {
        patterns
            .iter()
            .any(|pattern| match pattern.split_once('*') {
                Some((start, end)) => self
                    .path
                    .strip_prefix(start)
                    .is_some_and(|rest| rest.ends_with(end)),
                None => self.path == *pattern,
            })
    }

    fn breach(&self, line: usize, what: String) -> Breach {
        Breach {
            path: self.path.clone(),
            line,
            what,
        }
    }

    /// Test code that lies beside what it tests.
    fn is_tests(&self) -> bool {
        self.module()
            .last()
            .is_some_and(|name| *name == "tests" || name.ends_with("_tests"))
    }
}

/// A path as code writes it, such as `crate::store::Batch`, with its braces unfolded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Used {
    line: usize,
    segments: Vec<String>,
    /// How many inline modules it stands in.
    inside: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Mark(char),
}

/// The words and marks of Rust code with their lines; comments, literals and their contents are left out.
fn tokens(text: &str) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => comment(rest),
            ['r' | 'b' | 'c', ..] if raw_string(rest).is_some() => raw_string(rest).unwrap_or(1),
            ['b' | 'c', '"', ..] => 1 + quoted(&rest[1..], '"'),
            ['b', '\'', ..] => 1 + quoted(&rest[1..], '\''),
            ['"', ..] => quoted(rest, '"'),
            // A character or a lifetime: `'a'`, `'\n'`, but `'a` before anything else.
            ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
            [':', ':', ..] => {
                tokens.push((line, Token::Colons));
                2
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let end = rest
                    .iter()
                    .position(|c| !c.is_alphanumeric() && *c != '_')
                    .unwrap_or(rest.len());
                tokens.push((line, Token::Word(rest[..end].iter().collect())));
                end
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    tokens.push((line, Token::Mark(*c)));
                }
                1
            }
            [] => 1,
        };
        line += rest[..length].iter().filter(|c| **c == '\n').count();
        at += length;
    }
    tokens
}

/// The length of a block comment; they nest.
fn comment(text: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        match &text[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => {
                (at, depth) = (at + 2, depth - 1);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of a literal between `quote`s.
fn quoted(text: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of `r"…"`, `r#"…"#`, `br"…"` and so on.
fn raw_string(text: &[char]) -> Option<usize> {
    let mut at = usize::from(matches!(text.first(), Some('b' | 'c')));
    if text.get(at) != Some(&'r') {
        return None;
    }
    at += 1;
    let hashes = text[at..].iter().take_while(|c| **c == '#').count();
    at += hashes;
    if text.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < text.len() {
        let end = at + 1 + hashes;
        if text[at] == '"' && end <= text.len() && text[at + 1..end].iter().all(|c| *c == '#') {
            return Some(end);
        }
        at += 1;
    }
    Some(text.len())
}

/// Every path that the code writes, with `{…}` unfolded.
fn paths(text: &str) -> Vec<Used> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    // For each open brace, whether it is that of an inline module.
    let mut braces: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let inside = braces.iter().filter(|module| **module).count();
        match &tokens[at].1 {
            Token::Word(_) => {
                let next = path(&tokens, at, &[], inside, &mut found);
                at = next.max(at + 1);
            }
            Token::Mark('{') => {
                let module = at >= 2 && tokens[at - 2].1 == Token::Word("mod".into());
                braces.push(module);
                at += 1;
            }
            Token::Mark('}') => {
                braces.pop();
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads the path at `at`, behind `before`; answers what follows it.
fn path(
    tokens: &[(usize, Token)],
    mut at: usize,
    before: &[String],
    inside: usize,
    found: &mut Vec<Used>,
) -> usize {
    let line = tokens[at].0;
    let mut segments = before.to_vec();
    while let Some((_, Token::Word(word))) = tokens.get(at) {
        segments.push(word.clone());
        at += 1;
        if tokens.get(at).map(|token| &token.1) != Some(&Token::Colons) {
            break;
        }
        at += 1;
        if tokens.get(at).map(|token| &token.1) == Some(&Token::Mark('{')) {
            at += 1;
            while let Some((_, token)) = tokens.get(at) {
                match token {
                    Token::Word(_) => at = path(tokens, at, &segments, inside, found),
                    Token::Mark('}') => return at + 1,
                    _ => at += 1,
                }
            }
            return at;
        }
    }
    found.push(Used {
        line,
        segments,
        inside,
    });
    at
}

impl Used {
    /// The path from the root of our crate, if it leads there.
    fn within_crate(&self, module: &[&str], roots: &[&str]) -> Option<&[String]> {
        let first = self.segments.first()?;
        if first == "crate" || roots.contains(&first.as_str()) {
            return Some(&self.segments[1..]);
        }
        let supers = self
            .segments
            .iter()
            .take_while(|segment| *segment == "super")
            .count();
        // As many as the module is deep lead to the root.
        (supers > 0 && supers == module.len() + self.inside).then(|| &self.segments[supers..])
    }

    fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// `domain ← store ← gate ← fleet ← admin ← cli`.
fn check_layers(source: &Source) -> Vec<Breach> {
    let module = source.module();
    let Some(own) = module.first() else {
        return Vec::new();
    }; // lib.rs and main.rs see everything
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut breaches = Vec::new();
    if rank(own).is_none() && !BESIDE.contains(own) {
        breaches.push(source.breach(
            1,
            format!("{own} is no layer; enter it in tests/architecture.rs"),
        ));
    }
    for used in paths(&source.text) {
        let Some(theirs) = used
            .within_crate(&module, &["portcullis"])
            .and_then(|path| path.first())
        else {
            continue;
        };
        if theirs == own {
            continue;
        }
        let allowed = match (rank(own), rank(theirs)) {
            (Some(own), Some(theirs)) => theirs < own,
            (Some(own), None) => own > 0 || !BESIDE.contains(&theirs.as_str()),
            (None, Some(theirs)) => theirs == 0,
            (None, None) => true,
        };
        if !allowed {
            breaches.push(source.breach(used.line, format!("{own} uses {}", used.text())));
        }
    }
    breaches
}

fn check_domain(source: &Source) -> Vec<Breach> {
    if source.module().first() != Some(&"domain") {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for used in paths(&source.text) {
        let text = used.text();
        for forbidden in NOT_IN_DOMAIN {
            let from_start = text == *forbidden || text.starts_with(&format!("{forbidden}::"));
            // `now` is called on a type that was imported before.
            let call = forbidden.ends_with("::now") && text.ends_with(forbidden);
            if from_start && used.segments.len() > usize::from(!forbidden.contains("::")) || call {
                breaches.push(source.breach(used.line, format!("the domain uses {text}")));
            }
        }
        if used.segments.len() == 1 && used.segments[0] == "include_bytes" {
            breaches.push(source.breach(used.line, "the domain reads a file".into()));
        }
    }
    breaches
}

fn check_generated(source: &Source) -> Vec<Breach> {
    if source.is_one_of(ADAPTERS) || source.is_tests() {
        return Vec::new();
    }
    let module = source.module();
    paths(&source.text)
        .into_iter()
        .filter(|used| {
            used.within_crate(&module, &["portcullis"])
                .and_then(|path| path.first())
                .is_some_and(|it| it == "proto")
        })
        .map(|used| source.breach(used.line, format!("{} outside an adapter", used.text())))
        .collect()
}

fn check_confined(source: &Source) -> Vec<Breach> {
    let module = source.module();
    let mut breaches = Vec::new();
    for used in paths(&source.text) {
        for (name, place) in CONFINED {
            // `crate::store::redis::…` is ours; `redis::…` is the crate, unless a module of that name lies beside.
            let crates = used.segments.len() > 1 && used.segments[0] == *name;
            let beside = module.contains(name) || source.text.contains(&format!("mod {name};"));
            if crates && !beside && !source.is_one_of(&[place]) {
                breaches.push(source.breach(used.line, format!("{} outside {place}", used.text())));
            }
        }
    }
    breaches
}

/// Inline tests at the end of a file don't count; neither do files of tests.
fn check_length(source: &Source) -> Vec<Breach> {
    if source.is_tests() {
        return Vec::new();
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    let length = tests.unwrap_or(lines.len());
    if length <= MOST_LINES {
        return Vec::new();
    }
    vec![source.breach(
        length,
        format!("{length} lines; {MOST_LINES} are the end: it asks to be two files"),
    )]
}

/// Every source of the crate.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                let path = path
                    .strip_prefix(root)
                    .expect("below the root")
                    .to_str()
                    .expect("a plain name");
                sources.push(Source {
                    path: path.to_owned(),
                    text,
                });
            }
        }
    }
    assert!(
        sources.iter().any(|source| source.path == "src/lib.rs"),
        "the sources were found"
    );
    sources
}

#[track_caller]
fn holds(rule: fn(&Source) -> Vec<Breach>) {
    let breaches: Vec<String> = sources()
        .iter()
        .flat_map(rule)
        .map(|breach| breach.to_string())
        .collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// Asserts what a rule says of a made-up file.
#[track_caller]
fn says(rule: fn(&Source) -> Vec<Breach>, path: &str, text: &str, due: &[(usize, &str)]) {
    let source = Source {
        path: path.into(),
        text: text.into(),
    };
    let said: Vec<_> = rule(&source)
        .into_iter()
        .map(|breach| (breach.line, breach.what))
        .collect();
    let due: Vec<_> = due
        .iter()
        .map(|(line, what)| (*line, (*what).to_owned()))
        .collect();
    assert_eq!(said, due, "{path}: {text}");
}

#[test]
fn dependencies_point_one_way() {
    says(
        check_layers,
        "src/store.rs",
        "use crate::gate::Keyring;",
        &[(1, "store uses crate::gate::Keyring")],
    );
    says(
        check_layers,
        "src/store/embedded.rs",
        "\nuse super::super::admin;",
        &[(2, "store uses super::super::admin")],
    );
    says(
        check_layers,
        "src/gate/check.rs",
        "use crate::{\n    domain::Key,\n    fleet::{Lease, member::Member},\n    store,\n};",
        &[
            (3, "gate uses crate::fleet::Lease"),
            (3, "gate uses crate::fleet::member::Member"),
        ],
    );
    says(
        check_layers,
        "src/domain/key.rs",
        "fn f(c: &crate::config::Gate) {}",
        &[(1, "domain uses crate::config::Gate")],
    );
    says(
        check_layers,
        "src/config.rs",
        "use crate::store::Store;",
        &[(1, "config uses crate::store::Store")],
    );
    says(
        check_layers,
        "src/store.rs",
        "mod tests {\n use super::super::gate;\n}",
        &[(2, "store uses super::super::gate")],
    );
    let fine =
        "// use crate::admin;\nuse crate::store::{self, Batch};\nconst A: &str = \"crate::admin\";";
    says(check_layers, "src/gate.rs", fine, &[]);
    says(
        check_layers,
        "src/gate/memo.rs",
        "mod tests { use super::super::admin; }",
        &[],
    );
    says(
        check_layers,
        "src/new.rs",
        "",
        &[(1, "new is no layer; enter it in tests/architecture.rs")],
    );
    holds(check_layers);
}

#[test]
fn the_domain_knows_neither_transport_nor_store_nor_clock() {
    let file = "src/domain/key.rs";
    for (code, path) in [
        ("use tonic::Status;", "tonic::Status"),
        ("use std::{fmt, fs::File};", "std::fs::File"),
        ("use std::net::{IpAddr, TcpStream};", "std::net::TcpStream"),
        ("let t = SystemTime::now();", "SystemTime::now"),
        (
            "let t = std::time::Instant::now();",
            "std::time::Instant::now",
        ),
        ("let t = jiff::Timestamp::now();", "jiff::Timestamp::now"),
        ("#[derive(prost::Message)]", "prost::Message"),
        (
            "async fn f() { tokio::task::yield_now().await }",
            "tokio::task::yield_now",
        ),
    ] {
        says(
            check_domain,
            file,
            code,
            &[(1, &format!("the domain uses {path}"))],
        );
    }
    says(
        check_domain,
        file,
        "use std::net::IpAddr; use std::time::SystemTime; let http = 1; // tokio::x",
        &[],
    );
    says(
        check_domain,
        "src/gate/clock.rs",
        "let t = SystemTime::now();",
        &[],
    );
    holds(check_domain);
}

#[test]
fn generated_types_are_seen_in_adapters_only() {
    let code = "use crate::{domain::Key, proto::v1};";
    says(
        check_generated,
        "src/admin/keys.rs",
        code,
        &[(1, "crate::proto::v1 outside an adapter")],
    );
    says(check_generated, "src/admin/key_service.rs", code, &[]);
    says(
        check_generated,
        "src/gate.rs",
        "let it = super::proto::v1::Key::default();",
        &[(1, "super::proto::v1::Key::default outside an adapter")],
    );
    holds(check_generated);
}

#[test]
fn store_crates_are_seen_in_their_own_store_only() {
    says(
        check_confined,
        "src/store.rs",
        "use redb::Database;",
        &[(1, "redb::Database outside src/store/embedded*")],
    );
    says(
        check_confined,
        "src/gate/a.rs",
        "let e: redis::Error;",
        &[(1, "redis::Error outside src/store/redis*")],
    );
    says(
        check_confined,
        "src/store/embedded/tables.rs",
        "use redb::Database;",
        &[],
    );
    says(
        check_confined,
        "src/store.rs",
        "pub mod redis;\npub use redis::Store;",
        &[],
    );
    holds(check_confined);
}

#[test]
fn no_file_is_longer_than_its_reader() {
    let long = "//\n".repeat(MOST_LINES + 1);
    says(
        check_length,
        "src/a.rs",
        &long,
        &[(501, "501 lines; 500 are the end: it asks to be two files")],
    );
    says(check_length, "src/a.rs", &"//\n".repeat(MOST_LINES), &[]);
    says(
        check_length,
        "src/a.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{long}}}"),
        &[],
    );
    says(check_length, "src/a/tests.rs", &long, &[]);
    holds(check_length);
}

#[test]
fn code_is_told_from_what_only_looks_like_it() {
    let text =
        "a::b /* c::d /* e */ f::g */ r#\"h::i \" \"# 'x' '\\'' b'j' \"k::l\\\" m::n\" 'o: loop {}";
    let found: Vec<String> = paths(text).iter().map(Used::text).collect();
    assert_eq!(found, ["a::b", "o", "loop"]);
    let found: Vec<String> = paths("use a::{self, b::{c, d as e}, *}; f::<g::h>()")
        .iter()
        .map(Used::text)
        .collect();
    assert_eq!(
        found,
        [
            "use", "a::self", "a::b::c", "a::b::d", "a::b::as", "a::b::e", "f", "g::h"
        ]
    );
}
