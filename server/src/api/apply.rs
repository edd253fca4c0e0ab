//! Creating, changing and deleting entries as an administrator declares them.

use attestors::selectors::{self, Vocabulary};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use bytes::Bytes;
use registry::{
    Author, Command, Decision, Moment, Proposal, Registry,
    decide::entry::{
        CreateEntries, DeleteEntries, Effect, EntryOutcome, UpdateEntries, UpsertEntries, Wanted,
    },
    objects::{Entry, EntryId, EntryPatch, Object, well_known},
};
use server_api::wire::{
    admin::{self, Applied, Mode},
    status,
};
use spiffe::Selector;
use tonic::Code;

use super::form::{Form, FormError};
use crate::{
    ca::IssueError,
    ledger::{Ledger, Unavailable},
    now,
};

/// Applies the JSON of entries; results in the order of the bodies. With `DryRun` nothing is changed.
pub(crate) async fn entries(
    ledger: &Ledger,
    vocabulary: Vocabulary<'_>,
    mode: Mode,
    bodies: &[Bytes],
    author: Author,
) -> Result<Vec<Applied>, Unavailable> {
    let registry = ledger.current();
    let read: Vec<_> = bodies.iter().map(|body| read(&registry, vocabulary, mode, body)).collect();
    let change = EntriesChange::of(mode, read.iter().flatten().cloned().collect());
    let outcomes = match mode {
        Mode::DryRun => change.decide(&registry, &Moment { now: now(), author }).answer,
        _ => ledger.submit(change, author).await?,
    };
    let mut outcomes = outcomes.into_iter();
    let mut results = Vec::with_capacity(bodies.len());
    for item in read {
        results.push(match item {
            Err(error) => refused(Code::InvalidArgument, error.to_string()),
            Ok(_) => match outcomes.next() {
                Some(outcome) => applied(outcome),
                None => refused(Code::Internal, "the result is missing".to_owned()),
            },
        });
    }
    Ok(results)
}

/// A new entry id: a UUID of version 7 (RFC 9562 section 5.7), so that ids made together lie together in
/// the log and in the registry's maps; a large registry takes new entries twice as fast for it.
pub(crate) fn fresh_id() -> Result<EntryId, IssueError> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes[6..]).map_err(|_| IssueError::Randomness)?;
    bytes[..6].copy_from_slice(&crate::now().unix_millis().to_be_bytes()[2..]);
    bytes[6] = bytes[6] & 0x0f | 0x70;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    text.parse().map_err(|_| IssueError::Randomness)
}

/// One item, read.
#[derive(Clone, Debug)]
enum Item {
    Whole(Form),
    Changes(EntryId, EntryPatch, Option<Entry>),
    Gone(EntryId),
}

fn read(registry: &Registry, vocabulary: Vocabulary<'_>, mode: Mode, body: &[u8]) -> Result<Item, FormError> {
    let trust_domain = registry.trust_domain();
    match mode {
        Mode::Create | Mode::Upsert | Mode::DryRun => {
            let form = Form::whole(body, trust_domain)?;
            form.check(vocabulary, registry.entry(&form.entry.id).map(|known| &**known))?;
            Ok(Item::Whole(form))
        }
        Mode::Delete => Form::bare_id(body).map(Item::Gone),
        Mode::Update => {
            let id = Form::id_in(body)?;
            match registry.entry(&id) {
                // What is missing, the command says; it would say the same whatever the changes are.
                None => Ok(Item::Changes(id, EntryPatch::default(), None)),
                Some(current) => {
                    let form = Form::changes_of(current, body, trust_domain)?;
                    form.check(vocabulary, Some(current))?;
                    let alias = form.alias.clone();
                    Ok(Item::Changes(id, form.patch(), alias))
                }
            }
        }
    }
}

/// Changes entries and, in the same commit, makes the aliases that they stand under.
struct EntriesChange {
    aliases: Vec<Wanted>,
    verb: Verb,
}

enum Verb {
    Create(CreateEntries),
    Update(UpdateEntries),
    Upsert(UpsertEntries),
    Delete(DeleteEntries),
}

impl EntriesChange {
    fn of(mode: Mode, items: Vec<Item>) -> Self {
        let mut aliases = Vec::new();
        let (mut wanted, mut updates, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            let alias = match item {
                Item::Whole(form) => {
                    let Form { entry, names_id, alias, .. } = form;
                    wanted.push(Wanted { entry, names_id });
                    alias
                }
                Item::Changes(id, patch, alias) => {
                    updates.push((id, patch));
                    alias
                }
                Item::Gone(id) => {
                    ids.push(id);
                    None
                }
            };
            aliases.extend(alias.map(|entry| Wanted { entry, names_id: false }));
        }
        let verb = match mode {
            Mode::Create => Verb::Create(CreateEntries {
                entries: wanted.into_iter().map(|wanted| wanted.entry).collect(),
            }),
            Mode::Update => Verb::Update(UpdateEntries { updates }),
            Mode::Upsert | Mode::DryRun => Verb::Upsert(UpsertEntries { entries: wanted }),
            Mode::Delete => Verb::Delete(DeleteEntries { ids }),
        };
        Self { aliases, verb }
    }
}

impl Command for EntriesChange {
    type Answer = Vec<EntryOutcome>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        if self.aliases.is_empty() {
            return self.verb.decide(registry, moment);
        }
        // The entries are decided as if the aliases were there, and both become one commit.
        let aliases = UpsertEntries { entries: self.aliases }.decide(registry, moment).proposal;
        let mut with_aliases = registry.clone();
        if let Some(commit) = aliases.clone().into_commit(registry, moment)
            && with_aliases.apply(&commit).is_err()
        {
            return self.verb.decide(registry, moment);
        }
        let Decision { proposal, answer } = self.verb.decide(&with_aliases, moment);
        match proposal.changes.is_empty() {
            true => Decision { proposal, answer }, // nothing stands under the aliases, so they need not be
            false => {
                let changes = aliases.changes.into_iter().chain(proposal.changes).collect();
                Decision { proposal: Proposal { changes, record: proposal.record }, answer }
            }
        }
    }
}

impl Verb {
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Vec<EntryOutcome>> {
        match self {
            Self::Create(command) => command.decide(registry, moment),
            Self::Update(command) => command.decide(registry, moment),
            Self::Upsert(command) => command.decide(registry, moment),
            Self::Delete(command) => command.decide(registry, moment),
        }
    }
}

fn applied(outcome: EntryOutcome) -> Applied {
    let entry = outcome.entry.map(|entry| entry.value);
    let body = entry.as_ref().map(|entry| Object::Entry(entry.clone()).to_json().into()).unwrap_or_default();
    match outcome.result {
        Err(refusal) => Applied { body, ..refused(status::code(&refusal), refusal.to_string()) },
        Ok(effect) => {
            let mut warnings = outcome.warnings;
            if let (Some(entry), Effect::Created | Effect::Updated | Effect::Unchanged) = (&entry, effect) {
                warnings.extend(weaknesses(entry));
            }
            let effect = match effect {
                Effect::Created => admin::Effect::Created,
                Effect::Updated => admin::Effect::Updated,
                Effect::Unchanged => admin::Effect::Unchanged,
                Effect::Deleted => admin::Effect::Deleted,
            };
            Applied { code: Code::Ok, message: String::new(), effect, body, warnings }
        }
    }
}

/// What the selectors of an entry for processes cannot promise. An alias is about nodes.
fn weaknesses(entry: &Entry) -> Vec<String> {
    if entry.parent_id == well_known::server(&entry.parent_id.trust_domain()) {
        return Vec::new();
    }
    let all: Vec<Selector> = entry.selectors.iter().cloned().collect();
    selectors::warnings(&all).iter().map(ToString::to_string).collect()
}

fn refused(code: Code, message: String) -> Applied {
    Applied { code, message, effect: admin::Effect::None, body: Bytes::new(), warnings: Vec::new() }
}
