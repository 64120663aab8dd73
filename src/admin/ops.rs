//! What machines ask of a replica: is it alive, is it ready, and its numbers.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::MetricType,
    registry::Registry,
};

use super::mutation::Management;
use crate::{
    gate::{
        callers::Refusals,
        checker::Parts,
        clock::Clock as _,
        metrics::{BUCKETS_NANOS, CheckMetrics},
        wire::{Cut, Wire},
    },
    tls::Tls,
};

/// Of exemplars, which we have none of.
type NoLabels = [(&'static str, &'static str); 0];

/// What the ops listener tells.
#[derive(Clone, Default)]
pub struct Ops {
    ready: Arc<AtomicBool>,
    numbers: Arc<std::sync::OnceLock<Registry>>,
}

/// Where the numbers come from.
pub struct Sources {
    /// Counters of Check.
    pub checks: CheckMetrics,
    /// Keyring, lease and argon2.
    pub parts: Arc<Parts>,
    /// Counters of changes.
    pub management: Arc<Management>,
    /// Connections, by listener.
    pub wires: [(&'static str, Wire); 2],
    /// TLS of the listeners that have it.
    pub tls: Vec<Arc<Tls>>,
    /// Callers whom the gate refused.
    pub refusals: Arc<Refusals>,
}

impl Ops {
    /// Starts to tell numbers and to be ready.
    pub fn set_ready(&self, sources: Sources) {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(sources));
        // Called once; a second call would tell the same numbers.
        let _ = self.numbers.set(registry);
        self.ready.store(true, Ordering::Release);
    }

    /// The routes of the ops listener.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }
}

async fn readyz(State(ops): State<Ops>) -> impl IntoResponse {
    if ops.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the keyring is loading\n")
    }
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    let mut body = String::new();
    let written = match ops.numbers.get() {
        Some(registry) => text::encode(&mut body, registry),
        None => text::encode(&mut body, &Registry::default()),
    };
    match written {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(CONTENT_TYPE, content_type)], body).into_response()
        }
        // Writing to a string does not fail; if it did, half a page would mislead.
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self {
            checks,
            parts,
            management,
            wires,
            tls,
            refusals,
        } = self;
        let totals = checks.totals();

        let mut family = encoder.encode_descriptor(
            "portcullis_checks",
            "Checks by reason; UNDECIDED got an error instead of a decision",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in &totals.outcomes {
            family
                .encode_family(&[("reason", *reason)])?
                .encode_counter::<NoLabels, u64, f64>(count, None)?;
        }

        #[expect(clippy::cast_precision_loss, reason = "bucket bounds are small")]
        let mut buckets: Vec<(f64, u64)> = BUCKETS_NANOS
            .iter()
            .zip(totals.buckets)
            .map(|(&nanos, count)| (nanos as f64 / 1e9, count))
            .collect();
        buckets.push((f64::INFINITY, totals.buckets[BUCKETS_NANOS.len()]));
        encoder
            .encode_descriptor(
                "portcullis_check_duration_seconds",
                "Time from the first look at a check to its answer, argon2 included",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabels>(
                totals.took.as_secs_f64(),
                totals.buckets.iter().sum(),
                &buckets,
                None,
            )?;

        let mut family = encoder.encode_descriptor(
            "portcullis_mutations",
            "Committed changes by call, since the start",
            None,
            MetricType::Counter,
        )?;
        for (method, count) in management.mutations() {
            family
                .encode_family(&[("method", method)])?
                .encode_counter::<NoLabels, u64, f64>(&count, None)?;
        }

        let mut family = encoder.encode_descriptor(
            "portcullis_barriers",
            "Waits for a change to be in force on every replica, by what ended them; none: the caller's deadline did",
            None,
            MetricType::Counter,
        )?;
        for (by, count) in management.barriers() {
            family
                .encode_family(&[("by", by)])?
                .encode_counter::<NoLabels, u64, f64>(&count, None)?;
        }

        encode_wires(wires, &mut encoder)?;
        let mut family = encoder.encode_descriptor(
            "portcullis_gate_callers_refused",
            "Calls of the gate whose caller was refused, by why",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in refusals.totals() {
            family
                .encode_family(&[("reason", reason)])?
                .encode_counter::<NoLabels, u64, f64>(&count, None)?;
        }
        encode_tls(tls, &mut encoder)?;

        let counters = [
            (
                "portcullis_mutations_failed",
                "Changes that the store did not acknowledge",
                management.failed(),
            ),
            (
                "portcullis_argon2_runs",
                "Secrets verified with argon2",
                parts.verify.runs(),
            ),
            (
                "portcullis_argon2_shed",
                "Checks answered UNAVAILABLE because argon2 was busy",
                parts.verify.shed(),
            ),
        ];
        for (name, help, count) in counters {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabels, u64, f64>(&count, None)?;
        }

        let fenced = u64::from(parts.lease.deadline() <= parts.clock.now().boottime);
        let gauges = [
            (
                "portcullis_argon2_queue",
                "Checks waiting for argon2",
                parts.verify.waiting(),
            ),
            (
                "portcullis_keyring_keys",
                "Keys in memory",
                parts.keyring.len() as u64,
            ),
            (
                "portcullis_unreadable_records",
                "Stored records that cannot be read",
                parts.keyring.unreadable(),
            ),
            (
                "portcullis_revision",
                "Number of the revision in force",
                parts.keyring.applied().number,
            ),
            (
                "portcullis_fenced",
                "1 while this replica may not answer",
                fenced,
            ),
            (
                "portcullis_store_memory_used_permille",
                "Thousandths of its memory that a shared store uses; 0: unknown, or without a limit",
                management.store_fullness(),
            ),
        ];
        for (name, help, value) in gauges {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value.cast_signed())?;
        }
        Ok(())
    }
}

fn encode_wires(
    wires: &[(&'static str, Wire)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "portcullis_connections",
        "Open connections; of admin those by TCP",
        None,
        MetricType::Gauge,
    )?;
    for (listener, wire) in wires {
        family
            .encode_family(&[("listener", *listener)])?
            .encode_gauge(&wire.open().cast_signed())?;
    }
    let mut family = encoder.encode_descriptor(
        "portcullis_connections_refused",
        "Connections closed at once because there were too many",
        None,
        MetricType::Counter,
    )?;
    for (listener, wire) in wires {
        family
            .encode_family(&[("listener", *listener)])?
            .encode_counter::<NoLabels, u64, f64>(&wire.refused(), None)?;
    }
    let mut family = encoder.encode_descriptor(
        "portcullis_connections_cut",
        "Connections closed because of what their peer did or did not do",
        None,
        MetricType::Counter,
    )?;
    for (listener, wire) in wires {
        for cut in Cut::ALL {
            family
                .encode_family(&[("listener", *listener), ("why", cut.name())])?
                .encode_counter::<NoLabels, u64, f64>(&wire.cuts(cut), None)?;
        }
    }
    Ok(())
}

fn encode_tls(tls: &[Arc<Tls>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let totals: Vec<_> = tls.iter().map(|tls| tls.totals()).collect();
    let mut family = encoder.encode_descriptor(
        "portcullis_tls_reloads",
        "Changes of a listener's TLS files, by what came of them",
        None,
        MetricType::Counter,
    )?;
    for of in &totals {
        for (result, count) in [("ok", of.reloaded), ("refused", of.refused)] {
            family
                .encode_family(&[("listener", of.listener), ("result", result)])?
                .encode_counter::<NoLabels, u64, f64>(&count, None)?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "portcullis_tls_handshakes_failed",
        "TLS handshakes that came to nothing",
        None,
        MetricType::Counter,
    )?;
    for of in &totals {
        family
            .encode_family(&[("listener", of.listener)])?
            .encode_counter::<NoLabels, u64, f64>(&of.broken_handshakes, None)?;
    }
    let mut family = encoder.encode_descriptor(
        "portcullis_tls_certificate_expiry_seconds",
        "When a listener's certificate expires, in seconds since 1970",
        None,
        MetricType::Gauge,
    )?;
    for of in &totals {
        if let Some(not_after) = of.not_after {
            family
                .encode_family(&[("listener", of.listener)])?
                .encode_gauge(&not_after)?;
        }
    }
    Ok(())
}
