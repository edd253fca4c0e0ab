//! How a node's agent gets its own certificate: SPIRE's AttestAgent and RenewAgent.

use std::time::Duration;

use proto::spire::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, RenewAgentRequest, agent_client::AgentClient,
        attest_agent_request, attest_agent_response,
    },
    types::{AttestationData, X509svid},
};
use tonic::{Request, transport::Channel};

use super::CallError;

/// An agent's certificate chain, DER, leaf first.
pub type Chain = Vec<Vec<u8>>;

/// Speaks to a server for a node that joins or renews.
#[derive(Clone)]
pub struct Client(AgentClient<Channel>);

impl Client {
    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(AgentClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// Joins with a token; `csr` is a PKCS#10 request in DER, of which only the key counts. Repeating
    /// it with the same key is safe.
    pub async fn join(&mut self, token: &str, csr: &[u8]) -> Result<Chain, CallError> {
        let params = attest_agent_request::Params {
            data: Some(AttestationData { r#type: "join_token".to_owned(), payload: token.to_owned().into() }),
            params: Some(AgentX509svidParams { csr: csr.to_vec().into() }),
        };
        let first = AttestAgentRequest { step: Some(attest_agent_request::Step::Params(params)) };
        let mut request = Request::new(tokio_stream::once(first));
        request.set_timeout(WITHIN);
        let mut answers = self.0.attest_agent(request).await?.into_inner();
        let answer = answers.message().await?;
        match answer.and_then(|answer| answer.step) {
            Some(attest_agent_response::Step::Result(result)) => chain(result.svid),
            _ => Err(CallError::Nonsense(
                "a join token is answered by a certificate and nothing else".to_owned(),
            )),
        }
    }

    /// Gets the next certificate, over a channel that shows the present one.
    pub async fn renew(&mut self, csr: &[u8]) -> Result<Chain, CallError> {
        let mut request = Request::new(RenewAgentRequest {
            params: Some(AgentX509svidParams { csr: csr.to_vec().into() }),
        });
        request.set_timeout(WITHIN);
        chain(self.0.renew_agent(request).await?.into_inner().svid)
    }
}

fn chain(svid: Option<X509svid>) -> Result<Chain, CallError> {
    let chain: Chain =
        svid.map(|svid| svid.cert_chain.into_iter().map(Vec::from).collect()).unwrap_or_default();
    match chain.is_empty() {
        false => Ok(chain),
        true => Err(CallError::Nonsense("a certificate was granted, but none came".to_owned())),
    }
}

const MAX_ANSWER: usize = 256 * 1024;
const WITHIN: Duration = Duration::from_secs(30);
