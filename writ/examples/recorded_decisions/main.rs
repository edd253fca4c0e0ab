//! What a decision costs from a gate's side, its durable record with it: rates, latencies, and how soon an end and a new
//! policy are in effect. Run by `cargo xtask bench authorize`; it is gate and software agent in one, and prints JSON.
//!
//! `recorded_decisions ADMIN_SOCKET WORKLOAD_SOCKET AUTHZ_SOCKET SECONDS ROUNDS POLICIES`

#![expect(clippy::print_stdout, reason = "its figures are its product")]

mod wire;

use std::{
    error::Error,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use registry::objects::{Layer, Mandate, Policy, Sha256};
use serde_json::{Value, json};
use server_api::admin::{Client as Admin, Mode, Turned};
use spiffe::Timestamp;
use tokio::task::JoinSet;

use wire::{Gate, Tasks};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [holder, workload] if holder == "holder" => {
            Tasks::connect(Path::new(workload)).await?.begin().await?;
            println!("begun");
            std::future::pending::<()>().await;
        }
        [admin, workload, authz, seconds, rounds, policies] => {
            let place = Place {
                admin: Admin::connect(Path::new(admin)).await?,
                workload: workload.into(),
                authz: authz.into(),
                seconds: seconds.parse()?,
                rounds: rounds.parse()?,
            };
            println!("{}", measure(place, policies.parse()?).await?);
        }
        _ => return Err("ADMIN_SOCKET WORKLOAD_SOCKET AUTHZ_SOCKET SECONDS ROUNDS POLICIES".into()),
    }
    Ok(())
}

/// Where it is measured, and how long.
struct Place {
    admin: Admin,
    workload: PathBuf,
    authz: PathBuf,
    seconds: f64,
    rounds: usize,
}

async fn measure(mut place: Place, policies: usize) -> Result<Value, Failure> {
    govern(&mut place.admin, policies).await?;
    until_it_is_permitted(&place.workload, &place.authz).await?;
    let (one, _) = place.crowd(1, Work::Decisions).await?;
    let (eight, decisions_rate) = place.crowd(8, Work::Decisions).await?;
    let (_, calls_rate) = place.crowd(8, Work::Calls).await?;
    let (begun, ended) = place.begin_and_end().await?;
    let last_of_own = place.ended_by_itself().await?;
    let last_permit = place.ended_by_an_administrator().await?;
    let after_death = place.killed().await?;
    let (in_effect, slowest) = place.pushed(policies).await?;
    Ok(json!({
        "one": figures(one),
        "eight": figures(eight),
        "decisions_rate": decisions_rate,
        "calls_rate": calls_rate,
        "begun": figures(begun),
        "ended": figures(ended),
        "last_of_own": figures(last_of_own),
        "last_permit": figures(last_permit),
        "after_death": figures(after_death),
        "in_effect": figures(in_effect),
        "slowest_meanwhile": figures(slowest),
    }))
}

impl Place {
    /// So many processes, each with a task of its own, make one call after the other, over a session each. What is timed
    /// is the permit.
    async fn crowd(&self, clients: usize, work: Work) -> Result<(Vec<Duration>, f64), Failure> {
        let mut holders = Vec::new();
        for _ in 0..clients {
            holders.push(Holder::begin(&self.workload)?);
        }
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let mut at_work = JoinSet::new();
        for holder in &holders {
            at_work.spawn(calls(self.authz.clone(), holder.0.id(), end, work));
        }
        let times = at_work.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        let rate = times.len() as f64 / self.seconds;
        Ok((times, rate))
    }

    /// A task begins, SVID and all, and ends; again and again.
    async fn begin_and_end(&self) -> Result<(Vec<Duration>, Vec<Duration>), Failure> {
        let mut tasks = Tasks::connect(&self.workload).await?;
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let before = Instant::now();
            tasks.begin().await?;
            begun.push(before.elapsed());
            let before = Instant::now();
            tasks.end().await?;
            ended.push(before.elapsed());
        }
        Ok((begun, ended))
    }

    /// From the moment in which a process asks for its task's end to the last permit for it.
    async fn ended_by_itself(&self) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            let mut tasks = Tasks::connect(&self.workload).await?;
            tasks.begin().await?;
            let mut gate = Gate::open(&self.authz).await?;
            gate.ask("read").await??;
            let before = Instant::now();
            let ending = tokio::spawn(async move { tasks.end().await.map_err(|error| error.to_string()) });
            let mut last = before;
            while gate.ask("read").await?.is_ok() {
                last = Instant::now();
            }
            ending.await??;
            times.push(last.duration_since(before));
        }
        Ok(times)
    }

    /// From an administrator's `task end` to the last permit at home.
    async fn ended_by_an_administrator(&mut self) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            let mut tasks = Tasks::connect(&self.workload).await?;
            let task = tasks.begin().await?;
            let mut gate = Gate::open(&self.authz).await?;
            let mut admin = self.admin.clone();
            gate.ask("read").await??;
            let before = Instant::now();
            let ending = tokio::spawn(async move { admin.turn_task(&task, Turned::Ended, "measured").await });
            let mut last = before;
            while gate.ask("read").await?.is_ok() {
                last = Instant::now();
            }
            ending.await??;
            times.push(last.duration_since(before));
        }
        Ok(times)
    }

    /// From the death of a task's process to the last permit for it.
    async fn killed(&self) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            let mut holder = Holder::begin(&self.workload)?;
            let mut gate = Gate::open(&self.authz).await?.of(holder.0.id())?;
            gate.ask("read").await??;
            let before = Instant::now();
            holder.0.kill()?;
            let mut last = before;
            while gate.ask("read").await?.is_ok() {
                last = Instant::now();
            }
            drop(holder);
            times.push(last.duration_since(before));
        }
        Ok(times)
    }

    /// From a push to the first decision by it, and the slowest decision meanwhile.
    async fn pushed(&mut self, policies: usize) -> Result<(Vec<Duration>, Vec<Duration>), Failure> {
        let mut tasks = Tasks::connect(&self.workload).await?;
        tasks.begin().await?;
        let mut gate = Gate::open(&self.authz).await?;
        let (mut in_effect, mut slowest) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.min(MOST_PUSHES) {
            let forbids = round % 2 == 0;
            let (layer, texts) = (Layer::Actor("bench".parse()?), layer(policies, forbids)?);
            let mut admin = self.admin.clone();
            let before = Instant::now();
            let pushing = tokio::spawn(async move { admin.push_policies(&layer, texts).await.map(drop) });
            let mut worst = Duration::ZERO;
            loop {
                let asked = Instant::now();
                let permitted = gate.ask("write").await?.is_ok();
                worst = worst.max(asked.elapsed());
                if permitted != forbids {
                    break;
                }
                if before.elapsed() > PATIENCE {
                    return Err("a policy that was pushed never came into effect".into());
                }
            }
            in_effect.push(before.elapsed());
            slowest.push(worst);
            pushing.await??;
        }
        Ok((in_effect, slowest))
    }
}

/// A process with a task, until this is dropped.
struct Holder(Child);

impl Holder {
    fn begin(workload: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut holder = Self(command.arg("holder").arg(workload).stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        BufReader::new(holder.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        if line.is_empty() { Err("no task began".into()) } else { Ok(holder) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may be dead already
        let _ = self.0.wait();
    }
}

/// What a gate does with a permit.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// Tells its outcome, and asks the next question.
    Decisions,
    /// Waits until the answer may be released, as it must before it gives one.
    Calls,
}

/// One agent at work until some time.
async fn calls(authz: PathBuf, of: u32, end: Instant, work: Work) -> Result<Vec<Duration>, Failure> {
    let mut gate = Gate::open(&authz).await?.of(of)?;
    let mut times = Vec::new();
    while Instant::now() < end {
        let before = Instant::now();
        gate.ask("read").await??;
        times.push(before.elapsed());
        if work == Work::Calls {
            gate.released().await?;
        }
    }
    Ok(times)
}

/// A tenant with an actor that may read and write, and so many policies about others.
async fn govern(admin: &mut Admin, policies: usize) -> Result<(), Failure> {
    let scope = json!([{ "tool": "files/*" }]);
    let own = [format!("unix:uid:{}", rustix::process::geteuid().as_raw())];
    let actor = json!({
        "id": "/bench", "tenant": "bench", "owner": "the bench", "purpose": "to be measured", "autonomy": 1,
        "ceiling": { "scope": scope, "environments": ["default"] }, "review_at": "2099-01-01",
    });
    let resource = json!({
        "name": "files", "tenant": "bench", "enforcement_points": ["/gate"],
        "tools": { "read": { "effect": "read" }, "write": { "effect": "write" } },
    });
    let terms = json!({
        "actor": "/bench", "purpose": "bench", "begin": { "itself": true }, "scope": scope,
        "environments": ["default"], "ttl": "1h", "tier": 0, "budgets": { "actions": 1_000_000, "denials": 1_000_000 },
    });
    apply(admin, "tenant", json!({ "name": "bench" })).await?;
    apply(admin, "actor", actor).await?;
    apply(admin, "resource", resource).await?;
    for id in ["/bench", "/gate"] {
        apply(admin, "entry", json!({ "spiffe_id": id, "parent": "local", "selectors": own })).await?;
    }
    apply(admin, "mandate", json!({ "name": "bench", "terms": terms })).await?;
    let listed = admin.list("mandate", vec!["bench".to_owned()]).await?;
    let mandate: Mandate = serde_json::from_slice(&listed.first().ok_or("no mandate")?.body)?;
    let draft = mandate.draft.as_ref().ok_or("no draft")?;
    let read = Sha256::of(&draft.terms.statement(&mandate.name, draft.version)?);
    admin.approve_mandate("bench", draft.version, &read.to_string()).await?;
    admin.push_policies(&Layer::Actor("bench".parse()?), layer(policies, false)?).await?;
    let own = policy("resource/bench/own", "permit (principal, action, resource);")?;
    admin.push_policies(&Layer::Resource("bench".parse()?), vec![own]).await?;
    Ok(())
}

fn layer(policies: usize, forbids: bool) -> Result<Vec<Policy>, Failure> {
    let mut own = "permit (principal, action, resource);".to_owned();
    if forbids {
        own.push_str("\nforbid (principal, action == Writ::Action::\"write\", resource);");
    }
    let other = |n| {
        let actor = format!("Writ::Actor::\"spiffe://writ.local/other-{n}\"");
        let text = format!("permit (principal in {actor}, action, resource == Writ::Tool::\"files/read\");");
        policy(&format!("actor/bench/other-{n}"), &text)
    };
    std::iter::once(policy("actor/bench/own", &own)).chain((0..policies).map(other)).collect()
}

fn policy(id: &str, text: &str) -> Result<Policy, Failure> {
    let pushed_at = Timestamp::from_unix_millis(0);
    Ok(Policy { id: id.parse()?, text: text.to_owned(), lowers: Default::default(), pushed_at })
}

async fn apply(admin: &mut Admin, kind: &str, body: Value) -> Result<(), Failure> {
    for applied in admin.apply(Mode::Upsert, kind, vec![Bytes::from(body.to_string())]).await? {
        if let Some((_, why)) = applied.refused() {
            return Err(format!("{kind}: {why}").into());
        }
    }
    Ok(())
}

/// The agent hears of everything a moment later.
async fn until_it_is_permitted(workload: &Path, authz: &Path) -> Result<(), Failure> {
    let end = Instant::now() + Duration::from_secs(20);
    let mut tasks = Tasks::connect(workload).await?;
    loop {
        let tried = async {
            tasks.begin().await?;
            let asked = Gate::open(authz).await?.ask("read").await;
            tasks.end().await?;
            Ok::<_, Failure>(asked??)
        };
        match tried.await {
            Ok(_) => return Ok(()),
            Err(failure) if Instant::now() > end => return Err(failure),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn figures(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    // Where everything was over at once there is no rate, and JSON has no infinity.
    let total = times.iter().map(Duration::as_secs_f64).sum::<f64>().max(1e-9);
    let count = times.len();
    json!({ "operations": count, "rate": count as f64 / total, "p50_us": at(50), "p99_us": at(99) })
}

const PATIENCE: Duration = Duration::from_secs(10);
/// Each compiles all of a layer again.
const MOST_PUSHES: usize = 50;
