//! Listening for the clinic's network before it is there.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind};
use tokio::net::TcpSocket;

use super::address::is_here;
use crate::error::Error;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// A port on the clinic's network that is taken, and at which nobody is let in yet: whoever comes is refused at once, and does not
/// wait for an answer that nobody gives. What an app has to be shown there, the certificate, is in the database.
#[derive(Debug)]
pub struct Ahead {
    /// Where it is.
    pub address: SocketAddr,
    socket: TcpSocket,
}

impl Ahead {
    /// Takes a port, also on an address that no interface has yet: with the cable out it is not there at the start, and what is saved
    /// on this box does not wait for it.
    ///
    /// # Errors
    /// [`Error::Listen`] if it is taken.
    pub fn bind(address: SocketAddr) -> Result<Ahead, Error> {
        let ahead = bind(address).map_err(|source| Error::Listen { address, source })?;
        if !is_here(address.ip()) {
            tracing::warn!(%address, "no interface has this address; apps on the network find the gateway when one has it");
        }
        Ok(ahead)
    }

    /// Lets connections in.
    ///
    /// # Errors
    /// [`Error::Listen`] if another program listens there by now.
    pub fn listen(self) -> Result<StdListener, Error> {
        let Ahead { address, socket } = self;
        let listen = || socket.listen(BACKLOG)?.into_std();
        listen().map_err(|source| Error::Listen { address, source })
    }
}

fn bind(address: SocketAddr) -> io::Result<Ahead> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A kernel that cannot do it refuses the address below, if it is not there.
    let _ = if address.is_ipv4() { set_ip_freebind(&socket, true) } else { set_ipv6_freebind(&socket, true) };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(Ahead { address: socket.local_addr()?, socket })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn an_address_that_is_not_there_is_waited_for_and_one_that_is_taken_is_not() {
        // Documentation has this one for itself (RFC 5737).
        let ahead = Ahead::bind("192.0.2.7:0".parse().unwrap()).unwrap();
        assert_ne!(ahead.address.port(), 0);
        ahead.listen().unwrap();
        let first = Ahead::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = first.address;
        let _listener = first.listen().unwrap();
        assert!(matches!(Ahead::bind(taken), Err(Error::Listen { .. })));
    }

    #[tokio::test]
    async fn who_comes_before_anybody_is_let_in_is_refused_at_once() {
        let ahead = Ahead::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = ahead.address;
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let _listener = ahead.listen().unwrap();
        TcpStream::connect(address).unwrap();
    }
}
