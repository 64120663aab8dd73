//! The data directory is the server's alone: closed to others if it is its own, refused if it is not, and every file in
//! it for its owner's eyes.

mod support;

use std::{
    fs::{self, Permissions},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::Mode;
use support::{Clients, Server, Setup, Token};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .permissions()
        .mode()
        & 0o7777
}

fn make(path: &Path, mode: u32) {
    fs::create_dir_all(path).expect("a directory");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn a_directory_that_is_empty_or_ours_is_closed() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    for open in [0o755, 0o777, 0o750, 0o701] {
        // Empty the first time, with a store in it later.
        make(&data, open);
        let server = Setup::new().data_dir(&data).start();
        assert_eq!(mode(&data), 0o700, "it was {open:o}");
        assert!(server.stop().status.success());
    }
}

#[test]
fn a_directory_with_the_files_of_others_is_refused_while_it_is_open() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    for open in [0o755, 0o770, 0o705] {
        let data = scratch.path().join(format!("of-others-{open:o}"));
        make(&data, open);
        fs::write(data.join("letter.txt"), "dear").expect("a file");
        let exit = Setup::new()
            .data_dir(&data)
            .try_start()
            .expect_err("not ours to close");
        assert!(!exit.status.success(), "{exit}");
        let fix = format!("chmod 700 {}", data.display());
        assert!(exit.stderr.contains(&fix), "{exit}");
        assert!(!exit.stdout.contains("portcullis ready"), "{exit}");
        assert_eq!(mode(&data), open, "it is left as it was");
        let left: Vec<_> = fs::read_dir(&data)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(left, ["letter.txt"], "and nothing is put there");

        // What the message says to do helps.
        make(&data, 0o700);
        let server = Setup::new().data_dir(&data).start();
        assert!(data.join("letter.txt").exists());
        assert!(server.stop().status.success());
    }
}

#[tokio::test]
async fn every_file_and_socket_is_for_its_owner_alone() {
    // The most careless of shells, so that what is closed was closed by the server.
    rustix::process::umask(Mode::empty());
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("not").join("there").join("yet");
    let socket = |name: &str| scratch.path().join(name);
    let unix = |name: &str| format!("unix:{}", socket(name).display());
    let server = Setup::new()
        .data_dir(&data)
        .gate(unix("gate.sock"))
        .admin(unix("second-admin.sock"))
        .ops(unix("ops.sock"))
        .start();
    // A change, so that every file that there will be is there.
    let operator = Clients::of(&server.admin_socket(), &Token::none());
    operator.create("first", &[]).await;

    for directory in [&data, data.parent().expect("a parent")] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    let mut seen = Vec::new();
    for entry in fs::read_dir(&data).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        assert_eq!(mode(&path) & 0o077, 0, "{name}: {:o}", mode(&path));
        seen.push(name.into_owned());
    }
    for (name, exactly) in [
        ("store.redb", 0o600),
        ("root.token", 0o600),
        ("lock", 0o600),
    ] {
        assert_eq!(mode(&data.join(name)), exactly, "{name}");
    }
    assert!(seen.contains(&"admin.sock".to_owned()), "{seen:?}");
    for name in ["gate.sock", "second-admin.sock", "ops.sock"] {
        let path = socket(name);
        let kind = fs::symlink_metadata(&path).expect(name).file_type();
        assert!(kind.is_socket(), "{name}");
        assert_eq!(mode(&path) & 0o077, 0, "{name}: {:o}", mode(&path));
    }
}

#[test]
fn a_token_file_of_a_start_that_failed_is_replaced_and_closed() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    make(&data, 0o700);
    let stale = data.join("root.token");
    fs::write(&stale, "never valid").expect("a file");
    fs::set_permissions(&stale, Permissions::from_mode(0o644)).expect("a mode");
    let server: Server = Setup::new().data_dir(&data).start();
    assert_eq!(mode(&server.root_token_file()), 0o600);
    assert_ne!(server.root_token(), "never valid");
}
