//! What every route can reach.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;

use super::access::keyring::Keyring;
use super::health::Health;
use super::intake::body::BodyLimits;
use super::metrics::{self, Meters};
use super::port::life::Life;
use crate::config::{ApiKeys, Cidr, CorsOrigin, ServeConfig};
use crate::service::Assistant;

/// What every route can reach. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// Behind [`AppState`].
pub struct Shared {
    /// The product.
    pub assistant: Assistant,
    /// Keys that are let in.
    pub keys: Keyring,
    /// Whether `/metrics` asks for a key too.
    pub metrics_need_key: bool,
    /// Bounds on bodies.
    pub bodies: BodyLimits,
    /// Time a request may take.
    pub request_timeout: Duration,
    /// Largest body (for `/v1/info`).
    pub body_bytes: u64,
    /// Web origins that may call.
    pub cors: Vec<HeaderValue>,
    /// Proxies that are believed whom they speak for.
    pub trusted_proxies: Vec<Cidr>,
    /// Draining, and requests under way.
    pub life: Life,
    /// What was measured.
    pub meters: Meters,
    /// The last look at the engine's health.
    pub health: Health,
}

impl AppState {
    /// Puts the parts together; `config` has been checked, which gave `keys`.
    pub fn new(assistant: Assistant, config: &ServeConfig, keys: ApiKeys, meters: Meters) -> Self {
        let health = Health::new(assistant.engine().clone());
        let life = Life::default();
        metrics::build_info(assistant.card());
        Self(Arc::new(Shared {
            assistant,
            keys: Keyring::new(keys, config),
            metrics_need_key: config.metrics_need_key,
            bodies: BodyLimits::new(
                config.max_body_bytes,
                config.queue_bytes,
                config.body_timeout,
                life.clone(),
            ),
            request_timeout: config.request_timeout,
            body_bytes: config.max_body_bytes,
            cors: config.cors_origin.iter().map(CorsOrigin::header).collect(),
            trusted_proxies: config.trusted_proxy.clone(),
            life,
            meters,
            health,
        }))
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
