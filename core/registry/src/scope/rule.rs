//! One rule of a scope: a tool and what must hold of its arguments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ArgName, Constraint, ParamName, Params, Scalar, ScopeError, ToolPattern};

/// Allows calls of a tool whose arguments meet all constraints.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which tool.
    pub tool: ToolPattern,
    /// What must hold of each argument; one that is not named may not be there, and one that is named must be,
    /// unless it is `optional`. Where this is left out, all arguments are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<BTreeMap<ArgName, Vec<Constraint>>>,
}

impl Rule {
    /// What both allow; `None` where that is nothing.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let tool = self.tool.intersect(&other.tool)?;
        let args = match (&self.args, &other.args) {
            (None, args) | (args, None) => args.clone(),
            (Some(one), Some(other)) => Some(both(one, other)?),
        };
        Some(Self { tool, args })
    }

    /// Whether an argument may be there, and its plain values (each of a list) meet its constraints. A value
    /// that is no plain one, such as an object, is given as `None`, and meets only an empty list.
    pub fn allows(&self, name: &ArgName, values: &[Option<Scalar>]) -> bool {
        let Some(args) = &self.args else { return true };
        let Some(constraints) = args.get(name) else { return false };
        values.iter().all(|value| {
            constraints
                .iter()
                .filter(|constraint| **constraint != Constraint::Optional)
                .all(|constraint| value.as_ref().is_some_and(|value| constraint.holds(value)))
        })
    }

    /// Whether an operator chose what this argument may be.
    pub fn binds(&self, name: &ArgName) -> bool {
        let constraints = self.args.as_ref().and_then(|args| args.get(name));
        constraints.is_some_and(|constraints| constraints.iter().any(Constraint::binds))
    }

    /// The arguments that must be there.
    pub fn required(&self) -> impl Iterator<Item = &ArgName> {
        let args = self.args.iter().flatten();
        args.filter(|(_, constraints)| !is_optional(constraints)).map(|(name, _)| name)
    }

    /// The same with every parameter replaced by its value.
    pub fn bind(&self, params: &Params) -> Result<Self, ScopeError> {
        let bind = |constraints: &Vec<Constraint>| -> Result<Vec<_>, ScopeError> {
            constraints.iter().map(|constraint| constraint.bind(params)).collect()
        };
        let bound = |args: &Args| -> Result<Args, ScopeError> {
            args.iter().map(|(name, constraints)| Ok((name.clone(), bind(constraints)?))).collect()
        };
        Ok(Self { tool: self.tool.clone(), args: self.args.as_ref().map(bound).transpose()? })
    }

    /// The parameters that its constraints name.
    pub fn params(&self) -> impl Iterator<Item = &ParamName> {
        self.args.iter().flat_map(BTreeMap::values).flatten().filter_map(Constraint::param)
    }
}

type Args = BTreeMap<ArgName, Vec<Constraint>>;

/// The arguments that both allow; `None` where one demands what the other forbids.
fn both(one: &Args, other: &Args) -> Option<Args> {
    let mut args = Args::new();
    for (name, constraints) in one {
        match other.get(name) {
            Some(others) => drop(args.insert(name.clone(), all_of(constraints, others))),
            None if is_optional(constraints) => {}
            None => return None,
        }
    }
    let only_other = other.iter().filter(|(name, _)| !one.contains_key(name));
    only_other.map(|(_, constraints)| constraints).all(|c| is_optional(c)).then_some(args)
}

fn all_of(one: &[Constraint], other: &[Constraint]) -> Vec<Constraint> {
    let optional = is_optional(one) && is_optional(other);
    let mut all: Vec<Constraint> = Vec::new();
    for constraint in one.iter().chain(other) {
        if (*constraint != Constraint::Optional || optional) && !all.contains(constraint) {
            all.push(constraint.clone());
        }
    }
    all
}

fn is_optional(constraints: &[Constraint]) -> bool {
    constraints.contains(&Constraint::Optional)
}
