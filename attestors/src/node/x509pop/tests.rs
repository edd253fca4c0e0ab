//! Both halves against each other, and a stranger against the server's.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use spiffe::{Bundle, Timestamp, TrustDomain};
use tempfile::TempDir;

use super::{
    NAME, agent,
    server::{Config, Mode},
    wire::{Bytes, Payload},
};
use crate::node::{
    MAX_PAYLOAD, Verified,
    server::{Answered, Config as All, NodeAttestors, Proof, Refused, Step, Surroundings},
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_900_000_000);

/// An infrastructure outside: an authority, and a machine's certificate and key in files.
struct Outside {
    folder: TempDir,
    chain: Vec<CertificateDer<'static>>,
    agent: agent::Config,
}

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    dated(&mut params);
    (params, KeyPair::generate().unwrap())
}

fn dated(params: &mut CertificateParams) {
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(NOW.unix_seconds() + seconds).unwrap();
    (params.not_before, params.not_after) = (at(-3600), at(3600));
}

impl Outside {
    fn new(key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, root_key) = authority("root");
        let (mut below, below_key) = authority("below");
        below.use_authority_key_identifier_extension = true;
        let root_der = root.self_signed(&root_key).unwrap();
        let below_der = below.signed_by(&below_key, &Issuer::from_params(&root, &root_key)).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, "web-1");
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        dated(&mut leaf);
        change(&mut leaf);
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&below, &below_key)).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        write("ca.pem", root_der.pem());
        let agent = agent::Config {
            private_key_path: write("key.pem", key.serialize_pem()),
            certificate_path: write("cert.pem", leaf.pem()),
            intermediates_path: Some(write("below.pem", below_der.pem())),
        };
        Self { chain: vec![leaf.der().clone(), below_der.der().clone()], folder, agent }
    }

    fn server(&self, template: Option<&str>) -> NodeAttestors {
        let ca_bundle_path = Some(self.path("ca.pem"));
        server(Config { ca_bundle_path, agent_path_template: template.map(str::to_owned), ..external() })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn external() -> Config {
    Config {
        mode: Mode::ExternalPki,
        ca_bundle_path: None,
        ca_bundle_paths: vec![],
        trust_domain: None,
        svid_prefix: None,
        agent_path_template: None,
    }
}

fn server(config: Config) -> NodeAttestors {
    NodeAttestors::new(&All { x509pop: Some(config), ..All::default() }, &own()).unwrap()
}

fn own() -> TrustDomain {
    "acme.example".parse().unwrap()
}

async fn begin(server: &NodeAttestors, payload: &[u8], bundle: Option<Bundle>) -> Result<Step, Refused> {
    let bundle = move |of: &TrustDomain| bundle.clone().filter(|bundle| bundle.trust_domain == *of);
    server.begin(NAME, payload, &Surroundings { now: NOW, bundle: &bundle }).await
}

async fn asked(server: &NodeAttestors, payload: &[u8]) -> Result<(Vec<u8>, Answered), Refused> {
    match begin(server, payload, None).await? {
        Step::Asked { challenge, answered } => Ok((challenge, answered)),
        Step::Proved(_) => panic!("a certificate alone proves nothing"),
    }
}

async fn attested(server: &NodeAttestors, agent: &agent::Config) -> Result<Verified<Proof>, Refused> {
    let shown = agent.show().await.unwrap();
    let (challenge, answered) = asked(server, &shown.payload).await?;
    answered(&(shown.answer)(&challenge).unwrap())
}

fn payload(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let certificates = chain.iter().map(|der| Bytes(der.to_vec())).collect();
    serde_json::to_vec(&Payload { certificates }).unwrap()
}

fn keys() -> Vec<KeyPair> {
    let ecdsa: [&SignatureAlgorithm; 2] = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P521_SHA512];
    let mut keys: Vec<KeyPair> = ecdsa.map(|algorithm| KeyPair::generate_for(algorithm).unwrap()).into();
    keys.push(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap());
    keys
}

fn texts(proof: &Verified<Proof>) -> Vec<String> {
    proof.get().selectors.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_machine_with_the_certificates_key_is_the_node_that_the_certificate_names() {
    for key in keys() {
        let outside = Outside::new(key, |leaf| {
            leaf.serial_number = Some(vec![0x0a, 0xbc].into());
            let uris = ["x509pop://acme.example/rack/r1", "x509pop://other.example/rack/r2", "https://a/b"];
            leaf.subject_alt_names = uris.map(|uri| SanType::URI(uri.try_into().unwrap())).into();
        });
        let proof = attested(&outside.server(None), &outside.agent).await.unwrap();
        let fingerprint = super::server::fingerprint(&outside.chain[0]);
        let id = format!("spiffe://acme.example/spire/agent/x509pop/{fingerprint}");
        assert_eq!(proof.get().id.as_str(), id);
        let issuers = [outside.chain[1].to_vec(), ca(&outside.path("ca.pem"))];
        let mut expected: Vec<String> = issuers
            .iter()
            .map(|der| format!("x509pop:ca:fingerprint:{}", super::server::fingerprint(der)))
            .collect();
        expected
            .extend(["subject:cn:web-1", "serialnumber:0abc", "san:rack:r1"].map(|s| format!("x509pop:{s}")));
        expected.sort();
        assert_eq!(texts(&proof), expected);
    }
}

fn ca(path: &Path) -> Vec<u8> {
    crate::file::certificates(&fs::read(path).unwrap()).unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_template_names_nodes_by_what_their_certificates_say() {
    let outside = Outside::new(KeyPair::generate().unwrap(), |_| {});
    let server = outside.server(Some("/cn/{{ .Subject.CommonName }}"));
    let proof = attested(&server, &outside.agent).await.unwrap().into_inner();
    assert_eq!(proof.id.as_str(), "spiffe://acme.example/spire/agent/cn/web-1");
    assert_eq!(proof.twin, None, "the name does not depend on the certificate's spelling");
    for odd in ["", "a/b", "..", "web 1", "w\u{e9}b", "%2e"] {
        let outside = Outside::new(KeyPair::generate().unwrap(), |leaf| {
            leaf.distinguished_name.push(DnType::CommonName, odd);
        });
        let server = outside.server(Some("/cn/{{ .Subject.CommonName }}"));
        assert!(attested(&server, &outside.agent).await.is_err(), "{odd:?} names a node");
    }
}

#[tokio::test]
async fn without_the_key_or_with_an_old_answer_a_certificate_is_worth_nothing() {
    for key in keys() {
        let outside = Outside::new(key, |_| {});
        let server = outside.server(None);
        let shown = outside.agent.show().await.unwrap();
        let (first, _) = asked(&server, &shown.payload).await.unwrap();
        let answer = (shown.answer)(&first).unwrap();
        let (second, answered) = asked(&server, &shown.payload).await.unwrap();
        assert_ne!(first, second, "a challenge is made for one time");
        assert!(answered(&answer).is_err(), "an answer that was overheard counts");

        let thief = Outside::new(KeyPair::generate().unwrap(), |_| {});
        let (challenge, answered) = asked(&server, &shown.payload).await.unwrap();
        if let Ok(answer) = (thief.agent.show().await.unwrap().answer)(&challenge) {
            assert!(answered(&answer).is_err(), "another key counts");
        }
    }
}

#[tokio::test]
async fn every_changed_byte_of_an_answer_is_refused() {
    for key in keys() {
        let outside = Outside::new(key, |_| {});
        let server = outside.server(None);
        let shown = outside.agent.show().await.unwrap();
        let (challenge, _) = asked(&server, &shown.payload).await.unwrap();
        let good = (shown.answer)(&challenge).unwrap();
        for n in 0..good.len() {
            let mut changed = good.clone();
            changed[n] ^= 1;
            let (_, answered) = asked(&server, &shown.payload).await.unwrap();
            assert!(answered(&changed).is_err());
        }
    }
}

#[tokio::test]
async fn whatever_byte_of_a_payload_changes_the_identity_is_the_same_or_there_is_none() {
    let outside = Outside::new(KeyPair::generate().unwrap(), |_| {});
    let server = outside.server(None);
    let good = payload(&outside.chain);
    let expected = attested(&server, &outside.agent).await.unwrap().into_inner();
    let mut same = 0;
    for n in 0..good.len() {
        for bit in [1, 2, 0x20] {
            let mut changed = good.clone();
            changed[n] ^= bit;
            let Ok((challenge, answered)) = asked(&server, &changed).await else { continue };
            let answer = (outside.agent.show().await.unwrap().answer)(&challenge).unwrap();
            if let Ok(proof) = answered(&answer) {
                assert_eq!(*proof.get(), expected, "byte {n}, bit {bit}");
                same += 1;
            }
        }
    }
    assert!(same < 8, "{same} changes went unnoticed: more than what a lenient encoding explains");
}

#[tokio::test]
async fn a_certificate_and_its_twin_name_each_other() {
    let outside = Outside::new(KeyPair::generate().unwrap(), |_| {});
    let server = outside.server(None);
    let proof = attested(&server, &outside.agent).await.unwrap().into_inner();
    let authorities = spiffe::x509::Authorities::external(vec![ca(&outside.path("ca.pem")).into()]).unwrap();
    let twin = authorities.vouch(&outside.chain, NOW).unwrap().twin.unwrap();
    let respelled = payload(&[twin.into(), outside.chain[1].clone()]);
    let (challenge, answered) = asked(&server, &respelled).await.unwrap();
    let answer = (outside.agent.show().await.unwrap().answer)(&challenge).unwrap();
    let other = answered(&answer).unwrap().into_inner();
    assert_eq!((Some(other.id), other.twin), (proof.twin, Some(proof.id)));
}

#[tokio::test]
async fn what_is_foreign_too_long_or_nonsense_is_refused_before_it_is_computed_with() {
    let outside = Outside::new(KeyPair::generate().unwrap(), |_| {});
    let server = outside.server(None);
    let stranger = Outside::new(KeyPair::generate().unwrap(), |_| {});
    let (leaf, below) = (&outside.chain[0], &outside.chain[1]);
    let for_encryption = Outside::new(KeyPair::generate().unwrap(), |leaf| {
        leaf.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    });
    let nine: Vec<CertificateDer<'_>> =
        std::iter::once(leaf).chain(std::iter::repeat_n(below, 8)).cloned().collect();
    for (what, payload, says) in [
        ("a foreign chain", payload(&stranger.chain), "not vouched for"),
        ("a leaf alone", payload(std::slice::from_ref(leaf)), "not vouched for"),
        ("an authority", payload(std::slice::from_ref(below)), "not vouched for"),
        ("nine certificates", payload(&nine), "more than 8"),
        ("no certificate", payload(&[]), "not vouched for"),
        ("no JSON", b"certificates".to_vec(), "the payload"),
        ("no base64", br#"{"certificates":["%"]}"#.to_vec(), "the payload"),
        ("two lists", br#"{"certificates":[],"certificates":[]}"#.to_vec(), "the payload"),
        ("nothing", vec![], "the payload"),
        ("too much", vec![b' '; MAX_PAYLOAD + 1], "more than 65536"),
    ] {
        let refused = asked(&server, &payload).await.err().unwrap_or_else(|| panic!("{what} is taken"));
        assert!(refused.to_string().contains(says), "{what}: {refused}");
    }
    let refused = asked(&for_encryption.server(None), &payload(&for_encryption.chain)).await.err().unwrap();
    assert!(refused.to_string().contains("digitalSignature"), "{refused}");
    let (_, answered) = asked(&server, &payload(&outside.chain)).await.unwrap();
    assert!(matches!(answered(&vec![b' '; MAX_PAYLOAD + 1]), Err(Refused::TooLong(_))));
}

#[tokio::test]
async fn keys_of_more_than_4096_bits_are_refused_unseen() {
    // The modulus is no product of primes, but nothing is computed with it either.
    let outside = Outside::new(
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_4096).unwrap(),
        |_| {},
    );
    let server = outside.server(None);
    assert!(attested(&server, &outside.agent).await.is_ok());
    let huge = huge_rsa(&outside.chain[0]);
    let refused = asked(&server, &payload(&[huge.into(), outside.chain[1].clone()])).await.err().unwrap();
    assert!(refused.to_string().contains("4096 bits"), "{refused}");
}

/// A certificate whose RSA key has one byte more; its signature is of the one before.
fn huge_rsa(der: &CertificateDer<'_>) -> Vec<u8> {
    fn element(bytes: &[u8]) -> (u8, usize, usize) {
        match bytes[1] {
            short if short < 0x80 => (bytes[0], 2, usize::from(short)),
            long => {
                let digits = usize::from(long & 0x7f);
                let length = bytes[2..2 + digits].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
                (bytes[0], 2 + digits, length)
            }
        }
    }
    /// Puts a byte before the integer of 513 bytes, and counts it in all that is around it.
    fn grown(bytes: &[u8]) -> Vec<u8> {
        let mut made = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (tag, header, length) = element(rest);
            let content = &rest[header..header + length];
            let content = match tag {
                0x02 if length == 513 => [&[0x7f, 0xff][..], &content[1..]].concat(),
                0x30 => grown(content),
                0x03 if length > 513 && content[1] == 0x30 => [&[0][..], &grown(&content[1..])].concat(),
                _ => content.to_vec(),
            };
            made.push(tag);
            match content.len() {
                short @ 0..0x80 => made.push(short as u8),
                middle @ 0x80..0x100 => made.extend([0x81, middle as u8]),
                long => made.extend([0x82, (long >> 8) as u8, long as u8]),
            }
            made.extend(content);
            rest = &rest[header + length..];
        }
        made
    }
    grown(der)
}

#[tokio::test]
async fn svids_of_a_trust_domain_are_exchanged_where_their_path_begins_as_agreed() {
    let (root, root_key) = authority("a trust domain");
    let authority_der = root.self_signed(&root_key).unwrap().der().clone();
    let bundle = |of: &str, der: &CertificateDer<'static>| {
        let mut bundle = Bundle::empty(of.parse().unwrap());
        bundle.x509_authorities.push(der.clone());
        bundle
    };
    let folder = tempfile::tempdir().unwrap();
    let agent = |id: &str| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        dated(&mut leaf);
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
        let (cert, secret) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        fs::write(&cert, leaf.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        agent::Config { private_key_path: secret, certificate_path: cert, intermediates_path: None }
    };
    let spiffe = Config { mode: Mode::Spiffe, ..external() };
    let foreign = Config { trust_domain: Some("other.example".parse().unwrap()), ..spiffe.clone() };
    for (config, id, of, node) in [
        (&spiffe, "spiffe://acme.example/spire-exchange/dc/web-1", "acme.example", Some("/x509pop/dc/web-1")),
        (&foreign, "spiffe://other.example/spire-exchange/web-1", "other.example", Some("/x509pop/web-1")),
        (&spiffe, "spiffe://acme.example/elsewhere/web-1", "acme.example", None),
        (&spiffe, "spiffe://acme.example/spire-exchange", "acme.example", None),
        (&spiffe, "spiffe://other.example/spire-exchange/web-1", "acme.example", None),
        (&foreign, "spiffe://other.example/spire-exchange/web-1", "acme.example", None),
    ] {
        let server = server(config.clone());
        let shown = agent(id).show().await.unwrap();
        let begun = begin(&server, &shown.payload, Some(bundle(of, &authority_der))).await;
        let proved = begun.ok().and_then(|step| match step {
            Step::Asked { challenge, answered } => answered(&(shown.answer)(&challenge).unwrap()).ok(),
            Step::Proved(_) => None,
        });
        let expected = node.map(|path| format!("spiffe://acme.example/spire/agent{path}"));
        assert_eq!(proved.map(|proof| proof.into_inner().id.to_string()), expected, "{id} under {of}");
    }
}

#[test]
fn a_configuration_that_admits_nobody_is_an_error() {
    let outside = Outside::new(KeyPair::generate().unwrap(), |_| {});
    let (ca, leaf) = (outside.path("ca.pem"), outside.path("cert.pem"));
    let missing = outside.path("missing.pem");
    let spiffe = Config { mode: Mode::Spiffe, ..external() };
    let own_prefix = Some("a/".to_owned());
    let template = Some("/join_token/{{ .Fingerprint }}".to_owned());
    for (config, says) in [
        (external(), "ca_bundle_path or ca_bundle_paths"),
        (
            Config { ca_bundle_path: Some(ca.clone()), ca_bundle_paths: vec![ca.clone()], ..external() },
            "either",
        ),
        (Config { ca_bundle_path: Some(missing), ..external() }, "missing.pem"),
        (Config { ca_bundle_path: Some(leaf), ..external() }, "cert.pem"),
        (Config { ca_bundle_path: Some(outside.path("key.pem")), ..external() }, "no certificate"),
        (Config { ca_bundle_path: Some(ca.clone()), ..spiffe.clone() }, "remove ca_bundle_path"),
        (Config { svid_prefix: own_prefix.clone(), ..spiffe }, "begins with a slash"),
        (Config { ca_bundle_path: Some(ca.clone()), svid_prefix: own_prefix, ..external() }, "spiffe"),
        (
            Config { ca_bundle_path: Some(ca), agent_path_template: template, ..external() },
            "another attestor",
        ),
    ] {
        let config = All { x509pop: Some(config), ..All::default() };
        let error = NodeAttestors::new(&config, &own()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("node_attestors.x509pop"), "{error}");
    }
}
