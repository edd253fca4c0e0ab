//! Commands on bundles of other trust domains. Each takes a batch; each item succeeds or fails by
//! itself, in order, and sees what the items before it did. What succeeds is one commit.
//!
//! This trust domain's own bundle follows from its authorities and is nobody's to set.

use serde_json::{Value, json};
use spiffe::{TrustDomain, bundle};

use crate::{
    commit::Change,
    decide::{Command, Decision, Moment, Proposal, Refusal},
    objects::{Bundle, Entry, Key, Object, Sha256, Versioned},
    record::Record,
    registry::Registry,
};

/// Stores bundles.
#[derive(Clone, Debug)]
pub struct PutBundles {
    /// What is to be.
    pub bundles: Vec<bundle::Bundle>,
    /// Whether one that is there is replaced; otherwise it is refused.
    pub replace: bool,
}

/// Changes parts of bundles.
#[derive(Clone, Debug)]
pub struct UpdateBundles {
    /// Which, and how.
    pub updates: Vec<BundlePatch>,
}

/// What an update changes of a bundle: the parts that are named, and no other.
#[derive(Clone, Debug)]
pub struct BundlePatch {
    /// The parts as they are to be.
    pub bundle: bundle::Bundle,
    /// Its certificates.
    pub x509_authorities: bool,
    /// Its keys.
    pub jwt_authorities: bool,
    /// Its refresh hint.
    pub refresh_hint: bool,
    /// Its sequence number.
    pub sequence: bool,
}

/// Deletes bundles.
#[derive(Clone, Debug)]
pub struct DeleteBundles {
    /// Whose.
    pub trust_domains: Vec<TrustDomain>,
    /// What becomes of entries that federate with them.
    pub entries: Federating,
}

/// What becomes of entries that federate with a trust domain whose bundle is deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Federating {
    /// Where there are any, the bundle stays.
    Forbid,
    /// They are deleted too.
    Delete,
    /// They federate with it no more.
    Dissociate,
}

/// What became of one item: the bundle as it is now, or as it was before it was deleted.
pub type BundleOutcome = Result<Versioned<Bundle>, Refusal>;

/// A document has at most so many bytes: what agents are told must fit into their messages.
const MAX_DOCUMENT: usize = 1024 * 1024;

impl Command for PutBundles {
    type Answer = Vec<BundleOutcome>;
    fn decide(self, registry: &Registry, _: &Moment) -> Decision<Self::Answer> {
        let mut batch = Batch::new(registry);
        for bundle in self.bundles {
            let trust_domain = bundle.trust_domain.clone();
            let outcome = match batch.tried.bundle(&trust_domain) {
                Some(_) if !self.replace && trust_domain != *registry.trust_domain() => {
                    Err(Refusal::AlreadyExists(format!("the bundle of {trust_domain} already exists")))
                }
                _ => batch.put(bundle),
            };
            batch.settle(&trust_domain, outcome);
        }
        batch.decided("bundle.set")
    }
}

impl Command for UpdateBundles {
    type Answer = Vec<BundleOutcome>;
    fn decide(self, registry: &Registry, _: &Moment) -> Decision<Self::Answer> {
        let mut batch = Batch::new(registry);
        for patch in self.updates {
            let trust_domain = patch.bundle.trust_domain.clone();
            let current = batch.tried.bundle(&trust_domain).map(|bundle| bundle.authorities().clone());
            let outcome = match current {
                None => Err(not_found(&trust_domain)),
                Some(current) => batch.put(patch.applied_to(current)),
            };
            batch.settle(&trust_domain, outcome);
        }
        batch.decided("bundle.update")
    }
}

impl Command for DeleteBundles {
    type Answer = Vec<BundleOutcome>;
    fn decide(self, registry: &Registry, _: &Moment) -> Decision<Self::Answer> {
        let mut batch = Batch::new(registry);
        for trust_domain in self.trust_domains {
            let outcome = batch.delete(&trust_domain, self.entries);
            batch.settle(&trust_domain, outcome);
        }
        batch.decided("bundle.delete")
    }
}

impl BundlePatch {
    fn applied_to(self, current: bundle::Bundle) -> bundle::Bundle {
        let Self { bundle: new, .. } = self;
        bundle::Bundle {
            trust_domain: current.trust_domain,
            x509_authorities: if self.x509_authorities {
                new.x509_authorities
            } else {
                current.x509_authorities
            },
            jwt_authorities: if self.jwt_authorities { new.jwt_authorities } else { current.jwt_authorities },
            refresh_hint: if self.refresh_hint { new.refresh_hint } else { current.refresh_hint },
            sequence: if self.sequence { new.sequence } else { current.sequence },
        }
    }
}

/// The registry with what the batch did so far.
struct Batch {
    tried: Registry,
    changes: Vec<Change>,
    outcomes: Vec<BundleOutcome>,
    facts: Vec<Value>,
}

impl Batch {
    fn new(registry: &Registry) -> Self {
        Self { tried: registry.clone(), changes: Vec::new(), outcomes: Vec::new(), facts: Vec::new() }
    }

    fn put(&mut self, bundle: bundle::Bundle) -> BundleOutcome {
        let trust_domain = bundle.trust_domain.clone();
        self.must_be_foreign(&trust_domain)?;
        let bundle = Bundle::new(bundle).map_err(|error| {
            Refusal::Invalid(format!("the bundle of {trust_domain} cannot be kept: {error}"))
        })?;
        let length = bundle.document().len();
        if length > MAX_DOCUMENT {
            return Err(Refusal::Invalid(format!(
                "the bundle of {trust_domain} has {length} bytes; at most {MAX_DOCUMENT} are kept"
            )));
        }
        match self.tried.bundle(&trust_domain) {
            Some(same) if *same.value == bundle => Ok(same.clone()),
            _ => {
                self.change(self.tried.put_change(bundle));
                self.tried.bundle(&trust_domain).cloned().ok_or_else(|| not_found(&trust_domain))
            }
        }
    }

    fn delete(&mut self, trust_domain: &TrustDomain, entries: Federating) -> BundleOutcome {
        self.must_be_foreign(trust_domain)?;
        let bundle = self.tried.bundle(trust_domain).cloned().ok_or_else(|| not_found(trust_domain))?;
        let federating: Vec<Versioned<Entry>> = self.tried.federating(trust_domain).cloned().collect();
        if entries == Federating::Forbid && !federating.is_empty() {
            return Err(Refusal::Precondition(format!(
                "cannot delete bundle; federated with {} registration entries",
                federating.len()
            )));
        }
        for entry in federating {
            match entries {
                Federating::Dissociate => {
                    let mut alone = Entry::clone(&entry.value);
                    alone.federates_with.remove(trust_domain);
                    self.change(self.tried.put_change(alone));
                }
                Federating::Forbid | Federating::Delete => {
                    self.change(Change::Delete(Key::Entry(entry.value.id.clone())));
                }
            }
        }
        self.change(Change::Delete(Key::Bundle(trust_domain.clone())));
        Ok(bundle)
    }

    fn must_be_foreign(&self, trust_domain: &TrustDomain) -> Result<(), Refusal> {
        match trust_domain == self.tried.trust_domain() {
            true => Err(Refusal::Invalid(format!(
                "the bundle of {trust_domain} is this server's own and follows from its authorities; see: writ \
                 authority show"
            ))),
            false => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        self.tried.set(&change);
        self.changes.push(change);
    }

    fn settle(&mut self, trust_domain: &TrustDomain, outcome: BundleOutcome) {
        self.facts.push(match &outcome {
            Err(refusal) => json!({ "trust_domain": trust_domain, "refused": refusal.to_string() }),
            Ok(bundle) => json!({
                "trust_domain": trust_domain,
                "version": bundle.version,
                "sha256": Sha256::of(&Object::Bundle(bundle.value.clone()).to_json()),
            }),
        });
        self.outcomes.push(outcome);
    }

    /// Where nothing changed and nothing was refused, nothing is recorded.
    fn decided(self, kind: &'static str) -> Decision<Vec<BundleOutcome>> {
        let refused = self.outcomes.iter().any(Result::is_err);
        if self.changes.is_empty() && !refused {
            return Decision { proposal: Proposal::default(), answer: self.outcomes };
        }
        let outcome = match self.changes.is_empty() {
            true => Err("no item of the batch could be done".to_owned()),
            false => Ok(()),
        };
        let keys = self.changes.iter().map(Change::key);
        let entries: Vec<Key> = keys.filter(|key| matches!(key, Key::Entry(_))).collect();
        let record = Record { kind, outcome, facts: json!({ "items": self.facts, "entries": entries }) };
        Decision { proposal: Proposal { changes: self.changes, record: Some(record) }, answer: self.outcomes }
    }
}

fn not_found(trust_domain: &TrustDomain) -> Refusal {
    Refusal::NotFound(format!("there is no bundle of {trust_domain}; see: writ bundle list"))
}
