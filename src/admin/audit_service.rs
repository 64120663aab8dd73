//! `AuditService` over [`Management`]. An adapter.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::{
    Failure,
    audit::{Asked, EventsPage, PageAsked, export::Export, verify::Verdict},
    caller::Caller,
    convert::{
        read_anchor, read_event_order, read_export_form, read_parent, read_revision, show_event,
        show_verdict, write_revision,
    },
    mutation::Management,
    page,
};
use crate::{
    gate::checker::Checker,
    proto::v1::{
        ExportEventsRequest, ExportEventsResponse, ListEventsRequest, ListEventsResponse,
        VerifyEventsRequest, VerifyEventsResponse, audit_service_server::AuditService,
    },
};

/// Answers `AuditService`.
pub struct AuditApi {
    management: Arc<Management>,
    checker: Checker,
}

impl AuditApi {
    /// The audit for callers that `checker` knows.
    #[must_use]
    pub const fn new(management: Arc<Management>, checker: Checker) -> Self {
        Self {
            management,
            checker,
        }
    }
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    type ExportEventsStream =
        Pin<Box<dyn Stream<Item = Result<ExportEventsResponse, Status>> + Send>>;

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        const CALL: &str = "ListEvents";
        let caller = Caller::of(&request, &self.checker).await?;
        let ListEventsRequest {
            parent,
            page_size,
            page_token,
            filter,
            query,
            order_by,
        } = request.into_inner();
        // Each with its length, so that no two requests look the same.
        let arguments: String = [&parent, &filter, &query, &order_by]
            .map(|argument| format!("{}:{argument}", argument.len()))
            .concat();
        let now = self.management.now();
        let page = || {
            let limit = page::read_size(page_size)?;
            let direction = read_event_order(&order_by)?;
            let asked = Asked::read(&filter, &query, now)?;
            let cursor = page::read_token(CALL, &arguments, &page_token)?;
            let after = cursor.map(|cursor| read_revision(&cursor)).transpose()?;
            Ok(PageAsked {
                asked,
                direction,
                after,
                limit,
            })
        };
        let EventsPage { events, next } = self
            .management
            .list_events(caller, read_parent(&parent)?, page)
            .await?;
        Ok(Response::new(ListEventsResponse {
            events: events.iter().map(show_event).collect(),
            next_page_token: next
                .map(|revision| page::write_token(CALL, &arguments, &write_revision(revision)))
                .unwrap_or_default(),
        }))
    }

    async fn export_events(
        &self,
        request: Request<ExportEventsRequest>,
    ) -> Result<Response<Self::ExportEventsStream>, Status> {
        let caller = Caller::of(&request, &self.checker).await?;
        let ExportEventsRequest {
            parent,
            filter,
            query,
            format,
        } = request.into_inner();
        let now = self.management.now();
        let asked = || {
            let form = read_export_form(format)?;
            Ok((Asked::read(&filter, &query, now)?, form))
        };
        let export = self
            .management
            .export_events(caller, read_parent(&parent)?, asked)?;
        // Asked for a piece only when the last one is on its way: the client's pace is the reader's.
        let pieces = stream::unfold(export, |mut export: Export| async move {
            let piece = export.next().await?;
            let answer = piece
                .map(|data| ExportEventsResponse { data })
                .map_err(Status::from);
            Some((answer, export))
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn verify_events(
        &self,
        request: Request<VerifyEventsRequest>,
    ) -> Result<Response<VerifyEventsResponse>, Status> {
        let caller = Caller::of(&request, &self.checker).await?;
        let VerifyEventsRequest { anchor } = request.into_inner();
        let verdict: Result<Verdict, Failure> = self
            .management
            .verify_events(&caller, || read_anchor(&anchor))
            .await;
        Ok(Response::new(show_verdict(&verdict?)))
    }
}
