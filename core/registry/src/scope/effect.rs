//! What a call does to the world, and how much care that takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What calling a tool does, at most.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing changes.
    Read,
    /// Something is made or changed.
    Write,
    /// Something is gone afterwards.
    Delete,
    /// Something leaves for elsewhere.
    Net,
    /// A credential is lent.
    Lease,
    /// A program runs.
    Exec,
    /// Money moves.
    Pay,
}

impl Effect {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Net => "net",
            Self::Lease => "lease",
            Self::Exec => "exec",
            Self::Pay => "pay",
        }
    }

    /// The tier of an action with this effect, where nothing says more.
    pub fn tier(self) -> Tier {
        match self {
            Self::Read => Tier::T0,
            Self::Write => Tier::T1,
            Self::Delete | Self::Net | Self::Lease => Tier::T2,
            Self::Exec | Self::Pay => Tier::T3,
        }
    }
}

/// How much an action risks, from 0 to 3. It sets lifetimes, freshness, isolation, egress and budgets.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Tier {
    /// Reading.
    #[default]
    T0,
    /// Writing in the own tenant.
    T1,
    /// Deleting, sending, borrowing.
    T2,
    /// Running programs, paying, crossing tenants.
    T3,
}

impl Tier {
    /// The longest life of a task.
    pub fn longest_ttl(self) -> Duration {
        Duration::from_secs(match self {
            Self::T0 | Self::T1 => 24 * 3600,
            Self::T2 => 4 * 3600,
            Self::T3 => 3600,
        })
    }

    /// The longest life of a task's certificate.
    pub fn longest_svid_ttl(self) -> Duration {
        Duration::from_secs(match self {
            Self::T0 | Self::T1 => 300,
            Self::T2 | Self::T3 => 60,
        })
    }

    /// The least that a task's processes must be told apart by, unless the platform lowers it.
    pub fn least_isolation(self) -> Isolation {
        if self < Self::T2 { Isolation::Process } else { Isolation::Cgroup }
    }

    /// Where a task's processes may send to, unless the platform lowers it.
    pub fn least_egress(self) -> Egress {
        if self < Self::T2 { Egress::Open } else { Egress::Confined }
    }
}

/// How well the processes of a task are told apart from others, the weakest first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// One process with several tasks, which cannot be told apart.
    #[default]
    Shared,
    /// One thread group.
    Process,
    /// Every process of a cgroup that only the agent or a container runtime can populate.
    Cgroup,
}

/// Where the processes of a task can send to past every gate, the weakest first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Egress {
    /// Anywhere.
    #[default]
    Open,
    /// Nowhere but to what is listed.
    Confined,
}

/// How much an actor decides by itself, from 0 (a person confirms everything) to 3 (nobody watches).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Autonomy(u8);

/// A number outside 0 to 3.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is not one of the levels 0, 1, 2 and 3")]
pub struct LevelError(u8);

impl Isolation {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Process => "process",
            Self::Cgroup => "cgroup",
        }
    }
}

impl Egress {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Confined => "confined",
        }
    }
}

impl TryFrom<u8> for Tier {
    type Error = LevelError;
    fn try_from(level: u8) -> Result<Self, LevelError> {
        [Self::T0, Self::T1, Self::T2, Self::T3].get(usize::from(level)).copied().ok_or(LevelError(level))
    }
}

impl From<Tier> for u8 {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::T0 => 0,
            Tier::T1 => 1,
            Tier::T2 => 2,
            Tier::T3 => 3,
        }
    }
}

impl TryFrom<u8> for Autonomy {
    type Error = LevelError;
    fn try_from(level: u8) -> Result<Self, LevelError> {
        if level <= 3 { Ok(Self(level)) } else { Err(LevelError(level)) }
    }
}

impl From<Autonomy> for u8 {
    fn from(autonomy: Autonomy) -> Self {
        autonomy.0
    }
}
