//! What the dearest payload costs that a stranger can have judged before it has proved anything:
//! `cargo run --release -p writ-attestors --example cost_of_judging_nodes`.

use std::{
    error::Error,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use attestors::node::server::{Config, NodeAttestors, Step, Surroundings};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use spiffe::{Timestamp, TrustDomain};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let key = slow_key()?;
    let root = params("root", true, 0);
    let root_file = folder.path().join("root.pem");
    fs::write(&root_file, root.self_signed(&key)?.pem())?;
    let (keys_file, cluster_file) = (folder.path().join("keys.json"), folder.path().join("kubeconfig"));
    fs::write(&keys_file, published(&key)?.to_string())?;
    fs::write(&cluster_file, nobody_there(&root_file).to_string())?;
    let config: Config = serde_json::from_value(json!({
        "x509pop": { "ca_bundle_path": root_file },
        "oidc": [{
            "issuer": ISSUER, "audience": "acme", "required_claims": { "sub": "ci" }, "jwks_file": keys_file,
        }],
        "k8s_psat": { "clusters": { "here": {
            "service_account_allow_list": ["writ:agent"], "kube_config_file": cluster_file,
        } } },
    }))?;
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
    measure(&server, "x509pop", "chain", &payload(&chain), true).await?;

    // All of one name and one key, none of them issued by anybody who is trusted.
    let namesake = params("namesake", true, FILLING);
    let crowd = (0..=INTERMEDIATES).map(|n| match n {
        0 => signed(&params("leaf", false, FILLING), &namesake, &key),
        _ => signed(&namesake, &namesake, &key),
    });
    let crowd = crowd.collect::<Result<Vec<_>, _>>()?;
    measure(&server, "x509pop", "namesakes", &payload(&crowd), false).await?;

    let noise = format!("{{\"certificates\":[{}\"\"]}}", "\"\",".repeat(MOST / 3 - 10));
    measure(&server, "x509pop", "noise", noise.as_bytes(), false).await?;

    // As long as a token may be, of an issuer that counts, and signed by nobody.
    let forged = token();
    measure(&server, "oidc", "forged", json!({ "token": forged }).to_string().as_bytes(), false).await?;
    let lies = json!({ "token": "e30.".repeat(MOST / 5) }).to_string();
    measure(&server, "oidc", "lies", lies.as_bytes(), false).await?;
    // The same before a cluster is asked, and until its API server refuses the connection.
    let lies = json!({ "cluster": "here", "token": "e30.".repeat(MOST / 5) }).to_string();
    measure(&server, "k8s_psat", "untrue", lies.as_bytes(), false).await?;
    let forged = json!({ "cluster": "here", "token": forged }).to_string();
    measure(&server, "k8s_psat", "unasked", forged.as_bytes(), false).await
}

/// The key as an issuer publishes it.
fn published(key: &KeyPair) -> Result<Value, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key.pem");
    fs::write(&file, key.serialize_pem())?;
    let told = Command::new("openssl").args(["rsa", "-noout", "-modulus", "-in"]).arg(&file).output()?;
    let modulus = String::from_utf8(told.stdout)?;
    let modulus = modulus.trim().strip_prefix("Modulus=").ok_or("openssl named no modulus")?;
    let bytes = |at: usize| u8::from_str_radix(&modulus[at..at + 2], 16);
    let modulus = (0..modulus.len()).step_by(2).map(bytes).collect::<Result<Vec<_>, _>>()?;
    let exponent = &EXPONENT.to_be_bytes()[3..];
    let (n, e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode(exponent));
    Ok(json!({ "keys": [{ "kty": "RSA", "alg": "RS256", "kid": "a", "n": n, "e": e }] }))
}

fn token() -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let filling = "x".repeat(11_000);
    let claims =
        json!({ "iss": ISSUER, "aud": "acme", "sub": "ci", "iat": NOW, "exp": NOW + 300, "f": filling });
    let header = json!({ "alg": "RS256", "kid": "a" });
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode([7; 512]))
}

/// A cluster whose API server nobody answers for.
fn nobody_there(authority: &Path) -> Value {
    json!({
        "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": {
            "server": "https://127.0.0.1:1", "certificate-authority": authority,
        } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
    })
}

async fn measure(
    server: &NodeAttestors,
    attestor: &str,
    name: &str,
    payload: &[u8],
    holds: bool,
) -> Result<(), Box<dyn Error>> {
    assert!(payload.len() <= MOST, "{name} is not taken at all: {} bytes", payload.len());
    let now = Timestamp::from_unix_seconds(NOW);
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        let judged = server.begin(attestor, payload, &Surroundings { now, bundle: &|_| None }).await;
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
    let made = openssl.args(["-pkeyopt", &format!("rsa_keygen_pubexp:{EXPONENT}")]).output()?;
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

const ISSUER: &str = "https://issuer.example";
/// The largest that is taken; each of its bits is one, which is slowest.
const EXPONENT: u64 = 8_589_934_591;
const NOW: i64 = 1_900_000_000;
/// With the leaf as many as are taken.
const INTERMEDIATES: usize = 7;
const FILLING: usize = 4200;
const MOST: usize = 64 * 1024;
