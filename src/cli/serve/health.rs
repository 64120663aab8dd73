//! Health, and reflection, of the listeners.

use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use crate::proto;

/// What the gate serves, and the admin listeners too.
pub(super) const GATE_SERVICES: [&str; 1] = [proto::v1::check_service_server::SERVICE_NAME];
/// What only the admin listeners serve.
const ADMIN_SERVICES: [&str; 3] = [
    proto::v1::key_service_server::SERVICE_NAME,
    proto::v1::workspace_service_server::SERVICE_NAME,
    proto::v1::fleet_service_server::SERVICE_NAME,
];

/// What the admin listeners serve.
pub(super) fn admin_services() -> Vec<&'static str> {
    [&GATE_SERVICES[..], &ADMIN_SERVICES].concat()
}

/// What a listener serves beside its own `services`: health, and reflection that tells of just these.
pub(super) fn with_reflection(health: &HealthServer<impl Health>, services: &[&str]) -> Routes {
    // The descriptors are made by build.rs from the protos that these services were generated from.
    const BUILT_IN: &str = "the built-in descriptors are valid";
    let reflection = |own: &str| {
        // The last two are for clients that ask for health or print error details by reflection.
        let described = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
            .with_service_name(own);
        services
            .iter()
            .copied()
            .fold(described, |described, service| {
                described.with_service_name(service)
            })
    };
    let v1 = reflection(tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME);
    let v1alpha = reflection(tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME);
    Routes::new(health.clone())
        .add_service(v1.build_v1().expect(BUILT_IN))
        .add_service(v1alpha.build_v1alpha().expect(BUILT_IN))
        .prepare()
}

/// Everything together, and each service.
fn names() -> impl Iterator<Item = &'static str> {
    [""].into_iter().chain(GATE_SERVICES).chain(ADMIN_SERVICES)
}

/// The overall status, and that of each service, since clients ask for either.
pub(super) async fn set(health: &HealthReporter, status: ServingStatus) {
    for service in names() {
        health.set_service_status(service, status).await;
    }
}

/// Ends the streams of those who watch health, once they have heard the last status: they are calls
/// that were begun and never end by themselves, so the drain would wait for them in vain.
pub(super) async fn end_watches(mut health: HealthReporter) {
    for service in names() {
        health.clear_service_status(service).await;
    }
}
