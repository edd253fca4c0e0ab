//! `writ.admin.v1`: what an administrator says beyond SPIRE's APIs.

use std::{pin::Pin, str::FromStr, sync::Arc, time::Duration};

use attestors::selectors::Vocabulary;
use futures::{Stream, StreamExt as _, stream};
use proto::writ::admin::v1::{
    ApplyRequest, ApplyResponse, ApproveMandateRequest, ApproveMandateResponse, BackupPart, BackupRequest,
    CreateTokenRequest, CreateTokenResponse, ListRequest, NodeRequest, NodeResponse, Object as WireObject,
    PurgeNodesRequest, PurgeNodesResponse, PushPoliciesRequest, PushPoliciesResponse, ResetTokenRequest,
    ResetTokenResponse, SetEnvironmentRequest, ShowBundleRequest, ShowBundleResponse, StatusRequest,
    StatusResponse, SwitchRequest, SwitchResponse, TurnTaskRequest, TurnTaskResponse, WithdrawMandateRequest,
    WithdrawMandateResponse, admin_server::Admin,
};
use registry::{
    Key, Registry, Stored,
    decide::{
        environment::SetEnvironment,
        mandate::WithdrawMandate,
        node::{BanNode, EvictNode, PurgeNodes},
        token::ResetToken,
    },
    objects::{NodeName, NodeState, well_known},
};
use server_api::wire::{
    admin::{Applied, Mode},
    status,
};
use spiffe::{SpiffeId, Timestamp, TrustDomain};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{caller, governing, unavailable};
use crate::{
    Server,
    api::{
        apply,
        approve::approve,
        governed,
        status::json,
        tokens::{self, TokenError},
    },
    backup::{
        age::To,
        create::{CreateError, Part, create},
    },
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Admin for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse { json: json(&self.0).to_string().into() }))
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<WireObject, Status>> + Send>>;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let ListRequest { kind, keys } = request.into_inner();
        let objects = listed(&self.0.ledger.current(), &kind, &keys)?;
        // One at a time: a list of many need not be in memory twice.
        Ok(Response::new(Box::pin(stream::iter(objects.into_iter().map(|stored| Ok(shown(&stored)))))))
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let author = caller(&request)?.author();
        let ApplyRequest { mode, kind, bodies } = request.into_inner();
        let mode = Mode::from_wire(mode)
            .ok_or_else(|| Status::invalid_argument("mode: it is missing or unknown"))?;
        if kind != "entry" {
            let bodies = governing::kinds(kind, bodies)?;
            let applied =
                governed::apply(&self.0.ledger, mode, &bodies, author).await.map_err(unavailable)?;
            return Ok(Response::new(ApplyResponse {
                results: applied.into_iter().map(Applied::to_wire).collect(),
            }));
        }
        let vocabulary = Vocabulary { others: &self.0.config.other_selector_kinds };
        let applied = apply::entries(&self.0.ledger, vocabulary, mode, &bodies, author);
        let applied = applied.await.map_err(unavailable)?;
        Ok(Response::new(ApplyResponse { results: applied.into_iter().map(Applied::to_wire).collect() }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let author = caller(&request)?.author();
        let CreateTokenRequest { node, ttl } = request.into_inner();
        let ttl = match u64::try_from(ttl) {
            Ok(0) => tokens::DEFAULT_TTL,
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => return Err(Status::invalid_argument("ttl: it is negative")),
        };
        let node = match node.as_str() {
            "" => None,
            name => Some(node_name(name)?),
        };
        let before = self.0.ledger.current();
        let made = tokens::create(&self.0.ledger, node, ttl, author).await.map_err(|error| match error {
            TokenError::Refused(refusal) => status::call(&refusal),
            TokenError::Unavailable(error) => unavailable(error),
        })?;
        let (server_address, mut warnings) = tokens::address(&self.0.config, self.0.listening);
        warnings.extend(tokens::taken(&before, &made.node));
        warnings.extend(tokens::voided(&before, &made.node, crate::now()));
        Ok(Response::new(CreateTokenResponse {
            token: made.token,
            node: made.node.to_string(),
            expires_at: made.expires_at.unix_seconds(),
            server_address,
            pin: self.0.trust.pin().to_string(),
            warnings,
        }))
    }

    async fn reset_token(
        &self,
        request: Request<ResetTokenRequest>,
    ) -> Result<Response<ResetTokenResponse>, Status> {
        let author = caller(&request)?.author();
        let command = ResetToken { node: node_name(&request.into_inner().node)? };
        let done = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        done.map(|()| Response::new(ResetTokenResponse {})).map_err(|refusal| status::call(&refusal))
    }

    async fn evict_node(&self, request: Request<NodeRequest>) -> Result<Response<NodeResponse>, Status> {
        let author = caller(&request)?.author();
        let command = EvictNode { id: self.node(&request.into_inner().node)? };
        let done = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        done.map(|()| Response::new(NodeResponse {})).map_err(|refusal| status::call(&refusal))
    }

    async fn ban_node(&self, request: Request<NodeRequest>) -> Result<Response<NodeResponse>, Status> {
        let author = caller(&request)?.author();
        let command = BanNode { id: self.node(&request.into_inner().node)? };
        let done = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        done.map(|()| Response::new(NodeResponse {})).map_err(|refusal| status::call(&refusal))
    }

    async fn set_environment(
        &self,
        request: Request<SetEnvironmentRequest>,
    ) -> Result<Response<NodeResponse>, Status> {
        let author = caller(&request)?.author();
        let SetEnvironmentRequest { node, environment } = request.into_inner();
        let command =
            SetEnvironment { node: self.node(&node)?, environment: read("environment", &environment)? };
        governing::done(&self.0, command, author).await.map(|()| Response::new(NodeResponse {}))
    }

    async fn approve_mandate(
        &self,
        request: Request<ApproveMandateRequest>,
    ) -> Result<Response<ApproveMandateResponse>, Status> {
        let author = caller(&request)?.author();
        let ApproveMandateRequest { name, version, sha256 } = request.into_inner();
        let (name, sha256) = (read("name", &name)?, read("sha256", &sha256)?);
        let approved = approve(&self.0, name, version, sha256, author).await.map_err(unavailable)?;
        let version = approved.map_err(|refusal| status::call(&refusal))?;
        Ok(Response::new(ApproveMandateResponse { version }))
    }

    async fn withdraw_mandate(
        &self,
        request: Request<WithdrawMandateRequest>,
    ) -> Result<Response<WithdrawMandateResponse>, Status> {
        let author = caller(&request)?.author();
        let command = WithdrawMandate { name: read("name", &request.into_inner().name)? };
        governing::done(&self.0, command, author).await.map(|()| Response::new(WithdrawMandateResponse {}))
    }

    async fn switch(&self, request: Request<SwitchRequest>) -> Result<Response<SwitchResponse>, Status> {
        let author = caller(&request)?.author();
        governing::switch(&self.0, request.into_inner(), author)
            .await
            .map(|()| Response::new(SwitchResponse {}))
    }

    async fn turn_task(
        &self,
        request: Request<TurnTaskRequest>,
    ) -> Result<Response<TurnTaskResponse>, Status> {
        let author = caller(&request)?.author();
        governing::turn(&self.0, request.into_inner(), author)
            .await
            .map(|()| Response::new(TurnTaskResponse {}))
    }

    async fn push_policies(
        &self,
        request: Request<PushPoliciesRequest>,
    ) -> Result<Response<PushPoliciesResponse>, Status> {
        let author = caller(&request)?.author();
        governing::push(&self.0, request.into_inner(), author).await.map(Response::new)
    }

    async fn purge_nodes(
        &self,
        request: Request<PurgeNodesRequest>,
    ) -> Result<Response<PurgeNodesResponse>, Status> {
        let author = caller(&request)?.author();
        let PurgeNodesRequest { ended_before, dry_run } = request.into_inner();
        let ended_before = Timestamp::from_unix_seconds(ended_before);
        let nodes = match dry_run {
            false => self.0.ledger.submit(PurgeNodes { ended_before }, author).await.map_err(unavailable)?,
            true => {
                let registry = self.0.ledger.current();
                let ended =
                    registry.nodes().filter(|n| n.expires_at < ended_before && n.state != NodeState::Banned);
                ended.map(|node| node.id.clone()).collect()
            }
        };
        Ok(Response::new(PurgeNodesResponse { nodes: nodes.iter().map(SpiffeId::to_string).collect() }))
    }

    async fn show_bundle(
        &self,
        request: Request<ShowBundleRequest>,
    ) -> Result<Response<ShowBundleResponse>, Status> {
        let asked = request.into_inner().trust_domain;
        let registry = self.0.ledger.current();
        let trust_domain: TrustDomain = match asked.as_str() {
            "" => registry.trust_domain().clone(),
            name => read("trust_domain", name.strip_prefix("spiffe://").unwrap_or(name))?,
        };
        let bundle = registry.bundle(&trust_domain);
        let bundle =
            bundle.ok_or_else(|| Status::not_found(format!("there is no bundle of {trust_domain}")))?;
        let document = bundle.document().into();
        Ok(Response::new(ShowBundleResponse { document, trust_domain: trust_domain.to_string() }))
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupPart, Status>> + Send>>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let author = caller(&request)?.author();
        let BackupRequest { passphrase, recipients } = request.into_inner();
        let passphrase = Zeroizing::new(passphrase);
        let to = match (passphrase.is_empty(), recipients.len()) {
            (false, 0) => To::Passphrase(passphrase),
            (true, 1..=MOST_RECIPIENTS) => {
                let all = recipients.iter().map(|text| read("recipients", text));
                To::Recipients(all.collect::<Result<_, _>>()?)
            }
            _ => {
                return Err(Status::invalid_argument(
                    "a backup is sealed by a passphrase, or for up to 100 recipients",
                ));
            }
        };
        let failed = |error: CreateError| Status::unavailable(error.to_string());
        let parts = create(self.0.clone(), to, author).await.map_err(failed)?;
        let parts = ReceiverStream::new(parts).map(move |part| match part {
            Ok(Part::Data(data)) => Ok(BackupPart { data, ..BackupPart::default() }),
            Ok(Part::Done(content)) => {
                let content =
                    serde_json::to_vec(&content).map_err(|error| Status::internal(error.to_string()))?;
                Ok(BackupPart { content: content.into(), ..BackupPart::default() })
            }
            Err(error) => Err(failed(error)),
        });
        Ok(Response::new(Box::pin(parts)))
    }
}

impl Service {
    /// A node by its SPIFFE ID, its path, or the name that its token gave it.
    fn node(&self, text: &str) -> Result<SpiffeId, Status> {
        let registry = self.0.ledger.current();
        let trust_domain = registry.trust_domain();
        match text {
            id if id.starts_with("spiffe://") => read("node", id),
            path if path.starts_with('/') => {
                trust_domain.join(path).map_err(|error| Status::invalid_argument(format!("node: {error}")))
            }
            name => Ok(well_known::joined_node(trust_domain, &node_name(name)?)),
        }
    }
}

const MOST_RECIPIENTS: usize = 100;

/// The objects of a kind, or those of them with these keys that are there.
fn listed(registry: &Registry, kind: &str, keys: &[String]) -> Result<Vec<Stored>, Status> {
    if !keys.is_empty() {
        let key = |name: &String| format!("{kind}/{name}").parse::<Key>();
        let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| Status::invalid_argument(format!("{kind}: {error}")))?;
        return Ok(keys.iter().filter_map(|key| registry.object(key)).collect());
    }
    Ok(match kind {
        "entry" => registry.entries().map(Stored::from).collect(),
        "node" => registry.nodes().map(Stored::from).collect(),
        "token" => registry.tokens().map(Stored::from).collect(),
        "authority" => registry.authorities().map(Stored::from).collect(),
        "tenant" => registry.tenants().map(Stored::from).collect(),
        "actor" => registry.actors().map(Stored::from).collect(),
        "mandate" => registry.mandates().map(Stored::from).collect(),
        "resource" => registry.resources().map(Stored::from).collect(),
        "policy" => registry.policies().map(Stored::from).collect(),
        "task" => registry.tasks().map(Stored::from).collect(),
        "bundle" => registry.bundle(registry.trust_domain()).map(Stored::from).into_iter().collect(),
        _ => return Err(Status::invalid_argument(format!("there are no objects of kind {kind:?}"))),
    })
}

fn shown(stored: &Stored) -> WireObject {
    WireObject {
        key: stored.object.key().to_string(),
        version: stored.version,
        body: stored.object.to_json().into(),
    }
}

fn node_name(text: &str) -> Result<NodeName, Status> {
    read("node", text)
}

pub(super) fn read<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}
