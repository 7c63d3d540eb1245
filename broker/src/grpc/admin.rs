//! The service `keybroker.v1.Admin`.

use std::sync::Arc;

use keybroker_proto::v1::{
    BrokerCounters, Cooldown, InspectPoolRequest, InspectPoolResponse, KeyStatus, LimitStatus,
    Tier as WireTier, admin_server::Admin,
};
use tonic::{Request, Response, Status};

use super::{convert::timestamp, status};
use crate::{
    broker::{Broker, pool_name},
    catalogue::Tier,
    pool::{CooldownView, KeyView, LimitView},
};

/// Looks into the ledger.
pub struct AdminService {
    broker: Arc<Broker>,
}

impl AdminService {
    /// The service of that broker.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn inspect_pool(
        &self,
        request: Request<InspectPoolRequest>,
    ) -> Result<Response<InspectPoolResponse>, Status> {
        let name = request.into_inner().pool;
        let unknown_pool = || status::unknown_pool(&name, &self.broker.pool_names());
        let pool = self.broker.pool(&name).ok_or_else(unknown_pool)?;
        let view = pool.inspect().await.map_err(|error| status::of_ledger(&error))?;
        Ok(Response::new(InspectPoolResponse {
            pool: pool_name(&name).to_owned(),
            now: Some(timestamp(view.now)),
            keys: view.keys.into_iter().map(key).collect(),
            limits: view.limits.into_iter().map(limit).collect(),
            cooldowns: view.cooldowns.into_iter().map(cooldown).collect(),
            counters: Some(BrokerCounters {
                granted: view.stats.granted,
                refused: view.stats.refused,
                settled: view.stats.settled,
                waiting: view.stats.waiting,
            }),
        }))
    }
}

fn key(view: KeyView) -> KeyStatus {
    let tier = match view.tier {
        Tier::Free => WireTier::Free,
        Tier::Paid => WireTier::Paid,
        Tier::Unknown => WireTier::Unspecified,
    };
    KeyStatus { key_id: view.key_id, project: view.project, tier: tier.into(), available: view.available }
}

fn limit(view: LimitView) -> LimitStatus {
    LimitStatus {
        subject: view.subject,
        project: view.project,
        quota_model: view.quota_model,
        limit_name: view.limit_name,
        used: view.used,
        limit: view.limit,
    }
}

fn cooldown(view: CooldownView) -> Cooldown {
    Cooldown {
        subject: view.subject,
        reason: view.reason,
        until: view.until.map(timestamp),
        probing: view.probing,
    }
}
