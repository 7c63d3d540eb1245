//! Whoever is at the other end of a connection.

use std::{net::SocketAddr, sync::Arc};

use crate::access::PeerCertificates;

/// Whoever is at the other end of a connection, as every call of it knows.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// The certificates it showed, if it did.
    pub certificates: Option<Arc<PeerCertificates>>,
}
