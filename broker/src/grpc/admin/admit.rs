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
use crate::{access::Caller, broker::pool_name, registry::Who};

/// The pools that a request is about.
pub(super) enum Pools<'a> {
    /// This one.
    One(&'a str),
    /// All of them.
    All,
    /// Those of all that the caller may use: what it is answered is chosen by that.
    Own,
    /// None that could be judged here: the request will be found wrong.
    Unnamed,
}

/// A request that says which pools it is about.
pub(super) trait AboutPools {
    /// Those.
    fn pools(&self) -> Pools<'_>;
}

/// A request to change something and who makes it, if they may ask that of these pools. Whether they may make such
/// calls at all was decided before.
pub(super) fn admit<T: AboutPools>(request: Request<T>) -> Result<(Caller, Who, T), Status> {
    let who = who(&request, &caller_of(&request))?;
    let (caller, request) = admit_reader(request)?;
    Ok((caller, who, request))
}

/// The same of a request that changes nothing: who makes it is not written down.
pub(super) fn admit_reader<T: AboutPools>(request: Request<T>) -> Result<(Caller, T), Status> {
    let caller = caller_of(&request);
    let request = request.into_inner();
    let allowed = match request.pools() {
        Pools::One(pool) => caller.may_use_pool(pool),
        Pools::All => caller.may_use_all_pools(),
        Pools::Own | Pools::Unnamed => Ok(()),
    };
    allowed.map_err(|why| status::denied(&why))?;
    Ok((caller, request))
}

/// Whether what is written down of a resource may be shown to a caller. What is in no pool is for those who may use all.
pub(super) fn may_see(caller: &Caller, resource: &str) -> bool {
    caller.may_use_all_pools().is_ok()
        || matches!(in_name(resource), Pools::One(pool) if caller.uses_pool(pool))
}

/// The pool in the name of a resource: `pools/{pool}`, `pools/{pool}/keys/{key}`, or `pools/-`.
fn in_name(name: &str) -> Pools<'_> {
    match name.strip_prefix("pools/").and_then(|rest| rest.split('/').next()) {
        Some("-") => Pools::All,
        Some("") | None => Pools::Unnamed,
        Some(pool) => Pools::One(pool),
    }
}

/// The pools of a list, by the name of its parent.
fn in_parent(name: &str) -> Pools<'_> {
    match in_name(name) {
        Pools::All => Pools::Own,
        named => named,
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
    ListKeysRequest: |it| in_parent(&it.parent);
    GetKeyRequest: |it| in_name(&it.name);
    CreateKeyRequest: |it| in_name(&it.parent);
    RotateKeyRequest: |it| in_name(&it.name);
    UpdateKeyRequest: |it| in_name(it.key.as_ref().map_or("", |key| &key.name));
    DeleteKeyRequest: |it| in_name(&it.name);
    ImportKeysRequest: |it| in_name(&it.parent);
    EnableKeyRequest: |it| in_name(&it.name);
    DisableKeyRequest: |it| in_name(&it.name);
    DrainKeyRequest: |it| in_name(&it.name);
    ListPoolsRequest: |_it| Pools::Own;
    GetPoolRequest: |it| in_name(&it.name);
    CreatePoolRequest: |it| Pools::One(&it.pool_id);
    UpdatePoolRequest: |it| in_name(it.pool.as_ref().map_or("", |pool| &pool.name));
    DeletePoolRequest: |it| in_name(&it.name);
    ListAuditRecordsRequest: |_it| Pools::Own;
    ResetCooldownsRequest: |it| in_name(&it.name);
    AcceptLossRequest: |it| in_name(&it.name);
    InspectPoolRequest: |it| Pools::One(pool_name(&it.pool));
    QueryUsageRequest: |it| in_parent(&it.parent);
    WatchPoolRequest: |it| Pools::One(pool_name(&it.pool));
    WatchEventsRequest: |it| if it.pool.is_empty() { Pools::Own } else { Pools::One(&it.pool) };
}
