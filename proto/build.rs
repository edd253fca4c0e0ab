//! Compiles the `.proto` files without a protoc binary.
//!
//! Four descriptor sets are kept, so that each socket's reflection shows what it serves and no more.

use std::{error::Error, fs, path::PathBuf};

use prost::Message as _;

const ROOT: &str = "proto";
const WORKLOAD: &[&str] = &[
    "spiffe/workload/workload.proto",
    "writ/explain/v1/explain.proto",
    "writ/launch/v1/launch.proto",
    "writ/task/v1/task.proto",
];
const AUTHZ: &[&str] = &["writ/authz/v1/authz.proto"];
const SERVER: &[&str] = &[
    "grpc/health/v1/health.proto",
    "spire/api/server/agent/v1/agent.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "spire/api/server/debug/v1/debug.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/localauthority/v1/localauthority.proto",
    "spire/api/server/logger/v1/logger.proto",
    "spire/api/server/svid/v1/svid.proto",
    "spire/api/server/trustdomain/v1/trustdomain.proto",
    "writ/admin/v1/admin.proto",
    "writ/audit/v1/audit.proto",
    "writ/node/v1/node.proto",
    "writ/node/v1/tasks.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    for (name, files) in [("workload", WORKLOAD), ("authz", AUTHZ), ("server", SERVER)] {
        fs::write(out.join(format!("{name}.fds")), protox::compile(files, [ROOT])?.encode_to_vec())?;
    }
    let all: Vec<&str> = WORKLOAD.iter().chain(AUTHZ).chain(SERVER).copied().collect();
    let compiled = protox::compile(all, [ROOT])?;
    fs::write(out.join("all.fds"), compiled.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(compiled)?;
    Ok(())
}
