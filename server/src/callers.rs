//! Who may call what: the one table, and the door that every request passes.
//!
//! What is not in the table is nobody's. A handler finds in its request the [`Caller`] that the door
//! authenticated, so no handler can forget to ask.

use std::{collections::HashMap, net::SocketAddr, sync::LazyLock};

use registry::{
    Author,
    decide::{
        fence::FenceNode,
        node::{NodeRefusal, NodeSeen, Standing},
    },
    objects::{AuthorityId, Entry, Sha256, Use, well_known},
};
use server_api::{
    accept::ConnectionPeer,
    wire::status::{Reason, agent_denied},
};
use spiffe::{SpiffeId, Timestamp};
use tonic::Status;

use crate::{ledger::Ledger, local::LocalPeer, now};

/// Who may call one method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum May {
    /// Everyone, also without a client certificate.
    Anyone,
    /// An administrator: on the private socket, or with the SVID of an entry with `admin`.
    Admin,
    /// An agent whose node is in good standing.
    Node,
    /// An administrator or an agent.
    AdminOrNode,
    /// A server below this one: with the SVID of an entry with `downstream`, and nobody else.
    Downstream,
    /// Whoever reaches the private socket, and nobody over the network.
    Local,
}

/// Every method that is served.
pub const CALLERS: &[(&str, May)] = &[
    ("/writ.node.v1.Node/Bundle", May::Anyone),
    ("/writ.node.v1.Node/Return", May::Anyone), // its certificate has ended
    ("/writ.node.v1.Node/Follow", May::Node),
    ("/writ.node.v1.Node/Sign", May::Node),
    ("/writ.node.v1.Node/SignJwt", May::Node),
    ("/writ.node.v1.Tasks/Fresh", May::Node),
    ("/writ.node.v1.Tasks/BeginTask", May::Node),
    ("/writ.node.v1.Tasks/RenewTask", May::Node),
    ("/writ.node.v1.Tasks/TaskToken", May::Node),
    ("/writ.node.v1.Tasks/ChangeTasks", May::Node),
    ("/writ.audit.v1.Recorder/Upload", May::Node),
    ("/writ.audit.v1.Recorder/TenantKey", May::Node),
    ("/writ.audit.v1.Audit/Checkpoint", May::Admin),
    ("/writ.audit.v1.Audit/Inclusion", May::Admin),
    ("/writ.audit.v1.Audit/Consistency", May::Admin),
    ("/writ.audit.v1.Audit/Export", May::Admin),
    ("/writ.audit.v1.Audit/Entries", May::Admin),
    ("/writ.audit.v1.Audit/Erase", May::Admin),
    ("/writ.admin.v1.Admin/Status", May::Admin),
    ("/writ.admin.v1.Admin/List", May::Admin),
    ("/writ.admin.v1.Admin/Apply", May::Admin),
    ("/writ.admin.v1.Admin/CreateToken", May::Admin),
    ("/writ.admin.v1.Admin/ResetToken", May::Admin),
    ("/writ.admin.v1.Admin/EvictNode", May::Admin),
    ("/writ.admin.v1.Admin/BanNode", May::Admin),
    ("/writ.admin.v1.Admin/PurgeNodes", May::Admin),
    ("/writ.admin.v1.Admin/SetEnvironment", May::Admin),
    ("/writ.admin.v1.Admin/ApproveMandate", May::Admin),
    ("/writ.admin.v1.Admin/WithdrawMandate", May::Admin),
    ("/writ.admin.v1.Admin/Switch", May::Admin),
    ("/writ.admin.v1.Admin/TurnTask", May::Admin),
    ("/writ.admin.v1.Admin/PushPolicies", May::Admin),
    ("/writ.admin.v1.Admin/ShowBundle", May::Admin),
    ("/writ.admin.v1.Admin/Backup", May::Local), // keys; an admin's SVID can be stolen on any node
    ("/spire.api.server.agent.v1.Agent/AttestAgent", May::Anyone),
    ("/spire.api.server.agent.v1.Agent/RenewAgent", May::Node),
    ("/spire.api.server.agent.v1.Agent/PostStatus", May::Node),
    ("/spire.api.server.agent.v1.Agent/CountAgents", May::Admin),
    ("/spire.api.server.agent.v1.Agent/ListAgents", May::Admin),
    ("/spire.api.server.agent.v1.Agent/GetAgent", May::Admin),
    ("/spire.api.server.agent.v1.Agent/DeleteAgent", May::Admin),
    ("/spire.api.server.agent.v1.Agent/BanAgent", May::Admin),
    ("/spire.api.server.agent.v1.Agent/CreateJoinToken", May::Admin),
    ("/spire.api.server.entry.v1.Entry/CountEntries", May::Admin),
    ("/spire.api.server.entry.v1.Entry/ListEntries", May::Admin),
    ("/spire.api.server.entry.v1.Entry/GetEntry", May::Admin),
    ("/spire.api.server.entry.v1.Entry/BatchCreateEntry", May::Admin),
    ("/spire.api.server.entry.v1.Entry/BatchUpdateEntry", May::Admin),
    ("/spire.api.server.entry.v1.Entry/BatchDeleteEntry", May::Admin),
    ("/spire.api.server.entry.v1.Entry/GetAuthorizedEntries", May::Node),
    ("/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", May::Node),
    ("/spire.api.server.svid.v1.SVID/MintX509SVID", May::Admin),
    ("/spire.api.server.svid.v1.SVID/MintJWTSVID", May::Admin),
    ("/spire.api.server.svid.v1.SVID/MintWITSVID", May::Admin),
    ("/spire.api.server.svid.v1.SVID/BatchNewX509SVID", May::Node),
    ("/spire.api.server.svid.v1.SVID/NewJWTSVID", May::Node),
    ("/spire.api.server.svid.v1.SVID/BatchNewWITSVID", May::Node),
    ("/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", May::Downstream),
    ("/spire.api.server.bundle.v1.Bundle/GetBundle", May::Anyone),
    ("/spire.api.server.bundle.v1.Bundle/GetFederatedBundle", May::AdminOrNode),
    ("/spire.api.server.bundle.v1.Bundle/CountBundles", May::Admin),
    ("/spire.api.server.bundle.v1.Bundle/AppendBundle", May::Admin),
    ("/spire.api.server.bundle.v1.Bundle/ListFederatedBundles", May::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle", May::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle", May::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", May::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle", May::Admin),
    ("/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", May::Downstream),
    ("/spire.api.server.bundle.v1.Bundle/PublishWITAuthority", May::Downstream),
    ("/spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships", May::Admin),
    ("/spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship", May::Admin),
    ("/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship", May::Admin),
    ("/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship", May::Admin),
    ("/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship", May::Admin),
    ("/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle", May::Admin),
    ("/spire.api.server.debug.v1.Debug/GetInfo", May::Local),
    ("/spire.api.server.logger.v1.Logger/GetLogger", May::Local),
    ("/spire.api.server.logger.v1.Logger/SetLogLevel", May::Local),
    ("/spire.api.server.logger.v1.Logger/ResetLogLevel", May::Local),
    ("/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority", May::Admin),
    ("/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority", May::Admin),
    ("/grpc.health.v1.Health/Check", May::Local),
    ("/grpc.health.v1.Health/List", May::Local),
    ("/grpc.health.v1.Health/Watch", May::Local),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", May::Local),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", May::Local),
];

static ROWS: LazyLock<HashMap<&str, May>> = LazyLock::new(|| CALLERS.iter().copied().collect());

/// Where a request came from, before anyone asked what it may.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// The private socket.
    Local(LocalPeer),
    /// The network.
    Network(ConnectionPeer),
}

/// Who makes a request, authenticated and allowed to make it.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Somebody of whom nothing is known.
    Stranger(SocketAddr),
    /// A process on the private socket.
    Local(LocalPeer),
    /// The holder of an admin SVID.
    Admin(SpiffeId),
    /// An agent.
    Node(NodeCaller),
    /// The holder of a downstream SVID.
    Downstream(SpiffeId),
}

/// An agent whose node was in good standing when it asked.
#[derive(Clone, Debug)]
pub(crate) struct NodeCaller {
    /// The node.
    pub(crate) id: SpiffeId,
    /// The serial number of the certificate that it showed.
    pub(crate) serial: String,
    /// SHA-256 of the certificate's public key (SubjectPublicKeyInfo).
    pub(crate) key_sha256: Sha256,
    /// Who signed that certificate.
    pub(crate) signer: AuthorityId,
    /// When that certificate ends.
    pub(crate) not_after: Timestamp,
}

impl Caller {
    /// What the log calls whoever asks.
    pub(crate) fn author(&self) -> Author {
        match self {
            Self::Stranger(address) => Author::Stranger { address: address.to_string() },
            Self::Local(peer) => Author::Local { uid: peer.uid, pid: peer.pid },
            Self::Admin(id) => Author::Admin { id: id.clone() },
            Self::Node(node) => Author::Node { id: node.id.clone() },
            Self::Downstream(id) => Author::Downstream { id: id.clone() },
        }
    }
}

/// Lets a request for the method `path` in, or turns it away.
pub(crate) async fn admit(ledger: &Ledger, path: &str, origin: &Origin) -> Result<Caller, Status> {
    let row = ROWS.get(path).copied();
    match (row, origin) {
        // A method that nobody serves is answered as such, but only to those who may know what is served.
        (None | Some(May::Local | May::Admin | May::AdminOrNode | May::Anyone), Origin::Local(peer)) => {
            Ok(Caller::Local(peer.clone()))
        }
        (Some(May::Node), Origin::Local(_)) => Err(Status::permission_denied("this is for agents")),
        (Some(May::Downstream), Origin::Local(_)) => {
            Err(Status::permission_denied("this is for servers below this one"))
        }
        (Some(May::Anyone), Origin::Network(peer)) => Ok(Caller::Stranger(peer.address)),
        (Some(May::Node), Origin::Network(peer)) => node(ledger, path, peer).await.map(Caller::Node),
        (Some(May::Admin), Origin::Network(peer)) => {
            holder(ledger, peer, |entry| entry.admin).map(Caller::Admin)
        }
        (Some(May::Downstream), Origin::Network(peer)) => {
            holder(ledger, peer, |entry| entry.downstream).map(Caller::Downstream)
        }
        (Some(May::AdminOrNode), Origin::Network(peer)) => match is_agent(peer) {
            true => node(ledger, path, peer).await.map(Caller::Node),
            false => holder(ledger, peer, |entry| entry.admin).map(Caller::Admin),
        },
        (None | Some(May::Local), Origin::Network(_)) => Err(denied()),
    }
}

/// The agent at the other end. Its first call with a certificate makes that certificate the node's.
async fn node(ledger: &Ledger, path: &str, peer: &ConnectionPeer) -> Result<NodeCaller, Status> {
    let svid = peer.svid.as_deref().ok_or_else(denied)?;
    let caller = NodeCaller {
        id: svid.id.clone(),
        serial: svid.serial.clone(),
        key_sha256: svid.public_key_sha256.parse().map_err(|_| denied())?,
        signer: svid.signer.parse().map_err(|_| denied())?,
        not_after: svid.not_after,
    };
    let registry = ledger.current();
    if LASTING.contains(&path)
        && let Some(refusal) = fence(ledger, &registry, &caller).await?
    {
        return Err(turned_away(refusal));
    }
    match caller.standing(&registry, now())? {
        Standing::Good => Ok(caller),
        Standing::First => {
            let seen = NodeSeen { id: caller.id.clone(), serial: caller.serial.clone() };
            let author = Author::Node { id: caller.id.clone() };
            let settled = ledger.submit(seen, author).await.map_err(|_| unavailable())?;
            settled.map(|()| caller).map_err(turned_away)
        }
    }
}

/// What an agent asks for only with its newest certificate. Of other requests, one may be under way on
/// the connection before when a renewed certificate is first used.
const LASTING: &[&str] = &["/writ.node.v1.Node/Follow", "/spire.api.server.agent.v1.Agent/RenewAgent"];

/// Stops both agents where a certificate from before betrays that there are two.
async fn fence(
    ledger: &Ledger,
    registry: &registry::Registry,
    caller: &NodeCaller,
) -> Result<Option<NodeRefusal>, Status> {
    let NodeCaller { id, serial, key_sha256, not_after, .. } = caller.clone();
    let shown = FenceNode { id, serial, key_sha256, not_after };
    if caller.not_after <= now() || !registry.betrays_duplicate(&shown) {
        return Ok(None);
    }
    if registry.has_just_changed(&caller.id, now()) {
        return Err(Status::unavailable("another connection of this node has just begun; try again"));
    }
    tracing::error!(node = %caller.id, serial = caller.serial, "two agents use this node's key; neither may go on");
    let author = Author::Node { id: caller.id.clone() };
    ledger.submit(shown, author).await.map(Some).map_err(|_| unavailable())
}

impl NodeCaller {
    /// Whether the node may act now. Streams ask again: a connection can outlive what it rests on.
    pub(crate) fn standing(&self, registry: &registry::Registry, now: Timestamp) -> Result<Standing, Status> {
        if !well_known::is_node(&self.id) {
            return Err(denied());
        }
        if self.not_after <= now {
            return Err(agent_denied(Reason::AgentExpired, "the agent's certificate has ended"));
        }
        if !vouches(registry, &self.signer) {
            return Err(agent_denied(
                Reason::AgentNotActive,
                "the authority of the agent's certificate was revoked",
            ));
        }
        registry.standing(&self.id, &self.serial).map_err(turned_away)
    }
}

/// An agent must know why it is turned away, to do the right thing; its operator reads it in its log.
pub(crate) fn turned_away(refusal: NodeRefusal) -> Status {
    let reason = match refusal {
        NodeRefusal::NotAttested => Reason::AgentNotAttested,
        NodeRefusal::NotActive | NodeRefusal::Restored => Reason::AgentNotActive,
        NodeRefusal::AwayTooLong => Reason::AgentExpired,
        NodeRefusal::Fenced => Reason::AgentMustReattest,
        NodeRefusal::Banned => Reason::AgentBanned,
    };
    agent_denied(reason, &refusal.to_string())
}

fn is_agent(peer: &ConnectionPeer) -> bool {
    peer.svid.as_deref().is_some_and(|svid| well_known::is_node(&svid.id))
}

/// Whose SVID is at the other end: its ID has an entry with the flag that has not ended.
fn holder(ledger: &Ledger, peer: &ConnectionPeer, flag: fn(&Entry) -> bool) -> Result<SpiffeId, Status> {
    let svid = peer.svid.as_deref().ok_or_else(denied)?;
    let now = now();
    let registry = ledger.current();
    let has_flag =
        registry.givers(&svid.id).any(|entry| flag(entry) && entry.expires_at.is_none_or(|end| now < end));
    let is_vouched_for = svid.signer.parse().is_ok_and(|signer| vouches(&registry, &signer));
    match has_flag && is_vouched_for && now < svid.not_after {
        true => Ok(svid.id.clone()),
        false => Err(denied()),
    }
}

/// Whether this authority counts still: a handshake asked for that, but a connection may outlive it.
fn vouches(registry: &registry::Registry, signer: &AuthorityId) -> bool {
    registry.authority(signer).is_some_and(|authority| authority.used_for() == Use::X509)
}

/// Strangers learn nothing from a refusal.
fn denied() -> Status {
    Status::permission_denied("not allowed")
}

fn unavailable() -> Status {
    Status::unavailable("the server cannot do this now; try again")
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// The methods that an encoded descriptor set declares.
    fn methods(descriptors: &[u8]) -> Vec<String> {
        let files = FileDescriptorSet::decode(descriptors).unwrap().file;
        let services = files.iter().flat_map(|file| file.service.iter().map(|s| (file.package(), s)));
        let methods = services.flat_map(|(package, service)| {
            service.method.iter().map(move |m| format!("/{package}.{}/{}", service.name(), m.name()))
        });
        methods.collect()
    }

    #[test]
    fn every_method_that_is_served_has_a_row_and_no_row_is_about_nothing() {
        let mut served = methods(proto::SERVER_DESCRIPTOR_SET);
        served.extend(methods(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET));
        served.extend(methods(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET));
        for method in &served {
            assert!(ROWS.contains_key(method.as_str()), "{method} has no row");
        }
        for (method, _) in CALLERS {
            assert!(served.iter().any(|served| served == method), "{method} is not served");
        }
        assert_eq!(ROWS.len(), CALLERS.len(), "a method has two rows");
    }

    #[test]
    fn strangers_may_attest_return_and_see_the_bundle_and_nothing_else() {
        let open: Vec<_> =
            CALLERS.iter().filter(|(_, may)| *may == May::Anyone).map(|(method, _)| *method).collect();
        let expected = [
            "/writ.node.v1.Node/Bundle",
            "/writ.node.v1.Node/Return",
            "/spire.api.server.agent.v1.Agent/AttestAgent",
            "/spire.api.server.bundle.v1.Bundle/GetBundle",
        ];
        assert_eq!(open, expected);
    }
}
