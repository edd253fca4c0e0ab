//! Certificates of an infrastructure outside, between Writ and SPIRE: its agent on a Writ server, and Writ's
//! agent on its server.

use integration_tests::daemon::Agent;
use integration_tests::pki::{Kind, Pki};
use integration_tests::spire::{self, Commands, Joining, PATIENCE};
use integration_tests::{eventually, needs};

use crate::own_uid;
use crate::spire_agent::served;
use crate::x509pop::{node_of, nodes, server_of, watch};

#[tokio::test(flavor = "multi_thread")]
async fn spires_own_agent_attests_with_a_certificate_is_renewed_and_comes_back_when_it_was_evicted() {
    let Some(_) = needs::spire("spire-agent") else { return };
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let pki = Pki::new();
        let server = server_of(&pki, "agent_ttl = \"20s\"\n");
        let Some(commands) = Commands::at(server.socket()) else { return };
        let machine = pki.machine("web-1", kind);
        let node = node_of(&machine);
        commands.entry("spiffe://writ.local/web", &node, &own_uid(), &[]);
        let bundle = commands.bundle();
        let joining =
            Joining { trust_domain: "writ.local", address: server.address(), bundle: &bundle, token: "" };
        let Some(agent) = spire::Agent::attest(joining, &machine.spire_agent()) else { return };
        served(&agent, "spiffe://writ.local/web").await;
        let shown = commands.ask(&["agent", "show", "-spiffeID", &node]);
        assert_eq!((&shown["attestation_type"], &shown["can_reattest"]), (&"x509pop".into(), &true.into()));
        let selectors = shown["selectors"].to_string();
        assert!(selectors.contains("subject:cn:web-1"), "{selectors}");

        let serial = || nodes(&server)[0]["serial"].clone();
        let first = serial();
        eventually("its certificate is another one", PATIENCE, || (serial() != first).then_some(()));
        let _ = commands.run(&["agent", "evict", "-spiffeID", &node]).done();
        eventually(&format!("it is back\n{}", agent.log()), PATIENCE, || {
            nodes(&server).iter().any(|back| back["id"] == node.as_str()).then_some(())
        });
        commands.entry("spiffe://writ.local/shop", &node, &own_uid(), &[]);
        served(&agent, "spiffe://writ.local/shop").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writs_agent_attests_at_a_spire_server_with_a_certificate() {
    let pki = Pki::new();
    let plugin = format!("ca_bundle_path = {:?}", pki.authority());
    let Some(server) = spire::Server::start_with_attestor("x509pop", &plugin) else { return };
    for (name, kind) in [("web-1", Kind::Ecdsa), ("web-2", Kind::Rsa)] {
        let machine = pki.machine(name, kind);
        let id = format!("spiffe://writ.local/{name}");
        server.commands.entry(&id, &node_of(&machine), &own_uid(), &[]);
        let agent = Agent::attest_at_spire(&server, &machine.agent());
        watch(&agent, &format!("/{name}")).await;
    }
}
