//! Health, and reflection, of the listeners.

use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthApi, HealthServer},
    server::HealthReporter,
};

use crate::{gate::envoy, proto};

const GATE_SERVICES: &[&str] = &[
    proto::v1::check_service_server::SERVICE_NAME,
    envoy::service::SERVICE_NAME,
];
const ADMIN_SERVICES: &[&str] = &[
    proto::v1::check_service_server::SERVICE_NAME,
    proto::v1::key_service_server::SERVICE_NAME,
    proto::v1::workspace_service_server::SERVICE_NAME,
    proto::v1::fleet_service_server::SERVICE_NAME,
    proto::v1::audit_service_server::SERVICE_NAME,
];

/// The health of both kinds of listeners. Each vouches for what it serves itself, and for nothing else.
#[derive(Clone)]
pub(super) struct Health {
    gate: HealthReporter,
    admin: HealthReporter,
}

/// What each kind of listener serves beside its own services: health and reflection.
pub(super) struct Others {
    pub(super) gate: Routes,
    pub(super) admin: Routes,
}

impl Health {
    /// Health, not serving yet, and the routes that tell it.
    pub(super) fn new() -> (Self, Others) {
        let (gate, gate_server) = tonic_health::server::health_reporter();
        let (admin, admin_server) = tonic_health::server::health_reporter();
        let others = Others {
            gate: with_reflection(gate_server, GATE_SERVICES),
            admin: with_reflection(admin_server, ADMIN_SERVICES),
        };
        (Self { gate, admin }, others)
    }

    /// Tells the overall status, and that of each service, since clients ask for either.
    pub(super) async fn set(&self, status: ServingStatus) {
        for (reporter, service) in self.told() {
            reporter.set_service_status(service, status).await;
        }
    }

    /// Ends the streams of those who watch health, once they have heard the last status.
    pub(super) async fn end_watches(self) {
        for (reporter, service) in self.told() {
            reporter.clone().clear_service_status(service).await;
        }
    }

    fn told(&self) -> impl Iterator<Item = (&HealthReporter, &'static str)> {
        let of = |reporter, services: &'static [&'static str]| {
            let names = [""].into_iter().chain(services.iter().copied());
            names.map(move |name| (reporter, name))
        };
        of(&self.gate, GATE_SERVICES).chain(of(&self.admin, ADMIN_SERVICES))
    }
}

/// What a listener serves beside its own `services`: health, and reflection that tells of just these.
fn with_reflection(health: HealthServer<impl HealthApi>, services: &[&str]) -> Routes {
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
    Routes::new(health)
        .add_service(v1.build_v1().expect(BUILT_IN))
        .add_service(v1alpha.build_v1alpha().expect(BUILT_IN))
        .prepare()
}
