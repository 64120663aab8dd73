//! What comes over the wire before there is TLS.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    pki::Scene,
    support::{Clients, Setup, Token, check, clients, wait_until},
};

/// Row 109.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_hello_is_cut_off_and_hinders_nobody() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let leaf = scene.clients.leaf(&[crate::pki::EDGE]);
    let token = scene.root(&server).create("first", &[]).await.token;
    for address in [server.gate().tcp(), server.admin().tcp()] {
        // The first bytes of a hello that goes on for 512 more, and of nothing at all.
        let starts: [&[u8]; 3] = [&[22, 3, 1, 2, 0, 1, 0, 1, 252], &[22], &[]];
        let stalled: Vec<TcpStream> = (0..30)
            .map(|index| {
                let mut stream = TcpStream::connect(address).expect("it listens");
                stream.write_all(starts[index % 3]).expect("a few bytes");
                stream
            })
            .collect();
        let started = Instant::now();
        let caller = scene.clients(address.port(), Some(&leaf), &Token::none());
        for _ in 0..50 {
            assert!(caller.ask(check(&token)).await.allowed);
        }
        // New handshakes pass by those that stall.
        let again = scene.clients(address.port(), Some(&leaf), &Token::none());
        assert!(again.ask(check(&token)).await.allowed);
        assert!(
            started.elapsed() < Duration::from_secs(9),
            "nobody waited for them"
        );
        for mut stream in stalled {
            let limit = Some(Duration::from_secs(30));
            stream.set_read_timeout(limit).expect("a timeout");
            let mut rest = Vec::new();
            // An alert may come first, and a reset is an end, too.
            let ended = stream.read_to_end(&mut rest);
            let timed_out =
                ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!timed_out, "it is still open after 30 s");
        }
        let took = started.elapsed();
        assert!(
            took >= Duration::from_secs(9),
            "they were given time: {took:?}"
        );
        assert!(caller.ask(check(&token)).await.allowed);
    }
    let failed = |listener: &str| {
        server.metric(
            "portcullis_tls_handshakes_failed_total",
            &format!("listener=\"{listener}\""),
        )
    };
    wait_until("all are counted", || {
        failed("gate") == Some(30.0) && failed("admin") == Some(30.0)
    });
    let told = server.stderr().matches("a TLS handshake failed").count();
    assert!((2..=12).contains(&told), "told now and then: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_speaks_no_tls_is_turned_away() {
    let scene = Scene::new();
    let server = scene.server_tls("gate").start();
    let (root, _) = clients(&server);
    let token = root.create("first", &[]).await.token;
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 64],
    ] {
        let mut stream = TcpStream::connect(server.gate().tcp()).expect("it listens");
        stream.write_all(bytes).expect("a few bytes");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64, "an alert at the most: {rest:?}");
    }
    let gate = scene.clients(server.gate().tcp().port(), None, &Token::none());
    assert!(gate.ask(check(&token)).await.allowed);
}

/// A drain does not wait for those who never finish their handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_hello_does_not_hold_up_the_end() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let _stalled = [server.gate().tcp(), server.admin().tcp()]
        .map(|address| TcpStream::connect(address).expect("it listens"));
    // Accepted after them, so that they are known.
    scene.root(&server).create("first", &[]).await;
    server.terminate();
    let exit = server.wait(Duration::from_secs(8));
    assert!(exit.status.success(), "{exit}");
}

/// The plain way is as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_certificates_nothing_is_encrypted_and_nobody_is_asked() {
    let server = Setup::new().start();
    let (root, gate) = clients(&server);
    let token = root.create("first", &[]).await.token;
    assert!(gate.ask(check(&token)).await.allowed);
    // A credential that nobody asked for is nobody's business.
    let odd = Clients::of(server.gate(), &Token::bearer("garbage"));
    assert!(odd.ask(check(&token)).await.allowed);
}
