//! Every method of every service, called in process with messages and frames that are hurt.

use std::{cell::RefCell, sync::Arc, time::Duration};

use axum::body::Body as AnyBody;
use keybroker::{
    access::Caller,
    broker::Broker,
    config::{self, Sources},
    fleet::Fleet,
    grpc::{AdminService, KeyBrokerService},
    ledger::embedded::{EmbeddedLedger, Reach},
    registry::{embedded::EmbeddedRegistry, seal::MasterKeys},
};
use keybroker_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        AcquireRequest, Constraints, CreateKeyRequest, CreatePoolRequest, EnableKeyRequest,
        ImportKeysRequest, InspectPoolRequest, Key, LeaseReport, ListKeysRequest, Pool, QueryUsageRequest,
        RenewRequest, ReportRequest, ResetCooldownsRequest, UpdateKeyRequest, UpdatePoolRequest,
        admin_server::AdminServer, key_broker_server::KeyBrokerServer,
    },
};
use keybroker_tests::harness::api::{Details, MODEL, answered, ask, not_sent, succeeded};
use prost::Message;
use prost_types::{Duration as WireDuration, FieldMask, FileDescriptorSet};
use tempfile::TempDir;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::ServiceExt;

use super::driver::Target;

pub(crate) const CALLS: Target = Target { name: "calls", share: 110, examples };

/// The text of the key that is configured: it may be in a lease, and nowhere else.
pub(crate) const KEY: &str = "secretsecretsecret-configured";
/// After so many calls everything begins anew: some of them create things.
const CALLS_A_WORLD: usize = 2000;
const WITHIN: Duration = Duration::from_secs(10);
/// A refusal travels in headers, of which clients take 16 KiB; its details are a third longer there.
const LONGEST_REFUSAL: usize = 8 * 1024;

/// A broker in this process.
pub(crate) struct World {
    pub(crate) fleet: Arc<Fleet>,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::with_prefix("keybroker-hostile").unwrap();
        let file = folder.path().join("keybroker.toml");
        let text = format!(
            "default_plan = \"off\"\n[[projects]]\nid = \"alpha\"\nkeys = [ {{ id = \"a1\", secret = \"{KEY}\" }} ]\n"
        );
        std::fs::write(&file, text).unwrap();
        let catalogue = config::load(&Sources::new(Some(file), &|_| None)).unwrap().catalogue;
        let data = folder.path().join("data");
        let ledger = Arc::new(EmbeddedLedger::open(&data, Reach::System).unwrap());
        let registry = Arc::new(EmbeddedRegistry::open(&data).unwrap());
        let master = "07".repeat(32);
        let keys =
            MasterKeys::read(&|name| (name == "KEYBROKER_MASTER_KEY").then(|| master.clone())).unwrap();
        let fleet = Arc::new(Fleet::open(ledger, registry, keys, catalogue).await.unwrap());
        Self { fleet, _folder: folder }
    }

    pub(crate) fn routes(&self) -> Routes {
        Routes::new(KeyBrokerServer::new(KeyBrokerService::new(self.fleet.clone())))
            .add_service(AdminServer::new(AdminService::new(self.fleet.clone())))
    }

    /// The broker still leases, and takes the lease back.
    pub(crate) async fn still_serves(&self) {
        let broker: &Arc<Broker> = self.fleet.broker();
        let routes = self.routes();
        assert!(broker.readiness().await.is_ok());
        // It may have been disabled, as an operator may.
        let key =
            EnableKeyRequest { name: "pools/default/keys/a1".to_owned(), ..EnableKeyRequest::default() };
        call(routes.clone(), "/keybroker.v1.Admin/EnableKey", frame(&key)).await.unwrap();
        let acquire = "/keybroker.v1.KeyBroker/Acquire";
        let status = call(routes, acquire, frame(&ask(MODEL))).await.unwrap();
        assert_eq!(status.code(), Code::Ok, "{status:?}");
    }
}

/// The paths of all methods.
pub(crate) fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut paths = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "keybroker.v1") {
        for service in &file.service {
            let path = |method: &prost_types::MethodDescriptorProto| {
                format!("/keybroker.v1.{}/{}", service.name(), method.name())
            };
            paths.extend(service.method.iter().map(path));
        }
    }
    paths.sort();
    paths
}

pub(crate) fn frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// One example for each method: the number of the method, and a frame.
pub(crate) fn examples() -> Vec<Vec<u8>> {
    let lease = "default:0d3b62609e636cf2/gemini-fake:6972a1e8bb7b1523-0";
    let labels = [("use".to_owned(), "chat".to_owned())];
    let key = Key {
        name: "pools/default/keys/new".to_owned(),
        api_key: "another-fake-key-0002".to_owned(),
        project: "beta".to_owned(),
        labels: labels.clone().into(),
        ..Key::default()
    };
    let acquire = AcquireRequest {
        input_tokens: 1000,
        output_tokens: 500,
        consumer: "someone@example.com".to_owned(),
        ttl: Some(WireDuration { seconds: 60, nanos: 0 }),
        wait: Some(WireDuration { seconds: 0, nanos: 1_000_000 }),
        permits: Some(2),
        constraints: Some(Constraints {
            project: "alpha".to_owned(),
            tier: 0,
            exclude_key_ids: vec!["b1".to_owned()],
            exclude_projects: vec!["gamma".to_owned()],
            labels: labels.into(),
        }),
        settle: Some(succeeded(lease, 10)),
        ..ask(MODEL)
    };
    let reports: Vec<LeaseReport> =
        vec![succeeded(lease, i64::MAX), not_sent(lease), answered(lease, 429, "{\"error\":{\"code\":429}}")];
    let named = |name: &str| ListKeysRequest { parent: name.to_owned(), ..ListKeysRequest::default() };
    let of = |method: &str| match method {
        "Acquire" => frame(&acquire),
        "Report" => frame(&ReportRequest { reports: reports.clone() }),
        "Renew" => {
            let ttl = Some(WireDuration { seconds: i64::MIN, nanos: -1 });
            frame(&RenewRequest { lease_id: lease.to_owned(), ttl })
        }
        "ListKeys" => frame(&named("pools/-")),
        "CreateKey" => frame(&CreateKeyRequest {
            parent: "pools/default".to_owned(),
            key_id: "new".to_owned(),
            key: Some(key.clone()),
        }),
        "UpdateKey" => {
            let update_mask = Some(FieldMask { paths: vec!["weight".to_owned(), "labels".to_owned()] });
            frame(&UpdateKeyRequest { key: Some(key.clone()), update_mask })
        }
        "ImportKeys" => frame(&ImportKeysRequest {
            parent: "pools/default".to_owned(),
            data: b"api_key,id,project,weight,labels\nanother-fake-key-0003,n3,beta,2,use=chat\n".to_vec(),
            validate_only: true,
            ..ImportKeysRequest::default()
        }),
        "CreatePool" => frame(&CreatePoolRequest {
            pool_id: "batch".to_owned(),
            pool: Some(Pool { name: "pools/batch".to_owned(), ..Pool::default() }),
        }),
        "ResetCooldowns" => frame(&ResetCooldownsRequest {
            name: "pools/default/keys/a1".to_owned(),
            quota_model: MODEL.to_owned(),
        }),
        "InspectPool" => frame(&InspectPoolRequest { pool: "default".to_owned() }),
        "QueryUsage" => frame(&QueryUsageRequest { page_size: 5, ..QueryUsageRequest::default() }),
        "UpdatePool" => frame(&UpdatePoolRequest {
            pool: Some(Pool { name: "pools/default".to_owned(), ..Pool::default() }),
            update_mask: Some(FieldMask { paths: vec!["lease_ttl".to_owned()] }),
        }),
        "ListPools" | "ListAuditRecords" => vec![0; 5],
        // Those that name a pool or a key and little else have a text in their first field.
        other if other.ends_with("Pool") => frame(&named("pools/default")),
        _ => frame(&named("pools/default/keys/a1")),
    };
    let paths = methods();
    let numbered = paths.iter().enumerate();
    numbered
        .map(|(number, path)| {
            let (_, method) = path.rsplit_once('/').unwrap();
            [vec![u8::try_from(number).unwrap()], of(method)].concat()
        })
        .collect()
}

/// Calls a method; the status of its answer.
pub(crate) async fn call(routes: Routes, path: &str, body: Vec<u8>) -> Result<Status, String> {
    let request = http::Request::post(path)
        .extension(Caller::anyone())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "50m")
        .body(Body::new(AnyBody::from(body)))
        .unwrap();
    let answer = routes.oneshot(request).await.map_err(|error| error.to_string())?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("the answer is {}", answer.status()));
    }
    // A refusal is in the headers, a success in what follows the message.
    Ok(Status::from_header_map(answer.headers()).unwrap_or_else(|| Status::ok("")))
}

/// What is wrong with an answer.
pub(crate) fn judge(path: &str, status: &Status) -> Result<(), String> {
    let details = Details::of(status);
    let told = format!("{status:?}");
    if told.contains(KEY) {
        return Err(format!("{path} shows a key: {told}"));
    }
    if status.message().len() + status.details().len() > LONGEST_REFUSAL {
        return Err(format!("{path} refuses in {} bytes", status.message().len() + status.details().len()));
    }
    match status.code() {
        Code::InvalidArgument if details.fields.is_empty() => Err(format!("{path} names no field: {told}")),
        Code::Unknown | Code::DataLoss => Err(format!("{path}: {told}")),
        // What is no message at all is refused by the transport, with this code and no reason.
        Code::Internal if !details.reason.is_empty() => Err(format!("{path}: {told}")),
        _ => Ok(()),
    }
}

#[test]
fn what_is_not_hurt_is_understood() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let paths = methods();
    runtime.block_on(async {
        let world = World::new().await;
        for example in examples() {
            let path = &paths[usize::from(example[0])];
            let status = call(world.routes(), path, example[1..].to_vec()).await.unwrap();
            assert_ne!(status.code(), Code::Internal, "{path}: {status:?}");
            judge(path, &status).unwrap();
        }
    });
}

#[test]
fn every_method_bears_whatever_it_is_sent() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = RefCell::new((runtime.block_on(World::new()), 0_usize));
    let paths = methods();
    CALLS.run(|input| {
        let mut current = world.borrow_mut();
        current.1 += 1;
        if current.1.is_multiple_of(CALLS_A_WORLD) {
            runtime.block_on(current.0.still_serves());
            current.0 = runtime.block_on(World::new());
        }
        let Some((number, body)) = input.split_first() else { return Ok(()) };
        let path = &paths[usize::from(*number) % paths.len()];
        let routes = current.0.routes();
        let answered =
            runtime.block_on(async { tokio::time::timeout(WITHIN, call(routes, path, body.to_vec())).await });
        let status = answered.map_err(|_| format!("{path} never answers"))??;
        judge(path, &status)
    });
    runtime.block_on(world.borrow().0.still_serves());
}
