use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

use super::*;
use crate::{
    admin::mutation::tests::{Scene, fleet::not_fleet_wide, read_token},
    domain::decision::Reason,
    proto::v1::{key_service_client::KeyServiceClient, key_service_server::KeyServiceServer},
    status::take_issued_key,
};

const SECOND: Duration = Duration::from_secs(1);

/// The library cuts a call off at its deadline, too.
#[tokio::test]
async fn the_answer_arrives_before_the_clients_deadline() {
    let scene = Scene::new().await;
    let (key, other) = (scene.new_key().await, scene.new_key().await);
    scene
        .disable(&scene.root("DisableKey"), &other)
        .await
        .unwrap();
    let root = read_token(&scene.root_token_file);
    let api = KeyApi::new(scene.management.clone(), scene.checker.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        Server::builder()
            .add_service(KeyServiceServer::new(api))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = KeyServiceClient::new(channel);
    scene.hold_changes();
    let timed = |timeout: Duration| {
        let mut request = Request::new(());
        request.set_timeout(timeout);
        let value = format!("Bearer {root}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    };
    let disable = DisableKeyRequest {
        name: key.name().to_string(),
        ..DisableKeyRequest::default()
    };
    let refused = client.disable_key(timed(SECOND).map(|()| disable)).await;
    not_fleet_wide(&refused.unwrap_err());

    let enable = EnableKeyRequest {
        name: other.name().to_string(),
        ..EnableKeyRequest::default()
    };
    let enabled = client
        .enable_key(timed(30 * SECOND).map(|()| enable))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(enabled.lagging_replicas, ["test"]);
    scene.release_changes().await;

    scene.hold_changes();
    let reset = ResetSecretRequest {
        name: other.name().to_string(),
        ..ResetSecretRequest::default()
    };
    let refused = client.reset_secret(timed(SECOND).map(|()| reset)).await;
    let mut status = refused.unwrap_err();
    not_fleet_wide(&status);
    let issued = take_issued_key(&mut status).expect("the new secret");
    scene.release_changes().await;
    let answer = scene.check(&issued.token).await;
    assert_eq!(answer.reason, Reason::Ok);
}
