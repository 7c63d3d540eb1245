//! The service `keybroker.v1.Admin`.

mod admit;
mod convert;
mod fields;
mod inspect;
mod page;
mod request;
mod usage;
mod watch;

use std::sync::Arc;

use keybroker_proto::v1::{
    AcceptLossRequest, AcceptLossResponse, CreateKeyRequest, CreatePoolRequest, DeleteKeyRequest,
    DeletePoolRequest, DisableKeyRequest, DrainKeyRequest, EnableKeyRequest, Event, GetKeyRequest,
    GetPoolRequest, ImportKeysRequest, ImportKeysResponse, InspectPoolRequest, InspectPoolResponse, Key,
    ListAuditRecordsRequest, ListAuditRecordsResponse, ListKeysRequest, ListKeysResponse, ListPoolsRequest,
    ListPoolsResponse, Pool, QueryUsageRequest, QueryUsageResponse, ResetCooldownsRequest,
    ResetCooldownsResponse, RotateKeyRequest, UpdateKeyRequest, UpdatePoolRequest, WatchEventsRequest,
    WatchPoolRequest, admin_server::Admin,
};
use tonic::{Request, Response, Status, metadata::MetadataValue};

use self::{
    admit::{admit, admit_reader, may_see},
    page::Page,
    request::{key_name, parent, pool_name_of, reason_without_key},
    watch::Watchers,
};
use super::{VERSION_HEADER, check::Faults, pool_of, status};
use crate::{
    access::Caller,
    broker::{Broker, pool_name},
    catalogue::{DEFAULT_POOL, is_model_name},
    fleet::{Drain, Fleet, FleetError, Import, KeyView},
    ledger::calendar::date_of,
    registry::AuditRecord,
    secret::Secret,
};

/// Manages keys and pools, and looks into the ledger.
pub struct AdminService {
    fleet: Arc<Fleet>,
    broker: Arc<Broker>,
    watchers: Watchers,
}

impl AdminService {
    /// The service of that fleet.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { broker: fleet.broker().clone(), fleet, watchers: Watchers::default() }
    }
}

/// An answer of the fleet as one of gRPC.
fn answer<T, W>(
    caller: &Caller,
    outcome: Result<T, FleetError>,
    convert: impl FnOnce(T) -> W,
) -> Result<Response<W>, Status> {
    outcome.map(|answer| Response::new(convert(answer))).map_err(|error| refused(caller, error))
}

/// A key, if the fleet answers with one.
fn key_answer(caller: &Caller, outcome: Result<KeyView, FleetError>) -> Result<Response<Key>, Status> {
    answer(caller, outcome, |key| convert::key(key, caller))
}

/// An error of the fleet as the caller may know it.
fn refused(caller: &Caller, error: FleetError) -> Status {
    status::of_fleet(&error.told(|pool| caller.uses_pool(pool)))
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let (caller, request) = admit_reader(request)?;
        let mut faults = Faults::default();
        let pool = parent(&request.parent, &mut faults);
        let page = Page::read("keys", request.page_size, &request.page_token, &mut faults);
        faults.into_result()?;
        let keys = self.fleet.keys(pool.filter(|pool| *pool != "-")).await;
        answer(&caller, keys, |mut keys| {
            keys.retain(|key| caller.uses_pool(&key.pool));
            let (keys, next_page_token) = page.of(keys, |key| key.resource());
            ListKeysResponse {
                keys: keys.into_iter().map(|key| convert::key(key, &caller)).collect(),
                next_page_token,
            }
        })
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<Key>, Status> {
        let (caller, request) = admit_reader(request)?;
        let (pool, id) = key_name("name", &request.name)?;
        key_answer(&caller, self.fleet.key(pool, id).await)
    }

    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<Key>, Status> {
        let (caller, who, request) = admit(request)?;
        let mut faults = Faults::default();
        let pool = parent(&request.parent, &mut faults).map(str::to_owned);
        if pool.as_deref() == Some("-") {
            faults.add("parent", "names all pools; name one, such as pools/default");
        }
        let fields = fields::that_are_set(request.key.unwrap_or_default(), "key", &mut faults);
        faults.into_result()?;
        let pool = pool.unwrap_or_default();
        key_answer(&caller, self.fleet.create_key(&pool, &request.key_id, &fields, &who).await)
    }

    async fn update_key(&self, request: Request<UpdateKeyRequest>) -> Result<Response<Key>, Status> {
        let (caller, who, request) = admit(request)?;
        let key = request.key.unwrap_or_default();
        let (name, etag) = (key.name.clone(), key.etag.clone());
        let (pool, id) = key_name("key.name", &name)?;
        let mut faults = Faults::default();
        let fields = fields::of_mask(key, request.update_mask.as_ref(), &mut faults);
        faults.into_result()?;
        key_answer(&caller, self.fleet.update_key(pool, id, &etag, &fields, &who).await)
    }

    async fn rotate_key(&self, request: Request<RotateKeyRequest>) -> Result<Response<Key>, Status> {
        let (caller, who, request) = admit(request)?;
        let (pool, id) = key_name("name", &request.name)?;
        let secret = Secret::from(request.api_key);
        key_answer(&caller, self.fleet.rotate_key(pool, id, &request.etag, secret, &who).await)
    }

    async fn delete_key(&self, request: Request<DeleteKeyRequest>) -> Result<Response<()>, Status> {
        let (caller, who, request) = admit(request)?;
        let (pool, id) = key_name("name", &request.name)?;
        answer(&caller, self.fleet.delete_key(pool, id, &request.etag, &who).await, |()| ())
    }

    async fn import_keys(
        &self,
        request: Request<ImportKeysRequest>,
    ) -> Result<Response<ImportKeysResponse>, Status> {
        let (caller, who, request) = admit(request)?;
        let mut faults = Faults::default();
        let pool = parent(&request.parent, &mut faults).map(str::to_owned);
        let format = fields::import_format(request.format, &mut faults);
        let defaults = request.defaults.unwrap_or_default();
        let defaults = fields::that_are_set(defaults, "defaults", &mut faults);
        faults.into_result()?;
        let data = secrecy::zeroize::Zeroizing::new(request.data);
        let import = Import {
            pool: pool.as_deref().unwrap_or_default(),
            data: &data,
            format,
            defaults,
            validate_only: request.validate_only,
        };
        answer(&caller, self.fleet.import_keys(&import, &who).await, |lines| {
            convert::imported(lines, &caller)
        })
    }

    async fn enable_key(&self, request: Request<EnableKeyRequest>) -> Result<Response<Key>, Status> {
        let (caller, who, request) = admit(request)?;
        let (pool, id) = key_name("name", &request.name)?;
        key_answer(&caller, self.fleet.enable_key(pool, id, &request.etag, &who).await)
    }

    async fn disable_key(&self, request: Request<DisableKeyRequest>) -> Result<Response<Key>, Status> {
        let (caller, who, request) = admit(request)?;
        let (pool, id) = key_name("name", &request.name)?;
        reason_without_key(&request.reason)?;
        key_answer(&caller, self.fleet.disable_key(pool, id, &request.etag, &request.reason, &who).await)
    }

    async fn drain_key(&self, request: Request<DrainKeyRequest>) -> Result<Response<Key>, Status> {
        let (caller, who, request) = admit(request)?;
        let (pool, id) = key_name("name", &request.name)?;
        reason_without_key(&request.reason)?;
        let drain = Drain { reason: request.reason, remove_when_drained: request.remove_when_drained };
        key_answer(&caller, self.fleet.drain_key(pool, id, &request.etag, &drain, &who).await)
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsRequest>,
    ) -> Result<Response<ListPoolsResponse>, Status> {
        let (caller, request) = admit_reader(request)?;
        let mut faults = Faults::default();
        let page = Page::read("pools", request.page_size, &request.page_token, &mut faults);
        faults.into_result()?;
        let mut answer = answer(&caller, self.fleet.pools().await, |mut pools| {
            pools.retain(|pool| caller.uses_pool(&pool.name));
            let (pools, next_page_token) = page.of(pools, |pool| pool.name.clone());
            ListPoolsResponse { pools: pools.into_iter().map(convert::pool).collect(), next_page_token }
        })?;
        let version = MetadataValue::from_static(env!("CARGO_PKG_VERSION"));
        answer.metadata_mut().insert(VERSION_HEADER, version);
        Ok(answer)
    }

    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Result<Response<Pool>, Status> {
        let (caller, request) = admit_reader(request)?;
        let name = pool_name_of("name", &request.name)?;
        answer(&caller, self.fleet.pool(name).await, convert::pool)
    }

    async fn create_pool(&self, request: Request<CreatePoolRequest>) -> Result<Response<Pool>, Status> {
        let (caller, who, request) = admit(request)?;
        let mut faults = Faults::default();
        let fields = fields::of_pool(&request.pool.unwrap_or_default(), None, &mut faults);
        faults.into_result()?;
        answer(&caller, self.fleet.create_pool(&request.pool_id, &fields, &who).await, convert::pool)
    }

    async fn update_pool(&self, request: Request<UpdatePoolRequest>) -> Result<Response<Pool>, Status> {
        let (caller, who, request) = admit(request)?;
        let pool = request.pool.unwrap_or_default();
        let name = pool_name_of("pool.name", &pool.name)?;
        let mut faults = Faults::default();
        let fields = fields::of_pool(&pool, request.update_mask.as_ref(), &mut faults);
        faults.into_result()?;
        answer(&caller, self.fleet.update_pool(name, &pool.etag, &fields, &who).await, convert::pool)
    }

    async fn delete_pool(&self, request: Request<DeletePoolRequest>) -> Result<Response<()>, Status> {
        let (caller, who, request) = admit(request)?;
        let name = pool_name_of("name", &request.name)?;
        answer(&caller, self.fleet.delete_pool(name, &request.etag, request.force, &who).await, |()| ())
    }

    async fn list_audit_records(
        &self,
        request: Request<ListAuditRecordsRequest>,
    ) -> Result<Response<ListAuditRecordsResponse>, Status> {
        let (caller, request) = admit_reader(request)?;
        let mut faults = Faults::default();
        let page = Page::read("auditRecords", request.page_size, &request.page_token, &mut faults);
        let before = page.after_record(&mut faults);
        faults.into_result()?;
        let wanted = |record: &AuditRecord| may_see(&caller, &record.resource);
        let records = self.fleet.audit(before, page.size, wanted).await;
        answer(&caller, records, |(records, last)| ListAuditRecordsResponse {
            next_page_token: last.map(|last| page.token_after(&last.to_string())).unwrap_or_default(),
            records: records.into_iter().map(convert::audit_record).collect(),
        })
    }

    async fn reset_cooldowns(
        &self,
        request: Request<ResetCooldownsRequest>,
    ) -> Result<Response<ResetCooldownsResponse>, Status> {
        let (caller, who, request) = admit(request)?;
        let (name, key_id) = if request.name.contains("/keys/") {
            let (pool, key) = key_name("name", &request.name)?;
            (pool, Some(key))
        } else {
            (pool_name_of("name", &request.name)?, None)
        };
        let pool = pool_of(&self.broker, name, &caller)?;
        let mut faults = Faults::default();
        let right = request.quota_model.is_empty() || is_model_name(&request.quota_model);
        let text = "is not a model id; write 1 to 128 letters, digits and . _ - / :, or leave it out";
        faults.check(right, "quota_model", text);
        faults.no_key("quota_model", &request.quota_model);
        faults.into_result()?;
        let quota_model = self.broker.quota_model(&request.quota_model);
        let ended = pool.reset_cooldowns(key_id, &quota_model).await;
        let ended = ended.map_err(|error| status::of_acquire(&error))?;
        let Some(ended) = ended else {
            // One that is there may not be leased.
            let key = self.fleet.key(name, key_id.unwrap_or_default()).await;
            let key = key.map_err(|error| refused(&caller, error))?;
            let text = format!("names {}, which is not leased; enable it first", key.id);
            return Err(refused(&caller, FleetError::Invalid(vec![("name".to_owned(), text)])));
        };
        tracing::warn!(actor = who.actor, resource = request.name, ended, "cooldowns were reset");
        self.fleet
            .record_reset(&who, &request.name, &quota_model, ended)
            .await
            .map_err(|error| refused(&caller, error))?;
        Ok(Response::new(ResetCooldownsResponse { reset_count: i32::try_from(ended).unwrap_or(i32::MAX) }))
    }

    async fn accept_loss(
        &self,
        request: Request<AcceptLossRequest>,
    ) -> Result<Response<AcceptLossResponse>, Status> {
        let (caller, who, request) = admit(request)?;
        let resource = request.name;
        let name = pool_name_of("name", &resource)?;
        let pool = pool_of(&self.broker, name, &caller)?;
        if !pool.accept_loss().await.map_err(|error| status::of_ledger(&error))? {
            return Err(status::nothing_lost(name));
        }
        tracing::warn!(
            actor = who.actor,
            pool = name,
            "counts of days and months that are lost were accepted"
        );
        self.fleet.record_loss(&who, &resource).await.map_err(|error| refused(&caller, error))?;
        Ok(Response::new(AcceptLossResponse {}))
    }

    async fn inspect_pool(
        &self,
        request: Request<InspectPoolRequest>,
    ) -> Result<Response<InspectPoolResponse>, Status> {
        let (caller, request) = admit_reader(request)?;
        let name = request.pool;
        let pool = pool_of(&self.broker, &name, &caller)?;
        let view = pool.inspect().await.map_err(|error| status::of_ledger(&error))?;
        Ok(Response::new(inspect::pool(pool_name(&name), view, self.broker.events())))
    }

    type WatchPoolStream = watch::Stream<InspectPoolResponse>;

    async fn watch_pool(
        &self,
        request: Request<WatchPoolRequest>,
    ) -> Result<Response<Self::WatchPoolStream>, Status> {
        let (caller, request) = admit_reader(request)?;
        self.watchers.pool(&self.broker, caller, pool_name(&request.pool)).await.map(Response::new)
    }

    type WatchEventsStream = watch::Stream<Event>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (caller, request) = admit_reader(request)?;
        self.watchers.events(&self.broker, caller, &request).map(Response::new)
    }

    async fn query_usage(
        &self,
        request: Request<QueryUsageRequest>,
    ) -> Result<Response<QueryUsageResponse>, Status> {
        let (caller, mut request) = admit_reader(request)?;
        if !request.quota_model.is_empty() {
            request.quota_model = self.broker.quota_model(&request.quota_model);
        }
        let names = self.broker.pool_names();
        // Usage is recorded by the ledger's clock, and so is what "today" means.
        let ledger = self.broker.ledger();
        let clock = ledger.inspect(names.first().map_or(DEFAULT_POOL, String::as_str), &[]).await;
        let today = date_of(clock.map_err(|error| status::of_ledger(&error))?.now);
        let mut faults = Faults::default();
        let mut asked = usage::read(&request, today, &mut faults);
        faults.into_result()?;
        asked.query.pools = match asked.pool.as_str() {
            "-" => caller.own_pools(names),
            pool if names.iter().any(|name| name == pool) => vec![pool.to_owned()],
            pool => return Err(status::unknown_pool(pool, &caller.own_pools(names))),
        };
        let page = asked.query.page(ledger, asked.after.as_ref(), asked.size).await;
        Ok(Response::new(asked.answer(page.map_err(|error| status::of_ledger(&error))?)))
    }
}
