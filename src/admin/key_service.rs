//! `KeyService` over [`Management`]. An adapter.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Failure,
    call::answer_by,
    caller::Caller,
    convert::{
        call_of, read_edit, read_key_name, read_new_key, read_overlap, read_workspace_name,
        show_issued, show_key,
    },
    failure::reset_not_fleet_wide,
    key_changes::Target,
    keys::KeyPage,
    keys::KeyView,
    mutation::Management,
    page,
};
use crate::{
    domain::{order::OrderBy, time::Timestamp},
    gate::{
        checker::Checker,
        keyring::{Cursor, KeyFilter, KeyOrder, KeyQuery, Search},
    },
    proto::v1::{
        ArchiveKeyRequest, CreateKeyRequest, DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest,
        EnableKeyResponse, EndOverlapRequest, GetKeyRequest, IssuedKey, Key, ListKeysRequest,
        ListKeysResponse, ResetSecretRequest, UpdateKeyRequest, key_service_server::KeyService,
    },
};

/// Answers `KeyService`.
pub struct KeyApi {
    management: Arc<Management>,
    checker: Checker,
}

impl KeyApi {
    /// Management for callers that `checker` knows.
    #[must_use]
    pub const fn new(management: Arc<Management>, checker: Checker) -> Self {
        Self {
            management,
            checker,
        }
    }

    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Failure> {
        Caller::of(request, &self.checker).await
    }

    fn show(&self, view: &KeyView) -> Key {
        show_key(view, self.management.now())
    }
}

fn read_search(
    filter: &str,
    query: &str,
    order_by: &str,
    show_archived: bool,
    now: Timestamp,
) -> Result<Search, Failure> {
    let of = |field| move |why| Failure::invalid(field, why);
    Ok(Search {
        filter: KeyFilter::parse(filter, now).map_err(of("filter"))?,
        query: KeyQuery::parse(query).map_err(of("query"))?,
        order: OrderBy::parse(order_by, KeyOrder::FIELDS).map_err(of("order_by"))?,
        show_archived,
        owner: None,
    })
}

fn read_cursor(bytes: &[u8]) -> Result<Cursor, Failure> {
    Cursor::from_bytes(bytes)
        .ok_or_else(|| Failure::invalid("page_token", "is not a token that this call answered"))
}

#[tonic::async_trait]
impl KeyService for KeyApi {
    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<IssuedKey>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "CreateKey", request_id, &request, answer_by);
        let workspace = read_workspace_name("parent", &request.parent)?;
        let new = || read_new_key(request.key.unwrap_or_default(), &workspace);
        let made = self.management.create_key(&call, &workspace, new).await?;
        let (issued, laggards) = made.with_laggards();
        let now = self.management.now();
        Ok(Response::new(show_issued(&issued, now, laggards)))
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<Key>, Status> {
        let caller = self.caller(&request).await?;
        let name = read_key_name("name", &request.into_inner().name)?;
        let view = self.management.get_key(&caller, &name)?;
        Ok(Response::new(self.show(&view)))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        const CALL: &str = "ListKeys";
        let caller = self.caller(&request).await?;
        let ListKeysRequest {
            parent,
            page_size,
            page_token,
            filter,
            query,
            order_by,
            show_archived,
        } = request.into_inner();
        let workspace = read_workspace_name("parent", &parent)?;
        let now = self.management.now();
        // Written so that no two different requests look the same.
        let arguments = format!("{:?}", (&parent, &filter, &query, &order_by, show_archived));
        let page = || {
            let search = read_search(&filter, &query, &order_by, show_archived, now)?;
            let cursor = page::read_token(CALL, &arguments, &page_token)?;
            Ok(KeyPage {
                search,
                after: cursor.as_deref().map(read_cursor).transpose()?,
                limit: page::read_size(page_size)?,
            })
        };
        let (views, next) = self.management.list_keys(&caller, &workspace, page).await?;
        let now = self.management.now();
        Ok(Response::new(ListKeysResponse {
            keys: views.iter().map(|view| show_key(view, now)).collect(),
            next_page_token: next
                .map(|cursor| page::write_token(CALL, &arguments, &cursor.to_bytes()))
                .unwrap_or_default(),
        }))
    }

    async fn update_key(
        &self,
        request: Request<UpdateKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "UpdateKey", request_id, &request, answer_by);
        let key = request.key.unwrap_or_default();
        let name = read_key_name("key.name", &key.name)?;
        let etag = key.etag.clone();
        let target = Target {
            name: &name,
            etag: &etag,
        };
        let edit = || read_edit(key, request.update_mask, &name.workspace);
        let view = self.management.update_key(&call, target, edit).await?;
        Ok(Response::new(self.show(&view)))
    }

    async fn enable_key(
        &self,
        request: Request<EnableKeyRequest>,
    ) -> Result<Response<EnableKeyResponse>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "EnableKey", request_id, &request, answer_by);
        let name = read_key_name("name", &request.name)?;
        let target = Target {
            name: &name,
            etag: &request.etag,
        };
        let made = self.management.enable_key(&call, target).await?;
        let (view, lagging_replicas) = made.with_laggards();
        Ok(Response::new(EnableKeyResponse {
            key: Some(self.show(&view)),
            lagging_replicas,
        }))
    }

    async fn disable_key(
        &self,
        request: Request<DisableKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "DisableKey", request_id, &request, answer_by);
        let name = read_key_name("name", &request.name)?;
        let target = Target {
            name: &name,
            etag: &request.etag,
        };
        let view = self.management.disable_key(&call, target).await?;
        Ok(Response::new(self.show(&view)))
    }

    async fn reset_secret(
        &self,
        request: Request<ResetSecretRequest>,
    ) -> Result<Response<IssuedKey>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "ResetSecret", request_id, &request, answer_by);
        let name = read_key_name("name", &request.name)?;
        let target = Target {
            name: &name,
            etag: &request.etag,
        };
        let overlap = || read_overlap(request.overlap);
        let made = self.management.reset_secret(&call, target, overlap).await?;
        let now = self.management.now();
        let issued = made
            .everywhere()
            .map_err(|short| reset_not_fleet_wide(short, now))?;
        Ok(Response::new(show_issued(&issued, now, Vec::new())))
    }

    async fn end_overlap(
        &self,
        request: Request<EndOverlapRequest>,
    ) -> Result<Response<Key>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "EndOverlap", request_id, &request, answer_by);
        let name = read_key_name("name", &request.name)?;
        let target = Target {
            name: &name,
            etag: &request.etag,
        };
        let view = self.management.end_overlap(&call, target).await?;
        Ok(Response::new(self.show(&view)))
    }

    async fn archive_key(
        &self,
        request: Request<ArchiveKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "ArchiveKey", request_id, &request, answer_by);
        let name = read_key_name("name", &request.name)?;
        let target = Target {
            name: &name,
            etag: &request.etag,
        };
        let view = self.management.archive_key(&call, target).await?;
        Ok(Response::new(self.show(&view)))
    }

    async fn delete_key(&self, request: Request<DeleteKeyRequest>) -> Result<Response<()>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = self.caller(&request).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "DeleteKey", request_id, &request, answer_by);
        let name = read_key_name("name", &request.name)?;
        let target = Target {
            name: &name,
            etag: &request.etag,
        };
        let DeleteKeyRequest { force, .. } = request;
        self.management.delete_key(&call, target, force).await?;
        Ok(Response::new(()))
    }
}

#[cfg(test)]
mod tests;
