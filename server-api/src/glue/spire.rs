//! What an agent says to a SPIRE server once it has its certificate: SPIRE's Entry, Bundle and SVID
//! services and `PostStatus`. There is no push; whoever wants to follow asks again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;
use proto::spire::{
    server::{
        agent::v1::{PostStatusRequest, agent_client::AgentClient},
        bundle::v1::{GetBundleRequest, GetFederatedBundleRequest, bundle_client::BundleClient},
        entry::v1::{
            EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
            entry_client::EntryClient,
        },
        svid::v1::{BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types::{Bundle as WireBundle, Entry as WireEntry, Status as ItemStatus},
};
use registry::objects::{Bundle, Entry, EntryId, Tainted};
use spiffe::{Timestamp, TrustDomain, x509::Certificate};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming, transport::Channel};

use super::{
    CallError,
    node::{Chain, JwtOrder, Token, Unsigned},
};
use crate::wire::{WireError, entry, trust_bundle};

/// Speaks to a SPIRE server for an agent.
#[derive(Clone)]
pub struct Client {
    agent: AgentClient<Channel>,
    bundle: BundleClient<Channel>,
    entry: EntryClient<Channel>,
    svid: SvidClient<Channel>,
}

/// Which edition of an entry is meant. An entry that was deleted and made again under the same id counts
/// its revisions from the beginning, so its age belongs to it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Edition {
    /// How often it was changed.
    pub revision: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The entries of this agent as the server has them now.
#[derive(Debug, Default)]
pub struct Synced {
    /// All of them.
    pub there: HashSet<EntryId>,
    /// Those of which another edition was known, or none, or whose edition was not compared.
    pub fresh: Vec<(Entry, Edition)>,
    /// Those that make no sense here, and why. They are not `there`.
    pub unreadable: Vec<String>,
    /// How many came, of one kind or the other.
    count: usize,
}

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct Order {
    /// For which entry of this agent.
    pub entry: EntryId,
    /// PKCS#10, DER; only its key counts.
    pub csr: Vec<u8>,
}

impl Client {
    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self {
            agent: AgentClient::new(channel.clone()),
            bundle: BundleClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            entry: EntryClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            svid: SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER),
        }
    }

    /// Says which version this agent is of.
    pub async fn post_status(&mut self, version: &str) -> Result<(), CallError> {
        let status = PostStatusRequest { agent_version: version.to_owned(), ..PostStatusRequest::default() };
        self.agent.post_status(timed(status)).await?;
        Ok(())
    }

    /// The bundle of the server's own trust domain.
    pub async fn bundle(&mut self) -> Result<Bundle, CallError> {
        let answer = self.bundle.get_bundle(timed(GetBundleRequest::default())).await?;
        read_bundle(answer.into_inner())
    }

    /// The bundle of a foreign trust domain, if the server has one.
    pub async fn federated_bundle(&mut self, of: &TrustDomain) -> Result<Option<Bundle>, CallError> {
        let asked = GetFederatedBundleRequest { trust_domain: of.as_str().to_owned(), ..Default::default() };
        match self.bundle.get_federated_bundle(timed(asked)).await {
            Ok(answer) => {
                let bundle = read_bundle(answer.into_inner())?;
                match bundle.trust_domain() == of {
                    true => Ok(Some(bundle)),
                    false => Err(CallError::Nonsense(format!(
                        "the bundle of {} was asked for, and that of {} came",
                        of.as_str(),
                        bundle.trust_domain().as_str()
                    ))),
                }
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The entries of this agent. Where there are many, only those come of which `known` has no edition or
    /// another one.
    pub async fn sync(&mut self, known: &HashMap<EntryId, Edition>) -> Result<Synced, CallError> {
        let (asking, asked) = mpsc::channel(1);
        let first = SyncAuthorizedEntriesRequest { output_mask: Some(entry::WHOLE), ..Default::default() };
        let ask = async |request| {
            asking.send(request).await.map_err(|_| CallError::Unavailable("the stream ended".to_owned()))
        };
        ask(first).await?;
        let answers = self.entry.sync_authorized_entries(timed(ReceiverStream::new(asked))).await?;
        let mut answers = answers.into_inner();
        let mut synced = Synced::default();
        let mut page = next(&mut answers).await?;
        if page.entry_revisions.is_empty() {
            synced.read(page.entries)?;
            return Ok(synced);
        }
        // Many: their editions come first, page by page, and then what of them is asked for.
        let most = page.entry_revisions.len();
        let mut wanted = synced.compare(page.entry_revisions, known)?;
        while page.more {
            page = next(&mut answers).await?;
            wanted.extend(synced.compare(page.entry_revisions, known)?);
        }
        wanted.sort_unstable();
        for ids in wanted.chunks(most) {
            ask(SyncAuthorizedEntriesRequest { ids: ids.to_vec(), ..Default::default() }).await?;
            loop {
                let page = next(&mut answers).await?;
                synced.read(page.entries)?;
                if !page.more {
                    break;
                }
            }
        }
        Ok(synced)
    }

    /// Has keys signed; results in the order of the orders, of which there are at most
    /// [`crate::wire::delta::MAX_BATCH`].
    pub async fn sign(&mut self, orders: Vec<Order>) -> Result<Vec<Result<Chain, Unsigned>>, CallError> {
        let asked = orders.len();
        let param = |order: Order| NewX509svidParams {
            entry_id: order.entry.as_str().to_owned(),
            csr: order.csr.into(),
        };
        let params = orders.into_iter().map(param).collect();
        let answer = self.svid.batch_new_x509svid(timed(BatchNewX509svidRequest { params })).await?;
        let results = answer.into_inner().results;
        if results.len() != asked {
            return Err(CallError::Nonsense(format!("{} results for {asked} keys", results.len())));
        }
        let chain = |result: proto::spire::server::svid::v1::batch_new_x509svid_response::Result| {
            judge(result.status)?;
            let chain: Vec<Bytes> = result.svid.map(|svid| svid.cert_chain).unwrap_or_default();
            match chain.is_empty() {
                false => Ok(chain),
                true => Err(Unsigned { code: Code::Internal, message: "no certificate came".to_owned() }),
            }
        };
        Ok(results.into_iter().map(chain).collect())
    }

    /// Has one token signed.
    pub async fn sign_jwt(&mut self, order: JwtOrder) -> Result<Result<Token, Unsigned>, CallError> {
        let asked =
            NewJwtsvidRequest { entry_id: order.entry.as_str().to_owned(), audience: order.audiences };
        let svid = match self.svid.new_jwtsvid(timed(asked)).await.map_err(CallError::from) {
            Ok(answer) => answer.into_inner().svid,
            // It is this order that the server refuses, and not the agent.
            Err(CallError::Refused { code, message }) => return Ok(Err(Unsigned { code, message })),
            Err(other) => return Err(other),
        };
        let svid = svid.filter(|svid| !svid.token.is_empty() && svid.issued_at < svid.expires_at);
        let svid =
            svid.ok_or_else(|| CallError::Nonsense("no token with a beginning and an end".to_owned()))?;
        Ok(Ok(Token {
            token: svid.token,
            issued_at: Timestamp::from_unix_seconds(svid.issued_at),
            expires_at: Timestamp::from_unix_seconds(svid.expires_at),
        }))
    }
}

impl Synced {
    /// Takes whole entries.
    fn read(&mut self, entries: Vec<WireEntry>) -> Result<(), CallError> {
        self.bound(entries.len())?;
        for wire in entries {
            match read(wire) {
                Ok((entry, edition)) => {
                    self.there.insert(entry.id.clone());
                    self.fresh.push((entry, edition));
                }
                Err(reason) => self.unreadable.push(reason),
            }
        }
        Ok(())
    }

    /// Takes the editions that the server has, and says which entries must be asked for.
    fn compare(
        &mut self,
        editions: Vec<EntryRevision>,
        known: &HashMap<EntryId, Edition>,
    ) -> Result<Vec<String>, CallError> {
        self.bound(editions.len())?;
        let mut wanted = Vec::new();
        for EntryRevision { id, revision_number, created_at } in editions {
            let (Ok(entry), Ok(revision)) = (id.parse::<EntryId>(), u64::try_from(revision_number)) else {
                self.unreadable.push(format!("{id:?} in revision {revision_number}"));
                continue;
            };
            let edition = Edition { revision, created_at: Timestamp::from_unix_seconds(created_at) };
            match known.get(&entry) == Some(&edition) {
                true => drop(self.there.insert(entry)),
                false => wanted.push(id),
            }
        }
        Ok(wanted)
    }

    /// No server has so many for one node; whoever says so wants this one to run out of memory.
    fn bound(&mut self, more: usize) -> Result<(), CallError> {
        self.count += more;
        match self.count > MOST_ITEMS {
            true => Err(CallError::Nonsense(format!("more than {MOST_ITEMS} entries and revisions"))),
            false => Ok(()),
        }
    }
}

/// An entry with the edition that it is.
fn read(wire: WireEntry) -> Result<(Entry, Edition), String> {
    let named = |reason: &dyn std::fmt::Display| format!("{:.255?}: {reason}", wire.id);
    let id: EntryId = wire.id.parse().map_err(|error| named(&error))?;
    let revision = u64::try_from(wire.revision_number).map_err(|error| named(&error))?;
    let edition = Edition { revision, created_at: Timestamp::from_unix_seconds(wire.created_at) };
    let name = id.clone();
    let entry = entry::from_wire(wire, id, edition.created_at);
    entry.map(|entry| (entry, edition)).map_err(|error| format!("{name}: {error}"))
}

/// A whole bundle. Each authority in it must be one that can vouch for something.
fn read_bundle(mut wire: WireBundle) -> Result<Bundle, CallError> {
    if wire.x509_authorities.len() + wire.jwt_authorities.len() > MOST_AUTHORITIES {
        return Err(CallError::Nonsense(format!("a bundle of more than {MOST_AUTHORITIES} authorities")));
    }
    wire.wit_authorities.clear(); // for tokens that are neither issued nor accepted here
    let mut tainted = Tainted::default();
    for authority in wire.x509_authorities.iter().filter(|authority| authority.tainted) {
        let id = |der| Certificate::parse(der).ok()?.subject_key_id_hex()?.parse().ok();
        tainted.x509.extend(id(&authority.asn1));
    }
    let keys = wire.jwt_authorities.iter().filter(|key| key.tainted);
    tainted.jwt.extend(keys.map(|key| key.key_id.clone()));
    let bundle = Bundle::new(trust_bundle::from_wire(wire)?);
    Ok(bundle.map_err(|error| WireError::field("bundle", error))?.with_tainted(tainted))
}

async fn next(
    answers: &mut Streaming<SyncAuthorizedEntriesResponse>,
) -> Result<SyncAuthorizedEntriesResponse, CallError> {
    let answer = answers.message().await?;
    answer.ok_or_else(|| CallError::Unavailable("the server ended the stream too early".to_owned()))
}

fn judge(status: Option<ItemStatus>) -> Result<(), Unsigned> {
    let status = status.unwrap_or_default();
    match Code::from_i32(status.code) {
        Code::Ok => Ok(()),
        code => Err(Unsigned { code, message: status.message }),
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(WITHIN);
    request
}

const MAX_ANSWER: usize = 16 * 1024 * 1024;
const MOST_AUTHORITIES: usize = 1000;
const MOST_ITEMS: usize = 2_000_000;
const WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use proto::spire::types::{JwtKey, Spiffeid, X509Certificate};
    use spiffe::PrivateKey;

    use super::*;

    fn wire(id: &str, revision: i64, path: &str) -> WireEntry {
        let named = |path: &str| Some(Spiffeid { trust_domain: "acme.example".into(), path: path.into() });
        WireEntry {
            id: id.into(),
            spiffe_id: named(path),
            parent_id: named("/spire/agent/join_token/1"),
            revision_number: revision,
            created_at: 7,
            ..WireEntry::default()
        }
    }

    fn edition(revision: u64, created_at: i64) -> Edition {
        Edition { revision, created_at: Timestamp::from_unix_seconds(created_at) }
    }

    #[test]
    fn an_entry_that_was_made_again_under_the_same_id_is_another_edition() {
        let known = HashMap::from([("e1".parse().unwrap(), edition(0, 7))]);
        let mut synced = Synced::default();
        let told = |created_at| EntryRevision { id: "e1".into(), revision_number: 0, created_at };
        assert_eq!(synced.compare(vec![told(7)], &known).unwrap(), Vec::<String>::new());
        assert_eq!(synced.compare(vec![told(8)], &known).unwrap(), ["e1"]);
    }

    #[test]
    fn one_entry_that_makes_no_sense_hides_no_other() {
        let mut synced = Synced::default();
        synced
            .read(vec![wire("e1", 0, "/a"), wire("e 2", 0, "/a"), wire("e3", -1, "/a"), wire("e4", 0, "//")])
            .unwrap();
        assert_eq!(synced.there, HashSet::from(["e1".parse().unwrap()]));
        assert_eq!(synced.unreadable.len(), 3, "{:?}", synced.unreadable);
        let none = HashMap::new();
        let told =
            |id: &str, revision_number| EntryRevision { id: id.into(), revision_number, created_at: 7 };
        assert_eq!(synced.compare(vec![told("", 0), told("e5", -1), told("e6", 0)], &none).unwrap(), ["e6"]);
    }

    #[test]
    fn an_authority_that_can_vouch_for_nothing_spoils_the_bundle() {
        let key = |kid: &str| {
            let public_key = PrivateKey::generate().unwrap().public_key().unwrap().into();
            JwtKey { public_key, key_id: kid.into(), tainted: kid == "old", ..JwtKey::default() }
        };
        let wire = |jwt_authorities| WireBundle {
            trust_domain: "acme.example".into(),
            jwt_authorities,
            ..WireBundle::default()
        };
        let read = read_bundle(wire(vec![key("old"), key("new")])).unwrap();
        assert_eq!(read.tainted().jwt, ["old".to_owned()].into());
        assert!(read_bundle(wire(vec![key("a"), key("a")])).is_err(), "one name for two keys");
        assert!(read_bundle(wire(vec![key("")])).is_err());
        assert!(read_bundle(wire(vec![key("a"); MOST_AUTHORITIES + 1])).is_err());
        let garbage = X509Certificate { asn1: b"no certificate".as_slice().into(), tainted: true };
        assert!(read_bundle(WireBundle { x509_authorities: vec![garbage], ..wire(vec![]) }).is_err());
    }

    #[test]
    fn a_server_that_never_stops_is_stopped() {
        let mut synced = Synced { count: MOST_ITEMS, ..Synced::default() };
        assert!(synced.read(vec![wire("e1", 0, "/a")]).is_err());
    }
}
