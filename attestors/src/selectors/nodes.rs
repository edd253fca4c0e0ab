//! Kinds that node attestors give: what aliases of nodes are made of.

use super::{Kind, Name, values};

pub(super) const KINDS: &[Kind] = &[
    Kind::nodes("join_token", &[Name::whole(values::any)]),
    Kind::nodes("spiffe_id", &[Name::whole(spiffe_id)]),
    Kind::nodes(
        "x509pop",
        &[
            Name::many("subject", common_name),
            Name::many("ca", fingerprint),
            Name::once("serialnumber", values::any),
            Name::many("san", values::pair),
        ],
    ),
    Kind::nodes("sshpop", &[]),
    Kind::nodes(
        "k8s_psat",
        &[
            Name::once("cluster", values::any),
            Name::once("agent_ns", values::any),
            Name::once("agent_sa", values::any),
            Name::once("agent_pod_name", values::any),
            Name::once("agent_pod_uid", values::uuid),
            Name::many("agent_pod_label", values::pair),
            Name::once("agent_node_ip", values::any),
            Name::once("agent_node_name", values::any),
            Name::once("agent_node_uid", values::uuid),
            Name::many("agent_node_label", values::pair),
        ],
    )
    .also_called(&[("ns", "agent_ns"), ("sa", "agent_sa"), ("node_name", "agent_node_name")]),
    Kind::nodes(
        "oidc",
        &[
            Name::once("issuer", values::any),
            Name::once("sub", values::any),
            Name::many("claim", values::pair),
        ],
    )
    .also_called(&[("iss", "issuer"), ("subject", "sub")]),
    Kind::nodes(
        "aws_iid",
        &[
            Name::once("account_id", values::any),
            Name::once("az", values::any),
            Name::many("iamrole", values::any),
            Name::once("image", values::pair),
            Name::once("instance", values::pair),
            Name::many("tag", values::pair),
            Name::once("region", values::any),
            Name::many("sg", values::pair),
        ],
    ),
    Kind::nodes("azure_imds", AZURE),
    Kind::nodes("azure_msi", AZURE),
    Kind::nodes(
        "gcp_iit",
        &[
            Name::once("project-id", values::any),
            Name::once("zone", values::any),
            Name::once("instance-name", values::any),
            Name::many("tag", values::any),
            Name::many("sa", values::any),
            Name::many("label", values::pair),
            Name::many("metadata", values::pair),
        ],
    ),
    Kind::nodes("http_challenge", &[Name::once("hostname", values::any)]),
    Kind::nodes(
        "tpm_devid",
        &[
            Name::many("subject", common_name),
            Name::many("issuer", common_name),
            Name::many("fingerprint", values::sha1),
        ],
    ),
];

const AZURE: &[Name] = &[
    Name::once("subscription-id", values::any),
    Name::once("vm-name", values::any),
    Name::once("vmss-name", values::any),
    Name::many("network-security-group", values::any),
    Name::once("resource-group", values::any),
    Name::once("vm-location", values::any),
    Name::many("virtual-network", values::any),
    Name::many("virtual-network-subnet", values::any),
    Name::many("vm-tag", values::pair),
];

fn common_name(value: &str) -> values::Checked {
    match value.strip_prefix("cn:") {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("write cn:NAME, the common name"),
    }
}

fn fingerprint(value: &str) -> values::Checked {
    values::sha1(value.strip_prefix("fingerprint:").ok_or("write fingerprint:HEX")?)
}

fn spiffe_id(value: &str) -> values::Checked {
    value.parse::<spiffe::SpiffeId>().map(|_| ()).map_err(|_| "the value has to be a SPIFFE ID")
}
