//! Serves a broker on listeners that are already bound, until it is told to stop.

use std::{future::Future, io, sync::Arc, time::Duration};

use keybroker_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{admin_server::AdminServer, key_broker_server::KeyBrokerServer},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, timeout_at},
};
use tonic::transport::{Server, server::TcpIncoming};

use crate::{
    fleet::Fleet,
    grpc::{AdminService, KeyBrokerService},
    http,
};

/// The largest request that is read: a report may carry long bodies, of which only a part is kept.
const LARGEST_REQUEST: usize = 8 * 1024 * 1024;

/// What to listen on.
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP.
    pub http: TcpListener,
}

/// Serves a broker of the fleet until `stop` resolves; then leases nothing more, lets calls under way finish, tells
/// hooks what happened until then and returns, at the latest after `grace`.
///
/// # Errors
/// If a server fails.
pub async fn run(
    fleet: Arc<Fleet>,
    listeners: Listeners,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> io::Result<()> {
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
    let key_broker =
        KeyBrokerServer::new(KeyBrokerService::new(fleet.clone())).max_decoding_message_size(LARGEST_REQUEST);
    let admin = AdminServer::new(AdminService::new(fleet)).max_decoding_message_size(LARGEST_REQUEST);
    let grpc = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(key_broker)
        .add_service(admin)
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listeners.grpc).with_nodelay(Some(true)),
            until_stopped(stopped.clone()),
        );
    let http = axum::serve(listeners.http, http::router(broker.clone()))
        .with_graceful_shutdown(until_stopped(stopped));
    let servers =
        async { tokio::try_join!(async { grpc.await.map_err(io::Error::other) }, async { http.await }) };
    tokio::pin!(servers);
    tokio::select! {
        ended = &mut servers => return ended.map(|_| ()),
        () = stop => {}
    }
    tracing::info!(?grace, "draining: nothing more is leased, calls under way are finished");
    broker.drain();
    health.set_not_serving::<KeyBrokerServer<KeyBrokerService>>().await;
    stopping.send_replace(true);
    let ends_at = Instant::now() + grace;
    let ended = timeout_at(ends_at, servers).await;
    broker.finish_hooks(ends_at.saturating_duration_since(Instant::now())).await;
    match ended {
        Ok(ended) => ended.map(|_| ()),
        Err(_) => {
            tracing::warn!("the grace ended with calls still under way");
            Ok(())
        }
    }
}
