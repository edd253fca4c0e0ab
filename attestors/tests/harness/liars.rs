//! Somebody whom attestors ask, who answers what no engine, bus or kubelet would.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tempfile::TempDir;

/// What must never be a fact.
pub(crate) const CANARY: &str = "canary-7c1e5b";

/// How it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// It takes the question and says nothing.
    Silence,
    /// It hangs up.
    Absence,
    /// Bytes of no protocol.
    Noise,
    /// A head without an end.
    Head,
    /// An answer without an end.
    Body,
    /// A list without an end.
    List,
    /// What it was not asked for, in good form.
    Others,
}

/// One that listens on a Unix socket and at an address, as long as the test runs.
pub(crate) struct Liar {
    lie: Lie,
    directory: TempDir,
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Lie {
    pub(crate) const ALL: [Self; 7] =
        [Self::Silence, Self::Absence, Self::Noise, Self::Head, Self::Body, Self::List, Self::Others];

    /// How it begins, and what it repeats for as long as anybody listens.
    fn words(self) -> (Vec<u8>, Vec<u8>) {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let other = format!(
            "{{\"Id\":\"{CANARY}\",\"State\":{{\"Running\":true,\"Pid\":1}},\"Config\":{{\"Labels\":{{\"a\":\"{CANARY}\"}}}},\
             \"items\":[{{\"metadata\":{{\"name\":\"{CANARY}\",\"namespace\":\"{CANARY}\",\"uid\":\"{CANARY}\"}},\"spec\":{{}}}}]}}"
        );
        let (begin, repeat) = match self {
            Self::Silence | Self::Absence => (String::new(), String::new()),
            Self::Noise => (format!("OK {CANARY}\r\n"), format!("l\u{2}\u{1}\u{1}{CANARY}")),
            Self::Head => ("HTTP/1.1 200 OK\r\n".to_owned(), format!("X-More: {CANARY}\r\n")),
            Self::Body => (chunked.to_owned(), chunk(&" ".repeat(16 * 1024))),
            Self::List => (
                chunked.to_owned() + &chunk("{\"items\":["),
                chunk(&format!("{{\"metadata\":{{\"name\":\"{CANARY}\"}}}},").repeat(100)),
            ),
            Self::Others => {
                (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{other}", other.len()), String::new())
            }
        };
        (begin.into_bytes(), repeat.into_bytes())
    }

    fn tell(self, mut asker: impl Read + Write) {
        let mut question = [0; 4096];
        if matches!(self, Self::Absence) || asker.read(&mut question).is_err() {
            return;
        }
        let (begin, repeat) = self.words();
        let mut said = asker.write_all(&begin);
        while said.is_ok() && !repeat.is_empty() {
            said = asker.write_all(&repeat);
        }
        // Until it is given up.
        while matches!(self, Self::Silence) && asker.read(&mut question).is_ok_and(|read| read > 0) {}
    }
}

impl Liar {
    pub(crate) fn sit(lie: Lie) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixListener::bind(directory.path().join("liar.sock")).expect("the folder is ours");
        let address = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = address.local_addr().expect("it is bound").port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = [Arc::clone(&asked), Arc::clone(&asked)];
        let [one, other] = count;
        thread::spawn(move || {
            for asker in socket.incoming().flatten() {
                one.fetch_add(1, Relaxed);
                thread::spawn(move || lie.tell(asker));
            }
        });
        thread::spawn(move || {
            for asker in address.incoming().flatten() {
                other.fetch_add(1, Relaxed);
                thread::spawn(move || lie.tell(asker));
            }
        });
        Self { lie, directory, port, asked }
    }

    pub(crate) fn lie(&self) -> Lie {
        self.lie
    }

    pub(crate) fn socket(&self) -> PathBuf {
        Path::join(self.directory.path(), "liar.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Relaxed) > 0
    }
}
