//! What the dearest payload costs that a stranger can have judged before it has proved anything:
//! `cargo run --release -p writ-attestors --example cost_of_judging_nodes`.

use std::{
    error::Error,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use attestors::node::server::{Config, NodeAttestors, Step, Surroundings};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use spiffe::{Timestamp, TrustDomain};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let key = slow_key()?;
    let root = params("root", true, 0);
    let root_file = folder.path().join("root.pem");
    fs::write(&root_file, root.self_signed(&key)?.pem())?;
    let config: Config = serde_json::from_value(json!({ "x509pop": { "ca_bundle_path": root_file } }))?;
    let trust_domain: TrustDomain = "acme.example".parse()?;
    let server = NodeAttestors::new(&config, &trust_domain)?;

    // Each issues the one before it, with what there is room for in each.
    let names: Vec<String> = (0..INTERMEDIATES).map(|n| format!("below {n}")).collect();
    let mut chain = Vec::new();
    for n in 0..=INTERMEDIATES {
        let own = n.checked_sub(1).map_or("leaf", |n| &names[n]);
        let issuer = names.get(n).map_or("root", |name| name);
        chain.push(signed(&params(own, n > 0, FILLING), &params(issuer, true, 0), &key)?);
    }
    measure(&server, "chain", &payload(&chain), true).await?;

    // All of one name and one key, none of them issued by anybody who is trusted.
    let namesake = params("namesake", true, FILLING);
    let crowd = (0..=INTERMEDIATES).map(|n| match n {
        0 => signed(&params("leaf", false, FILLING), &namesake, &key),
        _ => signed(&namesake, &namesake, &key),
    });
    let crowd = crowd.collect::<Result<Vec<_>, _>>()?;
    measure(&server, "namesakes", &payload(&crowd), false).await?;

    let noise = format!("{{\"certificates\":[{}\"\"]}}", "\"\",".repeat(MOST / 3 - 10));
    measure(&server, "noise", noise.as_bytes(), false).await
}

async fn measure(
    server: &NodeAttestors,
    name: &str,
    payload: &[u8],
    holds: bool,
) -> Result<(), Box<dyn Error>> {
    assert!(payload.len() <= MOST, "{name} is not taken at all: {} bytes", payload.len());
    let now = Timestamp::from_unix_seconds(NOW);
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        let judged = server.begin("x509pop", payload, &Surroundings { now, bundle: &|_| None }).await;
        times.push(begin.elapsed());
        assert_eq!(matches!(judged, Ok(Step::Asked { .. })), holds, "{name}");
    }
    report(name, times);
    Ok(())
}

/// An RSA key of the largest size that is taken, with the public exponent that is slowest to verify by.
fn slow_key() -> Result<KeyPair, Box<dyn Error>> {
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"]);
    let made = openssl.args(["-pkeyopt", "rsa_keygen_pubexp:8589934591"]).output()?;
    let pem = String::from_utf8(made.stdout)?;
    Ok(KeyPair::from_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256)?)
}

fn params(name: &str, is_authority: bool, filling: usize) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(NOW + seconds).expect("a time");
    (params.not_before, params.not_after) = (at(-3600), at(3600));
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    } else {
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    }
    if filling > 0 {
        let nobodys = [1, 3, 6, 1, 4, 1, 55_555, 1];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&nobodys, vec![0; filling])];
    }
    params
}

fn signed(
    own: &CertificateParams,
    issuer: &CertificateParams,
    key: &KeyPair,
) -> Result<Vec<u8>, rcgen::Error> {
    Ok(own.clone().signed_by(key, &Issuer::from_params(issuer, key))?.der().to_vec())
}

fn payload(chain: &[Vec<u8>]) -> Vec<u8> {
    let certificates: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
    json!({ "certificates": certificates }).to_string().into_bytes()
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let micros = |index: usize| times[index].as_secs_f64() * 1e6;
    let (last, middle) = (times.len() - 1, times.len() / 2);
    println!(
        "{name:10} min {:8.1} median {:8.1} p99 {:8.1} µs",
        micros(0),
        micros(middle),
        micros(last * 99 / 100)
    );
}

const NOW: i64 = 1_900_000_000;
/// With the leaf as many as are taken.
const INTERMEDIATES: usize = 7;
const FILLING: usize = 4200;
const MOST: usize = 64 * 1024;
