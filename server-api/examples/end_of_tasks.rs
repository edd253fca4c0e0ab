//! How soon every agent knows that a task is over: real agents' connections that follow, and one task that an
//! administrator ends, again and again. Run by `cargo xtask bench tasks`:
//! `end_of_tasks ADMIN_SOCKET SERVER_ADDRESS PIN AGENTS ROUNDS` prints JSON.

#![expect(clippy::print_stdout, reason = "its figures are its product")]

use std::{
    error::Error,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use registry::{
    Object,
    decide::task::Wish,
    objects::{Mandate, Sha256, TaskId, TaskState, well_known},
};
use rustls::{ClientConfig, pki_types::CertificateDer};
use serde_json::{Value, json};
use server_api::{
    ServerAddress,
    admin::{self, Mode, Turned},
    attest,
    connect::connect,
    node, tasks,
    wire::delta::Change,
};
use spiffe::{
    Bundles, Pin, PrivateKey, Timestamp, TrustDomain,
    tls::{
        Expected, SvidVerifier, client_config, fixed_identity, insecure_client_config_without_server_identity,
    },
};
use tokio::sync::mpsc;
use tonic::transport::Channel;

type Failure = Box<dyn Error + Send + Sync>;

/// An agent saw that a task is over.
struct Seen {
    task: TaskId,
    at: Instant,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, address, pin, agents, rounds] = arguments.as_slice() else {
        return Err("end_of_tasks ADMIN_SOCKET SERVER_ADDRESS PIN AGENTS ROUNDS".into());
    };
    let (agents, rounds): (usize, usize) = (agents.parse()?, rounds.parse()?);
    let mut admin = admin::Client::connect(Path::new(socket)).await?;
    let host = Host { admin: admin.clone(), address: address.parse()?, pin: pin.parse()? };
    let mut channels = Vec::new();
    for n in 0..agents {
        channels.push(host.join(&format!("bench-{n}")).await?);
    }
    govern(&mut admin, agents).await?;
    let (seen, mut sight) = mpsc::channel(agents * 4);
    for channel in &channels {
        let follow = node::Client::new(channel.clone()).follow(None, None).await?;
        tokio::spawn(watch(follow, seen.clone()));
    }
    let mut home = tasks::Client::new(channels.first().ok_or("no agents")?.clone());
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let key = PrivateKey::generate()?.public_key()?;
        let before = Instant::now();
        let task = home.begin(&task_id(round), &wish()?, &key).await?.task;
        begun.push(before.elapsed());
        let before = Instant::now();
        admin.turn_task(task.id.as_str(), Turned::Ended, "measured").await?;
        for _ in 0..agents {
            let seen = tokio::time::timeout(Duration::from_secs(30), sight.recv()).await?;
            let seen = seen.ok_or("nobody follows")?;
            if seen.task != task.id {
                return Err("another task is over".into());
            }
            ended.push(seen.at.duration_since(before));
        }
    }
    println!("{}", json!({ "begun": figures(begun), "ended": figures(ended) }));
    Ok(())
}

/// The server, as administrators and as agents reach it.
struct Host {
    admin: admin::Client,
    address: ServerAddress,
    pin: Pin,
}

impl Host {
    /// A node that joined with a token of its own.
    async fn join(&self, name: &str) -> Result<Channel, Failure> {
        let token = self.admin.clone().create_token(name, 600).await?.token;
        let stranger = Arc::new(insecure_client_config_without_server_identity()?);
        let mut stranger = node::Client::new(connect(&self.address, stranger).await?);
        let bundle = stranger.bundle().await?.verify(&self.pin)?;
        let trust_domain = bundle.trust_domain.clone();
        let bundles: Arc<Bundles> = Arc::new([bundle].into_iter().collect());
        let key = PrivateKey::generate()?;
        let pair = rcgen::KeyPair::try_from(key.pkcs8())?;
        let csr = rcgen::CertificateParams::default().serialize_request(&pair)?.der().to_vec();
        let channel = connect(&self.address, tls(&bundles, &trust_domain, None)?).await?;
        let chain = attest::Client::new(channel).join(&token, &csr).await?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Ok(connect(&self.address, tls(&bundles, &trust_domain, Some((chain, &key)))?).await?)
    }
}

fn tls(
    bundles: &Arc<Bundles>,
    trust_domain: &TrustDomain,
    identity: Option<(Vec<CertificateDer<'static>>, &PrivateKey)>,
) -> Result<Arc<ClientConfig>, Failure> {
    let bundles = bundles.clone();
    let server = Expected::Exactly(well_known::server(trust_domain));
    let verifier = SvidVerifier::new(Arc::new(move || bundles.clone()), Arc::new(now), server);
    let identity = match identity {
        None => None,
        Some((chain, key)) => {
            let fixed: Arc<dyn rustls::client::ResolvesClientCert> = fixed_identity(chain, key)?;
            Some(fixed)
        }
    };
    Ok(Arc::new(client_config(Arc::new(verifier), identity)?))
}

/// A tenant whose actor is placed on every node, with a mandate that it may begin by itself.
async fn govern(admin: &mut admin::Client, agents: usize) -> Result<(), Failure> {
    let scope = json!([{ "tool": "files/*" }]);
    let actor = json!({
        "id": "/bench", "tenant": "bench", "owner": "the bench", "purpose": "to be measured", "autonomy": 1,
        "ceiling": { "scope": scope, "environments": ["default"] }, "review_at": "2099-01-01",
    });
    let terms = json!({
        "actor": "/bench", "purpose": "bench", "begin": { "itself": true }, "scope": scope,
        "environments": ["default"], "ttl": "1h", "tier": 0,
    });
    let entry = |n| {
        let parent = format!("bench-{n}");
        json!({ "id": parent, "spiffe_id": "/bench", "parent": parent, "selectors": ["unix:uid:0"] })
    };
    apply(admin, "tenant", vec![json!({ "name": "bench" })]).await?;
    apply(admin, "actor", vec![actor]).await?;
    apply(admin, "entry", (0..agents).map(entry).collect()).await?;
    apply(admin, "mandate", vec![json!({ "name": "bench", "terms": terms })]).await?;
    let listed = admin.list("mandate", vec!["bench".to_owned()]).await?;
    let mandate: Mandate = serde_json::from_slice(&listed.first().ok_or("no mandate")?.body)?;
    if let Some(draft) = &mandate.draft {
        let read = Sha256::of(&draft.terms.statement(&mandate.name, draft.version)?);
        admin.approve_mandate("bench", draft.version, &read.to_string()).await?;
    }
    Ok(())
}

async fn apply(admin: &mut admin::Client, kind: &str, bodies: Vec<Value>) -> Result<(), Failure> {
    let bodies = bodies.iter().map(|body| Bytes::from(body.to_string())).collect();
    for applied in admin.apply(Mode::Upsert, kind, bodies).await? {
        if let Some((_, why)) = applied.refused() {
            return Err(format!("{kind}: {why}").into());
        }
    }
    Ok(())
}

/// Tells of every task that is over, until the stream ends.
async fn watch(mut follow: node::Follow, seen: mpsc::Sender<Seen>) {
    while let Ok(Some(step)) = follow.next().await {
        let at = Instant::now();
        let Change::Delta(delta) = step.change else { continue };
        for stored in delta.put {
            if let Object::Task(task) = stored.object
                && matches!(task.state, TaskState::Ended { .. })
                && seen.send(Seen { task: task.id.clone(), at }).await.is_err()
            {
                return;
            }
        }
    }
}

fn wish() -> Result<Wish, Failure> {
    Ok(Wish {
        mandate: "bench".parse()?,
        entry: "bench-0".parse()?,
        params: Default::default(),
        scope: None,
        ttl: None,
        note: String::new(),
        parent: None,
        beginner: None,
        isolation: serde_json::from_value(json!("process"))?,
        egress: serde_json::from_value(json!("open"))?,
    })
}

/// A ULID of now; process and round stand where chance would.
fn task_id(round: usize) -> TaskId {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = |value: u64, count: u32| -> String {
        (0..count).rev().map(|place| char::from(DIGITS[(value >> (5 * place) & 31) as usize])).collect()
    };
    let millis = u64::try_from(now().unix_millis()).unwrap_or_default();
    let id = digits(millis, 10) + &digits(std::process::id().into(), 8) + &digits(round as u64, 8);
    id.parse().expect("26 digits, the first of which stays below 8 until the year 10889")
}

fn figures(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let total: f64 = times.iter().map(Duration::as_secs_f64).sum();
    let count = times.len();
    json!({ "operations": count, "rate": count as f64 / total, "p50_us": at(50), "p99_us": at(99) })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_unix_millis(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0)))
}
