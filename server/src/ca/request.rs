//! Certificate requests that name whom they are for: an administrator's, who may choose.

use spiffe::SpiffeId;
use x509_parser::{
    certification_request::X509CertificationRequest, extensions::ParsedExtension, prelude::FromDer as _,
    prelude::GeneralName,
};

use super::{KeyRefused, SubjectKey};

/// What an administrator wants certified.
#[derive(Clone, Debug)]
pub(crate) struct Requested {
    pub(crate) key: SubjectKey,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) dns_names: Vec<String>,
}

/// A request that names nobody who could be certified. The texts are those of SPIRE's command line.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RequestRefused {
    #[error(transparent)]
    Key(#[from] KeyRefused),
    #[error("CSR URI SAN is required")]
    NoId,
    #[error("only one URI SAN is expected")]
    SeveralIds,
    #[error("CSR URI SAN is invalid: {0}")]
    Id(String),
}

impl Requested {
    /// Reads a PKCS#10 request in DER that is signed by its own key.
    pub(crate) fn from_csr(der: &[u8]) -> Result<Self, RequestRefused> {
        let key = SubjectKey::from_csr(der)?; // bounded, and of a bearable kind
        let (_, request) = X509CertificationRequest::from_der(der).map_err(|_| KeyRefused::Request)?;
        let (mut ids, mut dns_names) = (Vec::new(), Vec::new());
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::URI(uri) => ids.push(*uri),
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    _ => {} // what SVIDs do not carry
                }
            }
        }
        let spiffe_id = match ids.as_slice() {
            [] => return Err(RequestRefused::NoId),
            [id] => id.parse().map_err(|error: spiffe::id::IdError| RequestRefused::Id(error.to_string()))?,
            _ => return Err(RequestRefused::SeveralIds),
        };
        Ok(Self { key, spiffe_id, dns_names })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn read(names: &[SanType]) -> Result<Requested, RequestRefused> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        Requested::from_csr(params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn a_request_names_one_spiffe_id_and_any_dns_names() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
        let requested = read(&[dns("a.example"), uri("spiffe://acme.example/w"), dns("b.example")]).unwrap();
        assert_eq!(requested.spiffe_id.as_str(), "spiffe://acme.example/w");
        assert_eq!(requested.dns_names, ["a.example", "b.example"]);
        assert_eq!(read(&[dns("a.example")]).unwrap_err(), RequestRefused::NoId);
        let two = read(&[uri("spiffe://acme.example/w"), uri("https://a.example")]);
        assert_eq!(two.unwrap_err(), RequestRefused::SeveralIds);
        assert!(matches!(read(&[uri("https://a.example/w")]), Err(RequestRefused::Id(_))));
    }
}
