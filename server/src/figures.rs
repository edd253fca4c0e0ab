//! The figures that a server shows under `/metrics`.

use daemon::{Counter, Gauge, Metrics};

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// X509-SVIDs that were signed for entries.
    pub(crate) signed: Counter,
    /// Orders of X509-SVIDs that were refused.
    pub(crate) unsigned: Counter,
    /// Tokens that were signed for entries.
    pub(crate) tokens: Counter,
    /// Orders of tokens that were refused.
    pub(crate) no_tokens: Counter,
    /// Tasks that were begun, repeated requests included.
    pub(crate) tasks: Counter,
    /// Tasks that were refused.
    pub(crate) no_tasks: Counter,
    /// Nodes that joined.
    pub(crate) joined: Counter,
    /// Join tokens that were shown and never made.
    pub(crate) refused_joins: Counter,
    /// Nodes that proved who they are by something else, and were admitted.
    pub(crate) attested: Counter,
    /// Proofs that were none, or of nodes that are not admitted.
    pub(crate) not_attested: Counter,
    /// Nodes that returned by their key.
    pub(crate) returned: Counter,
    /// Returns that were refused.
    pub(crate) refused_returns: Counter,
    /// Agents that follow.
    pub(crate) streams: Gauge,
}

/// One more of something, for as long as this lives.
#[derive(Debug)]
pub(crate) struct OneMore(Gauge);

impl Figures {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help, labels| metrics.counter(name, help, labels);
        let (svids, joins) = ("writ_server_svids_total", "writ_server_joins_total");
        let (attestations, about_attestations) =
            ("writ_server_attestations_total", "Nodes that came with another proof than a join token.");
        let (returns, about_returns) =
            ("writ_server_returns_total", "Nodes that came back by their key alone.");
        let (about_svids, about_joins) =
            ("Orders to sign an X509-SVID.", "Nodes that came with a join token.");
        let (tokens, about_tokens) = ("writ_server_jwt_svids_total", "Orders to sign a JWT-SVID.");
        let (tasks, about_tasks) = ("writ_server_tasks_total", "Requests of agents to begin a task.");
        Self {
            signed: counter(svids, about_svids, &[("result", "signed")]),
            unsigned: counter(svids, about_svids, &[("result", "refused")]),
            tokens: counter(tokens, about_tokens, &[("result", "signed")]),
            no_tokens: counter(tokens, about_tokens, &[("result", "refused")]),
            tasks: counter(tasks, about_tasks, &[("result", "begun")]),
            no_tasks: counter(tasks, about_tasks, &[("result", "refused")]),
            joined: counter(joins, about_joins, &[("result", "joined")]),
            refused_joins: counter(joins, about_joins, &[("result", "unknown_token")]),
            attested: counter(attestations, about_attestations, &[("result", "admitted")]),
            not_attested: counter(attestations, about_attestations, &[("result", "refused")]),
            returned: counter(returns, about_returns, &[("result", "returned")]),
            refused_returns: counter(returns, about_returns, &[("result", "refused")]),
            streams: metrics.gauge("writ_server_streams", "Agents that follow.", &[]),
        }
    }
}

impl OneMore {
    pub(crate) fn of(gauge: &Gauge) -> Self {
        gauge.add(1);
        Self(gauge.clone())
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
