//! Ending what a process has open to others: its connections over IP are shut down, in both directions.
//!
//! A descriptor is duplicated out of the process (pidfd_getfd) and shut down, which works in every network namespace
//! and on every kernel that has pidfds. A connection that was handed to a process elsewhere, and one that is on its way
//! over a Unix socket, is not found.

use std::io;

use rustix::{
    fs::{Dir, Mode, OFlags, openat},
    net::{AddressFamily, Shutdown, SocketType, shutdown, sockopt},
};

use crate::Peer;

impl Peer {
    /// Shuts down every TCP connection that it has open, and says how many there were. Sockets that listen stay:
    /// nobody speaks over them.
    pub fn cut_connections(&self) -> io::Result<usize> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = Dir::read_from(openat(self.dir(), "fd", flags, Mode::empty())?)?;
        let mut cut = 0;
        for entry in descriptors {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that was closed meanwhile is no concern any more.
            cut += usize::from(self.cut(number).unwrap_or(false));
        }
        Ok(cut)
    }

    fn cut(&self, number: u32) -> io::Result<bool> {
        let socket = self.descriptor(number)?;
        let is_ip = matches!(sockopt::socket_domain(&socket)?, AddressFamily::INET | AddressFamily::INET6);
        let is_stream = sockopt::socket_type(&socket)? == SocketType::STREAM;
        if !is_ip || !is_stream || sockopt::socket_acceptconn(&socket)? {
            return Ok(false);
        }
        match shutdown(&socket, Shutdown::Both) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_connection_ends_on_both_sides_and_the_listener_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut near = TcpStream::connect(address).expect("connects");
        let (mut far, _) = listener.accept().expect("accepts");
        let own = Peer::open(std::process::id()).expect("this process");
        assert!(own.cut_connections().expect("readable") >= 2);
        assert_eq!(far.read(&mut [0; 1]).expect("its end"), 0);
        assert_eq!(near.read(&mut [0; 1]).expect("its end"), 0);
        TcpStream::connect(address).expect("the listener still listens");
    }
}
