//! Who asks, and for which pool: what is decided before a call is looked into.

use keybroker_proto::v1::{
    AcceptLossRequest, CreateKeyRequest, CreatePoolRequest, DeleteKeyRequest, DeletePoolRequest,
    DisableKeyRequest, DrainKeyRequest, EnableKeyRequest, GetKeyRequest, GetPoolRequest, ImportKeysRequest,
    InspectPoolRequest, ListAuditRecordsRequest, ListKeysRequest, ListPoolsRequest, QueryUsageRequest,
    ResetCooldownsRequest, RotateKeyRequest, UpdateKeyRequest, UpdatePoolRequest, WatchEventsRequest,
    WatchPoolRequest,
};
use tonic::{Request, Status};

use super::{
    super::{caller_of, status},
    request::who,
};
use crate::{broker::pool_name, registry::Who};

/// The pools that a request is about.
pub(super) enum Pools<'a> {
    /// This one.
    One(&'a str),
    /// All of them.
    All,
    /// None that could be judged here: the request will be found wrong, or what it gets is judged one by one.
    Unnamed,
}

/// A request that says which pools it is about.
pub(super) trait AboutPools {
    /// Those.
    fn pools(&self) -> Pools<'_>;
}

/// A request to change something and who makes it, if they may ask that of these pools. Whether they may make such
/// calls at all was decided before.
pub(super) fn admit<T: AboutPools>(request: Request<T>) -> Result<(Who, T), Status> {
    let who = who(&request, &caller_of(&request))?;
    Ok((who, admit_reader(request)?))
}

/// The same of a request that changes nothing: who makes it is not written down.
pub(super) fn admit_reader<T: AboutPools>(request: Request<T>) -> Result<T, Status> {
    let caller = caller_of(&request);
    let request = request.into_inner();
    let allowed = match request.pools() {
        Pools::One(pool) => caller.may_use_pool(pool),
        Pools::All => caller.may_use_all_pools(),
        Pools::Unnamed => Ok(()),
    };
    allowed.map_err(|why| status::denied(&why))?;
    Ok(request)
}

/// The pool in the name of a resource: `pools/{pool}`, `pools/{pool}/keys/{key}`, or `pools/-`.
fn in_name(name: &str) -> Pools<'_> {
    match name.strip_prefix("pools/").and_then(|rest| rest.split('/').next()) {
        Some("-") => Pools::All,
        Some("") | None => Pools::Unnamed,
        Some(pool) => Pools::One(pool),
    }
}

macro_rules! about_pools {
    ($($request:ty: |$it:ident| $pools:expr;)*) => {
        $(impl AboutPools for $request {
            fn pools(&self) -> Pools<'_> {
                let $it = self;
                $pools
            }
        })*
    };
}

about_pools! {
    ListKeysRequest: |it| in_name(&it.parent);
    GetKeyRequest: |it| in_name(&it.name);
    CreateKeyRequest: |it| in_name(&it.parent);
    RotateKeyRequest: |it| in_name(&it.name);
    UpdateKeyRequest: |it| in_name(it.key.as_ref().map_or("", |key| &key.name));
    DeleteKeyRequest: |it| in_name(&it.name);
    ImportKeysRequest: |it| in_name(&it.parent);
    EnableKeyRequest: |it| in_name(&it.name);
    DisableKeyRequest: |it| in_name(&it.name);
    DrainKeyRequest: |it| in_name(&it.name);
    ListPoolsRequest: |_it| Pools::All;
    GetPoolRequest: |it| in_name(&it.name);
    CreatePoolRequest: |it| Pools::One(&it.pool_id);
    UpdatePoolRequest: |it| in_name(it.pool.as_ref().map_or("", |pool| &pool.name));
    DeletePoolRequest: |it| in_name(&it.name);
    ListAuditRecordsRequest: |_it| Pools::All;
    ResetCooldownsRequest: |it| in_name(&it.name);
    AcceptLossRequest: |it| in_name(&it.name);
    InspectPoolRequest: |it| Pools::One(pool_name(&it.pool));
    QueryUsageRequest: |it| in_name(&it.parent);
    WatchPoolRequest: |it| Pools::One(pool_name(&it.pool));
    // Those of all pools are told as far as the caller may use the pools.
    WatchEventsRequest: |it| if it.pool.is_empty() { Pools::Unnamed } else { Pools::One(&it.pool) };
}
