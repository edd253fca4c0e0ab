//! Nodes as SPIRE's API shows agents.

use proto::spire::types::{Agent, AgentMask};
use registry::objects::{Node, NodeState};

use super::{id, selector};

/// Everything about a node, and what its agent calls its version.
pub fn to_wire(node: &Node, agent_version: String) -> Agent {
    Agent {
        id: Some(id::to_wire(&node.id)),
        attestation_type: node.attestor.clone(),
        x509svid_serial_number: decimal(&node.serial),
        x509svid_expires_at: node.expires_at.unix_seconds(),
        selectors: selector::to_wire(&node.selectors),
        banned: node.state == NodeState::Banned,
        can_reattest: node.can_reattest(),
        agent_version,
    }
}

/// Keeps only what the mask names; without a mask everything stays.
pub fn masked(agent: Agent, mask: Option<&AgentMask>) -> Agent {
    let Some(mask) = mask else { return agent };
    Agent {
        id: agent.id,
        attestation_type: kept(mask.attestation_type, agent.attestation_type),
        x509svid_serial_number: kept(mask.x509svid_serial_number, agent.x509svid_serial_number),
        x509svid_expires_at: kept(mask.x509svid_expires_at, agent.x509svid_expires_at),
        selectors: kept(mask.selectors, agent.selectors),
        banned: kept(mask.banned, agent.banned),
        can_reattest: kept(mask.can_reattest, agent.can_reattest),
        agent_version: kept(mask.agent_version, agent.agent_version),
    }
}

fn kept<T: Default>(keep: bool, value: T) -> T {
    if keep { value } else { T::default() }
}

/// A hexadecimal serial number as SPIRE writes it, in decimal. Text that is no number stays as it is.
fn decimal(hex: &str) -> String {
    if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) || hex.len() > 64 {
        return hex.to_owned();
    }
    // Serial numbers are wider than u128 (20 bytes), so the base is changed digit by digit.
    let mut digits = vec![0_u32];
    for nibble in hex.chars().filter_map(|c| c.to_digit(16)) {
        let mut carry = nibble;
        for digit in &mut digits {
            let value = *digit * 16 + carry;
            *digit = value % 10;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    digits.iter().rev().filter_map(|digit| char::from_digit(*digit, 10)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_shown_in_decimal() {
        assert_eq!(decimal("ff"), "255");
        assert_eq!(decimal("00"), "0");
        assert_eq!(decimal("ffffffffffffffffffffffffffffffff"), u128::MAX.to_string());
        assert_eq!(decimal("0100000000000000000000000000000000"), "340282366920938463463374607431768211456");
        assert_eq!(decimal("xyz"), "xyz");
    }

    #[test]
    fn a_mask_keeps_what_it_names_and_the_id() {
        let agent = Agent {
            id: Some(proto::spire::types::Spiffeid { trust_domain: "t".into(), path: "/p".into() }),
            attestation_type: "join_token".into(),
            banned: true,
            ..Agent::default()
        };
        assert_eq!(masked(agent.clone(), None), agent);
        let shown = masked(agent.clone(), Some(&AgentMask { banned: true, ..AgentMask::default() }));
        assert_eq!(shown, Agent { id: agent.id, banned: true, ..Agent::default() });
    }
}
