//! What the audit trail says of decisions and outcomes. Explanations are for the operator; the gate hears codes.

use audit::{Decision, Kind, Labels, Record, TenantKey};
use authz::{Chain, Code, Decision as Decided, Denial, Lowered, ToolCall, Verdict};
use peer::Peer;
use registry::{
    objects::TaskId,
    scope::{Label, ResourceName},
};
use spiffe::SpiffeId;

use super::{How, story::Question};
use crate::{clock, tasks::Live};

/// One decision, with everything on which it rests.
pub(super) fn decision(
    chain: &Chain,
    live: &Live,
    question: &Question,
    verdict: &Verdict,
    key: Option<&TenantKey>,
) -> Record {
    let mut record = Record::new(Kind::Decision, clock::now());
    if let Some(grant) = chain.grant(&verdict.task) {
        record.mandate = Some(format!("{}@{}", grant.mandate, grant.mandate_version));
        let mut above = grant.parent.as_ref();
        while let Some(parent) = above.and_then(|parent| chain.grant(parent)) {
            record.on_behalf_of.push(parent.actor.to_string());
            above = parent.parent.as_ref();
        }
    }
    if let Some((actor, tenant)) = &verdict.actor {
        (record.actor, record.tenant) = (Some(actor.to_string()), Some(tenant.to_string()));
    }
    record.chain = Some(verdict.chain.to_string());
    record.task = Some(verdict.task.to_string());
    record.task_seq = Some(verdict.seq);
    record.spiffe_id = Some(live.spiffe_id.to_string());
    record.enforcement_point = Some(question.gate.to_string());
    record.pid = Some(question.client.pid());
    record.args_digest = key.map(|key| key.digest_canonical(question.call.arguments().canonical()));
    record.tool = Some(verdict.tool.to_string());
    record.resource = Some(verdict.tool.resource().to_string());
    record.effect = Some(verdict.effect.as_str().to_owned());
    record.labels_in = Some(labels(&verdict.label));
    record.policy_version = Some(verdict.policy_version.clone());
    match &verdict.decision {
        Decided::Permit { policies, .. } => {
            record.decision = Some(Decision::Allow);
            record.policy_ids = policies.iter().map(ToString::to_string).collect();
            // What it will have read at least. Where a crash leaves no outcome, this counts.
            record.labels_out = Some(labels(&verdict.label.join(&verdict.result)));
        }
        Decided::Deny(denial) => {
            record.decision = Some(Decision::Deny);
            record.policy_ids = denial.policies.iter().map(ToString::to_string).collect();
            record.reason = Some(sentence(denial));
        }
    }
    record
}

/// Somebody without a task asked.
pub(super) fn stranger(question: &Question, denial: &Denial) -> Record {
    let mut record = Record::new(Kind::Decision, clock::now());
    record.enforcement_point = Some(question.gate.to_string());
    record.pid = Some(question.client.pid());
    record.tool = Some(question.call.tool().to_string());
    record.resource = Some(question.call.tool().resource().to_string());
    record.decision = Some(Decision::Deny);
    record.reason = Some(sentence(denial));
    record
}

/// What a client sent is no call, whoever it is.
pub(super) fn malformed(
    gate: &SpiffeId,
    client: &Peer,
    live: Option<&Live>,
    resource: &ResourceName,
    why: &str,
) -> Record {
    let record =
        live.map_or_else(|| Record::new(Kind::Decision, clock::now()), |live| of(live, Kind::Decision));
    Record {
        spiffe_id: live.map(|live| live.spiffe_id.to_string()),
        enforcement_point: Some(gate.to_string()),
        pid: Some(client.pid()),
        resource: Some(resource.to_string()),
        decision: Some(Decision::Deny),
        reason: Some(sentence(&Denial::new(Code::Malformed, why))),
        ..record
    }
}

/// What became of the call that this record permitted.
pub(super) fn outcome(decided: &Record, how: How, label: Option<&Label>, after_end: bool) -> Record {
    Record {
        kind: Kind::Outcome,
        time: clock::now(),
        outcome: Some(how.recorded()),
        labels_in: None,
        labels_out: label.map(labels),
        decision: None,
        policy_ids: Vec::new(),
        policy_version: None,
        args_digest: None,
        after_end,
        ..decided.clone()
    }
}

/// A task's label rose by what another one read.
pub(super) fn raised(live: &Live, label: &Label) -> Record {
    Record { labels_out: Some(labels(label)), ..of(live, Kind::LabelRaise) }
}

/// What an owner's transformer takes off the data of the call that this record permits. The labels are the data's: the
/// task's own stays as it is.
pub(super) fn lowered(decided: &Record, call: &ToolCall, lowers: &Lowered) -> Record {
    let Lowered { drop, definition, from, to } = lowers;
    let drop = serde_json::to_string(drop).unwrap_or_default();
    let why = format!("declassified by {} with definition {definition}: {drop}", call.tool());
    Record {
        kind: Kind::LabelLower,
        labels_in: Some(labels(from)),
        labels_out: Some(labels(to)),
        decision: None,
        reason: Some(why.chars().take(SENTENCE).collect()),
        ..decided.clone()
    }
}

/// A task, and with it all below, may do nothing but wait or end.
pub(super) fn suspension(live: &Live, highest: &TaskId) -> Record {
    Record {
        task: Some(highest.to_string()),
        reason: Some("probing".to_owned()),
        ..of(live, Kind::TaskSuspend)
    }
}

fn of(live: &Live, kind: Kind) -> Record {
    let grant = &live.grant;
    Record {
        chain: Some(grant.root.to_string()),
        task: Some(grant.id.to_string()),
        tenant: Some(grant.tenant.to_string()),
        actor: Some(grant.actor.to_string()),
        mandate: Some(format!("{}@{}", grant.mandate, grant.mandate_version)),
        ..Record::new(kind, clock::now())
    }
}

fn sentence(denial: &Denial) -> String {
    let text = format!("{}: {}", denial.code, denial.explanation);
    text.chars().take(SENTENCE).collect()
}

pub(super) fn labels(label: &Label) -> Labels {
    Labels {
        confidentiality: label.confidentiality.into(),
        categories: label.categories.iter().map(ToString::to_string).collect(),
        sources: label.sources.iter().map(ToString::to_string).collect(),
    }
}

/// The same, read again; what is no name any more is left out.
pub(super) fn label(labels: &Labels) -> Label {
    Label {
        confidentiality: labels.confidentiality.try_into().unwrap_or(registry::scope::Confidentiality::MAX),
        categories: labels.categories.iter().filter_map(|name| name.parse().ok()).collect(),
        sources: labels.sources.iter().filter_map(|name| name.parse().ok()).collect(),
    }
}

/// A sentence that nobody needs longer; the record has room for it.
const SENTENCE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let written = Label {
            confidentiality: 2.try_into().unwrap(),
            categories: ["payroll".parse().unwrap()].into(),
            sources: ["tickets".parse().unwrap(), "web".parse().unwrap()].into(),
        };
        assert_eq!(label(&labels(&written)), written);
    }
}
