//! Too much of everything: calls, connections, clients that wait or never hang up. Time is judged by
//! `make overload`; here it is what holds however slow the machine is.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]
#![allow(clippy::print_stdout, reason = "the memory of a connection is a figure to be seen")]

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use keybroker_proto::v1::{AcquireRequest, AcquireResponse, SettleState};
use keybroker_tests::{
    harness::{
        api::{Api, Details, MODEL, ask, succeeded, wire},
        broker::{BrokerOptions, binary},
        rig::{Backing, Rig, eventually},
    },
    on_both_ledgers,
    overload::{Load, Stage},
};
use prost::Message;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{Code, Request};

on_both_ledgers!(
    under_overload_calls_are_shed_with_their_reason_memory_is_bounded_and_nothing_is_lost,
    a_broker_with_a_thousand_waiters_and_clients_that_never_hang_up_drains_within_its_grace,
    a_call_that_waits_is_refused_before_its_deadline_and_not_cancelled_at_it,
);

/// Each of these wants the machine for itself, so no more of them run at once than it has processors.
static PLACES: Semaphore = Semaphore::const_new(2);

const ONE_IN_FLIGHT: &str = r#"
[[projects]]
id = "alpha"
limits = [ { in_flight = 1 } ]
keys = [ { id = "a", secret = "fake-key-for-tests-alpha-000000000000000" } ]
"#;
const NO_LIMITS: &str = r#"
[[projects]]
id = "alpha"
keys = [ { id = "a", secret = "fake-key-for-tests-alpha-000000000000000" } ]
"#;

/// What a broker may hold under overload, beyond what it holds at rest.
const MOST_MEMORY: u64 = 600 * 1024 * 1024;

async fn under_overload_calls_are_shed_with_their_reason_memory_is_bounded_and_nothing_is_lost(
    backing: Backing,
) {
    let _place = PLACES.acquire().await.unwrap();
    let mut stage = Stage::start(backing, 1000, program()).await;
    let at_rest = stage.resident().unwrap();
    // More at a time than the ledger takes in a tenth of a second, by requests that cost it much.
    let flood = Load {
        url: stage.rig.broker.url(),
        rate: 0,
        callers: 16_000,
        seconds: 3,
        connections: 8,
        outstanding: 0,
        by_labels: true,
    };
    let (over, memory) = stage.load(&flood).await.unwrap();
    let shed = over.refused_for("OVERLOADED");
    assert!(shed > 0, "nobody was turned away: {over:?}");
    assert_eq!(over.refused.values().sum::<u64>(), shed, "all of them learn why: {:?}", over.refused);
    assert!(over.reports_refused.is_empty(), "{:?}", over.reports_refused);
    assert!(over.granted > 0);
    assert!(memory < at_rest + MOST_MEMORY, "{memory} bytes, {at_rest} at rest");

    // Right afterwards few callers are served as if nothing had been.
    let few = Load { callers: 4, seconds: 1, ..flood };
    let (after, _) = stage.load(&few).await.unwrap();
    assert!(after.granted > 0 && after.refused.is_empty(), "{after:?}");

    let view = stage.rig.api.inspect().await;
    let counters = view.counters.unwrap();
    let granted = over.granted + after.granted;
    assert_eq!(over.settled + after.settled, granted, "each lease was reported");
    assert_eq!(counters.settled, i64::try_from(granted).unwrap(), "each report settled its lease");
    let held = view.limits.iter().filter(|limit| limit.limit_name == "requests in flight");
    assert_eq!(held.map(|limit| limit.used).sum::<i64>(), 0, "no slot is left");
}

fn program() -> PathBuf {
    binary("overload")
}

async fn a_broker_with_a_thousand_waiters_and_clients_that_never_hang_up_drains_within_its_grace(
    backing: Backing,
) {
    const GRACE: Duration = Duration::from_secs(8);
    let _place = PLACES.acquire().await.unwrap();
    let options = BrokerOptions::default().arg("--drain-grace", GRACE.as_secs().to_string());
    let mut rig = Rig::start_with(backing, ONE_IN_FLIGHT, options).await;
    let lease = rig.api.lease().await;
    let mut waiters = JoinSet::new();
    for _ in 0..4 {
        let api = Api::connect(rig.broker.url()).await;
        for _ in 0..250 {
            let api = api.clone();
            let request = AcquireRequest { wait: Some(wire(Duration::from_secs(300))), ..ask(MODEL) };
            waiters.spawn(async move { api.acquire(request).await });
        }
    }
    let wait = async || rig.api.inspect().await.counters.unwrap().waiting == 1000;
    assert!(eventually(wait).await, "a thousand wait");
    // These greet and are never heard of again, nor do they read or close.
    let silent: Vec<TcpStream> = (0..20).map(|_| greeted(&rig.broker.grpc)).collect();
    let http = rig.broker.http.clone();
    assert_eq!(readiness(&http).await, Some(200));

    let told = Instant::now();
    rig.broker.process().signal("TERM").unwrap();
    for status in waiters.join_all().await {
        let status = status.unwrap_err();
        assert_eq!(
            (status.code(), Details::of(&status).reason.as_str()),
            (Code::Unavailable, "SHUTTING_DOWN")
        );
    }
    assert_eq!(readiness(&http).await, Some(503), "it says that it is not ready as long as it drains");
    let newcomer = rig.api.acquire(ask(MODEL)).await.unwrap_err();
    assert_eq!(Details::of(&newcomer).reason, "SHUTTING_DOWN", "{newcomer:?}");
    let fresh = Api::connect(rig.broker.url()).await;
    let settled = fresh.report(succeeded(&lease.lease_id, 1)).await.unwrap();
    assert_eq!(
        settled.state(),
        SettleState::Settled,
        "the lease that was out is reported to the draining broker"
    );

    assert!(eventually(async || !rig.broker.process().is_running()).await, "the broker ends");
    assert!(told.elapsed() < GRACE + Duration::from_secs(2), "{:?}", told.elapsed());
    assert_eq!(rig.broker.process().wait(Duration::ZERO).unwrap().code(), Some(0));
    assert!(!rig.broker.log().contains("panicked"));
    drop(silent);
}

async fn a_call_that_waits_is_refused_before_its_deadline_and_not_cancelled_at_it(backing: Backing) {
    let _place = PLACES.acquire().await.unwrap();
    let rig = Rig::start(backing, ONE_IN_FLIGHT).await;
    rig.api.lease().await;
    let mut client =
        keybroker_proto::v1::key_broker_client::KeyBrokerClient::connect(rig.broker.url()).await.unwrap();
    let timeout = Duration::from_secs(2);
    let mut request =
        Request::new(AcquireRequest { wait: Some(wire(Duration::from_secs(60))), ..ask(MODEL) });
    // The header alone: a client that also gives up by itself would hide what the broker says.
    request.metadata_mut().insert("grpc-timeout", "2S".parse().unwrap());
    let asked = Instant::now();
    let refused = client.acquire(request).await.unwrap_err();
    let details = Details::of(&refused);
    assert_eq!((refused.code(), details.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXHAUSTED"));
    assert!(details.retry_after.is_some() && !details.spent.is_empty(), "{details:?}");
    let took = asked.elapsed();
    assert!(took > timeout / 2, "it waited as long as there was time: {took:?}");
    assert_eq!(rig.api.inspect().await.counters.unwrap().granted, 1, "nothing was granted to it");

    let mut odd = Request::new(ask(MODEL));
    odd.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let fault = client.acquire(odd).await.unwrap_err();
    assert_eq!(Details::of(&fault).field_names(), ["grpc-timeout"], "{fault:?}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_a_place_that_frees_is_taken() {
    let options = BrokerOptions::default().arg("--max-connections", "3");
    let mut rig = Rig::start_with(Backing::Embedded, NO_LIMITS, options).await;
    let second = Api::connect(rig.broker.url()).await;
    let third = raw(&rig.broker.grpc).await.unwrap();
    let refused = match raw(&rig.broker.grpc).await {
        Err(_) => true,
        Ok(mut connection) => lease(&mut connection).await.is_err(),
    };
    assert!(refused, "the fourth is not served");
    rig.logs("there are too many").await;
    second.lease().await;
    drop(third);
    let served = eventually(async || match raw(&rig.broker.grpc).await {
        Ok(mut connection) => lease(&mut connection).await.is_ok(),
        Err(_) => false,
    });
    assert!(served.await, "its place is taken");
    rig.still_serves().await;
}

/// Ten thousand connections at once, each of which takes a lease.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_are_served_at_once() {
    const CONNECTIONS: usize = 10_000;
    const LARGEST: u64 = 64 * 1024;
    /// The code of RESOURCE_EXHAUSTED.
    const TOO_MANY: &str = "\"8\"";
    let _place = PLACES.acquire().await.unwrap();
    let enough = raise_open_files(CONNECTIONS as u64 + 500);
    assert!(enough, "the hard limit of open files is too low for this test: ulimit -Hn 20000 is enough");
    let mut stage = Stage::start(Backing::Embedded, 10, program()).await;
    let address = stage.rig.broker.grpc.clone();
    let before = stage.resident().unwrap();
    let mut connecting = JoinSet::new();
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        // So many at a time that the queue of the listening socket has room for them.
        if connecting.len() >= 100 {
            connections.push(connecting.join_next().await.unwrap().unwrap());
        }
        let address = address.clone();
        connecting.spawn(async move { raw(&address).await.unwrap() });
    }
    connections.extend(connecting.join_all().await);

    let mut asking = JoinSet::new();
    for mut connection in connections {
        asking.spawn(async move {
            // All of them at one instant are more than a burst: some are told to come again.
            for _ in 0..50 {
                match lease(&mut connection).await {
                    Err(refused) if refused.contains(TOO_MANY) => {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    answer => return (answer, connection),
                }
            }
            (Err("turned away again and again".to_owned()), connection)
        });
    }
    let answers = asking.join_all().await;
    let memory = stage.resident().unwrap().saturating_sub(before);
    let leased = answers.iter().filter(|(answer, _)| answer.is_ok()).count();
    let refused: Vec<_> = answers.iter().filter_map(|(answer, _)| answer.as_ref().err()).take(3).collect();
    assert_eq!(leased, CONNECTIONS, "{refused:?}");
    let each = memory / CONNECTIONS as u64;
    println!("{each} bytes a connection that took a lease");
    assert!(each < LARGEST, "{each} bytes a connection");
    assert_eq!(stage.rig.api.inspect().await.counters.unwrap().granted, CONNECTIONS as i64);
}

/// Whether so many files may be open.
fn raise_open_files(needed: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.is_none_or(|most| most >= needed)
}

/// A connection of HTTP/2 that costs this process little.
async fn raw(address: &str) -> Result<SendRequest<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (send, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(send)
}

/// Takes a lease, and answers its id, or the code and message of gRPC.
async fn lease(connection: &mut SendRequest<Bytes>) -> Result<String, String> {
    let told = |error: h2::Error| error.to_string();
    let request = http::Request::post("http://broker/keybroker.v1.KeyBroker/Acquire")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut connection = connection.clone().ready().await.map_err(told)?;
    let (answer, mut body) = connection.send_request(request, false).map_err(told)?;
    let message = ask(MODEL).encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.extend_from_slice(&message);
    body.send_data(framed.freeze(), true).map_err(told)?;
    let answer = answer.await.map_err(told)?;
    if let Some(code) = answer.headers().get("grpc-status") {
        return Err(format!("{code:?} {:?}", answer.headers().get("grpc-message")));
    }
    let mut body = answer.into_body();
    let mut bytes = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(told)?;
        let _ = body.flow_control().release_capacity(part.len());
        bytes.extend_from_slice(&part);
    }
    let message = bytes.get(5..).ok_or("an answer without a message")?;
    let answer = AcquireResponse::decode(message).map_err(|error| error.to_string())?;
    Ok(answer.lease.ok_or("an answer without a lease")?.lease_id)
}

/// A connection that said its greeting and an empty frame of settings, and nothing else.
fn greeted(address: &str) -> TcpStream {
    use std::io::Write;
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    stream
}

async fn readiness(http: &str) -> Option<u16> {
    let answer = reqwest::get(format!("http://{http}/readyz")).await.ok()?;
    Some(answer.status().as_u16())
}
