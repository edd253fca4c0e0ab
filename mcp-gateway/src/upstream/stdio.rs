//! A server that is a command: it speaks on its standard input and output, one message a line.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::Stdio as Pipe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    sync::CancellationToken,
};

use super::{
    Failure, Reply,
    link::{self, Said},
};
use crate::{
    config::{BadConfig, Limits, Upstream},
    secret::Secret,
};

/// The command, and the process that it is while it runs. It is started when it is first asked something, and
/// anew after it has ended.
pub(super) struct Stdio {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    directory: Option<PathBuf>,
    answer_bytes: usize,
    running: tokio::sync::Mutex<Started>,
    changes: Arc<AtomicU64>,
}

#[derive(Default)]
struct Started {
    process: Option<Arc<Process>>,
    at: Option<Instant>,
}

/// A running command. It is killed when nobody holds this any more.
struct Process {
    say: mpsc::Sender<Vec<u8>>,
    asked: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    last: AtomicU64,
    ended: CancellationToken,
}

impl Stdio {
    pub(super) fn open(config: &Upstream, limits: &Limits) -> Result<Self, BadConfig> {
        Ok(Self {
            command: config.command.clone(),
            env: config.env.clone(),
            secrets: Secret::read_all(&config.secret_env)?,
            directory: config.directory.clone(),
            answer_bytes: limits.answer_bytes,
            running: tokio::sync::Mutex::default(),
            changes: Arc::default(),
        })
    }

    pub(super) async fn request(&self, method: &str, params: &[u8]) -> Result<Reply, Failure> {
        self.process().await.map_err(Failure::NotSent)?.request(method, params).await
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// The process that runs; a new one where none does.
    async fn process(&self) -> Result<Arc<Process>, String> {
        let mut running = self.running.lock().await;
        if let Some(process) = &running.process
            && !process.ended.is_cancelled()
        {
            return Ok(process.clone());
        }
        running.process = None;
        if let Some(at) = running.at {
            tokio::time::sleep_until(at + BETWEEN_STARTS).await; // a command that ends at once must not spin
        }
        running.at = Some(Instant::now());
        let process = self.start()?;
        self.changes.fetch_add(1, SeqCst);
        let greeted = tokio::time::timeout(GREETED_WITHIN, process.greet());
        greeted.await.map_err(|_| format!("{} did not answer initialize", self.command[0]))??;
        running.process = Some(process.clone());
        Ok(process)
    }

    fn start(&self) -> Result<Arc<Process>, String> {
        let Some((program, arguments)) = self.command.split_first() else { return Err("no command".into()) };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.env).kill_on_drop(true);
        command.envs(self.secrets.iter().map(|(name, secret)| (name, secret.reveal())));
        command.stdin(Pipe::piped()).stdout(Pipe::piped()).stderr(Pipe::inherit());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{program} has no pipes"));
        };
        let (say, said) = mpsc::channel(MESSAGES_WAITING);
        let process = Arc::new(Process {
            say,
            asked: Mutex::default(),
            last: AtomicU64::new(0),
            ended: CancellationToken::new(),
        });
        tokio::spawn(write(stdin, said));
        let lines = FramedRead::new(stdout, LinesCodec::new_with_max_length(self.answer_bytes));
        tokio::spawn(read(process.clone(), lines, child, self.changes.clone(), program.clone()));
        Ok(process)
    }
}

impl Process {
    async fn greet(&self) -> Result<(), String> {
        let greeting = link::greeting().to_string().into_bytes();
        match self.request("initialize", &greeting).await {
            Ok(Reply::Result(_)) => {}
            Ok(Reply::Error(error)) => return Err(format!("it refuses initialize: {error}")),
            Err(failure) => return Err(failure.to_string()),
        }
        let ready = link::notification("notifications/initialized", &json!({}));
        self.say.send(ready).await.map_err(|_| "it has ended".to_owned())
    }

    async fn request(&self, method: &str, params: &[u8]) -> Result<Reply, Failure> {
        let id = self.last.fetch_add(1, SeqCst) + 1;
        let (told, answer) = oneshot::channel();
        let waiting = Waiting { process: self, id };
        self.asked.lock().insert(id, told);
        let ended = || Failure::Lost("the upstream's process has ended".to_owned());
        if self.ended.is_cancelled() || self.say.send(link::request(id, method, params)).await.is_err() {
            return Err(Failure::NotSent("the upstream's process has ended".to_owned()));
        }
        let answer = answer.await.map_err(|_| ended());
        drop(waiting);
        answer
    }
}

/// Somebody waits for an answer; if they leave, the server is told.
struct Waiting<'a> {
    process: &'a Process,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let was_waiting = self.process.asked.lock().remove(&self.id).is_some();
        if was_waiting {
            let cancelled = link::notification("notifications/cancelled", &json!({ "requestId": self.id }));
            // With a full queue the server is stuck, and learns nothing anyway.
            let _ = self.process.say.try_send(cancelled);
        }
    }
}

async fn write(mut stdin: ChildStdin, mut said: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut message) = said.recv().await {
        message.push(b'\n');
        if stdin.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// Reads until the command ends, or says what no server says; then it is killed, and whoever waits learns of it.
async fn read(
    process: Arc<Process>,
    mut lines: FramedRead<ChildStdout, LinesCodec>,
    mut child: Child,
    changes: Arc<AtomicU64>,
    program: String,
) {
    let why = loop {
        match lines.next().await {
            Some(Ok(line)) if line.trim().is_empty() => {}
            Some(Ok(line)) => match link::read(line.as_bytes()) {
                Ok(Said::Answer(id, reply)) => {
                    let told = process.asked.lock().remove(&id);
                    told.map(|told| told.send(reply));
                }
                Ok(Said::Request(id)) => {
                    let _ = process.say.try_send(link::denial(&id));
                }
                Ok(Said::ToolsChanged) => drop(changes.fetch_add(1, SeqCst)),
                Ok(Said::Nothing) => {}
                Err(why) => break why,
            },
            Some(Err(error)) => break error.to_string(),
            None => break "it has ended".to_owned(),
        }
    };
    tracing::warn!(program, why, "an upstream is gone; it is started anew when it is needed");
    process.ended.cancel();
    process.asked.lock().clear();
    let _ = child.kill().await;
}

const BETWEEN_STARTS: Duration = Duration::from_secs(1);
const GREETED_WITHIN: Duration = Duration::from_secs(30);
const MESSAGES_WAITING: usize = 64;
