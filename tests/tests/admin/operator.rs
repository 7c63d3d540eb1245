//! Somebody who calls the service Admin, and what all tests here start from.

use std::time::{Duration, Instant};

use keybroker_proto::v1::{
    AcquireRequest, AuditRecord, Constraints, CreateKeyRequest, DeleteKeyRequest, DisableKeyRequest,
    DrainKeyRequest, EnableKeyRequest, GetKeyRequest, Key, ListAuditRecordsRequest, ListKeysRequest,
    admin_client::AdminClient,
};
use keybroker_tests::harness::{
    api::{Api, MODEL, ask, not_sent},
    broker::BrokerOptions,
    rig::{Backing, Rig},
};
use tonic::{Request, Status, transport::Channel};

/// One project with one key.
pub(super) const CONFIG: &str = r#"
[[projects]]
id = "alpha"
keys = [ { id = "a1", secret = "test-key-admin-a1" } ]
"#;

/// 32 bytes, plainly chosen.
pub(super) const MASTER: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// Brokers that can seal.
pub(super) fn sealing() -> BrokerOptions {
    BrokerOptions::default().env("KEYBROKER_MASTER_KEY", MASTER)
}

/// A broker with [`CONFIG`] that can seal.
pub(super) async fn rig(backing: Backing) -> Rig {
    Rig::start_with(backing, CONFIG, sealing()).await
}

/// The name of a key of the default pool.
pub(super) fn named(id: &str) -> String {
    format!("pools/default/keys/{id}")
}

/// Somebody who calls the service Admin of one broker.
pub(super) struct Operator(AdminClient<Channel>);

impl Operator {
    pub(super) fn of(api: &Api) -> Self {
        Self(api.admin())
    }

    /// The client itself.
    pub(super) fn client(&self) -> AdminClient<Channel> {
        self.0.clone()
    }

    /// Creates a key with this text and these fields in the default pool.
    pub(super) async fn create(&self, id: &str, text: &str, key: Key) -> Result<Key, Status> {
        let key = Key { api_key: text.to_owned(), ..key };
        let request =
            CreateKeyRequest { parent: "pools/default".to_owned(), key_id: id.to_owned(), key: Some(key) };
        self.client().create_key(said_by("ann", request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn get(&self, id: &str) -> Result<Key, Status> {
        let request = GetKeyRequest { name: named(id) };
        self.client().get_key(request).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn delete(&self, id: &str) -> Result<(), Status> {
        let request = DeleteKeyRequest { name: named(id), etag: String::new() };
        self.client().delete_key(said_by("ann", request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn enable(&self, id: &str) -> Result<Key, Status> {
        let request = EnableKeyRequest { name: named(id), etag: String::new() };
        self.client().enable_key(said_by("ann", request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn disable(&self, id: &str) -> Result<Key, Status> {
        let request =
            DisableKeyRequest { name: named(id), etag: String::new(), reason: "it is sick".to_owned() };
        self.client().disable_key(said_by("ann", request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn drain(&self, id: &str, remove: bool) -> Result<Key, Status> {
        let request = DrainKeyRequest {
            name: named(id),
            etag: String::new(),
            reason: "it leaves".to_owned(),
            remove_when_drained: remove,
        };
        self.client().drain_key(said_by("ann", request)).await.map(tonic::Response::into_inner)
    }

    /// All keys.
    pub(super) async fn keys(&self) -> Vec<Key> {
        let request =
            ListKeysRequest { parent: "pools/-".to_owned(), page_size: 1000, page_token: String::new() };
        self.client().list_keys(request).await.unwrap().into_inner().keys
    }

    /// The record of changes, the newest first.
    pub(super) async fn records(&self) -> Vec<AuditRecord> {
        let request = ListAuditRecordsRequest { page_size: 1000, page_token: String::new() };
        self.client().list_audit_records(request).await.unwrap().into_inner().records
    }
}

/// A request that says who makes it.
pub(super) fn said_by<T>(actor: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-keybroker-actor", actor.parse().unwrap());
    request
}

/// A key of a project.
pub(super) fn of_project(project: &str) -> Key {
    Key { project: project.to_owned(), ..Key::default() }
}

/// Asks for a lease of a project's key.
pub(super) fn ask_for(project: &str) -> AcquireRequest {
    let constraints = Constraints { project: project.to_owned(), ..Constraints::default() };
    AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }
}

/// Whether a lease of a project's key can be had now; it is given back.
pub(super) async fn leases(api: &Api, project: &str) -> bool {
    match api.acquire(ask_for(project)).await {
        Ok(lease) => {
            api.report(not_sent(&lease.lease_id)).await.unwrap();
            true
        }
        Err(_) => false,
    }
}

/// Every broker sees a change within this time.
pub(super) const SEEN: Duration = Duration::from_secs(1);

/// Waits until something holds, and how long that took.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}
