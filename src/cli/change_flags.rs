//! The flags that every change takes.

use clap::Args;

use super::{
    expires,
    failure::Failure,
    values::{parse_etag, parse_request_id},
};

/// Names a call, so that it can be repeated safely.
#[derive(Debug, Args)]
pub(super) struct RequestId {
    /// Names this call: the same call again with the same name within 24 hours changes nothing more
    #[arg(long, value_name = "ID", value_parser = parse_request_id)]
    request_id: Option<String>,
}

/// The flags of a change to something that is there already.
#[derive(Debug, Args)]
pub(super) struct ChangeFlags {
    #[command(flatten)]
    request: RequestId,
    /// Changes nothing unless this is still its etag
    #[arg(long, value_name = "ETAG", value_parser = parse_etag)]
    etag: Option<String>,
}

impl RequestId {
    /// As the API carries it.
    pub(super) fn to_proto(&self) -> String {
        self.request_id.clone().unwrap_or_default()
    }

    /// Refuses an expiry that a repeated call would read as another one.
    pub(super) fn allow_expiry(&self, text: Option<&str>) -> Result<(), Failure> {
        match text {
            Some(text) if self.request_id.is_some() && expires::counts_from_now(text) => {
                Err(Failure::Usage(
                    "--expires: with --request-id write a time or a day; a span counts from now, so the call could not \
                     be repeated as it was"
                        .into(),
                ))
            }
            _ => Ok(()),
        }
    }
}

impl ChangeFlags {
    /// The name of the call, as the API carries it.
    pub(super) fn request_id(&self) -> String {
        self.request.to_proto()
    }

    /// What [`RequestId::allow_expiry`] says.
    pub(super) fn allow_expiry(&self, text: Option<&str>) -> Result<(), Failure> {
        self.request.allow_expiry(text)
    }

    /// The etag that was given; empty if none was.
    pub(super) fn etag(&self) -> String {
        self.etag.clone().unwrap_or_default()
    }

    /// The etag to send where a person agreed to what was shown with the etag `shown`.
    pub(super) fn etag_after_asking(&self, shown: String) -> String {
        match (&self.etag, &self.request.request_id) {
            (Some(given), _) => given.clone(),
            // Repeated, it would be shown as the first call left it, and with that etag it would be another call.
            (None, Some(_)) => String::new(),
            (None, None) => shown,
        }
    }

    /// The etag to send with a change that was worked out from what was read with the etag `read`.
    pub(super) fn etag_after_reading(&self, read: String) -> String {
        self.etag.clone().unwrap_or(read)
    }

    /// Refuses a change that is worked out from what is read first, if it has a name but no etag: repeated, it would be
    /// worked out from something else.
    pub(super) fn allow_reading(&self, flags: &str) -> Result<(), Failure> {
        if self.request.request_id.is_some() && self.etag.is_none() {
            return Err(Failure::Usage(format!(
                "--request-id with {flags} needs --etag as well: the others are read first, so the call could not be \
                 repeated as it was"
            )));
        }
        Ok(())
    }
}
