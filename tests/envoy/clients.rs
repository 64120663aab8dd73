//! Those who call the service through Envoy: bytes of HTTP/1.1 as they are, HTTP/2, and grpcurl.

use std::{fmt::Write as _, net::SocketAddr, path::Path, process::Stdio};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::PATIENCE;

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// A request without a body.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, Vec<u8>)>,
    /// Who the client is, in the words of a proxy before Envoy; else it is who it is.
    pub from: Option<String>,
}

impl Ask {
    /// `GET /` of that host.
    pub fn of(host: &str) -> Self {
        Self {
            method: "GET".into(),
            host: host.into(),
            path: "/".into(),
            headers: Vec::new(),
            from: None,
        }
    }

    /// From that IPv4 address, if Envoy takes a word for it.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.into());
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// With one more header, whatever is in it.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// `authorization: Bearer {token}`
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sends it.
    pub async fn send(&self, edge: SocketAddr, protocol: Protocol) -> Answered {
        match protocol {
            Protocol::Http1 => raw(edge, &[self.introduction(), self.bytes()].concat()).await,
            Protocol::Http2 => self.http2(edge).await,
        }
    }

    /// As HTTP/1.1 sends it, and nothing is checked.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        bytes.extend_from_slice(format!("host: {}\r\nconnection: close\r\n", self.host).as_bytes());
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    async fn http2(&self, edge: SocketAddr) -> Answered {
        let mut stream = TcpStream::connect(edge).await.expect("Envoy is there");
        let introduction = self.introduction();
        stream.write_all(&introduction).await.expect("Envoy reads");
        Http2::over(stream).await.send(self).await
    }

    /// The header of the PROXY protocol.
    fn introduction(&self) -> Vec<u8> {
        let from = self.from.iter();
        from.flat_map(|from| format!("PROXY TCP4 {from} 10.9.9.9 1234 80\r\n").into_bytes())
            .collect()
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(format!("http://{}{}", self.host, self.path));
        for (name, value) in &self.headers {
            let name: HeaderName = name.to_lowercase().parse().expect("a header's name");
            let value = HeaderValue::from_bytes(value).expect("a header's value");
            request = request.header(name, value);
        }
        request.body(()).expect("a request")
    }
}

/// One HTTP/2 connection.
pub struct Http2 {
    requests: h2::client::SendRequest<Bytes>,
}

impl Http2 {
    pub async fn open(edge: SocketAddr) -> Self {
        Self::over(TcpStream::connect(edge).await.expect("Envoy is there")).await
    }

    async fn over(stream: TcpStream) -> Self {
        let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { requests }
    }

    /// The same connection, for somebody else.
    pub fn again(&self) -> Self {
        Self {
            requests: self.requests.clone(),
        }
    }

    pub async fn send(&mut self, ask: &Ask) -> Answered {
        timeout(PATIENCE, self.try_send(ask))
            .await
            .expect("an answer in time")
            // Envoy resets a stream that it takes no request from.
            .unwrap_or_else(|error| Answered::nothing(&error.to_string()))
    }

    async fn try_send(&mut self, ask: &Ask) -> Result<Answered, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, _) = requests.send_request(ask.request(), true)?;
        let response = response.await?;
        let (head, mut body) = response.into_parts();
        let mut text = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            let _ = body.flow_control().release_capacity(piece.len());
            text.extend_from_slice(&piece);
        }
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        });
        Ok(Answered {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}

/// What a client was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// 0: nothing but the end of the connection or the stream; the body says what is known.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answered {
    fn nothing(why: &str) -> Self {
        Self {
            status: 0,
            headers: Vec::new(),
            body: why.into(),
        }
    }

    /// The header, which must not be there twice.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(given, _)| given == name);
        let first = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} is there twice: {self:?}");
        first
    }

    /// The reason of a denial of ours: `{"error":{"reason","message"}}` and nothing else.
    pub fn reason(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        let body = body.as_object().filter(|body| body.len() == 1)?;
        let error = body.get("error")?.as_object()?;
        let message = error.get("message")?.as_str()?;
        (error.len() == 2 && !message.is_empty()).then_some(())?;
        error.get("reason")?.as_str().map(str::to_owned)
    }

    /// True if the body is as long as it says.
    fn is_whole(&self) -> bool {
        let length = self.header("content-length");
        length.and_then(|length| length.parse().ok()) == Some(self.body.len())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        });
        Some(Self {
            status,
            headers: headers.collect(),
            body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
        })
    }
}

/// Sends these bytes and reads one answer, or to the end of the connection.
pub async fn raw(edge: SocketAddr, bytes: &[u8]) -> Answered {
    let exchange = async {
        let mut stream = TcpStream::connect(edge).await.expect("Envoy is there");
        // Who refuses a request early may close before it is written.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        // Not until the connection ends, which Envoy puts off after an error.
        while !Answered::parse(&answer).is_some_and(|answered| answered.is_whole()) {
            match stream.read_buf(&mut answer).await {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => break,
            }
        }
        Answered::parse(&answer)
            .unwrap_or_else(|| Answered::nothing(&String::from_utf8_lossy(&answer)))
    };
    timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

/// What grpcurl says of a call: the name of the status code, and its message or the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    pub code: String,
    pub text: String,
}

/// Calls gRPC's health service, wherever Envoy takes that.
pub async fn grpcurl(
    program: &Path,
    edge: SocketAddr,
    host: &str,
    headers: &[(&str, &str)],
) -> Called {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let protos = dir.path().join("health.binpb");
    std::fs::write(&protos, tonic_health::pb::FILE_DESCRIPTOR_SET).expect("a file");
    let mut command = tokio::process::Command::new(program);
    command
        .args([
            "-plaintext",
            "-max-time",
            "20",
            "-authority",
            host,
            "-protoset",
        ])
        .arg(&protos);
    for (name, value) in headers {
        let mut header = String::new();
        write!(header, "{name}: {value}").expect("a string takes it");
        command.arg("-H").arg(header);
    }
    let output = command
        .arg(edge.to_string())
        .arg("grpc.health.v1.Health/Check")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("grpcurl can be run");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.success() {
        return Called {
            code: "OK".into(),
            text: out.split_whitespace().collect::<Vec<_>>().join(" "),
        };
    }
    let field = |name: &str| {
        err.lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .map_or_else(
                || panic!("grpcurl says no {name} {err}"),
                |text| text.trim().to_owned(),
            )
    };
    Called {
        code: field("Code:"),
        text: field("Message:"),
    }
}
