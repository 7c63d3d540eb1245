//! Serves a broker on listeners that are already bound, until it is told to stop.

mod authenticate;
mod connections;
pub(crate) mod descriptors;
mod identify;
mod intake;
mod limits;
mod peer;

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use keybroker_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{admin_server::AdminServer, key_broker_server::KeyBrokerServer},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tonic::{service::Routes, transport::Server};
use tower::{Layer, util::BoxCloneSyncService};

use crate::{
    access::Access,
    broker::Broker,
    fleet::Fleet,
    grpc::{AdminService, KeyBrokerService},
    http::{self, Http},
    lease_log::LeaseLog,
    metrics::{Export, Standing},
    rest::Rest,
};
use authenticate::AuthenticateLayer;
use connections::Connections;
use identify::IdentifyLayer;
use intake::IntakeLayer;
pub(crate) use limits::LARGEST_REQUEST;
pub use limits::Limits;
use limits::{
    AGE_GRACE, HTTP_AGE, LARGEST_HEADERS, MOST_HTTP_CONNECTIONS, MOST_STREAMS, PING_EVERY, PING_WITHIN,
    WINDOWS,
};
pub use peer::Peer;

/// How often it is looked how things stand, for a collector.
const STANDING_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether anybody may still have something to say while draining.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The last part of the grace, in which connections are closed: a quarter of it, and no more than this.
const CLOSING: Duration = Duration::from_secs(2);

/// What to listen on.
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP.
    pub http: TcpListener,
}

/// Where it goes what a broker counts and writes down.
#[derive(Default)]
pub struct Outlets {
    /// Metrics, if they are counted.
    pub export: Option<Arc<Export>>,
    /// Who held which key when, if that is written down.
    pub lease_log: Option<Arc<LeaseLog>>,
}

/// Serves a broker of the fleet until `stop` resolves, and then drains: nothing more is leased, those who wait and
/// those who come are sent elsewhere, and reports are taken as long as there may be some. In the last part of
/// `grace` connections are closed and calls under way are finished, hooks are told what happened until then, and
/// it returns, whatever clients do.
///
/// # Errors
/// If a server fails.
pub async fn run(
    fleet: Arc<Fleet>,
    access: Access,
    outlets: Outlets,
    listeners: Listeners,
    limits: Limits,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> io::Result<()> {
    let Outlets { export, lease_log } = outlets;
    let broker = fleet.broker().clone();
    let (stopping, stopped) = watch::channel(false);
    let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
        // The sender outlives the servers.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<KeyBrokerServer<KeyBrokerService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(io::Error::other)?;
    let key_broker = KeyBrokerServer::new(KeyBrokerService::new(fleet.clone()).writing(lease_log))
        .max_decoding_message_size(LARGEST_REQUEST);
    let admin = AdminServer::new(AdminService::new(fleet)).max_decoding_message_size(LARGEST_REQUEST);
    let age = limits.max_connection_age;
    let connections =
        Connections::new(listeners.grpc, "grpc", limits.max_connections, age + AGE_GRACE, access.clone());
    let open = connections.open();
    let intake = IntakeLayer::default();
    let authenticate = AuthenticateLayer::new(access.clone());
    let in_process = Routes::new(key_broker.clone()).add_service(admin.clone());
    let in_process = intake.layer(authenticate.layer(in_process));
    let in_process = BoxCloneSyncService::new(IdentifyLayer.layer(in_process));
    let rest = Rest::new(in_process, access.clone()).map_err(io::Error::other)?;
    let (stream_window, connection_window) = WINDOWS;
    let grpc = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_WITHIN))
        .http2_max_header_list_size(LARGEST_HEADERS)
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_connection_age(age)
        .layer(IdentifyLayer)
        .layer(intake)
        .layer(authenticate)
        .add_service(key_broker)
        .add_service(admin)
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(connections.incoming(), until_stopped(stopped.clone()));
    let connections =
        Connections::new(listeners.http, "http", MOST_HTTP_CONNECTIONS, HTTP_AGE, access.clone());
    let standing = Arc::new(Standing::of(broker.clone()));
    let router = http::router(Http {
        broker: broker.clone(),
        access,
        export: export.clone(),
        standing: standing.clone(),
        rest,
    });
    let http = axum::serve(connections, router.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(until_stopped(stopped));
    // A collector that is told at intervals is told how things stand.
    let _looking = export.filter(|export| export.pushes()).map(|_| look_at(standing));
    let servers =
        async { tokio::try_join!(async { grpc.await.map_err(io::Error::other) }, async { http.await }) };
    tokio::pin!(servers);
    tokio::select! {
        ended = &mut servers => return ended.map(|_| ()),
        () = stop => {}
    }
    tracing::info!(?grace, "draining: nothing more is leased, reports are taken");
    let ends_at = Instant::now() + grace;
    let closing = (grace / 4).min(CLOSING);
    health.set_not_serving::<KeyBrokerServer<KeyBrokerService>>().await;
    broker.drain();
    tokio::select! {
        ended = &mut servers => return ended.map(|_| ()),
        _ = timeout_at(ends_at - closing, nothing_to_come(&broker, &open)) => {}
    }
    stopping.send_replace(true);
    // Hooks get the rest of the time, and some of it whatever clients do.
    let ended = timeout_at(ends_at - closing / 4, servers).await;
    broker.finish_hooks(ends_at.saturating_duration_since(Instant::now())).await;
    match ended {
        Ok(ended) => ended.map(|_| ()),
        Err(_) => {
            tracing::warn!("the grace ended with calls still under way");
            Ok(())
        }
    }
}

/// Looks how things stand again and again, until it is dropped.
fn look_at(standing: Arc<Standing>) -> JoinSet<()> {
    let mut looking = JoinSet::new();
    looking.spawn(async move {
        loop {
            standing.refresh().await;
            sleep(STANDING_EVERY).await;
        }
    });
    looking
}

/// Resolves when no report is to be expected: nobody is connected, or every lease of this broker was reported.
async fn nothing_to_come(broker: &Broker, open: &AtomicUsize) {
    while open.load(SeqCst) > 0 && broker.awaits_reports() {
        sleep(LOOK_EVERY).await;
    }
}
