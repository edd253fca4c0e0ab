//! The context of one decision.

use std::collections::BTreeSet;

use cedar_policy::{Context, RestrictedExpression};
use registry::scope::{Effect, Label, Tier};

use super::entities::{THIS_CALL, entity, label, number, record, text, uid};
use crate::{
    call::{Argument, ToolCall},
    judge::Situation,
    now::Now,
};

/// Everything about a call besides who calls what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) call: &'a ToolCall,
    pub(crate) effect: Effect,
    pub(crate) tier: Tier,
    pub(crate) cross_tenant: bool,
    pub(crate) label: &'a Label,
    pub(crate) result: &'a Label,
    pub(crate) situation: &'a Situation<'a>,
    pub(crate) now: Now,
    pub(crate) depth: u8,
    pub(crate) done: &'a Done,
}

/// What a chain has done so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Done {
    pub(crate) reads: u32,
    pub(crate) changes: u32,
    pub(crate) denials: u32,
    pub(crate) effects: BTreeSet<Effect>,
}

/// The schema's context, as far as it is wanted; with somebody's approval where `approved_by` is given.
pub(crate) fn context(
    moment: &Moment<'_>,
    wanted: impl Fn(&str) -> bool,
    approved_by: Option<&str>,
) -> Context {
    let situation = moment.situation;
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: &dyn Fn() -> RestrictedExpression| {
        if wanted(name) {
            facts.push((name.to_owned(), value()));
        }
    };
    fact("effect", &|| text(moment.effect.as_str()));
    fact("tier", &|| number(i64::from(u8::from(moment.tier))));
    fact("cross_tenant", &|| RestrictedExpression::new_bool(moment.cross_tenant));
    fact(ARGUMENTS, &|| arguments(moment.call));
    fact("label", &|| label(moment.label));
    fact("untrusted", &|| RestrictedExpression::new_bool(moment.label.is_tainted()));
    fact("result", &|| label(moment.result));
    fact("environment", &|| text(situation.environment.as_str()));
    fact("isolation", &|| text(situation.isolation.as_str()));
    fact("egress", &|| text(situation.egress.as_str()));
    fact("pep_remote", &|| RestrictedExpression::new_bool(situation.remote));
    fact("time", &|| time(moment.now));
    fact("depth", &|| number(i64::from(moment.depth)));
    fact("chain", &|| chain(moment.done));
    fact("claimed", &|| claimed(moment.call));
    if let Some(by) = approved_by {
        fact("approval", &|| record([("by", text(by))]));
    }
    // INVARIANT: plain values under different names; see `entities`.
    Context::from_pairs(facts).expect("plain values evaluate to themselves")
}

/// The fact whose values are entities of their own.
pub(crate) const ARGUMENTS: &str = "args";

fn arguments(call: &ToolCall) -> RestrictedExpression {
    let names = call.arguments().iter().map(|(name, _)| text(name.as_str()));
    let has_no_form = |argument: &Argument| match argument {
        Argument::Plain(_) => false,
        Argument::List(items) => items.iter().any(Option::is_none),
        Argument::Other => true,
    };
    let other = call.arguments().iter().filter(|(_, argument)| has_no_form(argument));
    record([
        ("text", entity(&uid("TextArguments", THIS_CALL))),
        ("number", entity(&uid("NumberArguments", THIS_CALL))),
        ("list", entity(&uid("ListArguments", THIS_CALL))),
        ("names", RestrictedExpression::new_set(names)),
        ("other", RestrictedExpression::new_set(other.map(|(name, _)| text(name.as_str())))),
    ])
}

fn time(now: Now) -> RestrictedExpression {
    let seconds = now.wall.unix_seconds();
    let days = seconds.div_euclid(24 * 60 * 60);
    record([
        ("epoch", number(seconds)),
        ("hour", number(seconds.rem_euclid(24 * 60 * 60) / 3600)),
        ("weekday", number((days + 3).rem_euclid(7) + 1)), // 1970 began on a Thursday
    ])
}

fn chain(done: &Done) -> RestrictedExpression {
    record([
        ("actions", number(i64::from(done.reads) + i64::from(done.changes))),
        ("reads", number(i64::from(done.reads))),
        ("changes", number(i64::from(done.changes))),
        ("denials", number(i64::from(done.denials))),
        ("effects", RestrictedExpression::new_set(done.effects.iter().map(|effect| text(effect.as_str())))),
    ])
}

fn claimed(call: &ToolCall) -> RestrictedExpression {
    let claims = call.claims();
    let confidence = claims.confidence.map(|percent| ("confidence".to_owned(), number(i64::from(percent))));
    let note = claims.note.as_ref().map(|note| ("note".to_owned(), text(note)));
    RestrictedExpression::new_record(confidence.into_iter().chain(note)).expect("two names that differ")
}
