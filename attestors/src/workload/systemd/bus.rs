//! [`Bus`]: a connection to the system bus for one or two questions to systemd.
//!
//! Written by hand, since it is a small part of D-Bus: three methods that take and return strings. See
//! docs/decisions for why no library does it.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::message::{Answer, Call, Head, Malformed};

/// A connection that has introduced itself.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// Why systemd gave no answer. Names and texts that came over the bus are not repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// There is no bus, or it broke off.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Somebody else's bus.
    #[error("it is not believed, since uid {0} listens there")]
    Impostor(u32),
    /// It did not let us in.
    #[error("it does not accept this agent's user")]
    NotAccepted,
    /// It said something that is not D-Bus.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It talks, but not about what it was asked.
    #[error("it does not answer what it is asked")]
    NoAnswer,
    /// systemd has no unit of this name.
    #[error("there is no such unit")]
    NoSuchUnit,
    /// systemd, or the bus in its place, refused.
    #[error("it refused")]
    Refused,
    /// It took too long.
    #[error("it did not answer in time")]
    Late,
}

impl Bus {
    /// Connects, and says who asks.
    pub(super) async fn connect(socket: &Path) -> Result<Self, Trouble> {
        let mut stream = UnixStream::connect(socket).await?;
        let (uid, own) = (stream.peer_cred()?.uid(), nix::unistd::geteuid().as_raw());
        if uid != 0 && uid != own {
            return Err(Trouble::Impostor(uid));
        }
        let introduction = format!("\0AUTH EXTERNAL {}\r\n", hex::encode(own.to_string()));
        stream.write_all(introduction.as_bytes()).await?;
        // It says nothing more before it is told to begin.
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() >= LONGEST_LINE || stream.read_buf(&mut line).await? == 0 {
                return Err(Trouble::NotAccepted);
            }
        }
        if !line.starts_with(b"OK ") {
            return Err(Trouble::NotAccepted);
        }
        stream.write_all(b"BEGIN\r\n").await?;
        let mut bus = Self { stream, serial: 0 };
        let hello = Call {
            to: BUS,
            object: "/org/freedesktop/DBus",
            interface: BUS,
            method: "Hello",
            arguments: &[],
        };
        bus.call(&hello).await?;
        Ok(bus)
    }

    /// The object that stands for a unit which systemd has loaded.
    pub(super) async fn unit(&mut self, name: &str) -> Result<String, Trouble> {
        let call = Call {
            to: SYSTEMD,
            object: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            method: "GetUnit",
            arguments: &[name],
        };
        self.call(&call).await
    }

    /// A property whose value is a text.
    pub(super) async fn property(
        &mut self,
        object: &str,
        interface: &str,
        name: &str,
    ) -> Result<String, Trouble> {
        let interfaces = "org.freedesktop.DBus.Properties";
        let arguments = &[interface, name];
        self.call(&Call { to: SYSTEMD, object, interface: interfaces, method: "Get", arguments }).await
    }

    async fn call(&mut self, call: &Call<'_>) -> Result<String, Trouble> {
        self.serial += 1;
        self.stream.write_all(&call.encode(self.serial)).await?;
        for _ in 0..MOST_OTHERS {
            let mut head = [0; Head::BYTES];
            self.stream.read_exact(&mut head).await?;
            let head = Head::parse(&head)?;
            let mut rest = vec![0; head.rest()];
            self.stream.read_exact(&mut rest).await?;
            // The bus lets only those answer who were asked; signals are for everybody.
            match head.answer(&rest)? {
                Some((serial, answer)) if serial == self.serial => {
                    return match answer {
                        Answer::Text(text) => Ok(text),
                        Answer::NoSuchUnit => Err(Trouble::NoSuchUnit),
                        Answer::Refused => Err(Trouble::Refused),
                    };
                }
                _ => {}
            }
        }
        Err(Trouble::NoAnswer)
    }
}

const BUS: &str = "org.freedesktop.DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const LONGEST_LINE: usize = 512;
/// Messages that are read in search of one answer.
const MOST_OTHERS: usize = 16;
