//! Having SVIDs signed, whatever kind of server does it.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rcgen::{CertificateParams, KeyPair};
use registry::objects::EntryId;
use server_api::{
    CallError,
    node::{self, Chain, JwtOrder, Token, Unsigned},
    spire,
};
use spiffe::PrivateKey;

/// Asks a server for SVIDs.
#[derive(Clone)]
pub(crate) enum Signer {
    /// A Writ server, which is shown public keys.
    Writ(node::Client),
    /// A SPIRE server, which is shown certificate requests.
    Spire(Box<spire::Client>),
}

/// What a server is shown of a key that it shall sign.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shown {
    /// Its SubjectPublicKeyInfo, DER: whoever asks is known, and what comes back is verified.
    PublicKey,
    /// A certificate request, DER, signed by the key itself.
    Request,
}

/// A key for an entry, as a server is shown it.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) entry: EntryId,
    pub(crate) shown: Vec<u8>,
}

impl Signer {
    /// What it wants to see.
    pub(crate) fn shown(&self) -> Shown {
        match self {
            Self::Writ(_) => Shown::PublicKey,
            Self::Spire(_) => Shown::Request,
        }
    }

    /// Has these keys signed; results in the order of the orders.
    pub(crate) async fn sign(
        &mut self,
        orders: Vec<Order>,
    ) -> Result<Vec<Result<Chain, Unsigned>>, CallError> {
        match self {
            Self::Writ(client) => {
                let order = |Order { entry, shown }| node::Order { entry, public_key: shown };
                client.sign(&orders.into_iter().map(order).collect::<Vec<_>>()).await
            }
            Self::Spire(client) => {
                let order = |Order { entry, shown }| spire::Order { entry, csr: shown };
                client.sign(orders.into_iter().map(order).collect()).await
            }
        }
    }
}

impl Signer {
    /// Has these tokens signed; results in the order of the orders. A SPIRE server signs one in a call.
    pub(crate) async fn sign_jwt(
        &mut self,
        orders: Vec<JwtOrder>,
    ) -> Result<Vec<Result<Token, Unsigned>>, CallError> {
        match self {
            Self::Writ(client) => client.sign_jwt(orders).await,
            Self::Spire(client) => {
                let calls = stream::iter(orders).map(|order| {
                    let mut client = client.clone();
                    async move { client.sign_jwt(order).await }
                });
                calls.buffered(CALLS_AT_ONCE).try_collect().await
            }
        }
    }
}

impl Shown {
    /// This key, in the form that is wanted.
    pub(crate) fn of(self, key: &PrivateKey) -> Result<Vec<u8>, String> {
        match self {
            Self::PublicKey => key.public_key().map_err(|error| error.to_string()),
            Self::Request => request(key).map_err(|error| error.to_string()),
        }
    }
}

/// A certificate request for this key. The server says whom the certificate names.
pub(super) fn request(key: &PrivateKey) -> Result<Vec<u8>, rcgen::Error> {
    let key = KeyPair::try_from(key.pkcs8())?;
    Ok(CertificateParams::default().serialize_request(&key)?.der().to_vec())
}

const CALLS_AT_ONCE: usize = 16;
