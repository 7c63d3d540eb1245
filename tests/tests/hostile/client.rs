//! The Rust SDK, and a broker that answers anything.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use keybroker_client::{AcquireOptions, Broker};
use keybroker_proto::v1::{
    AcquireRequest, AcquireResponse, Lease, RenewRequest, RenewResponse, ReportRequest, ReportResponse,
    key_broker_server::{KeyBroker, KeyBrokerServer},
};
use keybroker_tests::harness::api::MODEL;
use prost::Message;
use prost_types::{Duration as WireDuration, Timestamp};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use super::driver::Target;

pub(crate) const CLIENT: Target = Target { name: "client", share: 10, examples };

const KEY: &str = "secretsecretsecret-leased";
const WITHIN: Duration = Duration::from_secs(10);

/// Answers each acquire with what stands here: a code, and then a lease or the details of an error.
#[derive(Clone, Default)]
struct Liar(Arc<Mutex<Vec<u8>>>);

impl Liar {
    fn answer(&self) -> Result<AcquireResponse, Status> {
        let answer = self.0.lock().unwrap();
        let (code, rest) = answer.split_first().unwrap_or((&0, &[]));
        let code = Code::from_i32(i32::from(*code) % 17);
        match AcquireResponse::decode(rest) {
            Ok(response) if code == Code::Ok => Ok(response),
            _ => Err(Status::with_details(code, "no", Bytes::copy_from_slice(rest))),
        }
    }
}

#[tonic::async_trait]
impl KeyBroker for Liar {
    async fn acquire(&self, _: Request<AcquireRequest>) -> Result<Response<AcquireResponse>, Status> {
        self.answer().map(Response::new)
    }

    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let answer = self.0.lock().unwrap();
        let response = ReportResponse::decode(answer.get(1..).unwrap_or_default());
        response.map(Response::new).map_err(|_| Status::invalid_argument("no"))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

fn examples() -> Vec<Vec<u8>> {
    let lease = Lease {
        lease_id: "default:0d3b62609e636cf2/gemini-fake:6972a1e8bb7b1523-0".to_owned(),
        key_id: "a1".to_owned(),
        api_key: KEY.to_owned(),
        project: "alpha".to_owned(),
        quota_model: MODEL.to_owned(),
        send_within: Some(WireDuration { seconds: 1, nanos: 0 }),
        expires_at: Some(Timestamp { seconds: 1_800_000_000, nanos: 5 }),
        expires_in: Some(WireDuration { seconds: 60, nanos: 115_000_000 }),
        permits: 1,
        over_plan: false,
    };
    let granted = AcquireResponse { lease: Some(lease), settled: None }.encode_to_vec();
    let mut details = ErrorDetails::new();
    details.set_error_info("QUOTA_EXHAUSTED", "keybroker.v1", [("queue_length".to_owned(), "3".to_owned())]);
    details.set_retry_info(Some(Duration::from_millis(1)));
    details.add_quota_failure_violation("project alpha", "the limit of requests per minute is reached");
    details.add_bad_request_violation("model", "is empty");
    let refused = Status::with_error_details(Code::ResourceExhausted, "no", details);
    vec![
        [vec![Code::Ok as u8], granted].concat(),
        [vec![Code::ResourceExhausted as u8], refused.details().to_vec()].concat(),
        [vec![Code::InvalidArgument as u8], refused.details().to_vec()].concat(),
    ]
}

#[test]
fn the_sdk_bears_whatever_a_broker_answers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let liar = Liar::default();
    let broker = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(KeyBrokerServer::new(liar.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Broker::builder().call_timeout(Duration::from_secs(1)).connect(address.to_string()).unwrap()
    });
    CLIENT.run(|input| {
        input.clone_into(&mut liar.0.lock().unwrap());
        let acquiring = broker.acquire(AcquireOptions::new(MODEL));
        let answer = runtime.block_on(async { tokio::time::timeout(WITHIN, acquiring).await });
        let answer = answer.map_err(|_| "it never ends".to_owned())?;
        let told = match &answer {
            Ok(lease) => format!("{lease:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        // The lease is dropped here, and reported in the background.
        if told.contains(KEY) { Err(format!("it shows the key: {told}")) } else { Ok(()) }
    });
}
