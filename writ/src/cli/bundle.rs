//! `writ bundle`: whom this trust domain believes.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, anyhow};
use clap::{Subcommand, ValueEnum};
use registry::decide::bundle::Federating;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Map, Value, json};
use server_api::{CallError, bundles::Client};
use spiffe::{Bundle, TrustDomain};
use tonic::Code;

use super::{
    Shared, Usage, admin,
    output::{self, Format},
    sockets,
};
use crate::identity::pem;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ bundle show > ca.pem
  writ bundle show --output json         the SPIFFE bundle document (JWKS)
  writ bundle list
  writ bundle set other.example bundle.json
  writ bundle delete other.example --entries dissociate";

#[derive(Debug, Subcommand)]
pub(crate) enum BundleVerb {
    /// Print the trust bundle: PEM, or with --output json the SPIFFE bundle document
    Show {
        /// Of this trust domain instead of the server's own.
        #[arg(long, value_name = "TD")]
        trust_domain: Option<TrustDomain>,
    },
    /// List the bundles of other trust domains; with --output json as a SPIFFE bundle map
    List,
    /// Keep the bundle of another trust domain, so that entries can federate with it
    Set {
        /// Whose it is.
        #[arg(value_name = "TD")]
        trust_domain: TrustDomain,
        /// A SPIFFE bundle document, or certificates in PEM; `-` reads standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete the bundle of another trust domain
    Delete {
        /// Whose it is.
        #[arg(value_name = "TD")]
        trust_domain: TrustDomain,
        /// What becomes of entries that federate with it: while there are any, refuse; delete them;
        /// or let them federate no more.
        #[arg(long, value_enum, default_value = "refuse")]
        entries: Entries,
    },
}

/// What becomes of entries that federate with a trust domain whose bundle is deleted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Entries {
    Refuse,
    Delete,
    Dissociate,
}

pub(crate) async fn run(verb: BundleVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        BundleVerb::Show { trust_domain } => show(trust_domain, shared).await?,
        BundleVerb::List => list(shared).await?,
        BundleVerb::Set { trust_domain, file } => {
            let bundle = read(trust_domain, &file)?;
            connect(shared).await?.set(&bundle).await?;
            told(shared, &bundle.trust_domain, "set")?;
        }
        BundleVerb::Delete { trust_domain, entries } => {
            let entries = match entries {
                Entries::Refuse => Federating::Forbid,
                Entries::Delete => Federating::Delete,
                Entries::Dissociate => Federating::Dissociate,
            };
            let deleted = connect(shared).await?.delete(&trust_domain, entries).await;
            deleted.map_err(|error| match error {
                CallError::Refused { code: Code::FailedPrecondition, message } => {
                    anyhow!(
                        "{message}; say what becomes of them with --entries delete or --entries dissociate"
                    )
                }
                error => error.into(),
            })?;
            told(shared, &trust_domain, "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(trust_domain: Option<TrustDomain>, shared: &Shared) -> Result<()> {
    let mut server = admin::connect(shared).await?;
    let trust_domain = match trust_domain {
        Some(named) => named,
        None => admin::trust_domain(&mut server).await?,
    };
    let document = server.show_bundle(trust_domain.as_str()).await?;
    match shared.output {
        Format::Json => {
            output::line(std::str::from_utf8(&document).context("the bundle document is not text")?)?
        }
        Format::Text => {
            let bundle = Bundle::parse(trust_domain, &document).context("the server's bundle document")?;
            let pems: String = bundle.x509_authorities.iter().map(|der| pem("CERTIFICATE", der)).collect();
            output::line(pems.trim_end())?;
        }
    }
    Ok(())
}

async fn list(shared: &Shared) -> Result<()> {
    let bundles = connect(shared).await?.list().await?;
    match shared.output {
        Format::Json => {
            let mut map = Map::new();
            for bundle in bundles {
                map.insert(bundle.trust_domain.to_string(), serde_json::from_slice(&bundle.to_document()?)?);
            }
            output::line(&json!({ "trust_domains": Value::Object(map) }).to_string())?;
        }
        Format::Text => {
            for bundle in bundles {
                let (x509, jwt) = (bundle.x509_authorities.len(), bundle.jwt_authorities.len());
                output::line(&format!("{}  {x509} X.509, {jwt} JWT", bundle.trust_domain))?;
            }
        }
    }
    Ok(())
}

/// A bundle document, or certificates in PEM, which no JSON begins like.
fn read(trust_domain: TrustDomain, file: &PathBuf) -> Result<Bundle> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
        false => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
    };
    if !text.trim_start().starts_with("-----BEGIN") {
        let read = Bundle::parse(trust_domain, text.as_bytes());
        return read.map_err(|error| Usage(format!("{}: {error}", file.display())).into());
    }
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Usage(format!("{}: {error}", file.display())))?;
    Ok(Bundle { x509_authorities: certificates, ..Bundle::empty(trust_domain) })
}

async fn connect(shared: &Shared) -> Result<Client> {
    let socket = shared.sockets.server()?;
    Client::connect(&socket)
        .await
        .map_err(|error| anyhow!("{error}; {}", sockets::way_out(&socket, "server")))
}

fn told(shared: &Shared, trust_domain: &TrustDomain, done: &str) -> Result<()> {
    let json = || json!({ "trust_domain": trust_domain, "effect": done }).to_string();
    match shared.output {
        Format::Json => output::line(&json())?,
        Format::Text => output::line(&format!("{done}  {trust_domain}"))?,
    }
    Ok(())
}
