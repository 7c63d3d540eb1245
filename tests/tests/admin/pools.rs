//! Pools that come and go while brokers run.

use std::{collections::HashMap, time::Duration};

use keybroker_proto::v1::{
    AcquireRequest, CreateKeyRequest, CreatePoolRequest, DeletePoolRequest, GetPoolRequest, Key, LimitRule,
    ListPoolsRequest, Origin, Pool, SettleState, UpdatePoolRequest,
};
use keybroker_tests::{
    harness::{
        api::{Details, MODEL, ask, succeeded, time, wire},
        rig::Backing,
    },
    on_both_ledgers,
};
use tonic::Code;

use super::operator::{Operator, rig};

on_both_ledgers!(a_pool_is_created_leased_from_changed_and_deleted);

async fn a_pool_is_created_leased_from_changed_and_deleted(backing: Backing) {
    let mut rig = rig(backing).await;
    let mut admin = Operator::of(&rig.api).client();
    let limits = |amount| {
        vec![LimitRule {
            model: "*".to_owned(),
            limits: HashMap::from([("requests_per_minute".to_owned(), amount)]),
        }]
    };
    let pool = Pool {
        strategy: "weighted".to_owned(),
        send_within: Some(wire(Duration::from_secs(3))),
        limits: limits(1),
        ..Pool::default()
    };
    let create = CreatePoolRequest { pool_id: "batch".to_owned(), pool: Some(pool) };
    let created = admin.create_pool(create.clone()).await.unwrap().into_inner();
    assert_eq!((created.name.as_str(), created.origin()), ("pools/batch", Origin::RunTime));
    assert_eq!(created.strategy, "weighted");
    assert_eq!(
        (time(created.send_within), time(created.lease_ttl)),
        (Duration::from_secs(3), Duration::from_secs(60))
    );
    let taken = admin.create_pool(create).await.unwrap_err();
    assert_eq!((taken.code(), Details::of(&taken).reason.as_str()), (Code::AlreadyExists, "ALREADY_THERE"));

    let key = Key { api_key: "test-key-admin-b1-0001".to_owned(), ..Key::default() };
    let create =
        CreateKeyRequest { parent: "pools/batch".to_owned(), key_id: "b1".to_owned(), key: Some(key) };
    admin.create_key(create).await.unwrap();
    let wish = || AcquireRequest { pool: "batch".to_owned(), ..ask(MODEL) };
    let lease = rig.api.acquire(wish()).await.unwrap();
    assert_eq!((lease.key_id.as_str(), time(lease.send_within)), ("b1", Duration::from_secs(3)));
    assert_eq!(rig.api.acquire(wish()).await.unwrap_err().code(), Code::ResourceExhausted, "one a minute");

    rig.restart().await;
    let mut admin = Operator::of(&rig.api).client();
    let raised = Pool {
        name: "pools/batch".to_owned(),
        limits: limits(2),
        etag: created.etag.clone(),
        ..Pool::default()
    };
    let update = UpdatePoolRequest { pool: Some(raised), update_mask: None };
    let changed = admin.update_pool(update.clone()).await.unwrap().into_inner();
    assert_eq!((changed.limits, time(changed.send_within)), (limits(2), Duration::from_secs(3)));
    assert_eq!(admin.update_pool(update).await.unwrap_err().code(), Code::Aborted, "the etag is an old one");
    rig.api.acquire(wish()).await.unwrap();
    assert_eq!(
        rig.api.acquire(wish()).await.unwrap_err().code(),
        Code::ResourceExhausted,
        "what was used counts"
    );

    let pools = admin.list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools;
    let listed: Vec<(&str, i32, Origin)> =
        pools.iter().map(|pool| (pool.name.as_str(), pool.key_count, pool.origin())).collect();
    assert_eq!(listed, [("pools/batch", 1, Origin::RunTime), ("pools/default", 1, Origin::Configured)]);

    let delete = |name: &str, force| DeletePoolRequest { name: name.to_owned(), etag: String::new(), force };
    let refused = admin.delete_pool(delete("pools/default", true)).await.unwrap_err();
    assert_eq!(Details::of(&refused).reason, "CONFIGURED_IN_FILE");
    let refused = admin.delete_pool(delete("pools/batch", false)).await.unwrap_err();
    assert_eq!(
        (refused.code(), Details::of(&refused).reason.as_str()),
        (Code::FailedPrecondition, "POOL_NOT_EMPTY")
    );
    admin.delete_pool(delete("pools/batch", true)).await.unwrap();
    assert_eq!(Details::of(&rig.api.acquire(wish()).await.unwrap_err()).reason, "UNKNOWN_POOL");
    let gone = admin.get_pool(GetPoolRequest { name: "pools/batch".to_owned() }).await.unwrap_err();
    assert_eq!((gone.code(), Details::of(&gone).reason.as_str()), (Code::NotFound, "UNKNOWN_POOL"));
    let late = rig.api.report(succeeded(&lease.lease_id, 5)).await.unwrap();
    assert_eq!(late.state(), SettleState::Settled, "a lease of a pool that is gone can be reported");
    assert_eq!(Operator::of(&rig.api).keys().await.len(), 1);
}
