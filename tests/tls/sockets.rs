//! Who may connect to a gate on a Unix socket.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::process::{getegid, geteuid, getgroups};

use crate::support::{Clients, Setup, check};

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_socket_has_the_mode_and_the_group_that_were_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("gate.sock");
    // Root may give a file to any group, others to one of theirs.
    let group = if geteuid().is_root() {
        12_345
    } else {
        let groups = getgroups().expect("groups");
        groups.first().map_or(getegid(), |group| *group).as_raw()
    };
    let server = Setup::new()
        .gate(format!("unix:{}", path.display()))
        .args(["--gate-mode", "0660", "--gate-group", &group.to_string()])
        .start();
    assert_eq!(mode(&path), 0o660);
    assert_eq!(fs::metadata(&path).expect("it is there").gid(), group);
    // Nothing else was opened.
    assert_eq!(mode(&server.data_dir().join("admin.sock")) & 0o077, 0);
    let token = Clients::root(&server).create("first", &[]).await.token;
    assert!(Clients::gate(&server).ask(check(&token)).await.allowed);
}

#[test]
fn a_group_is_looked_up_by_its_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("gate.sock");
    let groups = fs::read_to_string("/etc/group").expect("groups");
    let own = getegid().as_raw();
    // name:password:number:members
    let name = groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)? == &own.to_string()).then(|| fields[0].to_owned())
    });
    let name = name.expect("the group of this process has a name");
    let _server = Setup::new()
        .gate(format!("unix:{}", path.display()))
        .args(["--gate-group", &name])
        .start();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::metadata(&path).expect("it is there").gid(), own);
}

#[test]
fn a_socket_that_cannot_be_given_away_stops_the_start() {
    if geteuid().is_root() {
        // Root can give a socket to anybody; what is left to fail is a group that is none.
        let refused = Setup::new()
            .gate("unix:gate.sock")
            .args(["--gate-group", "no-such-group"])
            .try_start();
        let exit = refused.expect_err("it does not start");
        assert!(exit.stderr.contains("no group of /etc/group"), "{exit}");
        return;
    }
    let refused = Setup::new()
        .gate("unix:gate.sock")
        .args(["--gate-group", "0"])
        .try_start();
    let exit = refused.expect_err("it does not start");
    assert!(exit.stderr.contains("only root can"), "{exit}");
}
