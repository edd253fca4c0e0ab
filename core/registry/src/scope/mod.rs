//! Scopes: which tools may be called, with which arguments.
//!
//! A scope is a list of rules and allows what any of them allows. Scopes are only ever narrowed: there is
//! [`Scope::intersect`], and nothing widens.

mod constraint;
mod effect;
mod label;
mod names;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use constraint::{Constraint, Scalar};
pub use effect::{Autonomy, Effect, Egress, Isolation, Tier};
pub use label::{Clearance, Confidentiality, Label};
pub use names::{
    ArgName, Category, Environment, ParamName, Purpose, ResourceName, Source, ToolName, ToolPattern,
};
pub use rule::Rule;

/// The most rules that a scope has, also as an intersection.
pub const MAX_RULES: usize = 1024;

/// Values of a mandate's parameters, by name.
pub type Params = BTreeMap<ParamName, Scalar>;

/// Which tools may be called, with which arguments: whatever one of the rules allows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Scope(Vec<Rule>);

/// A scope that cannot be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScopeError {
    /// Two scopes have too much in common.
    #[error("the scope has more than {MAX_RULES} rules; write fewer, or broader ones")]
    TooManyRules,
    /// A constraint names a parameter that has no value.
    #[error("the parameter {0} has no value")]
    NoParameter(ParamName),
    /// A parameter's value is not of the kind that the constraint needs.
    #[error("the parameter {0} is not a text, so nothing can lie under it")]
    NotText(ParamName),
}

impl Scope {
    /// A scope of these rules.
    pub fn new(rules: Vec<Rule>) -> Result<Self, ScopeError> {
        if rules.len() > MAX_RULES { Err(ScopeError::TooManyRules) } else { Ok(Self(rules)) }
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// Whether nothing at all is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What both allow.
    pub fn intersect(&self, other: &Self) -> Result<Self, ScopeError> {
        let mut rules: Vec<Rule> = Vec::new();
        for one in &self.0 {
            for rule in other.0.iter().filter_map(|other| one.intersect(other)) {
                if rules.contains(&rule) {
                    continue;
                }
                if rules.len() == MAX_RULES {
                    return Err(ScopeError::TooManyRules);
                }
                rules.push(rule);
            }
        }
        Ok(Self(rules))
    }

    /// What is left of it under `most`: a rule that is allowed whole stays as it is written.
    pub fn within(&self, most: &Self) -> Result<Self, ScopeError> {
        let mut left = Self::default();
        for rule in &self.0 {
            match most.0.iter().any(|most| rule.intersect(most).as_ref() == Some(rule)) {
                true => left.0.push(rule.clone()),
                false => left.0.extend(Self(vec![rule.clone()]).intersect(most)?.0),
            }
        }
        Self::new(left.0)
    }

    /// The rules about a tool.
    pub fn about<'a>(&'a self, tool: &'a ToolName) -> impl Iterator<Item = &'a Rule> {
        self.0.iter().filter(move |rule| rule.tool.matches(tool))
    }

    /// The same with every parameter replaced by its value.
    pub fn bind(&self, params: &Params) -> Result<Self, ScopeError> {
        self.0.iter().map(|rule| rule.bind(params)).collect::<Result<_, _>>().map(Self)
    }

    /// The parameters that its constraints name.
    pub fn params(&self) -> BTreeSet<&ParamName> {
        self.0.iter().flat_map(Rule::params).collect()
    }
}
