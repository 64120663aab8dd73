//! SIGTERM under load: every call that was sent before the server said goodbye gets its answer, health turns bad, and
//! the process ends by itself.

mod support;

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use portcullis::proto::v1::CheckResponse;
use prost::Message as _;
use support::{Address, Clients, PATIENCE, Server, Setup, check, wait_until};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

/// How long the whole drain may take. The hard stop is at 30 s: reaching that would mean that something hung.
const BOUND: Duration = Duration::from_secs(10);

/// Both directions of a connection.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

async fn connect(address: &Address) -> Box<dyn Transport> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address)
                .await
                .expect("the listener is there");
            stream.set_nodelay(true).expect("an option can be set");
            Box::new(stream)
        }
        Address::Unix(path) => Box::new(
            UnixStream::connect(path)
                .await
                .expect("the socket is there"),
        ),
    }
}

/// Follows the HTTP/2 frames of one direction, whatever the pieces they come in.
#[derive(Default)]
struct Frames {
    /// What of a frame's head has come: length (3 bytes), type, flags, stream (4 bytes).
    head: Vec<u8>,
    /// How much of a frame's body is still to come, or of the preface.
    skip: usize,
}

impl Frames {
    fn of_client() -> Self {
        Self {
            head: Vec::new(),
            skip: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(),
        }
    }

    /// Calls `seen` with the type and the stream of each frame whose head is complete with `bytes`.
    fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8, u32)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let [a, b, c, kind, _flags, rest @ ..] = self.head.as_slice()
                && let Ok(stream) = <[u8; 4]>::try_from(rest)
            {
                seen(*kind, u32::from_be_bytes(stream) & 0x7fff_ffff);
                self.skip = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                self.head.clear();
            }
        }
    }
}

/// What a connection's frames tell.
#[derive(Default)]
struct Goodbye {
    /// A GOAWAY has been read.
    seen: AtomicBool,
    /// The streams that were opened only after that.
    late: Mutex<HashSet<u32>>,
}

/// A connection that notes which streams were opened after the server's GOAWAY had been read: those, and only
/// those, may go unanswered.
struct Watched {
    inner: Box<dyn Transport>,
    incoming: Frames,
    outgoing: Frames,
    goodbye: Arc<Goodbye>,
}

const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        this.incoming.follow(&buf.filled()[before..], |kind, _| {
            if kind == GOAWAY {
                this.goodbye.seen.store(true, Ordering::SeqCst);
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.outgoing.follow(&buf[..written], |kind, stream| {
            if kind == HEADERS && this.goodbye.seen.load(Ordering::SeqCst) {
                this.goodbye
                    .late
                    .lock()
                    .expect("no holder panics")
                    .insert(stream);
            }
        });
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// A call of Check, as bytes.
#[derive(Clone)]
struct Call {
    authority: String,
    authorization: Option<String>,
    body: Bytes,
}

impl Call {
    fn new(credential: &str, authorization: Option<String>) -> Self {
        let message = check(credential).encode_to_vec();
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).expect("a short message"));
        body.put_slice(&message);
        Self {
            authority: "localhost".into(),
            authorization,
            body: body.freeze(),
        }
    }

    fn request(&self) -> http::Request<()> {
        let mut request = http::Request::post(format!(
            "http://{}/portcullis.v1.CheckService/Check",
            self.authority
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request.body(()).expect("a request")
    }
}

/// How a call went.
enum Outcome {
    Allowed,
    /// It was never sent: the connection was closing already.
    NotSent,
    /// It was sent after the GOAWAY had been read, and turned away as HTTP/2 has it.
    TooLate,
}

async fn call_once(
    sender: SendRequest<Bytes>,
    call: &Call,
    goodbye: &Goodbye,
) -> Result<Outcome, String> {
    let Ok(mut sender) = sender.ready().await else {
        return Ok(Outcome::NotSent);
    };
    let Ok((response, mut body)) = sender.send_request(call.request(), false) else {
        return Ok(Outcome::NotSent);
    };
    let stream = response.stream_id();
    let failed = |error: &h2::Error| {
        let late = goodbye
            .late
            .lock()
            .expect("no holder panics")
            .contains(&stream.as_u32());
        if late {
            Ok(Outcome::TooLate)
        } else {
            Err(format!("{stream:?}: {error}"))
        }
    };
    if let Err(error) = body.send_data(call.body.clone(), true) {
        return failed(&error);
    }
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return failed(&error),
    };
    let head = response.headers().clone();
    let mut body = response.into_body();
    let mut message = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return failed(&error),
        };
        let _ = body.flow_control().release_capacity(piece.len());
        message.extend_from_slice(&piece);
    }
    let trailers = match body.trailers().await {
        Ok(trailers) => trailers.unwrap_or(head),
        Err(error) => return failed(&error),
    };
    if trailers
        .get("grpc-status")
        .is_none_or(|status| status != "0")
    {
        return Err(format!("{stream:?}: {trailers:?}"));
    }
    let answer = message.get(5..).ok_or("no message")?;
    let answer = CheckResponse::decode(answer).map_err(|error| error.to_string())?;
    if answer.allowed {
        Ok(Outcome::Allowed)
    } else {
        Err(format!("{stream:?}: {answer:?}"))
    }
}

/// Keeps `lanes` calls in flight on a connection of its own until the server closes it; answers how it ended.
async fn keep_calling(
    address: Address,
    call: Call,
    lanes: usize,
    answered: Arc<AtomicU64>,
) -> Result<(u64, u64), String> {
    let goodbye = Arc::new(Goodbye::default());
    let watched = Watched {
        inner: connect(&address).await,
        incoming: Frames::default(),
        outgoing: Frames::of_client(),
        goodbye: Arc::clone(&goodbye),
    };
    let (sender, connection) = h2::client::handshake(watched)
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let lanes: Vec<JoinHandle<Result<(u64, u64), String>>> = (0..lanes)
        .map(|_| {
            let (sender, call) = (sender.clone(), call.clone());
            let (goodbye, answered) = (Arc::clone(&goodbye), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut allowed = 0;
                loop {
                    match call_once(sender.clone(), &call, &goodbye).await? {
                        Outcome::Allowed => allowed += 1,
                        Outcome::NotSent => return Ok((allowed, 0)),
                        Outcome::TooLate => return Ok((allowed, 1)),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    drop(sender);
    let (mut allowed, mut late) = (0, 0);
    for lane in lanes {
        let (one, two) = lane.await.map_err(|error| error.to_string())??;
        allowed += one;
        late += two;
    }
    if !goodbye.seen.load(Ordering::SeqCst) {
        return Err(format!(
            "{address}: closed without a GOAWAY: {:?}",
            connection.await
        ));
    }
    Ok((allowed, late))
}

/// Loads gate and admin, says SIGTERM, and asserts that nothing sent in time is lost.
async fn drains(server: Server) {
    let admin = Clients::root(&server);
    let token = admin.create("busy", &[]).await.token;
    let answered = Arc::new(AtomicU64::new(0));
    let authorization = format!("Bearer {}", server.root_token());
    let callers: Vec<_> = (0..6)
        .map(|n| {
            let (address, authorization) = match n {
                0..4 => (server.gate().clone(), None),
                _ => (server.admin().clone(), Some(authorization.clone())),
            };
            let call = Call::new(&token, authorization);
            // From one call at a time to several.
            tokio::spawn(keep_calling(
                address,
                call,
                1 + n % 4,
                Arc::clone(&answered),
            ))
        })
        .collect();
    // Connections without a call hold up nothing either.
    let idle = Clients::gate(&server);
    assert!(idle.ask(check(&token)).await.allowed);
    let watches = [
        watch(Clients::gate(&server)).await,
        watch(admin.clone()).await,
    ];

    wait_until_async("calls under way", move || {
        answered.load(Ordering::Relaxed) > 300
    })
    .await;
    server.terminate();
    let exit = tokio::task::spawn_blocking(move || server.wait(BOUND))
        .await
        .expect("an exit");
    assert_eq!(exit.status.code(), Some(0), "{exit}");

    let (mut allowed, mut late) = (0, 0);
    for caller in callers {
        let (one, two) = caller
            .await
            .expect("a caller")
            .unwrap_or_else(|error| panic!("a call failed: {error}"));
        assert!(
            one > 0,
            "a connection that never got an answer shows nothing"
        );
        allowed += one;
        late += two;
    }
    for watch in watches {
        let seen = watch.await.expect("a watch");
        assert_eq!(
            seen,
            [ServingStatus::Serving, ServingStatus::NotServing],
            "what health said"
        );
    }
    eprintln!("{allowed} calls answered, none failed; {late} were sent after the GOAWAY");
}

/// Watches health until the stream ends; answers what it said.
async fn watch(clients: Clients) -> JoinHandle<Vec<ServingStatus>> {
    let mut health = clients.health;
    let mut stream = health
        .watch(HealthCheckRequest::default())
        .await
        .expect("a watch")
        .into_inner();
    let first = stream
        .message()
        .await
        .expect("a status")
        .expect("a first status")
        .status();
    tokio::spawn(async move {
        let mut seen = vec![first];
        while let Ok(Some(answer)) = stream.message().await {
            seen.push(answer.status());
        }
        seen
    })
}

async fn wait_until_async(what: &'static str, condition: impl Fn() -> bool + Send + 'static) {
    tokio::task::spawn_blocking(move || wait_until(what, condition))
        .await
        .expect("it came to hold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_call() {
    drains(Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_on_a_unix_socket_fails_no_call() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drains(
        Setup::new()
            .gate(format!("unix:{}", dir.path().join("gate.sock").display()))
            .start(),
    )
    .await;
}

#[test]
fn each_signal_to_stop_ends_an_idle_server() {
    use rustix::process::Signal;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let server = Server::start();
        server.signal(signal);
        let exit = server.wait(BOUND);
        assert_eq!(exit.status.code(), Some(0), "{signal:?}: {exit}");
    }
    assert!(
        BOUND < PATIENCE,
        "a drain that needs the hard stop is a hang"
    );
}

#[test]
fn frames_are_followed_across_pieces() {
    let mut bytes = vec![0, 0, 3, GOAWAY, 0, 0, 0, 0, 0, 1, 2, 3];
    bytes.extend([0, 0, 0, HEADERS, 5, 0x80, 0, 0, 9]);
    for piece in 1..bytes.len() {
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        for part in bytes.chunks(piece) {
            frames.follow(part, |kind, stream| seen.push((kind, stream)));
        }
        assert_eq!(seen, [(GOAWAY, 0), (HEADERS, 9)], "pieces of {piece}");
    }
}

/// Peers that connected and never said a word, or said hello and froze, hold nothing up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peers_do_not_hold_up_the_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Setup::new().data_dir(dir.path()).start();
    let mut peers = Vec::new();
    for address in [server.gate(), server.admin(), server.ops()] {
        peers.push(connect(address).await);
    }
    for address in [server.gate(), server.admin()] {
        let mut peer = connect(address).await;
        // The preface and empty SETTINGS, and then not even an acknowledgement of the server's.
        let hello = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        ];
        peer.write_all(&hello.concat())
            .await
            .expect("the server reads");
        peer.read_exact(&mut [0; 9])
            .await
            .expect("the server says its SETTINGS");
        peers.push(peer);
    }
    server.terminate();
    let exit = tokio::task::spawn_blocking(move || server.wait(BOUND))
        .await
        .expect("the wait ends");
    assert_eq!(exit.status.code(), Some(0), "{exit}");
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = repaired.clone();
    redb::Database::builder()
        .set_repair_callback(move |_| seen.store(true, Ordering::SeqCst))
        .create(dir.path().join("store.redb"))
        .expect("the store opens");
    assert!(!repaired.load(Ordering::SeqCst), "the store was not closed");
    drop(peers);
}

/// An answer that its reader takes slowly is sent to its end, also past the time that silent peers are given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_read_slowly_is_sent_to_its_end() {
    let server = Server::start();
    let clients = Clients::root(&server);
    for number in 0..200 {
        let description = "x".repeat(1_000);
        let key = portcullis::proto::v1::Key {
            description,
            ..support::key_named(&format!("key {number}"), &[])
        };
        clients.create_key(key).await;
    }
    let (client, connection) = h2::client::handshake(connect(server.admin()).await)
        .await
        .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut message = BytesMut::new();
    let list = portcullis::proto::v1::ListKeysRequest {
        parent: "workspaces/default".into(),
        page_size: 1_000,
        ..portcullis::proto::v1::ListKeysRequest::default()
    };
    message.put_u8(0);
    message.put_u32(u32::try_from(list.encoded_len()).expect("it is short"));
    list.encode(&mut message).expect("there is room");
    let request = http::Request::post("http://localhost/portcullis.v1.KeyService/ListKeys")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", server.root_token()))
        .body(())
        .expect("a request");
    let mut client = client.ready().await.expect("a stream");
    let (response, mut sender) = client.send_request(request, false).expect("it is sent");
    sender
        .send_data(message.freeze(), true)
        .expect("it is sent");
    let mut body = response.await.expect("an answer").into_body();
    let first = body.data().await.expect("a piece").expect("bytes");
    server.terminate();
    // Nothing is acknowledged meanwhile, so the window stays shut. This is the property: time alone ends no call.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut read = first.len();
    let flow = body.flow_control().clone();
    flow.clone().release_capacity(read).expect("it was read");
    while let Some(piece) = body.data().await {
        let piece = piece.expect("the answer goes on");
        read += piece.len();
        flow.clone()
            .release_capacity(piece.len())
            .expect("it was read");
    }
    let trailers = body.trailers().await.expect("an end").expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert!(read > 200_000, "{read}");
    drop((client, sender));
    connection.abort();
    let exit = tokio::task::spawn_blocking(move || server.wait(BOUND))
        .await
        .expect("the wait ends");
    assert_eq!(exit.status.code(), Some(0), "{exit}");
}
