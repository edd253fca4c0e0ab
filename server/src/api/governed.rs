//! Tenants, actors, mandates, resources and policies as administrators write them: an object's JSON without what is
//! the log's own, in which SPIFFE IDs may be paths, lifetimes durations, and reviews days.

mod fields;

use bytes::Bytes;
use registry::{
    Author, Command, Decision, Key, Moment, Refusal, Registry,
    decide::{
        actor::{DeleteActor, UpsertActor},
        applied::Applied,
        entry::Effect,
        mandate::{DeleteMandate, DraftMandate},
        resource::{DeleteResource, UpsertResource},
        tenant::{DeleteTenant, UpsertTenant},
    },
};
use server_api::wire::{
    admin::{self, Mode},
    status,
};
use tonic::Code;

use super::policies::{self, DeletePolicy, UpsertPolicy};
use crate::{
    ledger::{Ledger, Unavailable},
    now,
};

/// The kinds of objects that are declared here.
pub(crate) const KINDS: [&str; 5] = ["tenant", "actor", "mandate", "resource", "policy"];

/// Applies declarations, each of the kind that stands beside it, in their order; results in that order. With `DryRun`
/// nothing is changed, and each is decided as if those before it were there.
pub(crate) async fn apply(
    ledger: &Ledger,
    mode: Mode,
    bodies: &[(String, Bytes)],
    author: Author,
) -> Result<Vec<admin::Applied>, Unavailable> {
    let mut foreseen = (mode == Mode::DryRun).then(|| Registry::clone(&ledger.current()));
    let mut results = Vec::with_capacity(bodies.len());
    for (kind, body) in bodies {
        let registry = ledger.current();
        let change = match Change::read(&registry, mode, kind, body) {
            Ok(change) => change,
            Err(why) => {
                results.push(refused(Code::InvalidArgument, why));
                continue;
            }
        };
        let applied = match &mut foreseen {
            Some(foreseen) => foresee(foreseen, change, &author),
            None => ledger.submit(change, author.clone()).await?,
        };
        results.push(match applied {
            Err(refusal) => refused(status::code(&refusal), refusal.to_string()),
            Ok(applied) => shown(foreseen.as_ref().unwrap_or(&ledger.current()), applied),
        });
    }
    Ok(results)
}

/// Decides on what is there and what was foreseen before.
fn foresee(foreseen: &mut Registry, change: Change, author: &Author) -> Result<Applied, Refusal> {
    let moment = Moment { now: now(), author: author.clone() };
    let Decision { proposal, answer } = change.decide(foreseen, &moment);
    if let Some(commit) = proposal.into_commit(foreseen, &moment)
        && let Err(error) = foreseen.apply(&commit)
    {
        return Err(Refusal::Precondition(error.to_string()));
    }
    answer
}

/// One change of one object.
#[derive(Clone, Debug)]
enum Change {
    Tenant(UpsertTenant),
    Actor(Box<UpsertActor>),
    Mandate(Box<DraftMandate>),
    Resource(Box<UpsertResource>),
    Policy(UpsertPolicy),
    Delete(Key),
}

impl Change {
    fn read(registry: &Registry, mode: Mode, kind: &str, body: &[u8]) -> Result<Self, String> {
        let trust_domain = registry.trust_domain();
        match mode {
            Mode::Delete => fields::key(kind, body, trust_domain).map(Self::Delete),
            Mode::Create | Mode::Update => {
                Err(format!("objects of kind {kind} are declared; use UPSERT, DELETE or DRY_RUN"))
            }
            Mode::Upsert | Mode::DryRun => match kind {
                "tenant" => fields::tenant(body).map(Self::Tenant),
                "actor" => fields::actor(body, trust_domain).map(Box::new).map(Self::Actor),
                "mandate" => fields::mandate(body, trust_domain).map(Box::new).map(Self::Mandate),
                "resource" => fields::resource(body, trust_domain).map(Box::new).map(Self::Resource),
                "policy" => {
                    let policy = fields::policy(body)?;
                    policies::check(registry, [(&policy.id, &policy.said)])
                        .map_err(|fault| fault.to_string())?;
                    Ok(Self::Policy(policy))
                }
                _ => Err(format!(
                    "objects of kind {kind:?} cannot be applied; entry, {} can",
                    KINDS.join(", ")
                )),
            },
        }
    }
}

impl Command for Change {
    type Answer = Result<Applied, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        match self {
            Self::Tenant(command) => command.decide(registry, moment),
            Self::Actor(command) => command.decide(registry, moment),
            Self::Mandate(command) => command.decide(registry, moment),
            Self::Resource(command) => command.decide(registry, moment),
            Self::Policy(command) => command.decide(registry, moment),
            Self::Delete(key) => {
                let Decision { proposal, answer } = match key.clone() {
                    Key::Tenant(name) => DeleteTenant { name }.decide(registry, moment),
                    Key::Actor(id) => DeleteActor { id }.decide(registry, moment),
                    Key::Mandate(name) => DeleteMandate { name }.decide(registry, moment),
                    Key::Resource(name) => DeleteResource { name }.decide(registry, moment),
                    Key::Policy(id) => DeletePolicy { id }.decide(registry, moment),
                    _ => {
                        let answer = Err(Refusal::Invalid(format!("{key} cannot be deleted here")));
                        return Decision { proposal: Default::default(), answer };
                    }
                };
                let applied = |()| Applied { key, effect: Effect::Deleted, warnings: Vec::new() };
                Decision { proposal, answer: answer.map(applied) }
            }
        }
    }
}

fn shown(registry: &Registry, applied: Applied) -> admin::Applied {
    let body = registry.object(&applied.key).map(|stored| stored.object.to_json().into());
    let effect = match applied.effect {
        Effect::Created => admin::Effect::Created,
        Effect::Updated => admin::Effect::Updated,
        Effect::Unchanged => admin::Effect::Unchanged,
        Effect::Deleted => admin::Effect::Deleted,
    };
    let (body, warnings) = (body.unwrap_or_default(), applied.warnings);
    admin::Applied { code: Code::Ok, message: String::new(), effect, body, warnings }
}

fn refused(code: Code, message: String) -> admin::Applied {
    admin::Applied { code, message, effect: admin::Effect::None, body: Bytes::new(), warnings: Vec::new() }
}
