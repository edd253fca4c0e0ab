//! What the agent measures of the moment in which a call is judged.

use std::time::Duration;

use registry::{
    objects::Task,
    scope::{Egress, Environment, Isolation, Label, Tier},
};
use spiffe::SpiffeId;

use crate::{
    denial::{Code, Denial},
    now::Now,
};

/// Facts that the agent vouches for; nothing in here comes from the caller.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Who asks, as it was attested.
    pub enforcement_point: &'a SpiffeId,
    /// Whether that stands on another node.
    pub remote: bool,
    /// Whether the caller is in the task's domain.
    pub is_member: bool,
    /// Whether the caller is still what was measured when the task began.
    pub is_as_measured: bool,
    /// Where this node stands.
    pub environment: &'a Environment,
    /// How well the domain is apart from others, as measured.
    pub isolation: Isolation,
    /// Where the domain can send to, as measured.
    pub egress: Egress,
    /// What the domain may remember.
    pub domain: &'a Label,
    /// What was written to the resource so far, as its label home says.
    pub stored: &'a Label,
    /// How old the newest head of the server is that the agent holds, by boot time; `None` before the first and
    /// while it reads a snapshot.
    pub head: Option<Duration>,
    /// Whether the server said about this very call that the task lives, as tier 3 asks for.
    pub confirmed: bool,
    /// How old a head may be.
    pub freshness: Freshness,
}

/// The stale limits: how long an agent may permit without having heard from the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Freshness {
    /// Of tier 0.
    pub tier_0: Duration,
    /// Of tier 1.
    pub tier_1: Duration,
    /// Of tiers 2 and 3; tier 3 asks each time besides.
    pub tier_2: Duration,
}

impl Freshness {
    /// The longest that may be configured for tier 0.
    pub const MOST_TIER_0: Duration = Duration::from_secs(60);
}

impl Default for Freshness {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self { tier_0: ten, tier_1: ten, tier_2: Duration::from_secs(5) }
    }
}

impl Situation<'_> {
    /// Whether the agent has heard from the server lately enough.
    pub(super) fn is_fresh(&self, now: Now, tier: Tier) -> Result<(), Denial> {
        let most = match tier {
            Tier::T0 => self.freshness.tier_0.min(Freshness::MOST_TIER_0),
            Tier::T1 => self.freshness.tier_1,
            Tier::T2 | Tier::T3 => self.freshness.tier_2,
        };
        let Some(head) = self.head else {
            return Err(Denial::new(
                Code::Stale,
                "this node has not caught up with the server since it started",
            ));
        };
        // A head from the future is from another boot.
        let age = now.boot.checked_sub(head);
        if age.is_none_or(|age| age > most) {
            let age = age.unwrap_or_default().as_secs();
            let why =
                format!("this node heard from the server {age} s ago, and {} s are allowed", most.as_secs());
            return Err(Denial::new(Code::Stale, why));
        }
        Ok(())
    }

    /// Whether the server spoke of this very call, where that is needed. Looked at last, since it is asked only about what
    /// nothing else denies.
    pub(super) fn has_the_servers_word(&self, tier: Tier) -> Result<(), Denial> {
        if tier == Tier::T3 && !self.confirmed {
            let why = "an action of tier 3 needs the server's word, and it gave none";
            return Err(Denial::new(Code::Stale, why));
        }
        Ok(())
    }

    /// Whether domain, program and node are as the grant says.
    pub(super) fn is_as_granted(&self, grant: &Task) -> Result<(), Denial> {
        let deny = |code, why: String| Err(Denial::new(code, why));
        if !self.is_member {
            return deny(Code::NotAMember, format!("the caller is not in the domain of task {}", grant.id));
        }
        if !self.is_as_measured {
            return deny(Code::MeasurementChanged, format!("the program of task {} was changed", grant.id));
        }
        if *self.environment != grant.environment {
            let why = format!(
                "task {} began in {}, and this node stands in {}",
                grant.id, grant.environment, self.environment
            );
            return deny(Code::EnvironmentChanged, why);
        }
        if self.isolation < grant.isolation {
            let (granted, measured) = (grant.isolation.as_str(), self.isolation.as_str());
            let why =
                format!("task {} was granted for isolation {granted}, and {measured} is measured", grant.id);
            return deny(Code::IsolationWeakened, why);
        }
        if self.egress < grant.egress {
            let (granted, measured) = (grant.egress.as_str(), self.egress.as_str());
            let why =
                format!("task {} was granted for egress {granted}, and {measured} is measured", grant.id);
            return deny(Code::EgressWidened, why);
        }
        Ok(())
    }
}
