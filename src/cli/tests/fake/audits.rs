use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{Fake, page_of};
use crate::proto::v1::{
    ExportEventsRequest, ExportEventsResponse, ListEventsRequest, ListEventsResponse,
    VerifyEventsRequest, VerifyEventsResponse, audit_service_server::AuditService,
};

#[tonic::async_trait]
impl AuditService for Fake {
    type ExportEventsStream =
        Pin<Box<dyn Stream<Item = Result<ExportEventsResponse, Status>> + Send>>;

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        self.note(&request)?;
        let pages = self.lock().event_pages.clone();
        let (events, next_page_token) = page_of(&pages, &request.into_inner().page_token);
        Ok(Response::new(ListEventsResponse {
            events,
            next_page_token,
        }))
    }

    async fn export_events(
        &self,
        request: Request<ExportEventsRequest>,
    ) -> Result<Response<Self::ExportEventsStream>, Status> {
        self.note(&request)?;
        let inner = self.lock();
        let pieces = inner.pieces.iter().map(|piece| {
            Ok(ExportEventsResponse {
                data: piece.to_vec(),
            })
        });
        let pieces: Vec<_> = pieces.chain(inner.export_fails.clone().map(Err)).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn verify_events(
        &self,
        request: Request<VerifyEventsRequest>,
    ) -> Result<Response<VerifyEventsResponse>, Status> {
        self.note(&request)?;
        Ok(Response::new(self.lock().verified.clone()))
    }
}
