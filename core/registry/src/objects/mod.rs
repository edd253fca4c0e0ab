//! What the log keeps. Every kind has one typed key and one JSON form, the same in `writ apply`
//! files, in `--output json` and in the store.

pub mod actor;
pub mod authority;
pub mod bundle;
pub mod declassification;
mod digest;
pub mod entry;
pub mod mandate;
pub mod node;
pub mod policy;
pub mod proof;
pub mod resource;
pub mod task;
pub mod tenant;
pub mod token;
pub mod well_known;

use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

pub use actor::{Actor, Ceiling};
pub use authority::{Authority, AuthorityId, Kind, Slot, Use};
pub use bundle::{Bundle, Tainted};
pub use declassification::{Declassification, Owners, Step};
pub use digest::Sha256;
pub use entry::{Entry, EntryId, EntryPatch};
pub use mandate::{Approved, Beginners, Budgets, Draft, Mandate, MandateName, ParamError, ParamKind, Terms};
pub use node::{Node, NodeName, NodeState};
pub use policy::{Layer, Lowers, Policy, PolicyId};
pub use proof::Proof;
pub use resource::{Resource, Tool};
use serde::{Deserialize, Serialize};
use spiffe::{SpiffeId, TrustDomain};
pub use task::{Beginner, Budget, Reason, Task, TaskId, TaskState};
pub use tenant::{Tenant, TenantName};
pub use token::{JoinToken, Token, TokenState};

use crate::scope::ResourceName;

/// An object's name in the log: its kind and what tells it from others of that kind.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Key {
    /// `entry/<id>`
    Entry(EntryId),
    /// `node/<SPIFFE ID>`
    Node(SpiffeId),
    /// `token/<node name>`
    Token(NodeName),
    /// `authority/<key id, hex>`
    Authority(AuthorityId),
    /// `bundle/<trust domain>`
    Bundle(TrustDomain),
    /// `proof/<SHA-256 of what was proved with>`
    Proof(Sha256),
    /// `tenant/<name>`
    Tenant(TenantName),
    /// `actor/<SPIFFE ID>`
    Actor(SpiffeId),
    /// `mandate/<name>`
    Mandate(MandateName),
    /// `resource/<name>`
    Resource(ResourceName),
    /// `policy/<layer>/…/<name>`
    Policy(PolicyId),
    /// `task/<ULID>`
    Task(TaskId),
}

/// One object as it is now. A clone shares it.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Who may be what.
    Entry(Arc<Entry>),
    /// A machine whose agent has attested.
    Node(Arc<Node>),
    /// A join token, without its secret.
    Token(Arc<Token>),
    /// An authority, without its key.
    Authority(Arc<Authority>),
    /// The trust bundle of one trust domain.
    Bundle(Arc<Bundle>),
    /// A proof that counts once, and was used.
    Proof(Arc<Proof>),
    /// An owner of actors and resources.
    Tenant(Arc<Tenant>),
    /// An AI agent as the accountable party.
    Actor(Arc<Actor>),
    /// The template of a piece of work.
    Mandate(Arc<Mandate>),
    /// What calls go to.
    Resource(Arc<Resource>),
    /// A file of policies.
    Policy(Arc<Policy>),
    /// A piece of work.
    Task(Arc<Task>),
}

/// An object with the version that the log gave it: 1 when created, one more with each change.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Counts the changes of this object.
    pub version: u64,
    /// The object.
    pub object: Object,
}

/// A value of known kind with its version; reads like the value. A clone shares it.
#[derive(Debug, PartialEq)]
pub struct Versioned<T> {
    /// Counts the changes of this object.
    pub version: u64,
    /// The object.
    pub value: Arc<T>,
}

impl<T> Versioned<T> {
    pub(crate) fn at(version: u64, value: &Arc<T>) -> Self {
        Self { version, value: Arc::clone(value) }
    }
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Self { version: self.version, value: Arc::clone(&self.value) }
    }
}

impl<T> Deref for Versioned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> From<&Versioned<T>> for Stored
where
    Arc<T>: Into<Object>,
{
    fn from(versioned: &Versioned<T>) -> Self {
        Self { version: versioned.version, object: Arc::clone(&versioned.value).into() }
    }
}

/// A stored object that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The text is not a key.
    #[error("{0:?} is not the key of an object")]
    Key(String),
    /// The body is not the JSON of the kind that the key names.
    #[error("the body of {key} cannot be read: {source}")]
    Body {
        /// The object's key.
        key: Key,
        /// What the JSON parser says.
        source: serde_json::Error,
    },
    /// The body belongs to another key.
    #[error("the body under {0} is that of {1}")]
    Misplaced(Key, Key),
}

impl Object {
    /// The name under which the log keeps this object.
    pub fn key(&self) -> Key {
        match self {
            Self::Entry(entry) => Key::Entry(entry.id.clone()),
            Self::Node(node) => Key::Node(node.id.clone()),
            Self::Token(token) => Key::Token(token.node.clone()),
            Self::Authority(authority) => Key::Authority(authority.id.clone()),
            Self::Bundle(bundle) => Key::Bundle(bundle.trust_domain().clone()),
            Self::Proof(proof) => Key::Proof(proof.sha256),
            Self::Tenant(tenant) => Key::Tenant(tenant.name.clone()),
            Self::Actor(actor) => Key::Actor(actor.id.clone()),
            Self::Mandate(mandate) => Key::Mandate(mandate.name.clone()),
            Self::Resource(resource) => Key::Resource(resource.name.clone()),
            Self::Policy(policy) => Key::Policy(policy.id.clone()),
            Self::Task(task) => Key::Task(task.id.clone()),
        }
    }

    /// The object's canonical JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let json = match self {
            Self::Entry(entry) => serde_json::to_vec(entry),
            Self::Node(node) => serde_json::to_vec(node),
            Self::Token(token) => serde_json::to_vec(token),
            Self::Authority(authority) => serde_json::to_vec(authority),
            Self::Bundle(bundle) => serde_json::to_vec(bundle),
            Self::Proof(proof) => serde_json::to_vec(proof),
            Self::Tenant(tenant) => serde_json::to_vec(tenant),
            Self::Actor(actor) => serde_json::to_vec(actor),
            Self::Mandate(mandate) => serde_json::to_vec(mandate),
            Self::Resource(resource) => serde_json::to_vec(resource),
            Self::Policy(policy) => serde_json::to_vec(policy),
            Self::Task(task) => serde_json::to_vec(task),
        };
        json.expect("objects hold nothing that JSON cannot say")
    }

    /// Reads the object kept under `key`.
    pub fn from_json(key: &Key, body: &[u8]) -> Result<Self, ObjectError> {
        let read = match key {
            Key::Entry(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Entry),
            Key::Node(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Node),
            Key::Token(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Token),
            Key::Authority(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Authority),
            Key::Bundle(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Bundle),
            Key::Proof(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Proof),
            Key::Tenant(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Tenant),
            Key::Actor(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Actor),
            Key::Mandate(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Mandate),
            Key::Resource(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Resource),
            Key::Policy(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Policy),
            Key::Task(_) => serde_json::from_slice(body).map(Arc::new).map(Self::Task),
        };
        let object = read.map_err(|source| ObjectError::Body { key: key.clone(), source })?;
        match object.key() {
            same if same == *key => Ok(object),
            other => Err(ObjectError::Misplaced(key.clone(), other)),
        }
    }
}

macro_rules! object_from {
    ($($kind:ident),+) => {$(
        impl From<Arc<$kind>> for Object {
            fn from(value: Arc<$kind>) -> Self {
                Self::$kind(value)
            }
        }
        impl From<$kind> for Object {
            fn from(value: $kind) -> Self {
                Self::$kind(Arc::new(value))
            }
        }
    )+};
}
object_from!(Entry, Node, Token, Authority, Bundle, Proof, Tenant, Actor, Mandate, Resource, Policy, Task);

impl Key {
    /// The kind, as it stands before the slash.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Entry(_) => "entry",
            Self::Node(_) => "node",
            Self::Token(_) => "token",
            Self::Authority(_) => "authority",
            Self::Bundle(_) => "bundle",
            Self::Proof(_) => "proof",
            Self::Tenant(_) => "tenant",
            Self::Actor(_) => "actor",
            Self::Mandate(_) => "mandate",
            Self::Resource(_) => "resource",
            Self::Policy(_) => "policy",
            Self::Task(_) => "task",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind())?;
        match self {
            Self::Entry(id) => id.fmt(f),
            Self::Node(id) => id.fmt(f),
            Self::Token(node) => node.fmt(f),
            Self::Authority(id) => id.fmt(f),
            Self::Bundle(trust_domain) => trust_domain.fmt(f),
            Self::Proof(sha256) => sha256.fmt(f),
            Self::Tenant(name) => name.fmt(f),
            Self::Actor(id) => id.fmt(f),
            Self::Mandate(name) => name.fmt(f),
            Self::Resource(name) => name.fmt(f),
            Self::Policy(id) => id.fmt(f),
            Self::Task(id) => id.fmt(f),
        }
    }
}

impl FromStr for Key {
    type Err = ObjectError;
    fn from_str(text: &str) -> Result<Self, ObjectError> {
        let unknown = || ObjectError::Key(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(unknown)?;
        match kind {
            "entry" => name.parse().map(Self::Entry).map_err(|_| unknown()),
            "node" => name.parse().map(Self::Node).map_err(|_| unknown()),
            "token" => name.parse().map(Self::Token).map_err(|_| unknown()),
            "authority" => name.parse().map(Self::Authority).map_err(|_| unknown()),
            "bundle" => name.parse().map(Self::Bundle).map_err(|_| unknown()),
            "proof" => name.parse().map(Self::Proof).map_err(|_| unknown()),
            "tenant" => name.parse().map(Self::Tenant).map_err(|_| unknown()),
            "actor" => name.parse().map(Self::Actor).map_err(|_| unknown()),
            "mandate" => name.parse().map(Self::Mandate).map_err(|_| unknown()),
            "resource" => name.parse().map(Self::Resource).map_err(|_| unknown()),
            "policy" => name.parse().map(Self::Policy).map_err(|_| unknown()),
            "task" => name.parse().map(Self::Task).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Key {
    type Error = ObjectError;
    fn try_from(text: String) -> Result<Self, ObjectError> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

/// Declares a text type that is checked once, when it is made.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $rule:expr, $says:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, serde::Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::objects::TextError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let rule: fn(&str) -> bool = $rule;
                if rule(text) { Ok(Self(text.into())) } else { Err(crate::objects::TextError { text: text.to_owned(), says: $says }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = crate::objects::TextError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use checked_text;

/// A name that breaks its rule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} {says}")]
pub struct TextError {
    /// What was given.
    pub text: String,
    /// The rule, as the end of the sentence.
    pub says: &'static str,
}
