//! A free port that stays reserved for one broker.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpSocket;

/// A port of 127.0.0.1 that is reserved while nothing listens on it, so that a broker can be started on it again.
///
/// The socket is bound and never listens. Linux lets a second socket bind the same address when both
/// set SO_REUSEADDR and the first does not listen: the broker can take the port, and the kernel does
/// not give it to a socket that asks for any free port.
pub struct Port {
    _reservation: TcpSocket,
    number: u16,
}

impl Port {
    pub fn reserve() -> Result<Port> {
        let reserve = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let number = socket.local_addr()?.port();
            Ok::<_, std::io::Error>(Port { _reservation: socket, number })
        };
        reserve().context("no free port on 127.0.0.1")
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
