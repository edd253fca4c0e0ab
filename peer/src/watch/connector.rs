//! The kernel's proc connector: it tells which processes executed a program or changed their ids.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{
        prctl,
        socket::{setsockopt, sockopt},
    },
    unistd::getpid,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
    netlink::{CONNECTOR, SocketAddrNetlink},
    recv, send, socket_with,
};
use tokio::io::Interest;

use crate::ready::{self, Readable};

/// An open subscription.
#[derive(Debug)]
pub(super) struct Connector {
    socket: Readable,
}

/// What happened to a process, when, on the monotonic clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Event {
    pub(super) what: What,
    pub(super) pid: u32,
    pub(super) at: Duration,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// It executed a program.
    Exec,
    /// Its uids or gids changed.
    Ids,
    /// One of its threads got a name. Only asked for to see that anything arrives.
    Name,
}

impl Connector {
    /// Subscribes. `room` is for what has been told and not yet read.
    pub(super) fn open(room: usize) -> Result<Self, String> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| format!("cannot {doing}: {error}");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))
            .map_err(|error| failed("open the kernel's proc connector", &error))?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))
            .map_err(|error| failed("listen to the kernel's proc connector", &error))?;
        // The first needs CAP_NET_ADMIN and knows no limit; the second gives what every process gets.
        let enlarged = setsockopt(&socket, sockopt::RcvBufForce, &room);
        if enlarged.or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &room)).is_err() {
            tracing::debug!("the proc connector has the room that it came with");
        }
        let heard = subscribe(&socket).map_err(|error| failed("use the kernel's proc connector", &error))?;
        if !heard {
            return Err("the kernel's proc connector is silent; it speaks to root of the host, outside of \
                        pid, user and network namespaces"
                .to_owned());
        }
        let socket = ready::watch(Arc::new(socket))
            .map_err(|error| failed("watch the kernel's proc connector", &error))?;
        Ok(Self { socket })
    }

    /// Returns when there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// The next event; `None` when there is none. ENOBUFS means that some were lost.
    pub(super) fn read(&self) -> io::Result<Option<Event>> {
        let read = self.socket.try_io(Interest::READABLE, |socket| read(socket));
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }
}

/// Asks for the events that matter, and whether they come: a kernel that does not serve this process
/// says nothing at all.
fn subscribe(socket: &OwnedFd) -> io::Result<bool> {
    // Since Linux 6.6 the kernel sorts out what nobody here asked for; before, it does not take the filter.
    for filter in [Some(WANTED | NAME), None] {
        send(socket, &request(filter), SendFlags::empty())?;
        // This gives a thread the name that it has, which is an event as good as any.
        prctl::set_name(&prctl::get_name()?)?;
        if heard_of_myself(socket)? {
            if filter.is_some() {
                send(socket, &request(Some(WANTED)), SendFlags::empty())?;
            }
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the event of this process's own making is among what was told; it was there before its cause
/// returned.
fn heard_of_myself(socket: &OwnedFd) -> io::Result<bool> {
    for _ in 0..MOST_BEFORE_OWN {
        match read(socket) {
            Ok(event) if event.what == What::Name && event.pid == getpid().as_raw() as u32 => {
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(true),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The next event of those that are known. Who sent it does not matter: all that it can do is to have a
/// process looked at once more.
fn read(socket: &OwnedFd) -> io::Result<Event> {
    let mut buffer = [0; LARGEST];
    loop {
        let (bytes, _) = recv(socket.as_fd(), &mut buffer[..], RecvFlags::empty())?;
        if let Some(event) = buffer.get(..bytes).and_then(parse) {
            return Ok(event);
        }
    }
}

/// `struct nlmsghdr`, `struct cn_msg`, `struct proc_event`; `None` for what is of no interest.
fn parse(message: &[u8]) -> Option<Event> {
    let event = message.get(NETLINK_HEADER + CONNECTOR_HEADER..)?;
    let number =
        |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(event.get(at..at + 4)?.try_into().ok()?)) };
    let what = match number(0)? {
        EXEC => What::Exec,
        UID | GID => What::Ids,
        NAME => What::Name,
        _ => return None,
    };
    let at = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    // First the thread, then its process.
    Some(Event { what, pid: number(20)?, at: Duration::from_nanos(at) })
}

/// "Tell me", with what about where the kernel takes that.
fn request(filter: Option<u32>) -> Vec<u8> {
    let words: Vec<u32> = [LISTEN].into_iter().chain(filter).collect();
    let length = 4 * words.len();
    let mut message = Vec::with_capacity(64);
    let whole = (NETLINK_HEADER + CONNECTOR_HEADER + length) as u32;
    message.extend(whole.to_ne_bytes());
    message.extend((libc::NLMSG_DONE as u16).to_ne_bytes());
    message.extend([0; 10]); // flags, sequence, port
    for word in [PROC, GROUP, 0, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.extend((length as u16).to_ne_bytes());
    message.extend([0; 2]); // flags
    words.into_iter().for_each(|word| message.extend(word.to_ne_bytes()));
    message
}

const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
/// `CN_IDX_PROC`, which is also its multicast group, with `CN_VAL_PROC`.
const PROC: u32 = 1;
const GROUP: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`
const LISTEN: u32 = 1;
const EXEC: u32 = 0x2;
const UID: u32 = 0x4;
const GID: u32 = 0x40;
const NAME: u32 = 0x200;
const WANTED: u32 = EXEC | UID | GID;
/// The largest event with its headers has 100 bytes.
const LARGEST: usize = 256;
/// On a machine so busy there is no need to look further.
const MOST_BEFORE_OWN: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(what: u32, pid: u32, tgid: u32, at: u64) -> Vec<u8> {
        let mut bytes = vec![0; NETLINK_HEADER + CONNECTOR_HEADER];
        bytes.extend(what.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(at.to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(tgid.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn an_event_is_of_the_process_and_not_of_the_thread() {
        let event = parse(&message(UID, 12, 7, 1_000_000_000));
        assert_eq!(event, Some(Event { what: What::Ids, pid: 7, at: Duration::from_secs(1) }));
        assert_eq!(parse(&message(0x8000_0000, 12, 7, 0)), None);
    }

    #[test]
    fn a_message_cut_anywhere_never_panics() {
        let whole = message(EXEC, 1, 1, 1);
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
    }
}
