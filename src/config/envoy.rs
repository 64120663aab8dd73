//! How Envoy's requests are read.

use crate::domain::route::RouteTable;

/// How Envoy's requests are read.
#[derive(Debug, Clone)]
pub struct EnvoySettings {
    /// The header that a key may come in, beside `authorization`, in lower case. Default `x-api-key`.
    pub header: Option<Box<str>>,
    /// The query parameter that a key may come in. Default: none.
    pub query_parameter: Option<Box<str>>,
    /// The source is this entry of `x-forwarded-for`, counted from the right, 1 to 10; 0: the peer that Envoy reports.
    pub trusted_hops: usize,
    /// What calls ask for whose route says nothing.
    pub routes: RouteTable,
}

impl Default for EnvoySettings {
    fn default() -> Self {
        Self {
            header: Some("x-api-key".into()),
            query_parameter: None,
            trusted_hops: 0,
            routes: RouteTable::default(),
        }
    }
}
