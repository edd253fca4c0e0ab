//! Mandates: drafted, approved, withdrawn.

mod rules;

use serde_json::json;

use super::{
    Command, Decision, Moment, Refusal,
    applied::{Applied, check_text, deleted, refused},
    task::Turns,
};
use crate::{
    index::Holder,
    objects::{Approved, Draft, Key, Mandate, MandateName, Reason, Sha256, Terms},
    registry::Registry,
};

/// Makes a mandate what a declaration asks for: a draft, which counts once it is approved. Terms that are
/// approved or drafted already change nothing.
#[derive(Clone, Debug)]
pub struct DraftMandate {
    /// Its name.
    pub name: MandateName,
    /// What is asked for.
    pub terms: Terms,
}

/// Approves the draft that somebody has read: exactly that one.
#[derive(Clone, Debug)]
pub struct ApproveMandate {
    /// Which.
    pub name: MandateName,
    /// The draft's version.
    pub version: u64,
    /// SHA-256 of [`Terms::statement`] as it was read.
    pub sha256: Sha256,
    /// By the server's pin key over [`crate::objects::mandate::approval`], base64.
    pub signature: String,
    /// Who approves.
    pub by: String,
}

/// Takes the approval back: all tasks under the mandate end. Its terms become a draft again.
#[derive(Clone, Debug)]
pub struct WithdrawMandate {
    /// Which.
    pub name: MandateName,
}

/// Forgets a mandate; all tasks under it end.
#[derive(Clone, Debug)]
pub struct DeleteMandate {
    /// Which.
    pub name: MandateName,
}

impl Registry {
    /// The mandate, where it is there.
    pub(super) fn known_mandate(&self, name: &MandateName) -> Result<&Mandate, Refusal> {
        let mandate = self.mandate(name).map(|mandate| &*mandate.value);
        mandate
            .ok_or_else(|| Refusal::NotFound(format!("there is no mandate {name}; see: writ mandate list")))
    }

    /// The draft that an approval would be about, with the bytes that it would sign.
    pub fn to_approve(&self, name: &MandateName) -> Result<(&Draft, Vec<u8>), Refusal> {
        let draft = self.known_mandate(name)?.draft.as_ref();
        let none =
            || Refusal::Precondition(format!("the mandate {name} has no draft; change it with: writ apply"));
        let draft = draft.ok_or_else(none)?;
        let statement = draft.terms.statement(name, draft.version);
        statement.map(|bytes| (draft, bytes)).map_err(|error| Refusal::Invalid(error.to_string()))
    }
}

impl Command for DraftMandate {
    type Answer = Result<Applied, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { name, terms } = self;
        let key = Key::Mandate(name.clone());
        let current = registry.mandate(&name).map(|mandate| &*mandate.value);
        let warnings = rules::warnings(&name, &terms, registry);
        let approved = current.and_then(|mandate| mandate.approved.as_ref());
        let drafted = current.and_then(|mandate| mandate.draft.as_ref());
        let newest = drafted.map(|draft| &draft.terms).or(approved.map(|approved| &approved.terms));
        if newest == Some(&terms) {
            return Applied::unchanged(key, warnings);
        }
        let tenant = match rules::check(&name, &terms, registry) {
            Ok(tenant) => tenant.clone(),
            Err(why) => return refused("mandate.draft", &key, why),
        };
        if let Some(current) = current.filter(|current| current.tenant != tenant) {
            let why = format!(
                "the mandate {name} belongs to the tenant {}; its actor cannot be {tenant}'s",
                current.tenant
            );
            return refused("mandate.draft", &key, Refusal::Precondition(why));
        }
        let versions = drafted.map(|draft| draft.version).into_iter().chain(approved.map(|a| a.version));
        let version = versions.max().unwrap_or(0) + 1;
        // What is approved already waits for nobody.
        let is_approved = approved.is_some_and(|approved| approved.terms == terms);
        let mandate = Mandate {
            name,
            tenant,
            approved: approved.cloned(),
            draft: (!is_approved).then_some(Draft { version, terms }),
            created_at: current.map_or(moment.now, |mandate| mandate.created_at),
        };
        registry.applied("mandate.draft", mandate, warnings, Default::default())
    }
}

impl Command for ApproveMandate {
    /// The version that counts now.
    type Answer = Result<u64, Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let facts =
            json!({ "mandate": self.name, "version": self.version, "sha256": self.sha256, "by": self.by });
        let read = check_text("the approver", &self.by, 256).and_then(|()| registry.to_approve(&self.name));
        let is_read = |(draft, statement): &(&Draft, Vec<u8>)| {
            draft.version == self.version && Sha256::of(statement).matches(&self.sha256)
        };
        let draft = match read {
            Ok(read) if is_read(&read) => read.0.clone(),
            Ok((draft, _)) => {
                let why = format!(
                    "the draft of the mandate {name} is another one by now, version {now}; read it with: writ mandate show {name}",
                    name = self.name,
                    now = draft.version,
                );
                return Decision::refused("mandate.approve", facts, Refusal::Precondition(why));
            }
            Err(why) => return Decision::refused("mandate.approve", facts, why),
        };
        if let Err(why) = rules::check(&self.name, &draft.terms, registry) {
            return Decision::refused("mandate.approve", facts, why);
        }
        let approved = Approved {
            version: draft.version,
            terms: draft.terms,
            sha256: self.sha256,
            signature: self.signature,
            by: self.by,
            at: moment.now,
            one_person: true,
        };
        let version = approved.version;
        let changed = registry.known_mandate(&self.name).map(|mandate| Mandate {
            approved: Some(approved),
            draft: None,
            ..mandate.clone()
        });
        match changed {
            Ok(mandate) => {
                Decision::done("mandate.approve", facts, vec![registry.put_change(mandate)], version)
            }
            Err(why) => Decision::refused("mandate.approve", facts, why),
        }
    }
}

impl Command for WithdrawMandate {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let mandate = match registry.known_mandate(&self.name) {
            Ok(mandate) => mandate,
            Err(why) => return refused("mandate.withdraw", &Key::Mandate(self.name), why),
        };
        let Some(approved) = &mandate.approved else { return Decision::unchanged(()) };
        let mut turns = Turns::new(registry, moment.now);
        turns.end_held_by(&Holder::Mandate(self.name.clone()), Reason::MandateWithdrawn);
        let (mut changes, tasks) = turns.done();
        // Under another version, so that no old approval fits it.
        let again = Draft { version: approved.version + 1, terms: approved.terms.clone() };
        let facts = json!({ "mandate": self.name, "version": approved.version, "tasks": tasks });
        let draft = mandate.draft.clone().or(Some(again));
        changes.insert(0, registry.put_change(Mandate { approved: None, draft, ..mandate.clone() }));
        Decision::done("mandate.withdraw", facts, changes, ())
    }
}

impl Command for DeleteMandate {
    type Answer = Result<(), Refusal>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let key = Key::Mandate(self.name.clone());
        if let Err(why) = registry.known_mandate(&self.name) {
            return refused("mandate.delete", &key, why);
        }
        let mut turns = Turns::new(registry, moment.now);
        turns.end_held_by(&Holder::Mandate(self.name), Reason::MandateWithdrawn);
        deleted("mandate.delete", key, turns.done())
    }
}
