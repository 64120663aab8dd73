//! Against a matcher that is too simple to be wrong, and against upstreams that read paths in ways of their own.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Templates as lists of segments, from few letters so that many are alike.
fn templates() -> impl Strategy<Value = Vec<String>> {
    let segment = select(vec!["a", "b", "ab", "aa", "{x}", "{y}"]);
    let end = select(vec!["", "", "/{*r}"]);
    let template = (vec(segment, 0..5), end).prop_map(|(segments, end)| {
        let mut text: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
        text.push_str(end);
        if text.is_empty() { "/".into() } else { text }
    });
    vec(template, 0..40)
}

fn segments(path: &str) -> Vec<&str> {
    let rest = path.strip_prefix('/').expect("rooted");
    rest.split('/').filter(|_| !rest.is_empty()).collect()
}

fn is_rest(segment: &str) -> bool {
    segment.starts_with("{*")
}

/// How specific a template's segment is, the lower the more.
fn rank(segment: &str) -> u8 {
    match segment {
        _ if is_rest(segment) => 2,
        _ if segment.starts_with('{') => 1,
        _ => 0,
    }
}

/// What the documentation says, word by word.
fn matches(template: &str, path: &str) -> bool {
    let (template, path) = (segments(template), segments(path));
    let fixed = template.iter().filter(|segment| !is_rest(segment)).count();
    let long_enough = if fixed < template.len() {
        path.len() > fixed
    } else {
        path.len() == fixed
    };
    long_enough
        && template
            .iter()
            .zip(&path)
            .all(|(one, other)| rank(one) > 0 || one == other)
}

/// The most specific of the templates that a path is of.
fn most_specific<'a>(templates: &'a [String], path: &str) -> Option<&'a String> {
    let specific =
        |template: &&String| segments(template).into_iter().map(rank).collect::<Vec<_>>();
    templates
        .iter()
        .filter(|template| matches(template, path))
        .min_by_key(specific)
}

/// Equal for templates of the same paths.
fn nameless(template: &str) -> Vec<String> {
    segments(template)
        .into_iter()
        .map(|segment| match rank(segment) {
            0 => segment.to_owned(),
            rank => format!("{{{rank}}}"),
        })
        .collect()
}

fn are_rivals(one: &str, other: &str) -> bool {
    let (one, other) = (nameless(one), nameless(other));
    let shared = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    matches!(
        (
            one.get(shared).map(String::as_str),
            other.get(shared).map(String::as_str)
        ),
        (Some("{1}"), Some("{2}")) | (Some("{2}"), Some("{1}"))
    )
}

/// Those of the templates that go together, each once.
fn compatible(templates: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for template in templates {
        let clashes =
            |known: &String| are_rivals(known, &template) || nameless(known) == nameless(&template);
        if !kept.iter().any(clashes) {
            kept.push(template);
        }
    }
    kept
}

fn found(table: &RouteTable, path: &str) -> Result<Option<String>, AmbiguousPath> {
    let route = table.find_route("GET", path)?;
    Ok(route.map(|route| route.template.to_string()))
}

/// Paths with whatever has led some server astray, among what has not.
fn paths() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "b",
        "ab",
        "aa",
        "%61",
        "%C3%A9",
        "%20",
        "%7B",
        ".",
        "..",
        "...",
        "%2e",
        "%2E%2e",
        "%252e",
        "%2F",
        "%252F",
        "%5C",
        "\\",
        ";",
        ";a",
        "%3b",
        "%3F",
        "%23",
        "?",
        "#",
        "%00",
        "%0a",
        "%25",
        "%",
        "%zz",
        "%C0%AE",
        "%EF%BC%8F",
        "é",
        "\u{ff0f}",
        " ",
        "*",
        "{x}",
        "~",
    ]);
    let segment = vec(piece, 0..3).prop_map(|pieces| pieces.concat());
    let slash = select(vec!["/", "/", "/", "/", "/", "//", ""]);
    let made = vec((slash, segment), 0..6).prop_map(|parts| {
        parts
            .into_iter()
            .flat_map(|(slash, segment)| [slash.to_owned(), segment])
            .collect()
    });
    prop_oneof![9 => made, 1 => any::<String>(), 1 => "/[ -~]{0,12}"]
}

/// Decodes as the most lenient do: what is no escape stays as it is.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escape = std::str::from_utf8(after.get(..2).unwrap_or_default())
            .ok()
            .filter(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .filter(|_| *first == b'%');
        if let Some(digits) = escape {
            out.push(u8::from_str_radix(digits, 16).expect("two digits"));
            rest = &after[2..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// Does all that servers do to paths: cut, turn backslashes, drop parameters, trim, merge slashes, walk the dots.
fn normalised(path: &str) -> String {
    let path = path
        .split(['?', '#', '\0', '\r', '\n'])
        .next()
        .unwrap_or_default();
    let path = path.replace('\\', "/");
    let mut walked: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        let segment = segment.split(';').next().unwrap_or_default().trim();
        match segment {
            "" | "." => {}
            ".." => drop(walked.pop()),
            _ => walked.push(segment),
        }
    }
    format!("/{}", walked.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_table_finds_what_a_simple_matcher_finds(
        given in templates(),
        paths in vec(vec(select(vec!["a", "b", "ab", "aa", "c", "x"]), 0..7), 1..20),
    ) {
        let templates = compatible(given);
        let names: Vec<&str> = templates.iter().map(String::as_str).collect();
        let table = table(&names);
        for path in paths {
            let path = format!("/{}", path.join("/"));
            prop_assert_eq!(
                found(&table, &path).expect("plain"),
                most_specific(&templates, &path).cloned(),
                "{} in {:?}", path, templates
            );
        }
    }

    #[test]
    fn templates_are_refused_if_and_only_if_they_do_not_go_together(given in templates()) {
        let due: Vec<usize> = (0..given.len())
            .filter(|index| {
                let (earlier, rest) = given.split_at(*index);
                let clashes = |known: &String| {
                    nameless(known) == nameless(&rest[0])
                };
                earlier.iter().any(clashes)
            })
            .collect();
        let routes = given.iter().map(|template| route(&[], template, "p")).collect();
        let rivals = given.iter().any(|one| given.iter().any(|other| are_rivals(one, other)));
        match RouteTable::new(routes) {
            Ok(_) => prop_assert!(due.is_empty() && !rivals, "{:?}", given),
            Err(faults) => {
                let (doubled, rivalling): (Vec<_>, Vec<_>) = faults
                    .iter()
                    .partition(|(_, fault)| fault.to_string().contains("already"));
                let doubled: Vec<usize> = doubled.iter().map(|(index, _)| *index).collect();
                prop_assert_eq!(doubled, due, "{:?}", given);
                prop_assert_eq!(!rivalling.is_empty(), rivals, "{:?}", given);
                for (index, fault) in rivalling {
                    let named = given[..*index].iter().any(|other| {
                        are_rivals(other, &given[*index])
                            && fault.to_string().contains(&format!("and of {other},"))
                    });
                    prop_assert!(named, "{:?}: {}", given, fault);
                }
            }
        }
    }

    #[test]
    fn no_upstream_takes_a_path_for_one_of_another_template(given in templates(), path in paths()) {
        let templates = compatible(given);
        let names: Vec<&str> = templates.iter().map(String::as_str).collect();
        let Ok(route) = found(&table(&names), &path) else {
            return Ok(());
        };
        let without_query = path.split('?').next().expect("one");
        let own = without_query.strip_suffix('/').filter(|rest| !rest.is_empty());
        let own = own.unwrap_or(without_query);
        let once = String::from_utf8(decoded(own.as_bytes())).expect("text");
        let twice = String::from_utf8(decoded(once.as_bytes())).expect("text");
        prop_assert_eq!(&once, &twice, "there is nothing left to decode");
        prop_assert_eq!(&normalised(own), own, "nor, as it is written, to set right");
        prop_assert_eq!(&normalised(&once), &once, "nor once it is decoded");
        for read in [own, &once] {
            prop_assert_eq!(most_specific(&templates, read), route.as_ref(), "{} as {}", path, read);
        }
    }
}
