//! `writ bundle`: whom this trust domain believes.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use spiffe::{Bundle, TrustDomain};

use super::{
    Shared, admin,
    output::{self, Format},
};
use crate::identity::pem;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ bundle show > ca.pem
  writ bundle show --output json         the SPIFFE bundle document (JWKS)";

#[derive(Debug, Subcommand)]
pub(crate) enum BundleVerb {
    /// Print the trust bundle: PEM, or with --output json the SPIFFE bundle document
    Show {
        /// Of this trust domain instead of the server's own.
        #[arg(long, value_name = "TD")]
        trust_domain: Option<TrustDomain>,
    },
}

pub(crate) async fn run(verb: BundleVerb, shared: &Shared) -> Result<ExitCode> {
    let BundleVerb::Show { trust_domain } = verb;
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
    Ok(ExitCode::SUCCESS)
}
