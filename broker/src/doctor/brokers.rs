//! Running brokers: whether they answer, their version, their clock, the keys they leave out.

use std::{error::Error, net::SocketAddr, time::Duration};

use jiff::SignedDuration;
use keybroker_proto::v1::{
    InspectPoolRequest, Key, ListKeysRequest, ListPoolsRequest, admin_client::AdminClient,
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{args::DoctorArgs, clock::Clock, finding::Check};
use crate::{connection::root_cause, grpc::VERSION_HEADER, ledger::calendar::wall_clock};

/// How long a broker may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A broker that was asked.
pub(super) struct Asked {
    address: String,
    /// Whether the command line named it.
    named: bool,
    here: bool,
    answer: Result<Seen, Refused>,
}

struct Seen {
    version: Option<String>,
    /// Its ledger's clock, less this host's.
    ahead: Option<SignedDuration>,
    keys: Vec<Key>,
}

enum Refused {
    /// The address or the token cannot be used.
    Unusable(String),
    /// Nobody answers, for this reason.
    Silent(String),
    /// It is there, and does not tell.
    Denied(Status),
}

impl Asked {
    /// Whether it is the broker that listens where one that is started here would.
    pub(super) fn runs_here(&self) -> bool {
        self.here && matches!(self.answer, Ok(_) | Err(Refused::Denied(_)))
    }
}

/// Asks every broker that is named, and the one that may listen here.
pub(super) async fn ask(args: &DoctorArgs) -> Vec<Asked> {
    let own = reachable(args.serve.grpc_addr);
    let named = args.broker.as_deref().unwrap_or_default();
    let mut addresses: Vec<(String, bool)> = named
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(|address| (address.to_owned(), true))
        .collect();
    if args.serve.grpc_addr.port() != 0 && !addresses.iter().any(|(address, _)| address.ends_with(&own)) {
        addresses.push((own.clone(), false));
    }
    let mut asked = Vec::new();
    for (address, named) in addresses {
        let answer = ask_one(args, &address).await;
        asked.push(Asked { here: address.ends_with(&own), address, named, answer });
    }
    asked
}

/// An address that is listened on, as it is called from here.
fn reachable(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            [0_u16, 0, 0, 0, 0, 0, 0, 1].into()
        });
    }
    address.to_string()
}

async fn ask_one(args: &DoctorArgs, address: &str) -> Result<Seen, Refused> {
    let (endpoint, authorization) = args.security.endpoint(address).map_err(Refused::Unusable)?;
    let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect().await;
    let channel = channel.map_err(|error| Refused::Silent(root_cause(&error)))?;
    let mut line = Line { client: AdminClient::new(channel), authorization };
    let pools =
        line.client.list_pools(line.request(ListPoolsRequest { page_size: 1, page_token: String::new() }));
    let pools = pools.await.map_err(of_status)?;
    let version = pools.metadata().get(VERSION_HEADER).and_then(|version| version.to_str().ok());
    let version = version.map(str::to_owned);
    let pool = pools.into_inner().pools.into_iter().next().map(|pool| pool.name);
    let ahead = match &pool {
        Some(name) => line.clock(name.trim_start_matches("pools/")).await,
        None => None,
    };
    Ok(Seen { version, ahead, keys: line.keys().await })
}

fn of_status(status: Status) -> Refused {
    match status.code() {
        // What is there speaks no gRPC, or not in time.
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => {
            let source = status.source();
            Refused::Silent(source.map_or_else(|| status.message().to_owned(), root_cause))
        }
        _ => Refused::Denied(status),
    }
}

struct Line {
    client: AdminClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Line {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    async fn clock(&mut self, pool: &str) -> Option<SignedDuration> {
        let request = self.request(InspectPoolRequest { pool: pool.to_owned() });
        let before = wall_clock();
        let now = self.client.inspect_pool(request).await.ok()?.into_inner().now?;
        let here = before + (wall_clock() - before) / 2;
        Some(SignedDuration::from_millis(now.seconds * 1000 + i64::from(now.nanos) / 1_000_000 - here))
    }

    /// All keys it may tell of.
    async fn keys(&mut self) -> Vec<Key> {
        let (mut keys, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListKeysRequest { parent: "pools/-".to_owned(), page_size: 1000, page_token };
            let Ok(page) = self.client.list_keys(self.request(request)).await else { return keys };
            let page = page.into_inner();
            keys.extend(page.keys);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return keys;
            }
        }
    }
}

pub(super) fn check(args: &DoctorArgs, brokers: &[Asked], clocks: &mut Vec<Clock>) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    let mut check = Check::of("brokers");
    let mut seen = vec![format!("this is version {own}")];
    for Asked { address, named, here, answer } in brokers {
        match answer {
            Ok(Seen { version, ahead, keys }) => {
                let version = version.as_deref().unwrap_or("unknown");
                seen.push(format!("{address} is version {version}"));
                if version != own {
                    let what = format!("is version {version}, and this is {own}");
                    let fix = "run one version in a fleet; while it is updated two may run beside each other";
                    check.warning("broker-version", address, what, fix);
                }
                if let Some(ahead) = ahead {
                    let place = format!("the ledger of broker {address}");
                    clocks.push(Clock { place, id: "broker-clock-skew", ahead: *ahead, of: "this host's" });
                }
                for key in keys.iter().filter(|key| !key.problem.is_empty()) {
                    let what = format!("broker {address} leaves it out: {}", key.problem);
                    check.error(
                        "key-left-out",
                        &key.name,
                        what,
                        "docs/keys.md says what each of these means",
                    );
                }
            }
            Err(Refused::Silent(_)) if !named => {}
            Err(Refused::Silent(why)) => {
                let what = format!("no broker answers there ({why})");
                let fix = "start it, or correct --broker or KEYBROKER_BROKER, or say --tls-ca";
                check.error("broker-unreachable", address, what, fix);
            }
            Err(Refused::Denied(status)) => {
                seen.push(format!("{address} answers"));
                let what = format!("it does not tell how it stands: {}", status.message());
                check.warning(
                    "broker-denied",
                    address,
                    what,
                    "give a token with the role viewer by --token-file",
                );
            }
            Err(Refused::Unusable(_)) if !named && *here => {}
            Err(Refused::Unusable(why)) => {
                check.error("broker-address", address, why, "correct what it names");
            }
        }
    }
    if args.broker.is_none() && brokers.iter().all(|asked| matches!(asked.answer, Err(Refused::Silent(_)))) {
        seen.push("none runs here".to_owned());
    }
    check.seen = seen.join(", ");
    check
}
