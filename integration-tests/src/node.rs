//! What a node says to a server, done by hand, so that a story can do it wrongly.

use proto::spire::types::AttestationData;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use tonic::{Code, Status};

use crate::tls::{self, Identity};

use proto::spire::server::agent::v1::agent_client::AgentClient;
use proto::spire::server::agent::v1::attest_agent_request::{Params, Step};
use proto::spire::server::agent::v1::attest_agent_response::Step as Answered;
use proto::spire::server::agent::v1::{AgentX509svidParams, AttestAgentRequest};

/// Joins with a token, as an agent does with a key of its own.
pub async fn join(address: &str, token: &str) -> Result<Identity, Status> {
    join_with(address, token, &KeyPair::generate().expect("keys can be made")).await
}

/// The same with a key of the story's choice.
pub async fn join_with(address: &str, token: &str, key: &KeyPair) -> Result<Identity, Status> {
    let request = CertificateParams::default().serialize_request(key).expect("a request can be made");
    let params = Params {
        data: Some(AttestationData { r#type: "join_token".into(), payload: token.to_owned().into() }),
        params: Some(AgentX509svidParams { csr: request.der().to_vec().into() }),
    };
    let channel = tls::connect(address, None).await.map_err(Status::unavailable)?;
    let asked = tokio_stream::once(AttestAgentRequest { step: Some(Step::Params(params)) });
    let mut answers = AgentClient::new(channel).attest_agent(asked).await?.into_inner();
    let answer = answers.message().await?.ok_or_else(|| Status::new(Code::Unknown, "no answer"))?;
    match answer.step {
        Some(Answered::Result(result)) => {
            let svid = result.svid.ok_or_else(|| Status::unknown("a result without a certificate"))?;
            let chain = svid.cert_chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
            Ok(Identity { chain, key: key.serialize_der() })
        }
        other => Err(Status::unknown(format!("not a result: {other:?}"))),
    }
}
