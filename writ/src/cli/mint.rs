//! `writ mint`: an SVID of any ID, without an entry, for whoever administers the server.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use clap::Subcommand;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use server_api::mint::Client;
use spiffe::{Bundle, Bundles, PrivateKey, SpiffeId, Timestamp, TrustDomain};

use super::{Shared, Usage, admin, fetch::files, output, sockets};
use crate::identity::{Identities, Svid, pem};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ mint x509 --spiffe-id /break-glass --ttl 15m --write svid
  writ mint x509 --spiffe-id /web --dns web.acme.example
  writ mint jwt --spiffe-id /break-glass --audience db";

#[derive(Debug, Subcommand)]
pub(crate) enum Mint {
    /// Make a key and have it signed; prints certificates, key and trust bundle as PEM
    X509 {
        #[command(flatten)]
        named: Named,
        /// A DNS name for the certificate; may be given several times.
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// Write svid.pem, key.pem and bundle.pem there instead of printing them.
        #[arg(long, value_name = "DIR")]
        write: Option<PathBuf>,
    },
    /// Have a token signed; prints it
    Jwt {
        #[command(flatten)]
        named: Named,
        /// Whom the token is for; may be given several times.
        #[arg(long, value_name = "AUDIENCE", required = true)]
        audience: Vec<String>,
    },
}

/// Whom it names, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// A SPIFFE ID, or a path in the server's trust domain.
    #[arg(long, value_name = "ID")]
    spiffe_id: String,
    /// How long it is valid, for example 15m [default: the server's].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
}

pub(crate) async fn run(verb: Mint, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    let trust_domain = admin::trust_domain(&mut server).await?;
    match verb {
        Mint::X509 { named, dns, write } => {
            let document = server.show_bundle(trust_domain.as_str()).await?;
            let bundle =
                Bundle::parse(trust_domain.clone(), &document).context("the server's bundle document")?;
            let bundles: Bundles = [bundle].into_iter().collect();
            let svid = x509(&named, &dns, &trust_domain, &bundles, shared).await?;
            show_x509(svid, bundles, write, shared)?;
        }
        Mint::Jwt { named, audience } => {
            let id = named.id(&trust_domain)?;
            let minted = connect(shared).await?.jwt(&id, audience, named.seconds()?).await?;
            let told = json!({ "spiffe_id": id, "token": minted.token, "expires_at": minted.expires_at });
            output::show(shared.output, &told, |_| minted.token.clone())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The key is made here and never leaves this process but to where it is asked for.
async fn x509(
    named: &Named,
    dns: &[String],
    trust_domain: &TrustDomain,
    bundles: &Bundles,
    shared: &Shared,
) -> Result<Svid> {
    let id = named.id(trust_domain)?;
    let key = PrivateKey::generate()?;
    let chain = connect(shared).await?.x509(request(&id, dns, &key)?, named.seconds()?).await?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Svid::verified(
        id.as_str(),
        chain,
        key,
        String::new(),
        bundles,
        Timestamp::from_unix_millis(daemon::now_unix_millis()),
    )
}

/// A PKCS#10 request with the ID and the names.
fn request(id: &SpiffeId, dns: &[String], key: &PrivateKey) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.subject_alt_names.push(SanType::URI(id.as_str().try_into()?));
    for name in dns {
        let san = name.as_str().try_into().map_err(|_| Usage(format!("--dns {name:?} is not a DNS name")))?;
        params.subject_alt_names.push(SanType::DnsName(san));
    }
    let key = KeyPair::try_from(key.pkcs8())?;
    Ok(params.serialize_request(&key)?.der().to_vec())
}

fn show_x509(svid: Svid, bundles: Bundles, write: Option<PathBuf>, shared: &Shared) -> Result<()> {
    let chain: Vec<_> = svid.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let key = pem("PRIVATE KEY", svid.key.pkcs8());
    let bundle: String = bundles
        .iter()
        .flat_map(|bundle| bundle.x509_authorities.iter().map(|der| pem("CERTIFICATE", der)))
        .collect();
    let (id, not_after) = (svid.id.clone(), svid.not_after);
    if let Some(dir) = write {
        files::write(&dir, &Identities { svids: vec![svid], bundles: bundles.into() })?;
        let told = json!({ "spiffe_id": id, "not_after": not_after, "written": dir });
        output::show(shared.output, &told, |_| {
            format!("{id} until {not_after}: svid.pem, key.pem and bundle.pem are in {}", dir.display())
        })?;
        return Ok(());
    }
    let told =
        json!({ "spiffe_id": id, "not_after": not_after, "x509_svid": chain, "key": key, "bundle": bundle });
    output::show(shared.output, &told, |_| format!("{}{key}{bundle}", chain.concat()))?;
    Ok(())
}

impl Named {
    fn id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId> {
        let text = &self.spiffe_id;
        let read = match text.starts_with('/') {
            true => trust_domain.join(text),
            false => text.parse(),
        };
        read.map_err(|error| Usage(format!("--spiffe-id {text:?}: {error}")).into())
    }

    fn seconds(&self) -> Result<i32> {
        let Some(ttl) = self.ttl else { return Ok(0) };
        let seconds =
            i32::try_from(ttl.as_secs()).ok().filter(|seconds| *seconds > 0 && ttl.subsec_nanos() == 0);
        Ok(seconds.ok_or_else(|| Usage("--ttl is a whole number of seconds, for example 15m".to_owned()))?)
    }
}

async fn connect(shared: &Shared) -> Result<Client> {
    let socket = shared.sockets.server()?;
    let connected = Client::connect(&socket).await;
    connected.map_err(|error| anyhow!("{error}; {}", sockets::way_out(&socket, "server")))
}
