//! SVIDs that an administrator asks for, of any ID and without an entry; recorded like all others.

use std::{sync::Arc, time::Duration};

use registry::{
    Author, Command, Decision, Moment, Refusal,
    decide::{
        entry::{check_dns_name, check_workload_id},
        issuance::{Issued as RecordedIssue, IssuedToken, RecordIssued, RecordTokens},
    },
    objects::AuthorityId,
};
use server_api::wire::status;
use spiffe::{Audiences, SpiffeId};
use tonic::Status;

use super::{Made, Unsigned, cannot_sign, jwt, not_recorded, vouches};
use crate::{
    Server,
    ca::{Requested, Subject},
    now,
};

/// Signs the key of a certificate request for the ID and the DNS names that are in it.
pub(crate) async fn x509(server: &Arc<Server>, author: Author, csr: &[u8], ttl: i32) -> Result<Made, Status> {
    let Requested { key, spiffe_id, dns_names } =
        Requested::from_csr(csr).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let registry = server.ledger.current();
    check_workload_id(&spiffe_id, &registry).map_err(invalid_id)?;
    dns_names.iter().try_for_each(|name| check_dns_name(name)).map_err(|refusal| status::call(&refusal))?;
    let settings = registry.settings();
    let life = life(ttl, settings.x509_svid_ttl)?.min(settings.longest_svid_ttl());
    let issuer = server.ca.issuer().map_err(cannot_sign)?;
    let (now, subject) = (now(), Subject { id: &spiffe_id, dns_names: &dns_names });
    let issued = issuer.issue(subject, &key, now, now + life).map_err(cannot_sign)?;
    let item = RecordedIssue {
        entry: None,
        spiffe_id: spiffe_id.clone(),
        serial: issued.serial,
        not_after: issued.not_after,
    };
    let authority = issuer.id().clone();
    let record = RecordIssued { authority: authority.clone(), items: vec![item] };
    recorded(server, author, authority, record).await?;
    Ok(Made { spiffe_id, chain: issued.chain, not_after: issued.not_after })
}

/// Signs a token of `spiffe_id`.
pub(crate) async fn jwt(
    server: &Arc<Server>,
    author: Author,
    spiffe_id: SpiffeId,
    audience: &[String],
    ttl: i32,
) -> Result<jwt::Made, Status> {
    let registry = server.ledger.current();
    check_workload_id(&spiffe_id, &registry)
        .map_err(|refusal| Status::invalid_argument(format!("invalid SPIFFE ID: {refusal}")))?;
    let audiences = Audiences::new(audience).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let settings = registry.settings();
    let life = life(ttl, settings.jwt_svid_ttl)?.min(settings.longest_svid_ttl());
    let issuer = server.ca.token_issuer().map_err(cannot_sign)?;
    let now = now();
    let token = issuer.issue(&spiffe_id, &audiences, false, now, now + life).map_err(cannot_sign)?;
    let item = IssuedToken {
        entry: None,
        spiffe_id: spiffe_id.clone(),
        audience: audiences.iter().map(str::to_owned).collect(),
        jti: token.jti.clone(),
        not_after: token.expires_at,
    };
    let authority = issuer.id().clone();
    let record = RecordTokens { authority: authority.clone(), items: vec![item] };
    recorded(server, author, authority, record).await?;
    Ok(jwt::Made { spiffe_id, token })
}

/// Answers once the record is durable, if the authority may sign still.
async fn recorded<R: Command<Answer = ()>>(
    server: &Arc<Server>,
    author: Author,
    authority: AuthorityId,
    record: R,
) -> Result<(), Status> {
    let mint = Mint { authority, record };
    let done = server.ledger.submit(mint, author).await.map_err(not_recorded)?;
    done.map_err(|Unsigned { code, message }| Status::new(code, message))
}

struct Mint<R> {
    authority: AuthorityId,
    record: R,
}

impl<R: Command<Answer = ()>> Command for Mint<R> {
    type Answer = Result<(), Unsigned>;
    fn decide(self, registry: &registry::Registry, moment: &Moment) -> Decision<Self::Answer> {
        match vouches(registry, &self.authority) {
            Err(refused) => Decision { proposal: registry::Proposal::default(), answer: Err(refused) },
            Ok(()) => Decision { proposal: self.record.decide(registry, moment).proposal, answer: Ok(()) },
        }
    }
}

/// Seconds asked for; 0 means the default.
fn life(ttl: i32, default: Duration) -> Result<Duration, Status> {
    match u64::try_from(ttl) {
        Ok(0) => Ok(default),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(Status::invalid_argument("ttl: it is negative")),
    }
}

fn invalid_id(refusal: Refusal) -> Status {
    Status::invalid_argument(format!("CSR URI SAN is invalid: {refusal}"))
}
