//! The demo's story, told from top to bottom.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use daemon::Layout;
use nix::unistd::geteuid;
use registry::objects::Entry;
use serde_json::json;
use server_api::admin::{Client, Mode};
use spiffe::{SpiffeId, Timestamp};

use super::{
    Demo,
    actor::{Event, Order},
    program::{Binary, Program},
    stage::{Fact, Stage, fact, took},
    tasks,
};
use crate::{
    cli::{Shared, admin, explain::Seen},
    up::{Host, Plan},
    wire,
};

/// A program that has its identity.
struct Known {
    program: Program,
    id: SpiffeId,
    entry: Entry,
    not_after: Timestamp,
}

pub(crate) async fn run(demo: Demo, shared: &Shared) -> Result<ExitCode> {
    let mut stage = Stage::new(shared.output);
    let dir = tempfile::Builder::new()
        .prefix("writ-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    stage.say(&format!("Everything happens in {}, which is removed at the end.", dir.path().display()))?;

    // From here on a signal ends the demo in order, so that nothing is left behind.
    let (_trigger, shutdown) = daemon::Shutdown::on_signals().context("cannot listen for signals")?;
    let host = start_host(&mut stage, dir.path(), demo.insecure_peer_by_pid).await?;
    let told = tokio::select! {
        told = tell(&mut stage, dir.path(), &host) => told,
        () = shutdown.requested() => Err(anyhow::Error::msg("the demo was interrupted")),
    };
    host.stop().await;
    dir.close().context("cannot remove the temporary directory")?;
    told?;
    stage.say(&format!("\n{}", stage.paint().green("That was all of it, and nothing is left of it.")))?;
    Ok(ExitCode::SUCCESS)
}

async fn start_host(stage: &mut Stage, dir: &Path, insecure_peer_by_pid: bool) -> Result<Host> {
    let started = Instant::now();
    let layout = Layout::under(dir);
    daemon::private_dir(&layout.state)?;
    daemon::private_dir(&layout.private)?;
    daemon::public_dir(&layout.public)?;
    let trust_domain = "demo.writ".parse()?;
    let host = Host::start(Plan {
        layout,
        trust_domain,
        listen: ([127, 0, 0, 1], 0).into(),
        insecure_peer_by_pid,
        logs: "error",
    });
    let host = host.await?;
    let ready = host.ready();
    let facts = [
        fact(
            "server",
            format!(
                "pid {}, on {}, known by its pin {}",
                ready.server_pid, ready.server_address, ready.server_pin
            ),
        ),
        fact("agent", format!("pid {}, serves {}", ready.agent_pid, ready.workload_api)),
        fact("both ready", format!("after {}", took(started.elapsed()))),
    ];
    stage.done(
        "A server and an agent start; the agent joins with a token and checks the server's pin",
        &facts,
        "",
    )?;
    Ok(host)
}

async fn tell(stage: &mut Stage, dir: &Path, host: &Host) -> Result<()> {
    let ready = host.ready();
    let mut server = Client::connect(&ready.server_admin).await?;
    let [orders, checkout, stranger] = ["orders", "checkout", "stranger"].map(|name| Binary::make(dir, name));
    let (orders, checkout, stranger) = (orders?, checkout?, stranger?);

    let orders_by = format!("unix:path:{}", orders.path.display());
    let orders_entry = register(&mut server, "/orders", &orders_by).await?;
    let checkout_entry =
        register(&mut server, "/checkout", &format!("unix:sha256:{}", checkout.sha256)).await?;
    stage.done(
        "An administrator says who may be what: two programs, told apart by path and by sum",
        &[&orders_entry, &checkout_entry].map(|entry| {
            let selectors: Vec<&str> = entry.selectors.iter().map(|selector| selector.as_str()).collect();
            fact(entry.spiffe_id.as_str(), selectors.join("\n"))
        }),
        "",
    )?;

    let (mut orders, orders_fact) = attested(&orders, orders_entry, &ready.workload_api).await?;
    let (mut checkout, checkout_fact) = attested(&checkout, checkout_entry, &ready.workload_api).await?;
    stage.done(
        "Both start. Nobody gives them a secret; the agent sees what they are",
        &[orders_fact, checkout_fact],
        "",
    )?;

    let address = mutual_tls(stage, &mut orders, &mut checkout).await?;
    refuse_a_stranger(stage, &stranger, host).await?;
    take_back(stage, &mut server, &mut checkout, &orders.id, &address).await?;
    tasks::tell(stage, dir, ready).await
}

async fn register(server: &mut Client, path: &str, selector: &str) -> Result<Entry> {
    let body = json!({
        "spiffe_id": path,
        "parent": "local",
        "selectors": [format!("unix:uid:{}", geteuid()), selector],
    });
    let applied = admin::apply_one(server, Mode::Create, "entry", serde_json::to_vec(&body)?).await?;
    serde_json::from_slice(&applied.body).context("the server's answer is no entry")
}

/// Starts a program, which must receive the identity of its entry.
async fn attested(binary: &Binary, entry: Entry, workload_api: &str) -> Result<(Known, Fact)> {
    let started = Instant::now();
    let mut program = Program::start(binary, workload_api)?;
    let mut event = program.event().await?;
    if let Event::NoIdentity { reason } = event {
        // It asked before the entry had come to the agent, and asks again.
        event =
            program.event().await.with_context(|| format!("{} was refused: {reason}", entry.spiffe_id))?;
    }
    let Event::Identity { spiffe_id: id, not_after } = expected(event)? else {
        bail!("{} did not receive its identity", entry.spiffe_id);
    };
    let time = started.elapsed();
    if id != entry.spiffe_id {
        bail!("{} became {id} instead of {}", binary.path.display(), entry.spiffe_id);
    }
    let text = format!(
        "pid {} is {id}\n{} after its start, with an X509-SVID until {not_after}",
        program.pid()?,
        took(time)
    );
    Ok((Known { program, id, entry, not_after }, fact(&name(binary), text)))
}

/// The programs speak; gives back where the first one listens.
async fn mutual_tls(stage: &mut Stage, orders: &mut Known, checkout: &mut Known) -> Result<String> {
    orders.program.order(&Order::Listen { client: checkout.id.clone() }).await?;
    let Event::Listening { address } = expected(orders.program.event().await?)? else {
        bail!("orders does not listen")
    };
    let (verified, first) = greet(orders, checkout, &address).await?;
    let (_, second) = greet(orders, checkout, &address).await?;
    let time = format!("{}, a second one {}; the first starts random generators", took(first), took(second));
    let [by_orders, by_checkout] = verified;
    let facts = [
        by_orders,
        by_checkout,
        fact("connection", format!("TLS 1.3 to {address}, both ways authenticated")),
        fact("it took", time),
    ];
    stage.done("They speak mutual TLS, each as itself", &facts, "")?;
    Ok(address)
}

/// One call: whom each side verified and what it heard, and how long all of it took.
async fn greet(orders: &mut Known, checkout: &mut Known, address: &str) -> Result<([Fact; 2], Duration)> {
    let started = Instant::now();
    checkout.program.order(&Order::Call { address: address.to_owned(), server: orders.id.clone() }).await?;
    let Event::Answered { peer: server, said: answer } = expected(checkout.program.event().await?)? else {
        bail!("checkout was not answered");
    };
    let time = started.elapsed();
    let Event::Served { peer: client, said } = expected(orders.program.event().await?)? else {
        bail!("orders did not answer");
    };
    let by_orders = fact("orders verified", format!("{client}, who said: {said}"));
    Ok(([by_orders, fact("checkout verified", format!("{server}, who said: {answer}"))], time))
}

/// A third program of the same user has no entry: it is refused, and an administrator can see why.
async fn refuse_a_stranger(stage: &mut Stage, binary: &Binary, host: &Host) -> Result<()> {
    let started = Instant::now();
    let mut program = Program::start(binary, &host.ready().workload_api)?;
    let reason = match program.event().await? {
        Event::NoIdentity { reason } => reason,
        other => bail!("the stranger was not refused: {other:?}"),
    };
    let time = started.elapsed();
    let pid = program.pid()?;
    let explained = wire::explain::explain(&host.ready().agent_admin, Some(pid)).await?;
    let seen: Seen = serde_json::from_slice(&explained).context("the agent's explanation")?;
    let facts = [
        fact("stranger", format!("pid {pid}, uid {}, refused {} after its start", geteuid(), took(time))),
        fact("the agent said", reason),
        fact("so we ask", format!("writ explain --pid {pid}")),
    ];
    stage.done("A third program of the same user asks, and is refused", &facts, &seen.to_text())
}

/// An entry is deleted, and its holder loses the identity.
async fn take_back(
    stage: &mut Stage,
    server: &mut Client,
    checkout: &mut Known,
    orders: &SpiffeId,
    address: &str,
) -> Result<()> {
    let started = Instant::now();
    admin::apply_one(server, Mode::Delete, "entry", serde_json::to_vec(&checkout.entry.id)?).await?;
    let durable = started.elapsed();
    let reason = match checkout.program.event().await? {
        Event::NoIdentity { reason } => reason,
        other => bail!("checkout did not lose its identity: {other:?}"),
    };
    let lost = started.elapsed();
    checkout.program.order(&Order::Call { address: address.to_owned(), server: orders.clone() }).await?;
    let Event::Failed { reason: failed } = checkout.program.event().await? else {
        bail!("checkout still speaks as itself");
    };
    let facts = [
        fact("deletion durable", format!("after {}", took(durable))),
        fact("checkout's stream ended", format!("after {}: {reason}", took(lost))),
        fact("checkout calls again", failed),
        fact(
            "not taken back",
            format!(
                "the certificate it was given ends at {}; that is why SVIDs are short-lived",
                checkout.not_after
            ),
        ),
    ];
    stage.done("The entry of checkout is deleted, and checkout loses its identity", &facts, "")
}

/// A failure ends the story with its reason.
fn expected(event: Event) -> Result<Event> {
    match event {
        Event::Failed { reason } => bail!("a program of the demo failed: {reason}"),
        Event::NoIdentity { reason } => bail!("a program of the demo was refused: {reason}"),
        event => Ok(event),
    }
}

fn name(binary: &Binary) -> String {
    binary.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
