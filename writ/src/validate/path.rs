//! The operation on X.509 paths, whose cases have the shape of x509-limbo's.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use serde_json::Value;
use spiffe::{
    Timestamp,
    x509::path::{self, Demands, Purpose},
};

use super::{Outcome, input};

#[derive(Deserialize)]
struct Input {
    trusted_certs: Vec<String>,
    #[serde(default)]
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    #[serde(default)]
    validation_time: Option<String>,
    #[serde(default)]
    extended_key_usage: Vec<String>,
    #[serde(default)]
    max_chain_depth: Option<usize>,
}

pub(super) fn x509_path(members: &str, clock: &impl Fn() -> Timestamp) -> Outcome {
    let members: Input = input::parse(members)?;
    let demands = Demands {
        now: members.validation_time.as_deref().map_or_else(|| Ok(clock()), input::time)?,
        purposes: members.extended_key_usage.iter().map(|name| purpose(name)).collect::<Result<_, _>>()?,
        max_intermediates: members.max_chain_depth,
    };
    let leaf = certificate(&members.peer_certificate)?;
    let intermediates = certificates(&members.untrusted_intermediates)?;
    let trusted = certificates(&members.trusted_certs)?;
    path::validate(&leaf, &intermediates, &trusted, &demands).map_err(|error| error.to_string())?;
    Ok(Value::Null)
}

fn certificates(pems: &[String]) -> Result<Vec<CertificateDer<'static>>, String> {
    pems.iter().map(|pem| certificate(pem)).collect()
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("not a certificate in PEM: {error}"))
}

fn purpose(name: &str) -> Result<Purpose, String> {
    Purpose::named(name)
        .ok_or_else(|| format!("the extended key usage {name:?} is not known to this version"))
}
