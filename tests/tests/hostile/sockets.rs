//! Bytes on the sockets of a server: broken HTTP/2, broken HTTP, and what is neither.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use keybroker::{
    access::Access,
    server::{self, Limits, Listeners, Outlets},
};
use keybroker_tests::harness::api::{MODEL, ask};
use tokio::{net::TcpListener, runtime::Runtime};

use super::{
    calls::{KEY, World, frame},
    driver::Target,
};

pub(crate) const SOCKETS: Target = Target { name: "sockets", share: 10, examples };
pub(crate) const HTTP: Target = Target { name: "http", share: 10, examples: Vec::new };

/// How long the server may take to close a connection on which everything was said.
const WITHIN: Duration = Duration::from_secs(15);
/// No answer to such bytes is longer.
const LONGEST_ANSWER: u64 = 16 * 1024 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn h2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers without compression: each name and value is written out.
fn headers(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // POST and http are in the static table, as are the names of the path and the authority.
    let mut block = vec![0x83, 0x86, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("broker"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "50m")] {
        block.push(0);
        block.extend([text(name), text(value)].concat());
    }
    block
}

fn examples() -> Vec<Vec<u8>> {
    let acquire = headers("/keybroker.v1.KeyBroker/Acquire");
    let message = frame(&ask(MODEL));
    let call = |stream: u32| {
        [h2(HEADERS, END_HEADERS, stream, &acquire), h2(DATA, END_STREAM, stream, &message)].concat()
    };
    let begin = [PREFACE, &h2(SETTINGS, 0, 0, &[])].concat();
    let list = headers("/keybroker.v1.Admin/ListKeys");
    vec![
        [begin.clone(), call(1)].concat(),
        [begin.clone(), call(1), call(3), call(5)].concat(),
        [begin.clone(), h2(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]), call(1)].concat(),
        [begin.clone(), h2(PING, 0, 0, &[7; 8]), h2(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]), call(1)].concat(),
        [begin, h2(HEADERS, END_HEADERS, 1, &list), h2(DATA, END_STREAM, 1, &[0; 5])].concat(),
    ]
}

struct Server {
    runtime: Runtime,
    world: World,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (world, grpc, http) = runtime.block_on(async {
            let world = World::new().await;
            let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listeners = Listeners { grpc: bind().await, http: bind().await };
            let (grpc, http) = (listeners.grpc.local_addr().unwrap(), listeners.http.local_addr().unwrap());
            let never = std::future::pending();
            tokio::spawn(server::run(
                world.fleet.clone(),
                Access::default(),
                Outlets::default(),
                listeners,
                Limits::default(),
                never,
                WITHIN,
            ));
            (world, grpc, http)
        });
        Self { runtime, world, grpc, http }
    }

    /// Says all of it, and then nothing more; the server has to answer and to let go.
    fn bear(address: SocketAddr, input: &[u8]) -> Result<(), String> {
        Self::answer(address, input).map(drop)
    }

    fn answer(address: SocketAddr, input: &[u8]) -> Result<Vec<u8>, String> {
        let mut stream =
            TcpStream::connect(address).map_err(|error| format!("it does not listen: {error}"))?;
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        stream.set_write_timeout(Some(WITHIN)).unwrap();
        // It may close as soon as it has heard enough.
        let said = stream.write_all(input);
        if said.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)) {
            return Err("it reads nothing".to_owned());
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match stream.take(LONGEST_ANSWER + 1).read_to_end(&mut answer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err("it does not let go".to_owned())
            }
            _ if answer.len() as u64 > LONGEST_ANSWER => Err("it answers without end".to_owned()),
            _ => Ok(answer),
        }
    }
}

#[test]
fn what_is_not_hurt_is_answered_with_a_lease() {
    let server = Server::start();
    // Without the end of what is said: the server may let go then before it has answered.
    let mut stream = TcpStream::connect(server.grpc).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.write_all(&examples()[0]).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !answer.windows(KEY.len()).any(|window| window == KEY.as_bytes()) {
        let length = stream.read(&mut part).unwrap();
        assert_ne!(length, 0, "it lets go: {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
    }
}

#[test]
fn the_grpc_socket_bears_whatever_is_said() {
    let server = Server::start();
    SOCKETS.run(|input| Server::bear(server.grpc, input));
    server.runtime.block_on(server.world.still_serves());
}

#[test]
fn the_http_socket_bears_whatever_is_said() {
    let server = Server::start();
    HTTP.run(|input| Server::bear(server.http, input));
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
