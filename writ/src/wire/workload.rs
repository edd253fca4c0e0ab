//! The SPIFFE Workload API from a workload's side.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest,
    X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};
use spiffe::{Bundle, Bundles, PrivateKey, SpiffeId, Timestamp};
use tonic::{Code, Request, Streaming, metadata::MetadataValue};

use crate::identity::{Identities, Svid};

/// SPIFFE Workload Endpoint, section 3.3.
const HEADER: (&str, &str) = ("workload.spiffe.io", "true");
/// More SVIDs than this in one answer are nobody's.
const MOST_CERTIFICATES: usize = 10_000;

/// Why an agent gives nothing, or nothing any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It answered that this process has no identity.
    #[error("{0}")]
    NoIdentity(String),
    /// It cannot be reached, or said something else.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

/// An open stream of answers, the newest last.
pub(crate) struct Updates<M> {
    stream: Streaming<M>,
}

/// Asks who this process is, and goes on listening.
pub(crate) async fn x509_svids(socket: &Path) -> Result<Updates<X509svidResponse>, Refused> {
    let mut agent = client(socket).await?;
    let stream = agent.fetch_x509svid(with_header(X509svidRequest {})).await.map_err(refused)?.into_inner();
    Ok(Updates { stream })
}

/// Asks whom to trust, and goes on listening.
pub(crate) async fn x509_bundles(socket: &Path) -> Result<Updates<X509BundlesResponse>, Refused> {
    let mut agent = client(socket).await?;
    let stream =
        agent.fetch_x509_bundles(with_header(X509BundlesRequest {})).await.map_err(refused)?.into_inner();
    Ok(Updates { stream })
}

/// Asks by whose tokens to believe, and goes on listening.
pub(crate) async fn jwt_bundles(socket: &Path) -> Result<Updates<JwtBundlesResponse>, Refused> {
    let mut agent = client(socket).await?;
    let stream =
        agent.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.map_err(refused)?.into_inner();
    Ok(Updates { stream })
}

/// A JWT-SVID as it came.
#[derive(Debug)]
pub(crate) struct Token {
    /// Whom it names.
    pub(crate) id: SpiffeId,
    /// What tells it from the others.
    pub(crate) hint: String,
    /// When it ends, as it says.
    pub(crate) expires_at: Timestamp,
    /// JWS in compact serialisation.
    pub(crate) token: String,
}

/// Asks for tokens of this process, or of one of its identities.
pub(crate) async fn jwt_svids(
    socket: &Path,
    audiences: &[String],
    of: Option<&SpiffeId>,
) -> Result<Vec<Token>, Refused> {
    let spiffe_id = of.map(ToString::to_string).unwrap_or_default();
    let request = JwtsvidRequest { audience: audiences.to_vec(), spiffe_id };
    let mut agent = client(socket).await?;
    let answer = agent.fetch_jwtsvid(with_header(request)).await.map_err(refused)?.into_inner();
    let token = |svid: proto::workload::Jwtsvid| {
        let id = svid.spiffe_id.parse().context("the agent's token has no SPIFFE ID")?;
        Ok(Token { id, hint: svid.hint, expires_at: end_of(&svid.svid)?, token: svid.svid })
    };
    answer.svids.into_iter().map(token).collect::<Result<_>>().map_err(Refused::Unavailable)
}

/// Has the agent judge a token: whom it names, and what it says.
pub(crate) async fn validate_jwt_svid(
    socket: &Path,
    audience: &str,
    token: &str,
) -> Result<(String, Map<String, Value>), Refused> {
    let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
    let mut agent = client(socket).await?;
    let answer =
        agent.validate_jwtsvid(with_header(request)).await.map_err(|status| match status.code() {
            Code::InvalidArgument => Refused::Unavailable(anyhow::Error::msg(status.message().to_owned())),
            _ => refused(status),
        })?;
    let valid = answer.into_inner();
    let claims = valid.claims.unwrap_or_default().fields;
    Ok((valid.spiffe_id, claims.into_iter().map(|(name, value)| (name, json(value))).collect()))
}

/// A claim as JSON has it.
fn json(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        // What was a whole number is shown as one.
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
            (number as i64).into()
        }
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(members)) => {
            Value::Object(members.fields.into_iter().map(|(name, value)| (name, json(value))).collect())
        }
    }
}

/// When a token says that it ends. It is our own agent's; whoever is shown it will verify it.
fn end_of(token: &str) -> Result<Timestamp> {
    let payload = token.split('.').nth(1).context("the agent's token has no payload")?;
    let payload = URL_SAFE_NO_PAD.decode(payload).context("the agent's token is not in base64url")?;
    let claims: Value = serde_json::from_slice(&payload).context("the agent's token is not JSON")?;
    let end = claims["exp"].as_i64().context("the agent's token has no end")?;
    Ok(Timestamp::from_unix_seconds(end))
}

impl Updates<JwtBundlesResponse> {
    /// The next whole set of key sets.
    pub(crate) async fn next(&mut self) -> Result<Bundles, Refused> {
        let answer = next(&mut self.stream).await?;
        let key_set = |(id, document): (&String, &bytes::Bytes)| -> Result<Bundle> {
            let id: SpiffeId = id.parse().context("the agent's bundle belongs to no trust domain")?;
            Ok(Bundle::parse(id.trust_domain(), document)?)
        };
        answer.bundles.iter().map(key_set).collect::<Result<_>>().map_err(Refused::Unavailable)
    }
}

impl Updates<X509svidResponse> {
    /// The next whole set of identities.
    pub(crate) async fn next(&mut self, now: fn() -> Timestamp) -> Result<Identities, Refused> {
        let answer = next(&mut self.stream).await?;
        identities(answer, now()).map_err(Refused::Unavailable)
    }
}

impl Updates<X509BundlesResponse> {
    /// The next whole set of bundles.
    pub(crate) async fn next(&mut self) -> Result<Bundles, Refused> {
        let answer = next(&mut self.stream).await?;
        let bundles = answer.bundles.iter().map(|(id, der)| bundle(id, der)).collect::<Result<_>>();
        bundles.map_err(Refused::Unavailable)
    }
}

async fn client(socket: &Path) -> Result<SpiffeWorkloadApiClient<tonic::transport::Channel>, Refused> {
    Ok(SpiffeWorkloadApiClient::new(super::connect(socket).await.map_err(Refused::Unavailable)?))
}

fn with_header<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(HEADER.0, MetadataValue::from_static(HEADER.1));
    request
}

async fn next<M>(stream: &mut Streaming<M>) -> Result<M, Refused> {
    match stream.message().await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Refused::Unavailable(anyhow::Error::msg("the agent ended the stream"))),
        Err(status) => Err(refused(status)),
    }
}

fn refused(status: tonic::Status) -> Refused {
    match status.code() {
        Code::PermissionDenied => Refused::NoIdentity(status.message().to_owned()),
        code => Refused::Unavailable(anyhow::anyhow!("the agent answered {code:?}: {}", status.message())),
    }
}

fn identities(answer: X509svidResponse, now: Timestamp) -> Result<Identities> {
    let own = answer.svids.iter().map(|svid| {
        let id: SpiffeId = svid.spiffe_id.parse().context("the agent's SVID has no SPIFFE ID")?;
        bundle(id.trust_domain().id().as_str(), &svid.bundle)
    });
    let federated = answer.federated_bundles.iter().map(|(id, der)| bundle(id, der));
    let bundles: Arc<Bundles> = Arc::new(own.chain(federated).collect::<Result<_>>()?);
    let svids = answer.svids.into_iter().map(|svid| {
        let chain = certificates(&svid.x509_svid)?;
        let key = PrivateKey::from_pkcs8(svid.x509_svid_key.into())?;
        Svid::verified(&svid.spiffe_id, chain, key, svid.hint, &bundles, now)
    });
    Ok(Identities { svids: svids.collect::<Result<_>>()?, bundles })
}

/// The bundle of the trust domain with this ID; the standard's maps are keyed by it.
fn bundle(trust_domain_id: &str, authorities: &[u8]) -> Result<Bundle> {
    let id: SpiffeId = trust_domain_id.parse().context("the agent's bundle belongs to no trust domain")?;
    let mut bundle = Bundle::empty(id.trust_domain());
    bundle.x509_authorities = certificates(authorities)?;
    Ok(bundle)
}

/// Certificates in DER that stand one after the other.
fn certificates(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        ensure!(certificates.len() < MOST_CERTIFICATES, "the agent sent too many certificates");
        let length = element_length(der).context("the agent sent a certificate that is cut off")?;
        let (certificate, rest) = der.split_at(length);
        certificates.push(CertificateDer::from(certificate.to_vec()));
        der = rest;
    }
    Ok(certificates)
}

/// How many bytes the DER sequence at the start of `der` takes, if it is whole.
fn element_length(der: &[u8]) -> Option<usize> {
    let (&[0x30, first], rest) = der.split_first_chunk::<2>()? else { return None };
    let (header, content) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x84 => {
            let digits = rest.get(..usize::from(first & 0x7f))?;
            let content = digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
            (2 + digits.len(), content)
        }
        _ => return None,
    };
    header.checked_add(content).filter(|length| *length <= der.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_told_apart_by_their_lengths() {
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        let both = [&[0x30, 0x02, 1, 2][..], &long].concat();
        let split = certificates(&both).unwrap();
        assert_eq!(split.iter().map(|der| der.len()).collect::<Vec<_>>(), [4, 260]);
    }

    #[test]
    fn bytes_that_are_no_certificates_are_refused() {
        for wrong in [
            &[0x30][..],
            &[0x30, 0x05, 1],
            &[0x31, 0x00],
            &[0x30, 0x80],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(certificates(wrong).is_err(), "{wrong:?}");
        }
        assert!(certificates(&[]).unwrap().is_empty());
    }
}
