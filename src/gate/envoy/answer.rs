//! What Envoy is told to do.

use prost_types::{Struct, Value, value::Kind};
use tonic::Code;

use super::{
    credential::Carrier,
    request::{Asked, folded},
};
use crate::{
    config::EnvoySettings,
    domain::{decision::Reason, setting::Effective},
    gate::checker::{ProvedKey, Undecided},
    proto::envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption},
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::{HttpStatus, StatusCode},
    },
};

const KEY: &str = "x-portcullis-key";
const WORKSPACE: &str = "x-portcullis-workspace";
const OWNER: &str = "x-portcullis-owner";
/// What every header about identity begins with.
const IDENTITY: &str = "x-portcullis-";
/// How long a client is asked to wait after a 503, in seconds.
const RETRY_AFTER: &str = "1";

/// A call that may pass.
pub(super) struct Allowed<'a> {
    pub(super) asked: &'a Asked<'a>,
    pub(super) carrier: Carrier<'a>,
    pub(super) key: ProvedKey,
    pub(super) settings: Vec<Effective>,
    /// Headers that some server may take for a setting's.
    pub(super) look_alikes: Vec<&'a str>,
}

/// A call that may not pass, and why.
pub(super) enum Denied {
    /// So it was decided. The key is known once its secret is proved.
    Decided(Reason, Option<ProvedKey>),
    /// Nothing says what the call requires.
    NoPolicy,
    /// Whoever asks may not.
    Stranger,
    /// There was no decision.
    Undecided(Undecided),
    /// There was no decision in time.
    TooLate,
    /// A defect of ours.
    Defect,
}

impl From<Undecided> for Denied {
    fn from(undecided: Undecided) -> Self {
        Self::Undecided(undecided)
    }
}

impl Allowed<'_> {
    /// Itself, without the settings that may not be passed on. `None`: a value would end its header and begin another.
    pub(super) fn checked(mut self, settings: &EnvoySettings) -> Option<Self> {
        for setting in &mut self.settings {
            // A header of that name is taken away, and what stood in it was the credential.
            if setting.header.as_deref() == settings.header.as_deref() {
                setting.header = None;
            }
        }
        // Refused when they were written; here is where it would matter.
        let plain = |value: &str| !value.chars().any(char::is_control);
        let values = self.settings.iter().map(|setting| &*setting.value);
        let well_formed = !self.key.id().is_empty() && values.chain([&*self.key.owner]).all(plain);
        well_formed.then_some(self)
    }

    /// The headers that the request goes upstream with, whatever it came with.
    fn headers(&self) -> Vec<(&str, &str)> {
        let identity = [
            (KEY, self.key.id()),
            (WORKSPACE, self.key.workspace()),
            (OWNER, &*self.key.owner),
        ];
        let settings = self
            .settings
            .iter()
            .filter_map(|setting| Some((setting.header.as_deref()?, &*setting.value)));
        identity.into_iter().chain(settings).collect()
    }
}

impl From<Allowed<'_>> for CheckResponse {
    fn from(allowed: Allowed<'_>) -> Self {
        let headers = allowed.headers();
        // Envoy removes after it sets, so what is set is never removed.
        let is_forged = |name: &str| {
            folded(name).take(IDENTITY.len()).eq(IDENTITY.bytes())
                && !headers.iter().any(|(set, _)| *set == name)
        };
        let names = allowed.asked.headers().map(|(name, _)| name);
        let forged = names.filter(|name| is_forged(name));
        let mut remove: Vec<String> = Vec::new();
        for name in forged.chain(allowed.look_alikes.iter().copied()) {
            if !remove.iter().any(|gone| gone == name) {
                remove.push(name.to_owned());
            }
        }
        let mut remove_query = Vec::new();
        match allowed.carrier {
            Carrier::Header(name) => remove.push(name.to_owned()),
            Carrier::Query(name) => remove_query.push(name.to_owned()),
        }
        let dynamic_metadata = metadata("OK", Some((&allowed.key, &allowed.settings)));
        Self {
            status: Some(tonic_types::Status::default()),
            http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
                headers: headers
                    .into_iter()
                    .map(|(name, value)| header(name, value))
                    .collect(),
                headers_to_remove: remove,
                query_parameters_to_remove: remove_query,
                ..OkHttpResponse::default()
            })),
            dynamic_metadata: Some(dynamic_metadata),
        }
    }
}

/// A denial, and how it is put to who called.
pub(super) struct Told {
    denied: Denied,
    /// The body becomes the message of a gRPC status.
    to_grpc: bool,
}

impl Denied {
    /// As the caller of the request reads it.
    pub(super) fn for_caller_of(self, asked: &Asked<'_>) -> Told {
        let to_grpc = asked.is_grpc();
        Told {
            denied: self,
            to_grpc,
        }
    }

    /// The status over HTTP, the one over gRPC, the reason and a message, for the caller.
    const fn told(&self) -> (StatusCode, Code, &'static str, &'static str) {
        match self {
            Self::Decided(reason, _) => match reason {
                // One answer, whatever is wrong with the credential.
                Reason::InvalidCredential => (
                    StatusCode::Unauthorized,
                    Code::Unauthenticated,
                    reason.name(),
                    "the API key is missing or not valid",
                ),
                Reason::KeyDisabled => forbidden(*reason, "the API key is disabled"),
                Reason::KeyExpired => forbidden(*reason, "the API key has expired"),
                Reason::SourceDenied => {
                    forbidden(*reason, "the API key may not be used from this address")
                }
                Reason::PermissionDenied => {
                    forbidden(*reason, "the API key does not permit this call")
                }
                Reason::InvalidSetting => bad_request(
                    *reason,
                    "a header has a value that the setting it stands for does not take",
                ),
                Reason::InvalidRequest => bad_request(
                    *reason,
                    "the request is malformed, ambiguous, or has more than one credential",
                ),
                Reason::Ok => Self::Defect.told(),
            },
            Self::NoPolicy => forbidden(
                Reason::PermissionDenied,
                "nothing says which permission this call requires, so it is closed",
            ),
            Self::Stranger => forbidden(
                Reason::PermissionDenied,
                "the gateway in front of this service may not ask about API keys",
            ),
            Self::Undecided(_) | Self::TooLate | Self::Defect => (
                StatusCode::ServiceUnavailable,
                Code::Unavailable,
                "UNAVAILABLE",
                "the API key cannot be judged now; try again",
            ),
        }
    }

    /// The reason, for the operator.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Decided(reason, _) => reason.name(),
            Self::NoPolicy => "NO_POLICY",
            Self::Stranger => "CALLER_REFUSED",
            Self::Undecided(Undecided::Fenced) => "REPLICA_FENCED",
            Self::Undecided(Undecided::Overloaded) => "OVERLOADED",
            Self::Undecided(Undecided::Unreadable) => "RECORD_UNREADABLE",
            Self::Undecided(Undecided::Behind(_) | Undecided::Ahead(_)) => "REPLICA_BEHIND",
            Self::TooLate => "DEADLINE_EXCEEDED",
            Self::Defect => "INTERNAL_ERROR",
        }
    }
}

const fn forbidden(
    reason: Reason,
    message: &'static str,
) -> (StatusCode, Code, &'static str, &'static str) {
    (
        StatusCode::Forbidden,
        Code::PermissionDenied,
        reason.name(),
        message,
    )
}

const fn bad_request(
    reason: Reason,
    message: &'static str,
) -> (StatusCode, Code, &'static str, &'static str) {
    (
        StatusCode::BadRequest,
        Code::InvalidArgument,
        reason.name(),
        message,
    )
}

/// Of a request that could not even be read.
impl From<Denied> for CheckResponse {
    fn from(denied: Denied) -> Self {
        let to_grpc = false;
        Told { denied, to_grpc }.into()
    }
}

impl From<Told> for CheckResponse {
    fn from(Told { denied, to_grpc }: Told) -> Self {
        let (status, code, reason, message) = denied.told();
        let mut headers = Vec::with_capacity(2);
        let body = if to_grpc {
            // Envoy makes a gRPC status of the one of HTTP, and INTERNAL of a 400, unless it is told one.
            headers.push(header("grpc-status", &i32::from(code).to_string()));
            message.to_owned()
        } else {
            headers.push(header("content-type", "application/json"));
            // Neither has a character that JSON escapes.
            format!(r#"{{"error":{{"reason":"{reason}","message":"{message}"}}}}"#)
        };
        match status {
            StatusCode::Unauthorized => {
                headers.push(header("www-authenticate", r#"Bearer realm="portcullis""#));
            }
            StatusCode::ServiceUnavailable => headers.push(header("retry-after", RETRY_AFTER)),
            _ => {}
        }
        let proved = match &denied {
            Denied::Decided(_, key) => key.as_ref(),
            _ => None,
        };
        Self {
            status: Some(tonic_types::Status {
                code: code.into(),
                message: message.to_owned(),
                details: Vec::new(),
            }),
            http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
                status: Some(HttpStatus {
                    code: status.into(),
                }),
                headers,
                body,
            })),
            dynamic_metadata: Some(metadata(denied.reason(), proved.map(|key| (key, &[][..])))),
        }
    }
}

/// Replaces what the request or the response has under the name: `append` is false unless it is said.
fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        ..HeaderValueOption::default()
    }
}

/// For access logs and the filters that follow.
fn metadata(reason: &str, key: Option<(&ProvedKey, &[Effective])>) -> Struct {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let mut fields = vec![("reason".to_owned(), text(reason))];
    if let Some((key, settings)) = key {
        fields.push(("key".to_owned(), text(key.id())));
        fields.push(("workspace".to_owned(), text(key.workspace())));
        fields.push(("owner".to_owned(), text(&key.owner)));
        let settings = settings
            .iter()
            .map(|setting| (setting.name.clone(), text(&setting.value)));
        let settings = Struct {
            fields: settings.collect(),
        };
        if !settings.fields.is_empty() {
            let settings = Value {
                kind: Some(Kind::StructValue(settings)),
            };
            fields.push(("settings".to_owned(), settings));
        }
    }
    Struct {
        fields: fields.into_iter().collect(),
    }
}
