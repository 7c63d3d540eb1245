//! Connections: so many at a time, and none that only takes up room.
//!
//! HTTP/2's own pings find peers that are gone. What they cannot find is watched here: a peer that connects
//! and says nothing, one that takes nothing of what it is sent, and one whose connection ends by age and that
//! does not let go.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::IncomingStream;
use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{
    limits::{HELLO_WITHIN, TAKE_WITHIN},
    peer::Peer,
};
use crate::access::{Access, PeerCertificates};

/// How long nothing is accepted after accepting failed, as when the process has no descriptor left.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// How often it is logged at most that connections are turned away.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// So many bytes are a greeting: the preface of HTTP/2 and the head of its first frame.
const HELLO: usize = 24 + 9;

/// A listener, and who is connected by it.
pub(super) struct Connections {
    listener: TcpListener,
    name: &'static str,
    open: Arc<AtomicUsize>,
    most: usize,
    longest: Duration,
    told: Option<Instant>,
    access: Access,
    /// Those who agree on encryption at the moment.
    greeting: JoinSet<Option<(Connection, SocketAddr)>>,
}

impl Connections {
    /// At most so many connections at a time, each of them for so long at the longest, encrypted if the rules
    /// of access say so.
    pub(super) fn new(
        listener: TcpListener,
        name: &'static str,
        most: usize,
        longest: Duration,
        access: Access,
    ) -> Self {
        let greeting = JoinSet::new();
        Self { listener, name, open: Arc::default(), most, longest, told: None, access, greeting }
    }

    /// How many are open.
    pub(super) fn open(&self) -> Arc<AtomicUsize> {
        self.open.clone()
    }

    /// The next connection. One too many is closed at once: its client finds another broker sooner than by
    /// waiting here.
    pub(super) async fn next(&mut self) -> (Connection, SocketAddr) {
        loop {
            let accepted = tokio::select! {
                Some(greeted) = self.greeting.join_next() => match greeted {
                    Ok(Some(connected)) => return connected,
                    // It left, or never agreed.
                    Ok(None) | Err(_) => continue,
                },
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.tell(|name| tracing::warn!(name, %error, "a connection cannot be accepted"));
                    sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let place = Place::take(&self.open);
            if place.number > self.most {
                let most = self.most;
                self.tell(|name| tracing::warn!(name, most, "connections are closed: there are too many"));
                continue;
            }
            // A stream that does not take the option is slower, and works.
            let _ = stream.set_nodelay(true);
            let longest = self.longest;
            let Some(tls) = self.access.rules().tls.clone() else {
                let of = Peer { address: Some(peer), certificates: None };
                return (Connection::new(Transport::Plain(stream), of, place, longest), peer);
            };
            self.greeting.spawn(async move {
                let accepting = TlsAcceptor::from(tls.config()).accept(stream);
                let stream = timeout(HELLO_WITHIN, accepting).await.ok()?;
                let stream = stream
                    .inspect_err(|error| tracing::debug!(%peer, %error, "no encryption was agreed on"))
                    .ok()?;
                let shown = stream.get_ref().1.peer_certificates();
                let shown = shown.map(|shown| shown.iter().cloned().map(|one| one.into_owned()).collect());
                let certificates = shown.map(|shown| Arc::new(PeerCertificates::new(shown)));
                let of = Peer { address: Some(peer), certificates };
                Some((Connection::new(Transport::Tls(Box::new(stream)), of, place, longest), peer))
            });
        }
    }

    /// As a stream.
    pub(super) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, async |mut connections| {
            let (connection, _) = connections.next().await;
            Some((Ok(connection), connections))
        })
    }

    fn tell(&mut self, log: impl FnOnce(&'static str)) {
        if self.told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
            self.told = Some(Instant::now());
            log(self.name);
        }
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A place among those who are connected.
struct Place {
    open: Arc<AtomicUsize>,
    number: usize,
}

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        Self { number: open.fetch_add(1, SeqCst) + 1, open: open.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

/// What carries a connection.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with either.
macro_rules! either {
    ($transport:expr, $stream:ident => $what:expr) => {
        match $transport {
            Transport::Plain($stream) => $what,
            Transport::Tls($stream) => $what,
        }
    };
}

/// One who is connected. Reading fails when it has not greeted in time, and when its time is over; writing fails
/// when it takes nothing for too long.
pub(super) struct Connection {
    stream: Transport,
    peer: Peer,
    heard: usize,
    ends_at: Instant,
    // The next instant at which reading fails.
    limit: Pin<Box<Sleep>>,
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Connection {
    fn new(stream: Transport, peer: Peer, place: Place, longest: Duration) -> Self {
        let now = Instant::now();
        let limit = Box::pin(sleep_until(now + HELLO_WITHIN));
        Self { stream, peer, heard: 0, ends_at: now + longest, limit, stalled: None, _place: place }
    }

    fn written<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(TAKE_WITHIN)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.limit.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the connection's time is over",
            )));
        }
        let before = buffer.filled().len();
        let polled = either!(&mut self.stream, stream => Pin::new(stream).poll_read(context, buffer));
        if self.heard < HELLO {
            self.heard += buffer.filled().len() - before;
            if self.heard >= HELLO {
                let ends_at = self.ends_at;
                self.limit.as_mut().reset(ends_at);
                // Its timer is to wake this task.
                let _ = self.limit.as_mut().poll(context);
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = either!(&mut self.stream, stream => Pin::new(stream).poll_write(context, bytes));
        self.written(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.stream, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.stream, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled =
            either!(&mut self.stream, stream => Pin::new(stream).poll_write_vectored(context, slices));
        self.written(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        either!(&self.stream, stream => stream.is_write_vectored())
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl axum::extract::connect_info::Connected<IncomingStream<'_, Connections>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().peer.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONGEST: Duration = Duration::from_secs(100);

    /// A client and the broker's side of its connection. Where nothing happens, time passes by itself.
    async fn connected() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connections = Connections::new(listener, "test", 1, LONGEST, Access::default());
        let (connection, _) = connections.next().await;
        (client, connection)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_let_go() {
        let (_client, mut connection) = connected().await;
        let began = Instant::now();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), HELLO_WITHIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_greets_a_byte_a_second_is_let_go() {
        let (mut client, mut connection) = connected().await;
        tokio::spawn(async move {
            while client.write_all(b"P").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        while connection.read_u8().await.is_ok() {}
        assert_eq!(began.elapsed().as_secs(), HELLO_WITHIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_greeted_may_be_silent_until_its_time_is_over() {
        let (mut client, mut connection) = connected().await;
        let began = Instant::now();
        client.write_all(&[7; HELLO]).await.unwrap();
        connection.read_exact(&mut [0; HELLO]).await.unwrap();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), LONGEST.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (_client, mut connection) = connected().await;
        let error = loop {
            let written = connection.write(&[7; 64 * 1024]).await;
            if let Err(error) = written {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_place_that_frees_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Connections::new(listener, "test", 1, LONGEST, Access::default());
        let _first = TcpStream::connect(address).await.unwrap();
        let (first, _) = connections.next().await;
        let mut second = TcpStream::connect(address).await.unwrap();
        {
            let waiting = connections.next();
            let mut byte = [0];
            let closed = second.read(&mut byte);
            let closed = tokio::select! { closed = closed => closed, _ = waiting => panic!("it was let in") };
            assert!(!matches!(closed, Ok(1..)), "{closed:?}");
        }
        drop(first);
        let _third = TcpStream::connect(address).await.unwrap();
        let (_, _) = connections.next().await;
        assert_eq!(connections.open().load(SeqCst), 0, "the third is gone as well");
    }
}
