//! The server's half: the path first, then the challenge.

use std::{collections::BTreeSet, path::PathBuf};

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::{SecureRandom as _, SystemRandom},
    signature::{
        self as lc, RsaParameters, RsaPssSaltLength, RsaPublicKeyComponents, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use spiffe::{
    Jwk, SpiffeId, TrustDomain,
    jwk::Curve,
    x509::{Authorities, Certificate, authorities::Vouched, path::MAX_CHAIN, svid},
};

use super::{
    NAME,
    wire::{Bytes, Challenge, EcdsaSignature, NONCE, Nonce, Payload, Response, RsaSignature, message},
};
use crate::{
    file,
    node::{
        Template, Verified,
        server::{ConfigError, Half, Proof, Refused, Step, Surroundings, node_id, select},
        template::{Fields, Rules},
    },
};

/// Whose certificates count, and which nodes they make.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose certificates count.
    #[serde(default)]
    pub mode: Mode,
    /// `external_pki`: a file with the authorities' certificates, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_path: Option<PathBuf>,
    /// The same where they are in several files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca_bundle_paths: Vec<PathBuf>,
    /// `spiffe`: the trust domain whose SVIDs count; the server's own where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
    /// `spiffe`: how the path of an SVID begins that may be exchanged for a node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub svid_prefix: Option<String>,
    /// The nodes' paths below `/spire/agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_path_template: Option<String>,
}

/// Whose certificates count.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Those of a public key infrastructure outside.
    #[default]
    ExternalPki,
    /// X509-SVIDs.
    Spiffe,
}

/// The attestor.
pub(crate) struct X509pop {
    trusted: Trusted,
    naming: Naming,
}

enum Trusted {
    External(Authorities),
    /// Asked for each time, because its authorities turn.
    TrustDomain(TrustDomain),
}

/// How nodes are named.
#[derive(Clone)]
struct Naming {
    trust_domain: TrustDomain,
    template: Template,
    /// In SPIFFE mode: of which trust domain SVIDs are, and how their paths begin.
    svids: Option<(TrustDomain, String)>,
}

const RULES: Rules = Rules {
    attestor: NAME,
    fields: &[
        "PluginName",
        "Fingerprint",
        "TrustDomain",
        "Subject.CommonName",
        "SerialNumberHex",
        "SVIDPathTrimmed",
        "URISanSelectors.*",
    ],
    paths: &["SVIDPathTrimmed"],
};
const MAX_BUNDLE: u64 = 1024 * 1024;

/// What a certificate says of its holder.
#[derive(Debug)]
struct Holder {
    key: Jwk,
    common_name: Option<String>,
    serial: String,
    fingerprint: String,
    twin: Option<String>,
    issuers: Vec<String>,
    uris: Vec<String>,
}

impl Config {
    /// Whether what is said goes together; no file is looked at.
    pub(crate) fn check(&self, own: &TrustDomain) -> Result<(), ConfigError> {
        self.naming(own).map(drop)
    }

    fn naming(&self, own: &TrustDomain) -> Result<Naming, ConfigError> {
        let wrong = |says: &str| ConfigError::Contradiction { attestor: NAME, says: says.to_owned() };
        let (svids, template) = match self.mode {
            Mode::ExternalPki => {
                if self.ca_bundle_path.is_some() != self.ca_bundle_paths.is_empty() {
                    return Err(wrong("say either ca_bundle_path or ca_bundle_paths"));
                }
                if self.trust_domain.is_some() || self.svid_prefix.is_some() {
                    return Err(wrong("trust_domain and svid_prefix are for mode = \"spiffe\""));
                }
                (None, "/{{ .PluginName }}/{{ .Fingerprint }}")
            }
            Mode::Spiffe => {
                if self.files().next().is_some() {
                    return Err(wrong("in mode = \"spiffe\" the trust bundle counts; remove ca_bundle_path"));
                }
                let of = self.trust_domain.clone().unwrap_or_else(|| own.clone());
                let prefix = self.svid_prefix.as_deref().unwrap_or("/spire-exchange/");
                let prefix = format!("{}/", prefix.trim_end_matches('/'));
                if !prefix.starts_with('/') {
                    return Err(wrong("svid_prefix begins with a slash"));
                }
                (Some((of, prefix)), "/{{ .PluginName }}/{{ .SVIDPathTrimmed }}")
            }
        };
        let template = Template::parse(self.agent_path_template.as_deref().unwrap_or(template), RULES)
            .map_err(|source| ConfigError::Template { attestor: NAME, source })?;
        Ok(Naming { trust_domain: own.clone(), template, svids })
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.ca_bundle_path.iter().chain(&self.ca_bundle_paths)
    }
}

impl X509pop {
    pub(crate) fn new(config: &Config, own: &TrustDomain) -> Result<Self, ConfigError> {
        let naming = config.naming(own)?;
        let trusted = match &naming.svids {
            Some((of, _)) => Trusted::TrustDomain(of.clone()),
            None => Trusted::External(external(config.files())?),
        };
        Ok(Self { trusted, naming })
    }

    fn holder(&self, payload: &[u8], now: &Surroundings<'_>) -> Result<Verified<Holder>, Refused> {
        let payload: Payload =
            serde_json::from_slice(payload).map_err(|error| not_proved(format!("the payload: {error}")))?;
        if payload.certificates.len() > MAX_CHAIN {
            return Err(not_proved(format!("more than {MAX_CHAIN} certificates")));
        }
        let chain = payload.certificates.into_iter().map(|der| CertificateDer::from(der.0));
        let chain: Vec<CertificateDer<'_>> = chain.collect();
        match &self.trusted {
            Trusted::External(authorities) => {
                Verified::of_certificate(&chain, authorities, now.now, Holder::read)
            }
            Trusted::TrustDomain(trust_domain) => {
                let bundle = (now.bundle)(trust_domain);
                let bundle = bundle.ok_or_else(|| {
                    Refused::Unavailable(format!("there is no trust bundle of {}", trust_domain.as_str()))
                })?;
                let authorities = Authorities::of_trust_domain(&bundle);
                Verified::of_certificate(&chain, &authorities, now.now, Holder::read_svid)
            }
        }
    }
}

#[async_trait]
impl Half for X509pop {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn begin(&self, payload: &[u8], now: &Surroundings<'_>) -> Result<Step, Refused> {
        let holder = self.holder(payload, now)?;
        let proof = holder.follow(&self.naming, Holder::proof)?; // what it cannot be, it need not prove
        let mut nonce = [0; NONCE];
        let failed = |_| Refused::Unavailable("there is no randomness".to_owned());
        SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        let sent = Some(Nonce { nonce: Bytes(nonce.to_vec()) });
        let challenge = match holder.get().key {
            Jwk::Rsa { .. } => Challenge { rsa_signature: sent, ..Challenge::default() },
            _ => Challenge { ecdsa_signature: sent, ..Challenge::default() },
        };
        let challenge = serde_json::to_vec(&challenge).map_err(|error| not_proved(error.to_string()))?;
        let answered = move |answer: &[u8]| {
            let answer: Response =
                serde_json::from_slice(answer).map_err(|error| not_proved(format!("the answer: {error}")))?;
            match is_signed(&holder.get().key, &nonce, &answer) {
                true => Ok(proof),
                false => Err(not_proved("the challenge is not signed by the certificate's key".to_owned())),
            }
        };
        Ok(Step::Asked { challenge, answered: Box::new(answered) })
    }
}

impl Holder {
    fn read(
        der: &CertificateDer<'_>,
        leaf: &Certificate<'_>,
        vouched: &Vouched<'_>,
    ) -> Result<Self, Refused> {
        if !leaf.is_for_signatures() {
            return Err(not_proved("the certificate's key usage lacks digitalSignature".to_owned()));
        }
        let key = Jwk::from_public_key(leaf.public_key().raw);
        let key = key.filter(|key| !matches!(key, Jwk::Ed25519 { .. }));
        Ok(Self {
            key: key
                .ok_or_else(|| not_proved("the certificate's key is neither RSA nor ECDSA".to_owned()))?,
            common_name: leaf.common_name().map(str::to_owned),
            serial: even(leaf.serial_hex()),
            fingerprint: fingerprint(der),
            twin: vouched.twin.as_deref().map(fingerprint),
            issuers: vouched.issuers.iter().map(|der| fingerprint(der)).collect(),
            uris: leaf.uris().map(str::to_owned).collect(),
        })
    }

    fn read_svid(
        der: &CertificateDer<'_>,
        leaf: &Certificate<'_>,
        vouched: &Vouched<'_>,
    ) -> Result<Self, Refused> {
        svid::leaf_id(leaf).map_err(|error| not_proved(format!("it is not an X509-SVID: {error}")))?;
        Self::read(der, leaf, vouched)
    }

    fn proof(&self, naming: &Naming) -> Result<Proof, Refused> {
        let mut fields: Fields = [
            ("TrustDomain", naming.trust_domain.as_str().to_owned()),
            ("Fingerprint", self.fingerprint.clone()),
            ("SerialNumberHex", self.serial.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        fields.extend(self.common_name.clone().map(|name| ("Subject.CommonName".to_owned(), name)));
        if let Some(svids) = &naming.svids {
            fields.insert("SVIDPathTrimmed".to_owned(), self.svid_path(svids)?);
        }
        let mut selectors = BTreeSet::new();
        let mut add = |name: &str, value: &str| select(&mut selectors, NAME, &format!("{name}:{value}"));
        for (name, value) in self.san_selectors(&naming.trust_domain) {
            add("san", &format!("{name}:{value}"));
            fields.insert(format!("URISanSelectors.{name}"), value.to_owned());
        }
        if let Some(name) = &self.common_name {
            add("subject:cn", name);
        }
        add("serialnumber", &self.serial);
        for issuer in &self.issuers {
            add("ca:fingerprint", issuer);
        }
        let id = |fields: &Fields| -> Result<SpiffeId, Refused> {
            node_id(&naming.trust_domain, &naming.template.path(fields, RULES)?)
        };
        let named = id(&fields)?;
        let twin = match &self.twin {
            None => None,
            Some(fingerprint) => {
                fields.insert("Fingerprint".to_owned(), fingerprint.clone());
                Some(id(&fields)?).filter(|twin| *twin != named)
            }
        };
        Ok(Proof { id: named, twin, selectors, once: None })
    }

    /// What follows the prefix in the path of an SVID of the right trust domain.
    fn svid_path(&self, (of, prefix): &(TrustDomain, String)) -> Result<String, Refused> {
        let id: Option<SpiffeId> = self.uris.first().and_then(|uri| uri.parse().ok());
        let path =
            id.as_ref().filter(|id| id.is_in(of)).and_then(|id| id.path().strip_prefix(prefix.as_str()));
        path.map(str::to_owned).ok_or_else(|| {
            not_proved(format!("the SVID is not one of {} whose path begins with {prefix}", of.as_str()))
        })
    }

    /// `x509pop://<trust domain>/<name>/<value>` among the alternative names. Where a name is there twice
    /// it says nothing.
    fn san_selectors(&self, trust_domain: &TrustDomain) -> Vec<(&str, &str)> {
        let prefix = format!("x509pop://{}/", trust_domain.as_str());
        let said = self.uris.iter().filter_map(|uri| uri.strip_prefix(&prefix)?.split_once('/'));
        let said: Vec<(&str, &str)> =
            said.filter(|(name, value)| !name.is_empty() && !value.is_empty()).collect();
        let is_alone = |name: &str| said.iter().filter(|(other, _)| *other == name).count() == 1;
        said.iter().copied().filter(|(name, _)| is_alone(name)).collect()
    }
}

fn external<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<Authorities, ConfigError> {
    let mut certificates = Vec::new();
    for path in files {
        let failed = |says: String| ConfigError::File { attestor: NAME, path: path.clone(), says };
        let read = file::read_now(path, MAX_BUNDLE).and_then(|pem| file::certificates(&pem));
        let read = read.map_err(|error| failed(error.to_string()))?;
        Authorities::external(read.clone()).map_err(|error| failed(error.to_string()))?;
        certificates.extend(read);
    }
    Authorities::external(certificates)
        .map_err(|error| ConfigError::Contradiction { attestor: NAME, says: error.to_string() })
}

/// Whether the holder of `key` signed both nonces.
fn is_signed(key: &Jwk, nonce: &[u8; NONCE], answer: &Response) -> bool {
    match (key, &answer.rsa_signature, &answer.ecdsa_signature) {
        (Jwk::Rsa { n, e }, Some(RsaSignature { nonce: own, signature }), None) if own.0.len() == NONCE => {
            let message = message(nonce, &own.0);
            // SPIRE's agents take the longest salt that fits, as Go does by itself.
            [LONGEST_SALT, &lc::RSA_PSS_2048_8192_SHA256].into_iter().any(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, &message, &signature.0).is_ok()
            })
        }
        (Jwk::Ec { curve, point }, None, Some(EcdsaSignature { nonce: own, r, s }))
            if own.0.len() == NONCE =>
        {
            let Some(signature) = pair(&r.0, &s.0, curve.field_bytes()) else { return false };
            let algorithm: &dyn VerificationAlgorithm = match curve {
                Curve::P256 => &lc::ECDSA_P256_SHA256_ASN1,
                Curve::P384 => &lc::ECDSA_P384_SHA256_ASN1,
                Curve::P521 => &lc::ECDSA_P521_SHA256_ASN1,
            };
            UnparsedPublicKey::new(algorithm, point).verify(&message(nonce, &own.0), &signature).is_ok()
        }
        _ => false,
    }
}

const LONGEST_SALT: &RsaParameters =
    &lc::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);

/// Two numbers as a DER sequence.
fn pair(r: &[u8], s: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    for number in [r, s] {
        let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        if digits.is_empty() || number.len() > most {
            return None;
        }
        let sign = (digits[0] & 0x80 != 0).then_some(0);
        let number: Vec<u8> = sign.into_iter().chain(digits).collect();
        content.extend([0x02, u8::try_from(number.len()).ok()?]);
        content.extend(number);
    }
    let length = u8::try_from(content.len()).ok()?;
    let header = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    Some([header, content].concat())
}

pub(super) fn fingerprint(der: &[u8]) -> String {
    hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, der))
}

/// SPIRE writes whole bytes.
fn even(digits: String) -> String {
    if digits.len() % 2 == 1 { format!("0{digits}") } else { digits }
}

fn not_proved(says: String) -> Refused {
    Refused::NotProved(says)
}
