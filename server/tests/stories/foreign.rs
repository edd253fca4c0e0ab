//! Another trust domain, with an authority of its own making.

use proto::spire::{
    server::bundle::v1::{BatchSetFederatedBundleRequest, bundle_client::BundleClient},
    types::{Bundle as WireBundle, X509Certificate},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use server_api::connect::connect_private;
use spiffe::PrivateKey;

use crate::support::{Agent, Host, ders};

pub(crate) struct Foreign {
    name: String,
    issuer: Issuer<'static, KeyPair>,
    root: Vec<u8>,
}

impl Foreign {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names =
            vec![SanType::URI(format!("spiffe://{name}").as_str().try_into().unwrap())];
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self { name: name.to_owned(), issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn bundle(&self) -> WireBundle {
        let authority = X509Certificate { asn1: self.root.clone().into(), tainted: false };
        WireBundle {
            trust_domain: self.name.clone(),
            x509_authorities: vec![authority],
            ..Default::default()
        }
    }

    /// Has the host keep this trust domain's bundle.
    pub(crate) async fn set(&self, host: &Host) {
        let mut client = BundleClient::new(connect_private(&host.serving.socket).await.unwrap());
        let request = BatchSetFederatedBundleRequest { bundle: vec![self.bundle()], output_mask: None };
        let results = client.batch_set_federated_bundle(request).await.unwrap().into_inner().results;
        assert_eq!(results[0].status.as_ref().unwrap().code, 0, "{results:?}");
    }

    /// A certificate of this trust domain's authority, whatever ID it names; where it is shown, and what
    /// is expected there, the caller says.
    pub(crate) fn svid(&self, id: &str, there: &Agent) -> Agent {
        let key = PrivateKey::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        let public = rcgen::SubjectPublicKeyInfo::from_der(&key.public_key().unwrap()).unwrap();
        let chain = ders(vec![leaf.signed_by(&public, &self.issuer).unwrap().der().to_vec()]);
        Agent { chain, key, ..there.clone() }
    }
}
