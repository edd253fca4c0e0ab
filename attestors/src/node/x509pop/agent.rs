//! The agent's half: shows the certificate and signs the challenge.

use std::path::{Path, PathBuf};

use aws_lc_rs::{
    rand::{SecureRandom as _, SystemRandom},
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P521_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PSS_SHA256,
    },
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::wire::{Bytes, Challenge, EcdsaSignature, NONCE, Payload, Response, RsaSignature, message};
use crate::{
    file,
    node::agent::{CannotProve, Shown, read},
};

/// Where certificate and key are. Both may be replaced at any time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key, in PEM.
    pub private_key_path: PathBuf,
    /// The certificate, in PEM, and what is needed between it and an authority.
    pub certificate_path: PathBuf,
    /// More of what is needed between, where it is in a file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediates_path: Option<PathBuf>,
}

const MAX_FILE: u64 = 64 * 1024;

impl Config {
    pub(crate) async fn show(&self) -> Result<Shown, CannotProve> {
        let key = Key::read(&self.private_key_path).await?;
        let mut certificates = Vec::new();
        for path in [Some(&self.certificate_path), self.intermediates_path.as_ref()].into_iter().flatten() {
            let pem = read(path, MAX_FILE).await?;
            let failed = |source| CannotProve::File { path: path.clone(), source };
            certificates.extend(file::certificates(&pem).map_err(failed)?);
        }
        let certificates = certificates.into_iter().map(|der| Bytes(der.to_vec())).collect();
        let payload = serde_json::to_vec(&Payload { certificates }).map_err(other)?;
        Ok(Shown { payload, answer: Box::new(move |challenge| key.answer(challenge)) })
    }
}

/// The certificate's key.
enum Key {
    Rsa(Box<RsaKeyPair>),
    /// P-256 or P-521.
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Key {
    async fn read(path: &Path) -> Result<Self, CannotProve> {
        let pem = zeroize::Zeroizing::new(read(path, MAX_FILE).await?);
        let unusable = |says: &str| {
            let source = std::io::Error::other(says.to_owned());
            CannotProve::File { path: path.to_owned(), source }
        };
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| unusable("there is no private key in it, in PEM"))?;
        let der = key.secret_der();
        if let Ok(rsa) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
            return Ok(Self::Rsa(Box::new(rsa)));
        }
        [&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P521_SHA256_FIXED_SIGNING]
            .into_iter()
            .find_map(|curve| {
                let read = EcdsaKeyPair::from_pkcs8(curve, der);
                read.or_else(|_| EcdsaKeyPair::from_private_key_der(curve, der)).ok()
            })
            .map(|key| Self::Ecdsa(Box::new(key)))
            .ok_or_else(|| unusable("its key is neither RSA nor ECDSA on P-256 or P-521; take another one"))
    }

    /// Signs the server's nonce and one of our own, so that the server cannot choose what is signed.
    fn answer(&self, challenge: &[u8]) -> Result<Vec<u8>, CannotProve> {
        let challenge: Challenge = serde_json::from_slice(challenge).map_err(other)?;
        let mut own = [0; NONCE];
        SystemRandom::new().fill(&mut own).map_err(other)?;
        let nonce = Bytes(own.to_vec());
        let response = match (self, challenge.rsa_signature, challenge.ecdsa_signature) {
            (Self::Rsa(key), Some(asked), _) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let message = message(fresh(&asked.nonce.0)?, &own);
                key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), &message, &mut signature).map_err(other)?;
                let rsa_signature = Some(RsaSignature { nonce, signature: Bytes(signature) });
                Response { rsa_signature, ..Response::default() }
            }
            (Self::Ecdsa(key), _, Some(asked)) => {
                let message = message(fresh(&asked.nonce.0)?, &own);
                let signature = key.sign(&SystemRandom::new(), &message).map_err(other)?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                let ecdsa_signature =
                    Some(EcdsaSignature { nonce, r: Bytes(r.to_vec()), s: Bytes(s.to_vec()) });
                Response { ecdsa_signature, ..Response::default() }
            }
            _ => {
                let says = "the server asks for another kind of signature than this key makes; is it the \
                            certificate's?";
                return Err(CannotProve::Other(says.to_owned()));
            }
        };
        serde_json::to_vec(&response).map_err(other)
    }
}

/// A nonce of the one length that there is: the key signs nothing else.
fn fresh(nonce: &[u8]) -> Result<&[u8], CannotProve> {
    match nonce.len() == NONCE {
        true => Ok(nonce),
        false => Err(CannotProve::Other("the server's challenge has no nonce of 32 bytes".to_owned())),
    }
}

fn other(error: impl std::fmt::Display) -> CannotProve {
    CannotProve::Other(error.to_string())
}
