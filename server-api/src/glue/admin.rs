//! What an administrator says to a server: `writ.admin.v1`.

use std::path::Path;

use bytes::Bytes;
use proto::writ::admin::v1::{
    ApplyRequest, ApproveMandateRequest, BackupPart, BackupRequest, CreateTokenRequest, ListRequest,
    NodeRequest, PurgeNodesRequest, PushPoliciesRequest, PushPoliciesResponse, PushedPolicy,
    ResetTokenRequest, SetEnvironmentRequest, ShowBundleRequest, StatusRequest, SwitchRequest,
    TurnTaskRequest, WithdrawMandateRequest, admin_client::AdminClient, switch_request, turn_task_request,
};
use registry::{
    Key,
    objects::{Layer, Policy},
};
use spiffe::Timestamp;
use tonic::{Code, Streaming, transport::Channel};
use zeroize::Zeroizing;

use super::CallError;
use crate::connect::{ConnectError, connect_private};
pub use crate::wire::admin::{Applied, Effect, Mode};

/// Speaks to a server for an administrator.
#[derive(Clone)]
pub struct Client(AdminClient<Channel>);

/// An object as the server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Counts its changes, from 1.
    pub version: u64,
    /// Its JSON.
    pub body: Bytes,
}

/// A token, and what its machine needs beside it. Has no `Debug`, because the token is a secret.
pub struct NewToken {
    /// `<node>.<secret>`; nobody can show it again.
    pub token: String,
    /// The node's name.
    pub node: String,
    /// When it stops counting.
    pub expires_at: Timestamp,
    /// Where the other machine finds this server.
    pub server_address: String,
    /// The server's pin.
    pub pin: String,
    /// What the administrator should know.
    pub warnings: Vec<String>,
}

/// Who can open a backup. Has no `Debug`, because a passphrase is a secret.
pub enum SealedFor {
    /// Whoever knows it.
    Passphrase(Zeroizing<String>),
    /// Each of these (`age1…`).
    Recipients(Vec<String>),
}

/// What has a kill switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Switched {
    /// An actor, by its SPIFFE ID.
    Actor,
    /// A tenant, by its name.
    Tenant,
}

/// What an administrator makes of a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turned {
    /// It is over.
    Ended,
    /// It waits.
    Suspended,
    /// It may act again.
    Resumed,
}

/// What became of a layer of policies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pushed {
    /// Names of policies that are new or different.
    pub put: Vec<String>,
    /// Names of policies that are gone.
    pub gone: Vec<String>,
    /// The revision with which that is in effect.
    pub revision: u64,
}

/// A backup on its way here.
pub struct Backup {
    parts: Streaming<BackupPart>,
    content: Option<Bytes>,
}

impl Backup {
    /// The next bytes of the file; `None` once all of them have come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        while let Some(part) = self.parts.message().await? {
            if !part.content.is_empty() {
                self.content = Some(part.content);
            }
            if !part.data.is_empty() {
                return Ok(Some(part.data));
            }
        }
        match self.content {
            Some(_) => Ok(None),
            None => Err(CallError::Unavailable("the backup was cut; make it again".to_owned())),
        }
    }

    /// What is in it, as JSON; known at the end.
    pub fn content(&self) -> Option<&Bytes> {
        self.content.as_ref()
    }
}

impl Client {
    /// A backup of the server.
    pub async fn backup(&mut self, sealed_for: SealedFor) -> Result<Backup, CallError> {
        let request = match sealed_for {
            SealedFor::Passphrase(mut passphrase) => {
                BackupRequest { passphrase: std::mem::take(&mut passphrase), ..BackupRequest::default() }
            }
            SealedFor::Recipients(recipients) => BackupRequest { recipients, ..BackupRequest::default() },
        };
        Ok(Backup { parts: self.0.backup(request).await?.into_inner(), content: None })
    }

    /// Connects to the server's private socket.
    pub async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        Ok(Self::new(connect_private(socket).await?))
    }

    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(
            AdminClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
    }

    /// The server's state, as JSON.
    pub async fn status(&mut self) -> Result<Bytes, CallError> {
        Ok(self.0.status(StatusRequest {}).await?.into_inner().json)
    }

    /// All objects of a kind, or only those with these keys (without the kind).
    pub async fn list(&mut self, kind: &str, keys: Vec<String>) -> Result<Vec<Listed>, CallError> {
        let request = ListRequest { kind: kind.to_owned(), keys };
        let mut objects = self.0.list(request).await?.into_inner();
        let mut listed = Vec::new();
        while let Some(object) = objects.message().await? {
            let key = object.key.parse().map_err(|_| CallError::Nonsense(format!("key {:?}", object.key)))?;
            listed.push(Listed { key, version: object.version, body: object.body });
        }
        Ok(listed)
    }

    /// Creates, updates or deletes objects of a kind; results in the order of the bodies.
    pub async fn apply(
        &mut self,
        mode: Mode,
        kind: &str,
        bodies: Vec<Bytes>,
    ) -> Result<Vec<Applied>, CallError> {
        let asked = bodies.len();
        let request = ApplyRequest { mode: mode.to_wire(), kind: kind.to_owned(), bodies };
        let results = self.0.apply(request).await?.into_inner().results;
        match results.len() == asked {
            true => Ok(results.into_iter().map(Applied::from_wire).collect()),
            false => Err(CallError::Nonsense(format!("{} results for {asked} objects", results.len()))),
        }
    }

    /// Makes a join token. An empty name makes one; `ttl` in seconds, 0 is the default.
    pub async fn create_token(&mut self, node: &str, ttl: i64) -> Result<NewToken, CallError> {
        let request = CreateTokenRequest { node: node.to_owned(), ttl };
        let made = self.0.create_token(request).await?.into_inner();
        Ok(NewToken {
            token: made.token,
            node: made.node,
            expires_at: Timestamp::from_unix_seconds(made.expires_at),
            server_address: made.server_address,
            pin: made.pin,
            warnings: made.warnings,
        })
    }

    /// Frees a token for another key.
    pub async fn reset_token(&mut self, node: &str) -> Result<(), CallError> {
        self.0.reset_token(ResetTokenRequest { node: node.to_owned() }).await?;
        Ok(())
    }

    /// Forgets a node; its agent may join again with a new token.
    pub async fn evict_node(&mut self, node: &str) -> Result<(), CallError> {
        self.0.evict_node(NodeRequest { node: node.to_owned() }).await?;
        Ok(())
    }

    /// Refuses a node and its name from now on.
    pub async fn ban_node(&mut self, node: &str) -> Result<(), CallError> {
        self.0.ban_node(NodeRequest { node: node.to_owned() }).await?;
        Ok(())
    }

    /// Says where a node stands; its tasks end where that changes.
    pub async fn set_environment(&mut self, node: &str, environment: &str) -> Result<(), CallError> {
        let (node, environment) = (node.to_owned(), environment.to_owned());
        self.0.set_environment(SetEnvironmentRequest { node, environment }).await?;
        Ok(())
    }

    /// Approves the draft of a mandate that has exactly this version and digest; the version that counts now.
    pub async fn approve_mandate(
        &mut self,
        name: &str,
        version: u64,
        sha256: &str,
    ) -> Result<u64, CallError> {
        let (name, sha256) = (name.to_owned(), sha256.to_owned());
        let request = ApproveMandateRequest { name, version, sha256 };
        Ok(self.0.approve_mandate(request).await?.into_inner().version)
    }

    /// Takes the approval of a mandate back; all tasks under it end.
    pub async fn withdraw_mandate(&mut self, name: &str) -> Result<(), CallError> {
        self.0.withdraw_mandate(WithdrawMandateRequest { name: name.to_owned() }).await?;
        Ok(())
    }

    /// Turns the kill switch of an actor or a tenant: with a reason it is disabled, without one enabled.
    pub async fn switch(&mut self, what: Switched, name: &str, why: Option<&str>) -> Result<(), CallError> {
        let what = match what {
            Switched::Actor => switch_request::What::Actor,
            Switched::Tenant => switch_request::What::Tenant,
        };
        let (name, disable) = (name.to_owned(), why.is_some());
        let why = why.unwrap_or_default().to_owned();
        self.0.switch(SwitchRequest { what: what.into(), name, disable, why }).await?;
        Ok(())
    }

    /// Ends, suspends or resumes a task, with all tasks below it.
    pub async fn turn_task(&mut self, id: &str, to: Turned, why: &str) -> Result<(), CallError> {
        let to = match to {
            Turned::Ended => turn_task_request::To::Ended,
            Turned::Suspended => turn_task_request::To::Suspended,
            Turned::Resumed => turn_task_request::To::Resumed,
        };
        let (id, why) = (id.to_owned(), why.to_owned());
        self.0.turn_task(TurnTaskRequest { id, to: to.into(), why }).await?;
        Ok(())
    }

    /// Makes the policies of one layer exactly these, in one step.
    pub async fn push_policies(&mut self, layer: &Layer, policies: Vec<Policy>) -> Result<Pushed, CallError> {
        let pushed = |policy: Policy| PushedPolicy {
            id: policy.id.to_string(),
            lowers: match policy.lowers.is_nothing() {
                true => Bytes::new(),
                false => serde_json::to_vec(&policy.lowers).unwrap_or_default().into(),
            },
            text: policy.text,
        };
        let policies = policies.into_iter().map(pushed).collect();
        let request = PushPoliciesRequest { layer: layer.to_string(), policies };
        let PushPoliciesResponse { put, gone, revision } = self.0.push_policies(request).await?.into_inner();
        Ok(Pushed { put, gone, revision })
    }

    /// Forgets nodes whose certificate ended before `ended_before`; says which.
    pub async fn purge_nodes(
        &mut self,
        ended_before: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<String>, CallError> {
        let request = PurgeNodesRequest { ended_before: ended_before.unix_seconds(), dry_run };
        Ok(self.0.purge_nodes(request).await?.into_inner().nodes)
    }

    /// The bundle document of a trust domain; the server's own where the name is empty.
    pub async fn show_bundle(&mut self, trust_domain: &str) -> Result<Bytes, CallError> {
        let request = ShowBundleRequest { trust_domain: trust_domain.to_owned() };
        Ok(self.0.show_bundle(request).await?.into_inner().document)
    }
}

impl Applied {
    /// What was refused, if it was.
    pub fn refused(&self) -> Option<(Code, &str)> {
        (self.code != Code::Ok).then_some((self.code, self.message.as_str()))
    }
}

const MAX_MESSAGE: usize = 16 * 1024 * 1024;
