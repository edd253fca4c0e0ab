//! Issuers that turn their keys, lie, or do not answer, and tokens that leak.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Signing, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use spiffe::{Timestamp, TrustDomain};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{NAME, Payload, agent, conditions::Wanted, server::Config};
use crate::node::{
    Verified,
    server::{Config as All, NodeAttestors, Proof, Refused, Step, Surroundings},
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_900_000_000);

/// Answers one path.
type Page = Box<dyn Fn(&Request<Incoming>) -> Option<(u16, Vec<u8>)> + Send + Sync>;

/// An issuer with its own host and authority.
struct Issuer {
    folder: TempDir,
    address: SocketAddr,
    keys: Arc<Mutex<Vec<(String, EcdsaKeyPair)>>>,
    asked: Arc<AtomicUsize>,
    odd: Arc<Mutex<Option<Page>>>,
}

fn pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn jwks(keys: &[(String, EcdsaKeyPair)]) -> Vec<u8> {
    let jwk = |(kid, pair): &(String, EcdsaKeyPair)| {
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": BASE64.encode(x), "y": BASE64.encode(y) })
    };
    json!({ "keys": keys.iter().map(jwk).collect::<Vec<_>>() }).to_string().into_bytes()
}

impl Issuer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut ca, ca_key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(folder.path().join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&leaf_key, &Signing::from_params(&ca, &ca_key)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = Self {
            folder,
            address,
            keys: Arc::new(Mutex::new(vec![("k1".to_owned(), pair())])),
            asked: Arc::default(),
            odd: Arc::default(),
        };
        let (keys, asked, odd) = (issuer.keys.clone(), issuer.asked.clone(), issuer.odd.clone());
        let name = issuer.name();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let answer = service_fn(|request: Request<Incoming>| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let page = odd.lock().as_ref().and_then(|odd| odd(&request));
                    let (status, body) = page.unwrap_or_else(|| match request.uri().path() {
                        "/.well-known/openid-configuration" => {
                            let page = json!({ "issuer": name, "jwks_uri": format!("{name}/keys") });
                            (200, page.to_string().into_bytes())
                        }
                        "/keys" => (200, jwks(&keys.lock())),
                        _ => (404, Vec::new()),
                    });
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = status.try_into().unwrap();
                    response.headers_mut().insert("location", "/keys".try_into().unwrap());
                    async move { Ok::<_, Infallible>(response) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            }
        });
        issuer
    }

    fn name(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    fn config(&self) -> Config {
        Config { issuer: self.name(), ca_file: Some(self.folder.path().join("ca.pem")), ..config() }
    }

    fn token(&self, n: usize, more: &Value) -> String {
        let keys = self.keys.lock();
        let (kid, pair) = &keys[n];
        token(kid, pair, &self.name(), more)
    }
}

fn config() -> Config {
    Config {
        issuer: "https://ci.example".to_owned(),
        audience: "writ".to_owned(),
        required_claims: [("owner".to_owned(), Wanted::One("acme".to_owned()))].into(),
        claim_selectors: vec!["ref".to_owned()],
        agent_path_template: None,
        jwks_uri: None,
        jwks_file: None,
        ca_file: None,
    }
}

fn token(kid: &str, pair: &EcdsaKeyPair, issuer: &str, more: &Value) -> String {
    let now = NOW.unix_seconds();
    let mut claims = json!({
        "iss": issuer, "sub": "repo:acme/shop", "aud": "writ", "iat": now, "exp": now + 300,
        "owner": "acme", "ref": "refs/heads/main", "run": "17",
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    let header = json!({ "alg": "ES256", "kid": kid, "typ": "JWT" });
    let signed = [header, claims].map(|part| BASE64.encode(part.to_string())).join(".");
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64.encode(signature.as_ref()))
}

fn own() -> TrustDomain {
    "acme.example".parse().unwrap()
}

fn server(config: Config) -> NodeAttestors {
    NodeAttestors::new(&All { oidc: vec![config], ..All::default() }, &own()).unwrap()
}

async fn shown(server: &NodeAttestors, token: &str) -> Result<Verified<Proof>, Refused> {
    let payload = serde_json::to_vec(&Payload { token: token.to_owned() }).unwrap();
    match server.begin(NAME, &payload, &Surroundings { now: NOW, bundle: &|_| None }).await? {
        Step::Proved(proof) => Ok(proof),
        Step::Asked { .. } => panic!("a token is not challenged"),
    }
}

#[tokio::test]
async fn a_runner_is_the_node_that_its_token_names_and_each_token_counts_once() {
    let issuer = Issuer::start().await;
    let server = server(issuer.config());
    let (one, two) = (issuer.token(0, &json!({})), issuer.token(0, &json!({ "run": "18" })));
    let first = shown(&server, &one).await.unwrap().into_inner();
    let texts: Vec<String> = first.selectors.iter().map(ToString::to_string).collect();
    let expected = [
        "oidc:claim:ref:refs/heads/main".to_owned(),
        format!("oidc:issuer:{}", issuer.name()),
        "oidc:sub:repo:acme/shop".to_owned(),
    ];
    assert_eq!(texts, expected);
    let (sha256, until) = first.once.expect("it counts once");
    assert_eq!(first.id.path(), format!("/spire/agent/oidc/{}", hex::encode(sha256)));
    assert!(until > NOW);
    assert_eq!(shown(&server, &one).await.unwrap().into_inner(), first, "the registry notices that");
    let second = shown(&server, &two).await.unwrap().into_inner();
    assert!(second.once != first.once && second.id != first.id);
}

#[tokio::test]
async fn a_template_names_runners_by_their_claims_and_conditions_keep_others_out() {
    let issuer = Issuer::start().await;
    let template = Some("/oidc/ci/{{ .Claims.owner }}/{{ .Claims.run }}".to_owned());
    let server = server(Config { agent_path_template: template, ..issuer.config() });
    let named = shown(&server, &issuer.token(0, &json!({}))).await.unwrap().into_inner();
    assert_eq!(named.id.as_str(), "spiffe://acme.example/spire/agent/oidc/ci/acme/17");
    for more in [
        json!({ "owner": "evil" }),
        json!({ "owner": null }),
        json!({ "owner": "acme/" }),
        json!({ "run": "17/../../x509pop/a" }),
        json!({ "run": ["17", "18"] }),
        json!({ "aud": "other" }),
        json!({ "iss": "https://localhost" }),
        json!({ "exp": NOW.unix_seconds() - 61 }),
    ] {
        assert!(shown(&server, &issuer.token(0, &more)).await.is_err(), "{more}");
    }
}

#[tokio::test]
async fn new_keys_are_noticed_and_made_up_ones_make_the_server_ask_no_more_often() {
    let issuer = Issuer::start().await;
    let server = server(issuer.config());
    shown(&server, &issuer.token(0, &json!({}))).await.unwrap();
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2, "its page and its keys");
    let begun = std::time::Instant::now();
    for _ in 0..50 {
        shown(&server, &issuer.token(0, &json!({}))).await.unwrap();
        let stranger = token("made-up", &pair(), &issuer.name(), &json!({}));
        assert!(shown(&server, &stranger).await.is_err());
    }
    assert!(issuer.asked.load(Ordering::SeqCst) <= 2 + 2 * tens_of_seconds(begun));
    issuer.keys.lock().push(("k2".to_owned(), pair()));
    let turned = issuer.token(1, &json!({}));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while shown(&server, &turned).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the new key is not noticed");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// How often an issuer may have been asked again since then.
fn tens_of_seconds(begun: std::time::Instant) -> usize {
    usize::try_from(begun.elapsed().as_secs() / 10).unwrap()
}

#[tokio::test]
async fn an_issuer_that_leads_elsewhere_lies_or_talks_without_end_is_not_followed() {
    let elsewhere = Issuer::start().await;
    let keys_elsewhere = format!("{}/keys", elsewhere.name());
    let page = |value: Value| -> Page {
        Box::new(move |request| {
            let is_page = request.uri().path().starts_with("/.well-known");
            is_page.then(|| (200, value.to_string().into_bytes()))
        })
    };
    let name = |issuer: &Issuer| issuer.name();
    for case in 0..7 {
        let issuer = Issuer::start().await;
        let own = name(&issuer);
        let odd: Page = match case {
            0 => page(json!({ "issuer": own, "jwks_uri": keys_elsewhere })),
            1 => page(json!({ "issuer": "https://other.example", "jwks_uri": format!("{own}/keys") })),
            2 => page(json!({ "issuer": own, "jwks_uri": "http://127.0.0.1/keys" })),
            3 => page(
                json!({ "issuer": own, "jwks_uri": format!("https://x@localhost:{}/keys", issuer.address.port()) }),
            ),
            4 => Box::new(|_| Some((302, Vec::new()))),
            5 => {
                // But for their length, these are the issuer's keys.
                let mut keys = jwks(&issuer.keys.lock());
                keys.resize(2 * 1024 * 1024, b' ');
                Box::new(move |request| (request.uri().path() == "/keys").then(|| (200, keys.clone())))
            }
            _ => Box::new(|_| Some((200, b"{".to_vec()))),
        };
        *issuer.odd.lock() = Some(odd);
        let refused = shown(&server(issuer.config()), &issuer.token(0, &json!({}))).await;
        assert!(matches!(refused, Err(Refused::Unavailable(_))), "case {case}: {refused:?}");
    }
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0, "nobody was led there");
}

#[tokio::test]
async fn a_host_that_cannot_prove_its_name_is_not_believed() {
    let (issuer, other) = (Issuer::start().await, Issuer::start().await);
    let config = Config { ca_file: other.config().ca_file, ..issuer.config() };
    let refused = shown(&server(config), &issuer.token(0, &json!({}))).await;
    assert!(matches!(refused, Err(Refused::Unavailable(_))), "{refused:?}");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn with_the_keys_in_a_file_nobody_is_asked() {
    let issuer = Issuer::start().await;
    let file = issuer.folder.path().join("keys.json");
    fs::write(&file, jwks(&issuer.keys.lock())).unwrap();
    let config = Config { jwks_file: Some(file), ca_file: None, ..issuer.config() };
    assert!(shown(&server(config), &issuer.token(0, &json!({}))).await.is_ok());
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn while_the_issuer_is_away_what_it_said_before_counts() {
    let issuer = Issuer::start().await;
    let server = server(issuer.config());
    shown(&server, &issuer.token(0, &json!({}))).await.unwrap();
    issuer.keys.lock().push(("k2".to_owned(), pair()));
    *issuer.odd.lock() = Some(Box::new(|_| Some((503, Vec::new()))));
    assert!(shown(&server, &issuer.token(0, &json!({ "run": "18" }))).await.is_ok());
    assert!(shown(&server, &issuer.token(1, &json!({}))).await.is_err(), "nobody knows this key");
}

#[tokio::test]
async fn an_issuer_that_is_away_from_the_beginning_is_left_alone_for_a_while() {
    let issuer = Issuer::start().await;
    let server = server(issuer.config());
    *issuer.odd.lock() = Some(Box::new(|_| Some((503, Vec::new()))));
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        let refused = shown(&server, &issuer.token(0, &json!({}))).await;
        assert!(matches!(refused, Err(Refused::Unavailable(_))), "{refused:?}");
    }
    // On a machine that is this slow, some of the ten seconds between two questions have gone by.
    assert!(issuer.asked.load(Ordering::SeqCst) <= 1 + tens_of_seconds(begun));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    *issuer.odd.lock() = None;
    while shown(&server, &issuer.token(0, &json!({}))).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "it is never asked again");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_job_of_github_actions_asks_for_its_token_as_github_says() {
    let issuer = Issuer::start().await;
    let given = issuer.token(0, &json!({}));
    let answer = json!({ "count": 7, "value": given }).to_string().into_bytes();
    *issuer.odd.lock() = Some(Box::new(move |request| {
        let path = request.uri().path_and_query()?.as_str();
        let is_right = path == "/token?api-version=2.0&audience=writ%3A%2F%2Facme%20x"
            && request.headers().get("authorization")? == "Bearer s3cret";
        Some(if is_right { (200, answer.clone()) } else { (403, Vec::new()) })
    }));
    let config = agent::Config {
        github_audience: Some("writ://acme x".to_owned()),
        ca_file: issuer.config().ca_file,
        ..agent::Config::default()
    };
    let url = format!("{}/token?api-version=2.0", issuer.name());
    assert_eq!(config.github("writ://acme x", &url, "s3cret").await.unwrap(), given);
    let refused = config.github("writ://acme x", &url, "other").await.unwrap_err().to_string();
    assert!(refused.contains("id-token: write"), "{refused}");
    let plain = config.github("a", "http://127.0.0.1/", "s3cret").await.unwrap_err().to_string();
    assert!(plain.contains("https"), "a bearer token does not travel in clear: {plain}");
}

#[tokio::test]
async fn a_token_is_read_from_a_file_and_says_what_is_missing_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "a.b.c\n").unwrap();
    let config = agent::Config { token_file: Some(path.clone()), ..agent::Config::default() };
    assert_eq!(config.show().await.unwrap().payload, br#"{"token":"a.b.c"}"#);
    fs::write(&path, vec![b'a'; 16 * 1024 + 1]).unwrap();
    assert!(config.show().await.is_err());
    let nowhere =
        agent::Config { token_env: Some("WRIT_NO_SUCH_VARIABLE".to_owned()), ..agent::Config::default() };
    let says = nowhere.show().await.err().unwrap().to_string();
    assert!(says.contains("WRIT_NO_SUCH_VARIABLE"), "{says}");
    let both = agent::Config { token_file: Some(path), ..nowhere };
    assert!(both.show().await.is_err());
}

#[test]
fn a_configuration_that_admits_everybody_is_an_error() {
    let any = |value: &str| [("sub".to_owned(), Wanted::One(value.to_owned()))].into();
    for (config, says) in [
        (Config { issuer: "http://ci.example".to_owned(), ..config() }, "https://"),
        (Config { audience: String::new(), ..config() }, "audience"),
        (Config { required_claims: [].into(), ..config() }, "required_claims"),
        (Config { required_claims: any("*"), ..config() }, "demands nothing"),
        (
            Config { jwks_file: Some("/k".into()), jwks_uri: Some("https://x/k".to_owned()), ..config() },
            "jwks_uri",
        ),
        (
            Config { agent_path_template: Some("/x509pop/{{ .Subject }}".to_owned()), ..config() },
            "another attestor",
        ),
    ] {
        let error = All { oidc: vec![config], ..All::default() }.check(&own()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
