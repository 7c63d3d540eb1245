//! `keybroker.v1.Admin` as JSON over HTTP: each request becomes a call of gRPC within this process, so that whoever may
//! make the one may make the other.

mod codec;
pub(crate) mod errors;
mod message;
mod openapi;
mod rotation;
mod routes;
mod stream;

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Bytes,
    http::{HeaderMap, Method, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use keybroker_proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions, ServiceDescriptor};
use tonic::{Request, Status, Streaming, body::Body, client::Grpc, metadata::AsciiMetadataValue};
use tower::util::BoxCloneSyncService;

use self::codec::DynamicCodec;
use crate::{access::Access, grpc::denied, server::Peer};

/// How long a call may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The headers that a call gets from its request.
const PASSED_ON: [&str; 5] =
    ["authorization", "x-keybroker-actor", "x-request-id", "traceparent", "tracestate"];

/// The services of this process, behind everything that a call by gRPC passes.
pub type InProcess = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// The service `keybroker.v1.Admin` by HTTP.
pub struct Rest {
    services: InProcess,
    admin: ServiceDescriptor,
    access: Access,
    /// The OpenAPI document, where callers need not say who they are, and where they have to.
    documents: [Bytes; 2],
}

impl Rest {
    /// Over these services.
    ///
    /// # Errors
    /// If the contract that was built in cannot be read.
    pub fn new(services: InProcess, access: Access) -> Result<Self, String> {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
        let admin = pool.get_service_by_name("keybroker.v1.Admin").ok_or("the contract has no Admin")?;
        let documents = [false, true].map(|closed| openapi::document(&admin, closed).to_string().into());
        Ok(Self { services, admin, access, documents })
    }

    /// The OpenAPI document; it tells no more than the contract does.
    pub fn document(&self) -> Bytes {
        self.documents[usize::from(self.access.rules().are_closed())].clone()
    }

    /// Serves a request below `/v1` or `/api`.
    pub async fn serve(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
        body: &Bytes,
    ) -> Response {
        if uri.path().starts_with("/api/") {
            return self.serve_rotation(method, uri, headers, peer, body).await;
        }
        let (route, captured) = match routes::find(method, uri.path()) {
            Ok(found) => found,
            Err(none) => return errors::no_route(&none),
        };
        if let Err(status) = self.admit(method, headers, peer) {
            return errors::answer(&status);
        }
        let Some(call) = self.admin.methods().find(|call| call.name() == route.call) else {
            return errors::answer(&Status::unimplemented("no such call is served here"));
        };
        let query = uri.query().unwrap_or_default();
        let mut message = match message::read(route, captured, query, body, &call.input()) {
            Ok(message) => message,
            Err(status) => return errors::answer(&status),
        };
        stream::resume(&mut message, headers);
        let answered = match self.call(&call, request_of(message, headers, peer)).await {
            Ok(answered) => answered,
            Err(status) => return errors::answer(&status),
        };
        if call.is_server_streaming() {
            return stream::answer(answered);
        }
        match only(answered).await {
            Ok(message) => answer(&message),
            Err(status) => errors::answer(&status),
        }
    }

    /// What a request below `/v1` is answered with, for what is made of several; `path` may have a query.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        peer: &Peer,
        body: &Bytes,
    ) -> Result<serde_json::Value, Status> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (route, captured) = routes::find(method, path).map_err(|_| errors::nothing_there())?;
        let call = self.admin.methods().find(|call| call.name() == route.call);
        let call = call.ok_or_else(|| Status::unimplemented("no such call is served here"))?;
        let message = message::read(route, captured, query, body, &call.input())?;
        let answered = self.call(&call, request_of(message, headers, peer)).await?;
        json(&only(answered).await?)
    }

    async fn call(
        &self,
        call: &prost_reflect::MethodDescriptor,
        request: Request<DynamicMessage>,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let path = format!("/{}/{}", self.admin.full_name(), call.name());
        let path = path.parse().map_err(|_| Status::internal("the call has no path"))?;
        let mut client = Grpc::new(self.services.clone());
        client.ready().await.map_err(|_| Status::unavailable("the broker cannot take calls"))?;
        let calling = client.server_streaming(request, path, DynamicCodec(call.output()));
        let answered = tokio::time::timeout(WITHIN, calling).await;
        answered
            .map_err(|_| Status::deadline_exceeded("the call took too long"))?
            .map(tonic::Response::into_inner)
    }

    /// Passes if the caller is known, before anything of the request is read. What the caller may do is looked at by the
    /// call that it becomes.
    fn admit(&self, method: &Method, headers: &HeaderMap, peer: &Peer) -> Result<(), Status> {
        self.refuse_other_sites(method, headers)?;
        let known = self.access.rules().authenticate(headers, peer.certificates.as_deref());
        known.map(drop).map_err(|why| denied(&why))
    }

    /// A page of another site must not act through a browser: what changes something says that it is JSON, which
    /// browsers ask leave for, and where nobody has to say who they are the broker is called by an address of its own,
    /// not by a name that somebody pointed at it.
    fn refuse_other_sites(&self, method: &Method, headers: &HeaderMap) -> Result<(), Status> {
        let of_json = |value: &http::HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            text.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        };
        if matches!(*method, Method::POST | Method::PATCH) && !headers.get(CONTENT_TYPE).is_some_and(of_json)
        {
            return Err(Status::invalid_argument("the header content-type is not application/json"));
        }
        refuse_pointed_names(&self.access, headers, Called::ByAddress)
    }
}

/// By what a broker may be called where nobody has to say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// `localhost` or an address.
    ByAddress,
    /// Also by a name of one word, as containers of one network call each other: no such name can be had of the
    /// world's.
    ByOneWordToo,
}

/// Where nobody has to say who they are, a name that somebody pointed at the broker would let a page of theirs read
/// what it answers.
pub fn refuse_pointed_names(access: &Access, headers: &HeaderMap, called: Called) -> Result<(), Status> {
    if access.rules().are_closed() {
        return Ok(());
    }
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.parse::<http::uri::Authority>().map(|host| host.host().to_owned()).unwrap_or_default();
    let bare = name.trim_matches(['[', ']']);
    let is_one_word = !bare.is_empty() && !bare.contains('.');
    if bare == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok()
        || (called == Called::ByOneWordToo && is_one_word)
    {
        return Ok(());
    }
    Err(Status::permission_denied(
        "the header host names neither localhost nor an address; without [[identities]] no other is answered",
    ))
}

/// A call with what a request of HTTP says of itself.
fn request_of(message: DynamicMessage, headers: &HeaderMap, peer: &Peer) -> Request<DynamicMessage> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(peer.clone());
    for name in PASSED_ON {
        let value = headers.get(name).and_then(|value| AsciiMetadataValue::try_from(value.as_bytes()).ok());
        if let Some(value) = value {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

/// The one message of an answer.
async fn only(mut answered: Streaming<DynamicMessage>) -> Result<DynamicMessage, Status> {
    let message = tokio::time::timeout(WITHIN, answered.message()).await;
    let message = message.map_err(|_| Status::deadline_exceeded("the call took too long"))??;
    message.ok_or_else(|| Status::internal("the call has no answer"))
}

fn answer(message: &DynamicMessage) -> Response {
    match json(message) {
        Ok(value) => Json(value).into_response(),
        Err(status) => errors::answer(&status),
    }
}

/// A message by the rules of proto3.
fn json(message: &DynamicMessage) -> Result<serde_json::Value, Status> {
    let options = SerializeOptions::new();
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|_| Status::internal("the answer cannot be written as JSON"))
}
