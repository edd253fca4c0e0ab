//! SPIRE's Agent service.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use proto::spire::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, BanAgentRequest, CountAgentsRequest,
        CountAgentsResponse, CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
        ListAgentsResponse, PostStatusRequest, PostStatusResponse, RenewAgentRequest, RenewAgentResponse,
        agent_server::Agent,
        attest_agent_request::Step as Asked,
        attest_agent_response::{Result as Result_, Step},
        count_agents_request, list_agents_request,
    },
    types::{Agent as WireAgent, AgentMask, JoinToken, Spiffeid, X509svid},
};
use registry::{
    Refusal,
    decide::node::{BanNode, EvictNode},
    objects::{Node, NodeState},
};
use server_api::wire::{WireError, agent, id, selector, status};
use spiffe::{SpiffeId, Timestamp};
use tonic::{Request, Response, Status, Streaming};

use super::{batch::page, caller, node_caller, unavailable};
use crate::{
    Server,
    admit::{Begun, Showing},
    api::tokens::{self, TokenError},
    attest::{self, Granted},
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

/// A node that attests says each of its words within this time.
const WORD_WITHIN: Duration = Duration::from_secs(10);

#[tonic::async_trait]
impl Agent for Service {
    type AttestAgentStream = Pin<Box<dyn Stream<Item = Result<AttestAgentResponse, Status>> + Send>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let (server, caller) = (self.0.clone(), caller(&request)?);
        let mut steps = request.into_inner();
        let Some(Asked::Params(params)) = word(&mut steps).await? else {
            return Err(Status::invalid_argument("the first message carries params"));
        };
        let data = params.data.ok_or_else(|| Status::invalid_argument("missing attestation data"))?;
        let csr = csr(params.params)?;
        if data.r#type == "join_token" {
            let granted = attest::join(&server, &caller, &data.payload, &csr).await?;
            return Ok(Response::new(Box::pin(stream::iter([Ok(granted_step(granted, false))]))));
        }
        let shown = match Showing::begin(&server, &data.r#type, &data.payload, &csr).await? {
            Begun::Proved(proof) => {
                let granted = proof.admitted(&server, &caller).await?;
                return Ok(Response::new(Box::pin(stream::iter([Ok(granted_step(granted, true))]))));
            }
            Begun::Asked(shown) => shown,
        };
        let challenge = Step::Challenge(shown.challenge().to_vec().into());
        let granted = async move {
            let Some(Asked::ChallengeResponse(answer)) = word(&mut steps).await? else {
                return Err(Status::invalid_argument("the second message answers the challenge"));
            };
            let granted = shown.answered(&server, &answer)?.admitted(&server, &caller).await?;
            Ok(granted_step(granted, true))
        };
        let challenge = AttestAgentResponse { step: Some(challenge) };
        Ok(Response::new(Box::pin(stream::iter([Ok(challenge)]).chain(stream::once(granted)))))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        let caller = node_caller(&request)?;
        let csr = csr(request.into_inner().params)?;
        let granted = attest::renew(&self.0, &caller, &csr).await?;
        Ok(Response::new(RenewAgentResponse { svid: Some(svid(granted)) }))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        let caller = node_caller(&request)?;
        let version = request.into_inner().agent_version;
        self.0.versions.hear(&caller.id, &version, &self.0.ledger.current());
        Ok(Response::new(PostStatusResponse {}))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<JoinToken>, Status> {
        let author = caller(&request)?.author();
        let CreateJoinTokenRequest { ttl, token, agent_id } = request.into_inner();
        let ttl = u64::try_from(ttl).ok().filter(|ttl| *ttl > 0);
        let ttl = ttl.ok_or_else(|| Status::invalid_argument("ttl is required, and must be positive"))?;
        let alias = agent_id.map(|alias| id::from_wire("agent_id", Some(alias))).transpose()?;
        let (ledger, ttl) = (&self.0.ledger, Duration::from_secs(ttl));
        let made = match token.as_str() {
            "" => tokens::create(ledger, None, ttl, author.clone()).await,
            _ => tokens::create_given(ledger, token, ttl, author.clone()).await,
        };
        let made = made.map_err(not_made)?;
        if let Some(alias) = alias {
            tokens::name_node(ledger, &made.node, alias, author).await.map_err(not_made)?;
        }
        Ok(Response::new(JoinToken { value: made.token, expires_at: made.expires_at.unix_seconds() }))
    }

    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let filter = NodeFilter::of_count(request.into_inner().filter)?;
        let registry = self.0.ledger.current();
        let count = registry.nodes().filter(|node| filter.is_about(node)).count();
        Ok(Response::new(CountAgentsResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let ListAgentsRequest { filter, output_mask, page_size, page_token } = request.into_inner();
        let filter = NodeFilter::of_list(filter)?;
        let most = page(page_size)?;
        let registry = self.0.ledger.current();
        let mut found = registry
            .nodes()
            .filter(|node| node.id.as_str() > page_token.as_str())
            .filter(|node| filter.is_about(node));
        let nodes: Vec<_> = found.by_ref().take(most).collect();
        let next = found.next().and(nodes.last()).map(|last| last.id.to_string());
        Ok(Response::new(ListAgentsResponse {
            agents: nodes.iter().map(|node| self.shown(node, output_mask.as_ref())).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Result<Response<WireAgent>, Status> {
        let GetAgentRequest { id, output_mask } = request.into_inner();
        let registry = self.0.ledger.current();
        let node = registry.node(&node_id(id)?).ok_or_else(|| Status::not_found("agent not found"))?;
        Ok(Response::new(self.shown(node, output_mask.as_ref())))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let author = caller(&request)?.author();
        let command = EvictNode { id: node_id(request.into_inner().id)? };
        let done = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        done.map(Response::new).map_err(|refusal| refused(&refusal))
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let author = caller(&request)?.author();
        let command = BanNode { id: node_id(request.into_inner().id)? };
        let done = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        done.map(Response::new).map_err(|refusal| refused(&refusal))
    }
}

impl Service {
    fn shown(&self, node: &Node, mask: Option<&AgentMask>) -> WireAgent {
        agent::masked(agent::to_wire(node, self.0.versions.of(&node.id)), mask)
    }
}

/// Which nodes are meant: those for which everything that is asked holds.
#[derive(Default)]
struct NodeFilter {
    attestor: Option<String>,
    selectors: Option<(std::collections::BTreeSet<spiffe::Selector>, selector::Match)>,
    banned: Option<bool>,
    can_reattest: Option<bool>,
    expires_before: Option<Timestamp>,
}

impl NodeFilter {
    fn of_list(filter: Option<list_agents_request::Filter>) -> Result<Self, WireError> {
        let Some(f) = filter else { return Ok(Self::default()) };
        Ok(Self {
            attestor: Some(f.by_attestation_type).filter(|attestor| !attestor.is_empty()),
            selectors: f.by_selector_match.map(selector::question).transpose()?,
            banned: f.by_banned,
            can_reattest: f.by_can_reattest,
            expires_before: moment(&f.by_expires_before)?,
        })
    }

    fn of_count(filter: Option<count_agents_request::Filter>) -> Result<Self, WireError> {
        Self::of_list(filter.map(|f| list_agents_request::Filter {
            by_attestation_type: f.by_attestation_type,
            by_selector_match: f.by_selector_match,
            by_banned: f.by_banned,
            by_can_reattest: f.by_can_reattest,
            by_expires_before: f.by_expires_before,
        }))
    }

    fn is_about(&self, node: &Node) -> bool {
        let banned = node.state == NodeState::Banned;
        self.attestor.as_ref().is_none_or(|attestor| node.attestor == *attestor)
            && self.selectors.as_ref().is_none_or(|(asked, how)| how.holds(asked, &node.selectors))
            && self.banned.is_none_or(|asked| asked == banned)
            && self.can_reattest.is_none_or(|asked| asked == node.can_reattest())
            && self.expires_before.is_none_or(|moment| node.expires_at < moment)
    }
}

/// RFC 3339, or as SPIRE's command line writes it.
fn moment(text: &str) -> Result<Option<Timestamp>, WireError> {
    match text {
        "" => Ok(None),
        text => Timestamp::parse_rfc3339(text)
            .or_else(|| Timestamp::parse_rfc3339(&from_spire(text)?))
            .map(Some)
            .ok_or_else(|| WireError("by_expires_before: it is not an RFC 3339 time".to_owned())),
    }
}

/// SPIRE's command line writes `2006-01-02 15:04:05 -0700 -07`, of which the last part repeats the zone.
fn from_spire(text: &str) -> Option<String> {
    let mut parts = text.split(' ');
    let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    let (hours, minutes) = zone.split_at_checked(3)?;
    Some(format!("{date}T{time}{hours}:{minutes}"))
}

/// The next word of a node that attests.
async fn word(steps: &mut Streaming<AttestAgentRequest>) -> Result<Option<Asked>, Status> {
    let word = tokio::time::timeout(WORD_WITHIN, steps.message()).await;
    let word = word.map_err(|_| Status::deadline_exceeded("nothing was said in time"))??;
    Ok(word.and_then(|word| word.step))
}

fn granted_step(granted: Granted, reattestable: bool) -> AttestAgentResponse {
    let result = Result_ { svid: Some(svid(granted)), reattestable };
    AttestAgentResponse { step: Some(Step::Result(result)) }
}

fn csr(params: Option<AgentX509svidParams>) -> Result<bytes::Bytes, Status> {
    let csr = params.map(|params| params.csr).filter(|csr| !csr.is_empty());
    csr.ok_or_else(|| Status::invalid_argument("missing CSR"))
}

fn svid(granted: Granted) -> X509svid {
    X509svid {
        cert_chain: granted.issued.chain,
        id: Some(id::to_wire(&granted.id)),
        expires_at: granted.issued.not_after.unix_seconds(),
        hint: String::new(),
    }
}

/// SPIRE's words where its command line has words of its own for them.
fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::NotFound(_) => Status::not_found("agent not found"),
        _ => status::call(refusal),
    }
}

fn node_id(asked: Option<Spiffeid>) -> Result<SpiffeId, Status> {
    Ok(id::from_wire("id", asked)?)
}

fn not_made(error: TokenError) -> Status {
    match error {
        TokenError::Refused(refusal) => status::call(&refusal),
        TokenError::Unavailable(error) => unavailable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_both_command_lines_write_them() {
        let rfc = moment("2026-11-22T10:00:00Z").unwrap();
        assert_eq!(moment("2026-11-22 10:00:00 +0000 +00"), Ok(rfc));
        assert_eq!(moment("2026-11-22 11:30:00 +0130 +0130"), Ok(rfc));
        assert_eq!(moment(""), Ok(None));
        for wrong in
            ["soon", "2026-11-22", "2026-11-22 10:00:00", "2026-11-22 10:00:00 ä0 b", "a b c d", "   "]
        {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
