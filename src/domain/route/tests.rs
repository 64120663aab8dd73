mod paths;
mod properties;

use super::*;

fn route(methods: &[&str], template: &str, permission: &str) -> Route {
    let listed = methods.iter().map(|method| Method::parse(method).unwrap());
    Route {
        methods: (!methods.is_empty()).then(|| listed.collect()),
        template: Template::parse(template).unwrap(),
        policy: Policy::new("default", permission).unwrap(),
    }
}

/// A table of routes of any method whose templates are their permissions' names, in the order given: `p0`, `p1`…
fn table(templates: &[&str]) -> RouteTable {
    let routes = templates
        .iter()
        .enumerate()
        .map(|(index, template)| route(&[], template, &format!("p{index}")));
    RouteTable::new(routes.collect()).unwrap_or_else(|faults| panic!("{templates:?}: {faults:?}"))
}

/// What a call asks for; `""`: nothing says it.
#[track_caller]
fn asked(table: &RouteTable, method: &str, path: &str) -> String {
    let found = table
        .find(method, path)
        .unwrap_or_else(|why| panic!("{path}: {why}"));
    found.map_or_else(String::new, |policy| policy.permissions.join(","))
}

#[test]
fn a_policy_is_a_workspace_and_permissions_or_none() {
    fn policy(workspace: &str, permission: &str) -> Option<Vec<String>> {
        let found = Policy::new(workspace, permission)?;
        assert_eq!(found.workspace.as_str(), workspace);
        Some(found.permissions.into_vec())
    }
    assert_eq!(policy("acme", "none"), Some(vec![]));
    assert_eq!(policy("acme", "sms.send"), Some(vec!["sms.send".into()]));
    assert_eq!(policy("a", "b,a,b").map(|names| names.len()), Some(3));
    let names = |count: usize| vec!["a"; count].join(",");
    assert!(policy("acme", &names(100)).is_some());
    assert_eq!(policy("acme", &names(101)), None);
    for bad in [
        "", " ", ",", "a,", ",a", "a,,b", "a, b", " a", "a ", "*", "a,*", "none,a", "a,none",
        "None", "NONE", "a;b", "a\n", "a\0", "ä", "1",
    ] {
        assert_eq!(policy("acme", bad), None, "{bad:?}");
    }
    for bad in ["", "Acme", "acme ", "*", "-", "workspaces/acme"] {
        assert_eq!(policy(bad, "a"), None, "{bad:?}");
    }
    assert_eq!(Policy::new("acme", "b,a").unwrap().to_string(), "acme: b,a");
    assert_eq!(
        Policy::new("acme", "none").unwrap().to_string(),
        "acme: none"
    );
}

#[test]
fn a_method_is_a_token_in_upper_case() {
    for good in ["GET", "M-SEARCH", "VERSION-CONTROL", "X!", &"A".repeat(64)] {
        assert_eq!(Method::parse(good).unwrap().as_str(), good);
    }
    for bad in [
        "",
        "get",
        "GEt",
        "GET ",
        "G T",
        "GET\0",
        "GET,PUT",
        "*/*",
        "Ä",
        &"A".repeat(65),
    ] {
        assert!(Method::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_template_is_made_of_whole_segments() {
    for good in [
        "/",
        "/a",
        "/a-b._~:@!$&'()*+,=/C/0",
        "/{id}",
        "/v1/{a}/b/{c_1}",
        "/{*rest}",
        "/a/{b}/{*c}",
        "/...",
        "/*",
        &format!("/{}", "a".repeat(1_023)),
        &"/{a}".repeat(16),
    ] {
        assert_eq!(Template::parse(good).unwrap().to_string(), good);
    }
    for (bad, why) in [
        ("", "begin with '/'"),
        ("a", "begin with '/'"),
        ("https://h/a", "begin with '/'"),
        ("//", "between any two slashes"),
        ("/a/", "no slash at its end"),
        ("/a//b", "between any two slashes"),
        ("/.", "no segment ."),
        ("/a/..", "no segment ."),
        ("/../a", "no segment ."),
        ("/a;b", "only letters"),
        ("/%41", "only letters"),
        ("/a%20b", "only letters"),
        ("/a?b", "only letters"),
        ("/a#b", "only letters"),
        ("/a\\b", "only letters"),
        ("/a b", "only letters"),
        ("/a\0", "only letters"),
        ("/ä", "only letters"),
        ("/{}", "between braces"),
        ("/{*}", "between braces"),
        ("/{a-b}", "between braces"),
        ("/{**a}", "between braces"),
        ("/{a*}", "between braces"),
        ("/{{a}}", "between braces"),
        ("/{a}{b}", "between braces"),
        ("/x{a}", "around a whole segment"),
        ("/{a}x", "around a whole segment"),
        ("/{a", "around a whole segment"),
        ("/a}", "around a whole segment"),
        ("/{*a}/b", "as its end alone"),
        ("/{*a}/{*b}", "as its end alone"),
        (&"/{a}".repeat(17), "16 {names}"),
        (&format!("/{}", "a".repeat(1_024)), "1,024"),
        (&format!("/{{{}}}", "a".repeat(33)), "32 letters"),
    ] {
        let error = Template::parse(bad).expect_err(bad).to_string();
        assert!(error.contains(why), "{bad}: {why:?} is not in {error:?}");
    }
}

#[test]
fn a_path_is_of_a_template_as_a_whole() {
    let one = table(&["/v1/messages/{id}"]);
    assert_eq!(asked(&one, "GET", "/v1/messages/7"), "p0");
    assert_eq!(
        asked(&one, "GET", "/v1/messages/7/"),
        "p0",
        "one slash more"
    );
    assert_eq!(asked(&one, "GET", "/v1/messages/7?a=/b//../%2e"), "p0");
    assert_eq!(asked(&one, "GET", "/v1/messages/%C3%A9"), "p0");
    for other in [
        "/",
        "/v1",
        "/v1/messages",
        "/v1/messages/",
        "/v1/messages/7/parts",
        "/V1/messages/7",
        "/x/v1/messages/7",
        "/v1/message/7",
        "/v1/messages7",
    ] {
        assert_eq!(asked(&one, "GET", other), "", "{other}");
    }
    let rest = table(&["/files/{*rest}", "/"]);
    assert_eq!(asked(&rest, "GET", "/files/a"), "p0");
    assert_eq!(asked(&rest, "GET", "/files/a/b/c/"), "p0");
    assert_eq!(asked(&rest, "GET", "/files"), "", "nothing is below it");
    assert_eq!(asked(&rest, "GET", "/files/"), "", "nor below this");
    assert_eq!(asked(&rest, "GET", "/filesystem"), "");
    assert_eq!(asked(&rest, "GET", "/"), "p1");
    assert_eq!(asked(&rest, "GET", "/?x"), "p1");
    assert_eq!(asked(&RouteTable::default(), "GET", "/"), "");
}

#[test]
fn the_most_specific_template_decides() {
    let all = table(&[
        "/{a}/{b}/{c}/{*any}",
        "/{a}/b/c",
        "/a/{b}/c",
        "/a/b/{c}",
        "/a/{b}/d",
        "/a/b/e/{*rest}",
    ]);
    for (path, due) in [
        ("/a/b/c", "p3"),
        ("/a/x/c", "p2"),
        ("/x/b/c", "p1"),
        ("/a/b/d", "p3"),
        ("/a/x/d", "p4"),
        // From a dead end it goes back, however far.
        ("/a/b/c/d", "p0"),
        ("/a/x/c/d", "p0"),
        ("/a/x/e", ""),
        ("/a/b/e", "p3"),
        ("/a/b/e/f/g", "p5"),
        ("/a", ""),
    ] {
        assert_eq!(asked(&all, "GET", path), due, "{path}");
    }
    let rest = table(&["/{*any}", "/a/b/{c}/d", "/a/b/c"]);
    for (path, due) in [
        ("/a/b/c/d", "p1"),
        ("/a/b/c/e", "p0"),
        ("/a/b/c", "p2"),
        ("/a/b/x", "p0"),
        ("/a", "p0"),
        ("/", ""),
    ] {
        assert_eq!(asked(&rest, "GET", path), due, "{path}");
    }
}

#[test]
fn a_method_that_the_most_specific_template_lacks_has_no_policy() {
    let table = RouteTable::new(vec![
        route(&[], "/{*any}", "any"),
        route(&["GET", "HEAD"], "/admin/{*rest}", "admin.read"),
        route(&["PUT"], "/admin/{*everything}", "admin.write"),
        route(&["GET"], "/admin/users/{id}", "users.read"),
    ])
    .unwrap();
    for (method, path, due) in [
        ("GET", "/admin/x", "admin.read"),
        ("HEAD", "/admin/x", "admin.read"),
        ("PUT", "/admin/x", "admin.write"),
        ("DELETE", "/admin/x", ""),
        ("GET", "/admin/users/7", "users.read"),
        ("PUT", "/admin/users/7", ""),
        ("HEAD", "/admin/users/7", ""),
        ("DELETE", "/x", "any"),
        // What is sent in lower case is another method.
        ("get", "/admin/x", ""),
        ("get", "/x", "any"),
        // What is no method is of no route, not even of one of any.
        ("", "/x", ""),
        ("GET\0", "/x", ""),
        ("GET /x", "/x", ""),
        (&"A".repeat(65), "/x", ""),
    ] {
        assert_eq!(asked(&table, method, path), due, "{method} {path}");
    }
}

/// What is wrong, with which route.
#[track_caller]
fn faults(routes: Vec<Route>) -> Vec<(usize, String)> {
    let faults = RouteTable::new(routes).expect_err("faults");
    faults
        .into_iter()
        .map(|(index, fault)| (index, fault.to_string()))
        .collect()
}

#[test]
fn a_method_of_a_path_has_one_policy() {
    let found = faults(vec![
        route(&["GET", "PUT"], "/a/{x}", "p"),
        route(&["POST"], "/a/{y}", "p"),
        route(&["DELETE", "PUT"], "/a/{z}", "p"),
        route(&[], "/a/{x}", "p"),
        route(&[], "/b", "p"),
        route(&[], "/b", "p"),
    ]);
    let due = [
        (
            2,
            "PUT of such paths has its policy from GET,PUT /a/{x} already",
        ),
        (
            3,
            "GET of such paths has its policy from GET,PUT /a/{x} already",
        ),
        (
            5,
            "any method of such paths has its policy from any method /b already",
        ),
    ];
    assert_eq!(found.len(), due.len(), "{found:?}");
    for ((index, fault), (due_index, due)) in found.iter().zip(due) {
        assert_eq!(*index, due_index, "{found:?}");
        assert!(fault.starts_with(due), "{fault}");
    }
}

#[test]
fn templates_that_are_equally_specific_are_refused_by_both_names() {
    for (one, other) in [
        ("/a/{id}", "/a/{*rest}"),
        ("/a/{*rest}", "/a/{id}"),
        ("/a/{id}/b", "/a/{*rest}"),
        ("/a/{*rest}", "/a/{id}/b"),
        ("/{id}", "/{*rest}"),
        ("/{a}/{b}/{c}", "/{a}/{*b}"),
    ] {
        let found = faults(vec![
            route(&["GET"], "/z", "p"),
            route(&["GET"], one, "p"),
            route(&["PUT"], other, "p"),
        ]);
        assert_eq!(found.len(), 1, "{one} {other}: {found:?}");
        assert_eq!(found[0].0, 2, "{found:?}");
        assert!(
            found[0].1.contains(&format!("of it and of {one},")),
            "{found:?}"
        );
    }
    table(&["/a/{id}", "/a/b/{*rest}", "/b/{*rest}", "/a/{id}/c/{*rest}"]);
}

#[test]
fn there_are_at_most_a_thousand_routes_of_any_depth() {
    let many = |count: usize| {
        (0..count)
            .map(|index| route(&[], &format!("/{}", "a".repeat(index + 1)), "p"))
            .collect::<Vec<_>>()
    };
    // Each is the beginning of the next: as deep as a tree of them gets.
    let table = RouteTable::new(many(1_000)).unwrap();
    assert_eq!(
        asked(&table, "GET", &format!("/{}", "a".repeat(1_000))),
        "p"
    );
    assert_eq!(asked(&table, "GET", &format!("/{}", "a".repeat(1_001))), "");
    assert_eq!(asked(&table.clone(), "GET", "/a"), "p");
    let found = RouteTable::new(many(1_001)).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, 1_000);
}
