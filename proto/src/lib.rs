//! Every protobuf message and service that Writ speaks, and nothing else.
//!
//! The `.proto` files lie in `proto/proto`, written here from the published names and numbers, and
//! are compiled once. Conversions to the product's own types live in the `wire` modules of the rooms
//! that speak them.

#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the .proto files have the comments"
)]

/// Encoded descriptors of everything here.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/all.fds"));
/// Encoded descriptors of what the workload socket serves, for its reflection.
pub const WORKLOAD_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload.fds"));
/// Encoded descriptors of what the authz socket serves.
pub const AUTHZ_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/authz.fds"));
/// Encoded descriptors of what a server serves, for its reflection.
pub const SERVER_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/server.fds"));

/// Declares a module of generated code.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

generated! {
    /// The SPIFFE Workload API, which has no package.
    workload, "_"
}

/// gRPC's health checking.
pub mod health {
    generated! {
        /// `grpc.health.v1`
        v1, "grpc.health.v1"
    }
}

/// SPIRE's APIs.
pub mod spire {
    generated! {
        /// Types that its services share (`spire.api.types`).
        types, "spire.api.types"
    }

    /// Services of its server.
    pub mod server {
        /// Nodes and their agents.
        pub mod agent {
            generated! {
                /// `spire.api.server.agent.v1`
                v1, "spire.api.server.agent.v1"
            }
        }
        /// Trust bundles.
        pub mod bundle {
            generated! {
                /// `spire.api.server.bundle.v1`
                v1, "spire.api.server.bundle.v1"
            }
        }
        /// The server itself.
        pub mod debug {
            generated! {
                /// `spire.api.server.debug.v1`
                v1, "spire.api.server.debug.v1"
            }
        }
        /// Registration entries.
        pub mod entry {
            generated! {
                /// `spire.api.server.entry.v1`
                v1, "spire.api.server.entry.v1"
            }
        }
        /// The keys of one server.
        pub mod localauthority {
            generated! {
                /// `spire.api.server.localauthority.v1`
                v1, "spire.api.server.localauthority.v1"
            }
        }
        /// How much the server logs.
        pub mod logger {
            generated! {
                /// `spire.api.server.logger.v1`
                v1, "spire.api.server.logger.v1"
            }
        }
        /// SVIDs.
        pub mod svid {
            generated! {
                /// `spire.api.server.svid.v1`
                v1, "spire.api.server.svid.v1"
            }
        }
        /// Where foreign bundles come from.
        pub mod trustdomain {
            generated! {
                /// `spire.api.server.trustdomain.v1`
                v1, "spire.api.server.trustdomain.v1"
            }
        }
    }
}

/// Writ's own protocols.
pub mod writ {
    /// What an administrator says to a server.
    pub mod admin {
        generated! {
            /// `writ.admin.v1`
            v1, "writ.admin.v1"
        }
    }
    /// Evidence: what nodes recorded, and what may be read of it.
    pub mod audit {
        generated! {
            /// `writ.audit.v1`
            v1, "writ.audit.v1"
        }
    }
    /// What an agent and its server say to each other.
    pub mod node {
        generated! {
            /// `writ.node.v1`
            v1, "writ.node.v1"
        }
    }
    /// Starting a command that is measured before it runs.
    pub mod launch {
        generated! {
            /// `writ.launch.v1`
            v1, "writ.launch.v1"
        }
    }
    /// Tasks of the asking process.
    pub mod task {
        generated! {
            /// `writ.task.v1`
            v1, "writ.task.v1"
        }
    }
    /// What gateways ask their node agent.
    pub mod authz {
        generated! {
            /// `writ.authz.v1`
            v1, "writ.authz.v1"
        }
    }
    /// What an agent sees of a process.
    pub mod explain {
        generated! {
            /// `writ.explain.v1`
            v1, "writ.explain.v1"
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    fn methods(descriptors: &[u8]) -> Vec<String> {
        let set = FileDescriptorSet::decode(descriptors).expect("the build wrote it");
        let mut names = Vec::new();
        for file in &set.file {
            for service in &file.service {
                let package =
                    if file.package().is_empty() { String::new() } else { format!("{}.", file.package()) };
                names.extend(
                    service.method.iter().map(|m| format!("/{package}{}/{}", service.name(), m.name())),
                );
            }
        }
        names
    }

    #[test]
    fn the_workload_api_has_no_package() {
        assert!(
            methods(super::WORKLOAD_DESCRIPTOR_SET).contains(&"/SpiffeWorkloadAPI/FetchX509SVID".to_owned())
        );
    }

    #[test]
    fn reflection_of_one_side_does_not_show_the_other() {
        let server = methods(super::SERVER_DESCRIPTOR_SET);
        assert!(server.contains(&"/spire.api.server.entry.v1.Entry/BatchCreateEntry".to_owned()));
        assert!(server.contains(&"/writ.node.v1.Node/Follow".to_owned()));
        assert!(!server.iter().any(|name| name.contains("Workload")));
        let agents = [super::WORKLOAD_DESCRIPTOR_SET, super::AUTHZ_DESCRIPTOR_SET].map(methods).concat();
        assert_eq!(methods(super::FILE_DESCRIPTOR_SET).len(), server.len() + agents.len());
    }
}
