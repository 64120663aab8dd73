//! Asks Portcullis whether a key opens a call, and says what a service should answer its own caller.
//!
//! `check` and `judge` are what to copy; the rest is a command line around them. A service of its own generates the messages
//! and the client from `proto/` (tonic-prost-build) instead of using the ones of this package.

use std::{
    io::{self, Read as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use portcullis::proto::v1::{
    CheckRequest, CheckResponse, check_response::Reason, check_service_client::CheckServiceClient,
};
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};

/// Why the service must not serve its caller, and the HTTP status to say so with.
#[derive(Debug)]
pub struct Refusal {
    /// 400, 401, 403 or 503.
    pub status: u16,
    /// The decision's reason, or the gRPC code where there is none.
    pub reason: String,
}

/// Asks the first replica and, if that one cannot answer, once more the second, all within `deadline`.
///
/// # Errors
///
/// Whatever is not a clear ALLOW.
pub async fn check(
    replicas: &[CheckServiceClient<Channel>],
    asked: &CheckRequest,
    deadline: Duration,
) -> Result<CheckResponse, Refusal> {
    let end = Instant::now() + deadline;
    let mut refusal = refuse(503, "no replica was asked");
    let attempts = replicas.len().min(2);
    for (n, replica) in replicas.iter().take(attempts).enumerate() {
        // One that hangs may not use up the time of the other.
        let share = end.saturating_duration_since(Instant::now())
            / u32::try_from(attempts - n).unwrap_or(1);
        let mut request = Request::new(asked.clone());
        request.set_timeout(share);
        let mut replica = replica.clone();
        let failed = match tokio::time::timeout(share, replica.check(request)).await {
            Ok(Ok(answer)) => return judge(answer.into_inner()),
            Ok(Err(status)) => status.code(),
            Err(_) => Code::DeadlineExceeded,
        };
        refusal = match failed {
            // Some libraries call a timeout CANCELLED.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                refuse(503, &format!("{failed:?}"))
            }
            // Nothing that was asked; another replica would say the same.
            Code::InvalidArgument | Code::OutOfRange => {
                return Err(refuse(400, &format!("{failed:?}")));
            }
            // Portcullis could not decide, or does not know this service. That is nobody's fault but ours: never 401.
            _ => return Err(refuse(503, &format!("{failed:?}"))),
        };
    }
    Err(refusal)
}

/// What a decision means. Only `allowed` together with OK opens the call.
fn judge(answer: CheckResponse) -> Result<CheckResponse, Refusal> {
    let status = match Reason::try_from(answer.reason) {
        Ok(Reason::Ok) if answer.allowed => return Ok(answer),
        Ok(Reason::InvalidCredential) => 401,
        Ok(Reason::InvalidSetting | Reason::InvalidRequest) => 400,
        Ok(Reason::Undecided) => 503,
        // Disabled, expired, wrong source, lacking a permission; and whatever a later version may say.
        _ => 403,
    };
    let reason = Reason::try_from(answer.reason)
        .map_or_else(|_| answer.reason.to_string(), |it| it.as_str_name().into());
    Err(Refusal { status, reason })
}

fn refuse(status: u16, reason: &str) -> Refusal {
    let reason = reason.to_owned();
    Refusal { status, reason }
}

/// Reads a credential from standard input and prints what to answer: `200 OK`, `403 KEY_DISABLED` ...
#[derive(Parser)]
struct Arguments {
    /// Where a gate listens, `host:port` or `unix:/path`; the nearest first.
    #[arg(long, required = true)]
    replica: Vec<String>,
    #[arg(long, default_value = "default")]
    workspace: String,
    #[arg(long)]
    permission: Vec<String>,
    /// The address that the service's caller connects from.
    #[arg(long, default_value = "")]
    source: String,
    /// The request's own value of a setting, `name=value`.
    #[arg(long, value_parser = |text: &str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or("no ="))]
    setting: Vec<(String, String)>,
    #[arg(long, default_value_t = 500)]
    timeout_ms: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut credential = String::new();
    io::stdin().read_to_string(&mut credential)?;
    let connect = |at: &String| {
        let scheme = if at.starts_with("unix:") {
            ""
        } else {
            "http://"
        };
        Endpoint::from_shared(format!("{scheme}{at}")).map(|it| it.connect_lazy())
    };
    let replicas = arguments.replica.iter().map(connect);
    let replicas: Vec<_> = replicas.collect::<Result<_, _>>()?;
    let replicas: Vec<_> = replicas.into_iter().map(CheckServiceClient::new).collect();
    let asked = CheckRequest {
        credential: credential.trim_end().to_owned(),
        workspace: arguments.workspace,
        permissions: arguments.permission,
        source_address: arguments.source,
        settings: arguments.setting.into_iter().collect(),
        ..CheckRequest::default()
    };
    match check(
        &replicas,
        &asked,
        Duration::from_millis(arguments.timeout_ms),
    )
    .await
    {
        Ok(answer) => {
            println!("200 OK {}", answer.key.unwrap_or_default().name);
            Ok(ExitCode::SUCCESS)
        }
        Err(Refusal { status, reason }) => {
            println!("{status} {reason}");
            Ok(ExitCode::FAILURE)
        }
    }
}
