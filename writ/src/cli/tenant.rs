//! `writ tenant`: the owners of actors and resources, and their kill switch.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use registry::objects::Tenant;
use serde_json::json;
use server_api::admin::Switched;

use super::{
    Shared, admin,
    output::{self, plain},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ tenant list
  writ tenant disable acme --why 'the contract is over'    ends all its tasks at once
  writ tenant enable acme
Tenants are declared in files: see `writ apply --help`.";

#[derive(Debug, Subcommand)]
pub(crate) enum TenantVerb {
    /// Show all tenants
    List,
    /// End all tasks of a tenant and let none begin
    Disable {
        /// Its name.
        name: String,
        /// Why, for whoever reads it later.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Let a tenant's tasks begin again; what ended stays ended
    Enable {
        /// Its name.
        name: String,
    },
}

pub(crate) async fn run(verb: TenantVerb, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    match verb {
        TenantVerb::List => {
            let tenants: Vec<Tenant> = admin::listed(&mut server, "tenant", Vec::new()).await?;
            output::show(shared.output, &json!({ "tenants": tenants }), |_| rows(&tenants))?;
        }
        TenantVerb::Disable { name, why } => {
            server.switch(Switched::Tenant, &name, Some(&why)).await?;
            let said = format!("{} is disabled; its tasks are over", plain(&name));
            output::show(shared.output, &json!({ "disabled": name, "why": why }), |_| said)?;
        }
        TenantVerb::Enable { name } => {
            server.switch(Switched::Tenant, &name, None).await?;
            let said = format!("{} is enabled; its tasks may begin again", plain(&name));
            output::show(shared.output, &json!({ "enabled": name }), |_| said)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(tenants: &[Tenant]) -> String {
    let heading = ["TENANT", "STATE", "CATEGORIES"].map(str::to_owned).to_vec();
    let rows = tenants.iter().map(|tenant| {
        let state =
            tenant.disabled.as_ref().map_or("enabled".to_owned(), |why| format!("disabled: {}", plain(why)));
        let categories = tenant.categories.iter().map(ToString::to_string).collect::<Vec<_>>();
        vec![tenant.name.to_string(), state, categories.join(", ")]
    });
    output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}
