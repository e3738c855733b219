//! Listening for the clinic's network before it is there.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind};
use tokio::net::TcpSocket;

use super::address::is_here;
use crate::error::Error;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Listens also on an address that no interface has yet: with the cable out it is not there at the start, and what is saved on this
/// box does not wait for it.
///
/// # Errors
/// [`Error::Listen`] if the address is taken.
pub fn listen_ahead(address: SocketAddr) -> Result<(SocketAddr, StdListener), Error> {
    let (bound, listener) = listen(address).map_err(|source| Error::Listen { address, source })?;
    if !is_here(address.ip()) {
        tracing::warn!(%address, "no interface has this address; apps on the network find the gateway when one has it");
    }
    Ok((bound, listener))
}

fn listen(address: SocketAddr) -> io::Result<(SocketAddr, StdListener)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A kernel that cannot do it refuses the address below, if it is not there.
    let _ = if address.is_ipv4() { set_ip_freebind(&socket, true) } else { set_ipv6_freebind(&socket, true) };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    Ok((listener.local_addr()?, listener.into_std()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_not_there_is_waited_for_and_one_that_is_taken_is_not() {
        // Documentation has this one for itself (RFC 5737).
        let (bound, _listener) = listen_ahead("192.0.2.7:0".parse().unwrap()).unwrap();
        assert_ne!(bound.port(), 0);
        let (taken, _listener) = listen_ahead("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(matches!(listen_ahead(taken), Err(Error::Listen { .. })));
    }
}
