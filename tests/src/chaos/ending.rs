//! What the ledger says at the end of a run, asked of the brokers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use keybroker_proto::v1::{
    InspectPoolRequest, ListPoolsRequest, QueryUsageRequest, ReportRequest, SettleState, UsageDimension,
    admin_client::AdminClient, key_broker_client::KeyBrokerClient,
};
use tonic::transport::{Channel, Endpoint};

use super::{
    checker::{Promise, Settled, Violation},
    quota::{LEASE_TTL, POOLS},
    worker::INPUT_TOKENS,
};
use crate::harness::api::succeeded;

/// How long the end of a run may take until every gauge tells the truth: leases without a report must expire.
const GAUGE_PATIENCE: Duration = Duration::from_secs(LEASE_TTL.as_secs() + 5);
/// How many reports one call carries.
const REPORTS: usize = 200;
/// How many violations of a kind are told.
const TOLD: usize = 5;

/// A broker that is asked.
#[derive(Debug, Clone)]
pub struct Witness {
    broker: KeyBrokerClient<Channel>,
    admin: AdminClient<Channel>,
}

type Answer<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Witness {
    /// Connects to a broker.
    ///
    /// # Errors
    /// If its URL is none.
    pub fn at(url: &str) -> Answer<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())?;
        let channel =
            endpoint.connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(5)).connect_lazy();
        Ok(Self { broker: KeyBrokerClient::new(channel.clone()), admin: AdminClient::new(channel) })
    }

    /// Waits until nothing counts as in flight, and says what still does.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn gauges(&self) -> Answer<Vec<Violation>> {
        let until = Instant::now() + GAUGE_PATIENCE;
        loop {
            let left = self.in_flight().await?;
            if left.is_empty() || Instant::now() > until {
                let violation = |(subject, used)| {
                    let waited = GAUGE_PATIENCE.as_secs();
                    let evidence = format!(
                        "{subject}: {used} requests count as in flight {waited} s after the last worker ended"
                    );
                    Violation::of(Promise::GaugesReturn, evidence)
                };
                return Ok(left.into_iter().take(TOLD).map(violation).collect());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn in_flight(&self) -> Answer<BTreeMap<String, i64>> {
        let mut left = BTreeMap::new();
        let mut gauges = 0;
        for pool in POOLS {
            let request = InspectPoolRequest { pool: pool.to_owned() };
            let standing = self.admin.clone().inspect_pool(request).await?.into_inner();
            for limit in standing.limits {
                if limit.limit_name.contains("in flight") {
                    gauges += 1;
                    if limit.used != 0 {
                        left.insert(format!("{} ({})", limit.subject, limit.limit_name), limit.used);
                    }
                }
            }
        }
        if gauges == 0 {
            return Err("the broker tells of no gauge of requests in flight".into());
        }
        Ok(left)
    }

    /// Reports every acknowledged lease again, and says which of them the ledger has not kept.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn lost(&self, acknowledged: &BTreeMap<&str, Settled>) -> Answer<Vec<Violation>> {
        let mut lost = Vec::new();
        let leases: Vec<(&str, Settled)> =
            acknowledged.iter().map(|(lease, settled)| (*lease, *settled)).collect();
        for some in leases.chunks(REPORTS) {
            let reports = some.iter().map(|(lease, _)| succeeded(lease, INPUT_TOKENS)).collect();
            let answer = self.broker.clone().report(ReportRequest { reports }).await?;
            for ((lease, told), now) in some.iter().zip(answer.into_inner().results) {
                let signal = now.advice.as_ref().map_or(0, |advice| advice.signal);
                if now.state() != SettleState::AlreadySettled || signal != told.signal {
                    let line = format!(
                        "{lease} was reported and acknowledged ({told:?}); reported again it is {:?} with signal {signal}",
                        now.state(),
                    );
                    lost.push((told.at, line));
                }
            }
        }
        let all = lost.len();
        let told = lost.into_iter().take(TOLD);
        let violation = |(at, line)| {
            let lost = Violation::of(Promise::NothingLost, format!("{line} (one of {all})"));
            Violation { at: Some(at), ..lost }
        };
        Ok(told.map(violation).collect())
    }

    /// How many leases the ledger's usage says ended well.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn used_well(&self) -> Answer<i64> {
        // A run may go over midnight.
        let yesterday = jiff::Zoned::now().in_tz("America/Los_Angeles")?.date().yesterday()?;
        let request = QueryUsageRequest {
            parent: "pools/-".to_owned(),
            from_date: yesterday.to_string(),
            group_by: vec![UsageDimension::Outcome.into()],
            page_size: 1_000,
            ..QueryUsageRequest::default()
        };
        let rows = self.admin.clone().query_usage(request).await?.into_inner().rows;
        Ok(rows.iter().filter(|row| row.outcome == "ok").map(|row| row.leases).sum())
    }

    /// Whether the broker answers at all.
    pub async fn answers(&self) -> bool {
        self.admin.clone().list_pools(ListPoolsRequest::default()).await.is_ok()
    }
}
