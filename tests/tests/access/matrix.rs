//! Every call of the contract, by every role and by those who have none.

use keybroker_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use super::{Setting, identity, of, reason};

/// Which roles may make a call: worker, viewer, operator, admin. Written anew, not read from the broker.
const MATRIX: [(&str, [bool; 4]); 25] = [
    ("KeyBroker/Acquire", [true, false, false, false]),
    ("KeyBroker/Report", [true, false, false, false]),
    ("KeyBroker/Renew", [true, false, false, false]),
    ("Admin/ListKeys", [false, true, true, true]),
    ("Admin/GetKey", [false, true, true, true]),
    ("Admin/CreateKey", [false, false, false, true]),
    ("Admin/UpdateKey", [false, false, false, true]),
    ("Admin/RotateKey", [false, false, false, true]),
    ("Admin/DeleteKey", [false, false, false, true]),
    ("Admin/ImportKeys", [false, false, false, true]),
    ("Admin/EnableKey", [false, false, true, true]),
    ("Admin/DisableKey", [false, false, true, true]),
    ("Admin/DrainKey", [false, false, true, true]),
    ("Admin/ListPools", [false, true, true, true]),
    ("Admin/GetPool", [false, true, true, true]),
    ("Admin/CreatePool", [false, false, false, true]),
    ("Admin/UpdatePool", [false, false, false, true]),
    ("Admin/DeletePool", [false, false, false, true]),
    ("Admin/ListAuditRecords", [false, true, true, true]),
    ("Admin/ResetCooldowns", [false, false, true, true]),
    ("Admin/AcceptLoss", [false, false, true, true]),
    ("Admin/InspectPool", [false, true, true, true]),
    ("Admin/QueryUsage", [false, true, true, true]),
    ("Admin/WatchPool", [false, true, true, true]),
    ("Admin/WatchEvents", [false, true, true, true]),
];

const ROLES: [&str; 4] = ["worker", "viewer", "operator", "admin"];

/// Makes a call with an empty request.
async fn call(channel: Channel, path: &str, request: Request<()>) -> (Code, String) {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = format!("/keybroker.v1.{path}").parse().unwrap();
    // Some calls answer more than once; an error is the whole of an answer.
    match client.server_streaming(request, path, ProstCodec::<(), ()>::default()).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), reason(&status)),
    }
}

#[test]
fn the_matrix_has_every_call_of_the_contract() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(move |method| format!("{}/{}", service.name(), method.name()))
    });
    let (mut calls, mut known): (Vec<_>, Vec<_>) =
        (calls.collect(), MATRIX.iter().map(|(call, _)| (*call).to_owned()).collect());
    calls.sort_unstable();
    known.sort_unstable();
    assert_eq!(calls, known);
}

#[tokio::test]
async fn every_call_is_served_to_the_roles_that_may_make_it_and_to_no_other() {
    let identities: String = ROLES.iter().map(|role| identity(role, &format!("[\"{role}\"]"), "")).collect();
    let setting = Setting::start(&identities);
    let channel = setting.channel().await;
    for (path, roles) in MATRIX {
        for (role, allowed) in ROLES.into_iter().zip(roles) {
            let (code, reason) = call(channel.clone(), path, of(role, ())).await;
            let denied = (Code::PermissionDenied, "NOT_PERMITTED".to_owned());
            if allowed {
                assert!(
                    code != Code::Unauthenticated && code != Code::PermissionDenied,
                    "{role}: {path}: {code}"
                );
                assert_ne!(code, Code::Unimplemented, "{path}");
            } else {
                assert_eq!((code, reason), denied, "{role}: {path}");
            }
        }
        let unknown = (Code::Unauthenticated, "NOT_AUTHENTICATED".to_owned());
        assert_eq!(
            call(channel.clone(), path, of("nobody", ())).await,
            unknown,
            "a token that is not known: {path}"
        );
        assert_eq!(call(channel.clone(), path, Request::new(())).await, unknown, "no token: {path}");
    }
}

#[tokio::test]
async fn health_is_told_to_anybody_and_the_contract_to_those_who_are_known() {
    let setting = Setting::start(&identity("w", "[\"worker\"]", ""));
    let channel = setting.channel().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let asked = tonic_health::pb::HealthCheckRequest { service: "keybroker.v1.KeyBroker".to_owned() };
    health.check(asked).await.unwrap();

    let reflected = async |request: fn() -> Request<()>| {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest,
        };
        let asked = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let (metadata, extensions, ()) = request().into_parts();
        let request = Request::from_parts(metadata, extensions, tokio_stream::once(asked));
        let answer = ServerReflectionClient::new(channel.clone()).server_reflection_info(request).await?;
        answer.into_inner().message().await
    };
    assert!(reflected(|| of("w", ())).await.unwrap().is_some());
    assert_eq!(reflected(|| Request::new(())).await.unwrap_err().code(), Code::Unauthenticated);
    let (code, _) = call(channel, "KeyBroker/Other", of("w", ())).await;
    assert_eq!(code, Code::Unimplemented);
}
