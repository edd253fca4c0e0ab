//! The structure that ARCHITECTURE.md promises, compared with what is really there.
//!
//! [`table`] reads the page, [`graph`] asks cargo, [`sources`] reads the code. Each rule answers with
//! sentences that name the arrow, the file or the crate; no sentence means that all is well.

mod graph;
mod sources;
mod table;

use anyhow::{Result, bail};

use crate::tools::root;

/// Fails with every broken rule, one sentence each.
pub(crate) fn check() -> Result<()> {
    let table = table::Table::read(&root().join("ARCHITECTURE.md"))?;
    let graph = graph::Graph::ask()?;
    let mut broken = graph.arrows_against(&table);
    broken.extend(graph.core_without_io());
    broken.extend(graph.sql_only_in_store());
    broken.extend(graph.cedar_only_in_authz());
    broken.extend(graph::agent_alone()?);
    broken.extend(sources::check(root())?);
    for sentence in &broken {
        println!("    {sentence}");
    }
    match broken.len() {
        0 => Ok(()),
        1 => bail!("{}", broken[0]),
        more => bail!("{more} rules are broken, see above"),
    }
}
