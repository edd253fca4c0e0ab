//! How a node's agent gets its own certificate: SPIRE's AttestAgent and RenewAgent.

use std::time::Duration;

use proto::spire::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, RenewAgentRequest, agent_client::AgentClient,
        attest_agent_request, attest_agent_response,
    },
    types::{AttestationData, X509svid},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
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
        let no_answer =
            |_: &[u8]| Err("a join token is answered by a certificate and nothing else".to_owned());
        self.attest("join_token", token.as_bytes().to_vec(), csr, no_answer).await
    }

    /// Attests by `kind`: shows `payload`, and `answer`s the server's challenge if it has one.
    pub async fn attest(
        &mut self,
        kind: &str,
        payload: Vec<u8>,
        csr: &[u8],
        answer: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<Chain, CallError> {
        let params = attest_agent_request::Params {
            data: Some(AttestationData { r#type: kind.to_owned(), payload: payload.into() }),
            params: Some(AgentX509svidParams { csr: csr.to_vec().into() }),
        };
        let (say, words) = mpsc::channel(1);
        let say = async |step| {
            let said = say.send(AttestAgentRequest { step: Some(step) }).await;
            said.map_err(|_| CallError::Unavailable("the server stopped to listen".to_owned()))
        };
        say(attest_agent_request::Step::Params(params)).await?;
        let mut request = Request::new(ReceiverStream::new(words));
        request.set_timeout(WITHIN);
        let mut answers = self.0.attest_agent(request).await?.into_inner();
        let mut step = answers.message().await?.and_then(|answer| answer.step);
        if let Some(attest_agent_response::Step::Challenge(challenge)) = &step {
            let response = answer(challenge).map_err(CallError::Nonsense)?;
            say(attest_agent_request::Step::ChallengeResponse(response.into())).await?;
            step = answers.message().await?.and_then(|answer| answer.step);
        }
        match step {
            Some(attest_agent_response::Step::Result(result)) => chain(result.svid),
            _ => Err(CallError::Nonsense("it attests nobody, and does not say why".to_owned())),
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
