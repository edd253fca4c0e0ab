//! Which policies could possibly apply to a request. Cedar looks at every policy that it is given; a policy
//! whose head (principal, action, resource) does not fit can neither decide nor err, so it is not given.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use super::Mentions;

/// Policies, found by their heads.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    policies: Vec<(Policy, Mentions)>,
    /// By the entities that a head names as principal and as resource.
    heads: HashMap<Option<EntityUid>, HashMap<Option<EntityUid>, Vec<Head>>>,
    /// Sets that were asked for. A memory and nothing else: it holds what `policies` says anyway.
    sets: RwLock<HashMap<Box<[usize]>, Arc<Slice>>>,
}

/// The policies that could apply to a request.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) policies: PolicySet,
    /// What they could look at.
    pub(crate) mentions: Mentions,
}

/// An entity and everything that it is in, near and far.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    pub(crate) uid: EntityUid,
    pub(crate) ancestors: Vec<EntityUid>,
}

/// The head of one policy.
#[derive(Debug)]
struct Head {
    at: usize,
    principal: Fits,
    action: ActionConstraint,
    resource: Fits,
}

/// Which principals or resources fit.
#[derive(Debug)]
enum Fits {
    Any,
    Is(EntityTypeName),
    Eq(EntityUid),
    In(EntityUid),
    IsIn(EntityTypeName, EntityUid),
}

/// So many sets are remembered.
const REMEMBERED: usize = 4096;

impl Slices {
    /// The index of these policies, whose names must differ.
    pub(crate) fn of(policies: Vec<(Policy, Mentions)>) -> Self {
        let mut heads: HashMap<_, HashMap<_, Vec<Head>>> = HashMap::new();
        for (at, (policy, _)) in policies.iter().enumerate() {
            let head = Head {
                at,
                principal: policy.principal_constraint().into(),
                action: policy.action_constraint(),
                resource: policy.resource_constraint().into(),
            };
            let (principal, resource) = (head.principal.names(), head.resource.names());
            heads.entry(principal).or_default().entry(resource).or_default().push(head);
        }
        Self { policies, heads, sets: RwLock::default() }
    }

    /// The policies whose heads fit, and no other.
    pub(crate) fn slice(&self, principal: &Lineage, action: &Lineage, resource: &Lineage) -> Arc<Slice> {
        let mut fitting = Vec::new();
        for by_principal in principal.keys().filter_map(|key| self.heads.get(&key)) {
            for heads in resource.keys().filter_map(|key| by_principal.get(&key)) {
                let fits = heads.iter().filter(|head| {
                    head.principal.include(principal)
                        && head.includes(action)
                        && head.resource.include(resource)
                });
                fitting.extend(fits.map(|head| head.at));
            }
        }
        fitting.sort_unstable();
        fitting.dedup();
        let known = self.sets.read().unwrap_or_else(PoisonError::into_inner).get(fitting.as_slice()).cloned();
        known.unwrap_or_else(|| self.remember(fitting.into()))
    }

    /// How many policies there are.
    pub(crate) fn len(&self) -> usize {
        self.policies.len()
    }

    fn remember(&self, fitting: Box<[usize]>) -> Arc<Slice> {
        let mut mentions = Mentions::default();
        let policies = fitting.iter().map(|at| {
            let (policy, own) = &self.policies[*at];
            mentions.join(own);
            policy.clone()
        });
        let policies = PolicySet::from_policies(policies).expect("policies with different names are a set");
        let slice = Arc::new(Slice { policies, mentions });
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= REMEMBERED {
            sets.clear();
        }
        sets.insert(fitting, Arc::clone(&slice));
        slice
    }
}

impl Lineage {
    fn keys(&self) -> impl Iterator<Item = Option<EntityUid>> {
        [None, Some(self.uid.clone())].into_iter().chain(self.ancestors.iter().cloned().map(Some))
    }

    fn is_in(&self, uid: &EntityUid) -> bool {
        self.uid == *uid || self.ancestors.contains(uid)
    }
}

impl Head {
    fn includes(&self, action: &Lineage) -> bool {
        match &self.action {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => action.uid == *uid,
            ActionConstraint::In(uids) => uids.iter().any(|uid| action.is_in(uid)),
        }
    }
}

impl Fits {
    fn include(&self, entity: &Lineage) -> bool {
        match self {
            Self::Any => true,
            Self::Is(kind) => entity.uid.type_name() == kind,
            Self::Eq(uid) => entity.uid == *uid,
            Self::In(uid) => entity.is_in(uid),
            Self::IsIn(kind, uid) => entity.uid.type_name() == kind && entity.is_in(uid),
        }
    }

    /// The entity that only those fit who are it, or are in it.
    fn names(&self) -> Option<EntityUid> {
        match self {
            Self::Any | Self::Is(_) => None,
            Self::Eq(uid) | Self::In(uid) | Self::IsIn(_, uid) => Some(uid.clone()),
        }
    }
}

impl From<PrincipalConstraint> for Fits {
    fn from(constraint: PrincipalConstraint) -> Self {
        match constraint {
            PrincipalConstraint::Any => Self::Any,
            PrincipalConstraint::Is(kind) => Self::Is(kind),
            PrincipalConstraint::Eq(uid) => Self::Eq(uid),
            PrincipalConstraint::In(uid) => Self::In(uid),
            PrincipalConstraint::IsIn(kind, uid) => Self::IsIn(kind, uid),
        }
    }
}

impl From<ResourceConstraint> for Fits {
    fn from(constraint: ResourceConstraint) -> Self {
        match constraint {
            ResourceConstraint::Any => Self::Any,
            ResourceConstraint::Is(kind) => Self::Is(kind),
            ResourceConstraint::Eq(uid) => Self::Eq(uid),
            ResourceConstraint::In(uid) => Self::In(uid),
            ResourceConstraint::IsIn(kind, uid) => Self::IsIn(kind, uid),
        }
    }
}
