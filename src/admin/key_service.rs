//! `KeyService` over [`Management`]. An adapter.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Failure,
    caller::Caller,
    convert::{
        read_edit, read_key_name, read_new_key, read_position, read_workspace_name, show_issued,
        show_key, write_position,
    },
    key_changes::Target,
    mutation::Management,
    page,
};
use crate::{
    domain::name::of_workspace,
    gate::checker::Checker,
    proto::v1::{
        CreateKeyRequest, DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest, EnableKeyResponse,
        GetKeyRequest, IssuedKey, Key, ListKeysRequest, ListKeysResponse, ResetSecretRequest,
        UpdateKeyRequest, key_service_server::KeyService,
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
}

#[tonic::async_trait]
impl KeyService for KeyApi {
    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<IssuedKey>, Status> {
        let caller = self.caller(&request).await?;
        let CreateKeyRequest { parent, key } = request.into_inner();
        let workspace = read_workspace_name("parent", &parent)?;
        let new = || read_new_key(key.unwrap_or_default(), &workspace);
        let issued = self.management.create_key(&caller, &workspace, new).await?;
        Ok(Response::new(show_issued(&issued, self.management.now())))
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<Key>, Status> {
        let caller = self.caller(&request).await?;
        let name = read_key_name("name", &request.into_inner().name)?;
        let record = self.management.get_key(&caller, &name)?;
        Ok(Response::new(show_key(&record, self.management.now())))
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
        } = request.into_inner();
        let workspace = read_workspace_name("parent", &parent)?;
        let arguments = of_workspace(&workspace);
        let page = || {
            let cursor = page::read_token(CALL, &arguments, &page_token)?;
            Ok((
                cursor.as_deref().and_then(read_position),
                page::read_size(page_size)?,
            ))
        };
        let (records, next) = self.management.list_keys(&caller, &workspace, page)?;
        let now = self.management.now();
        Ok(Response::new(ListKeysResponse {
            keys: records.iter().map(|record| show_key(record, now)).collect(),
            next_page_token: next
                .map(|position| page::write_token(CALL, &arguments, &write_position(position)))
                .unwrap_or_default(),
        }))
    }

    async fn update_key(
        &self,
        request: Request<UpdateKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let caller = self.caller(&request).await?;
        let UpdateKeyRequest { key, update_mask } = request.into_inner();
        let key = key.unwrap_or_default();
        let name = read_key_name("key.name", &key.name)?;
        let etag = key.etag.clone();
        let edit = || read_edit(key, update_mask, &name.workspace);
        let record = self
            .management
            .update_key(
                &caller,
                Target {
                    name: &name,
                    etag: &etag,
                },
                edit,
            )
            .await?;
        Ok(Response::new(show_key(&record, self.management.now())))
    }

    async fn enable_key(
        &self,
        request: Request<EnableKeyRequest>,
    ) -> Result<Response<EnableKeyResponse>, Status> {
        let caller = self.caller(&request).await?;
        let EnableKeyRequest { name, etag } = request.into_inner();
        let name = read_key_name("name", &name)?;
        let record = self
            .management
            .enable_key(
                &caller,
                Target {
                    name: &name,
                    etag: &etag,
                },
            )
            .await?;
        Ok(Response::new(EnableKeyResponse {
            key: Some(show_key(&record, self.management.now())),
        }))
    }

    async fn disable_key(
        &self,
        request: Request<DisableKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let caller = self.caller(&request).await?;
        let DisableKeyRequest { name, etag } = request.into_inner();
        let name = read_key_name("name", &name)?;
        let record = self
            .management
            .disable_key(
                &caller,
                Target {
                    name: &name,
                    etag: &etag,
                },
            )
            .await?;
        Ok(Response::new(show_key(&record, self.management.now())))
    }

    async fn reset_secret(
        &self,
        request: Request<ResetSecretRequest>,
    ) -> Result<Response<IssuedKey>, Status> {
        let caller = self.caller(&request).await?;
        let ResetSecretRequest { name, etag } = request.into_inner();
        let name = read_key_name("name", &name)?;
        let issued = self
            .management
            .reset_secret(
                &caller,
                Target {
                    name: &name,
                    etag: &etag,
                },
            )
            .await?;
        Ok(Response::new(show_issued(&issued, self.management.now())))
    }

    async fn delete_key(&self, request: Request<DeleteKeyRequest>) -> Result<Response<()>, Status> {
        let caller = self.caller(&request).await?;
        let DeleteKeyRequest { name, force, etag } = request.into_inner();
        let name = read_key_name("name", &name)?;
        self.management
            .delete_key(
                &caller,
                Target {
                    name: &name,
                    etag: &etag,
                },
                force,
            )
            .await?;
        Ok(Response::new(()))
    }
}
