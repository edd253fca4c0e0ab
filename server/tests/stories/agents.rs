//! What SPIRE's API shows of agents.

use proto::spire::{
    server::agent::v1::{GetAgentRequest, PostStatusRequest, agent_client::AgentClient},
    types::{AgentMask, Spiffeid},
};
use server_api::connect::connect_private;

use crate::support::Host;

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_calls_its_version_is_shown_of_writs_agents_and_of_spires() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let mut admin = AgentClient::new(connect_private(&host.serving.socket).await.unwrap());
    let id = agent.id();
    let id = Spiffeid { trust_domain: id.trust_domain_name().to_owned(), path: id.path().to_owned() };
    let asked = |output_mask| GetAgentRequest { id: Some(id.clone()), output_mask };
    let before = admin.get_agent(asked(None)).await.unwrap().into_inner();
    assert_eq!(before.agent_version, "", "it has not said it");

    let mut spires = AgentClient::new(agent.channel().await);
    let said =
        |version: &str| PostStatusRequest { agent_version: version.to_owned(), current_bundle_serial: 0 };
    spires.post_status(said("1.15.3")).await.unwrap();
    spires.post_status(said("a version\nthat is none")).await.unwrap();
    let after = admin.get_agent(asked(None)).await.unwrap().into_inner();
    assert_eq!(after.agent_version, "1.15.3");
    let masked = AgentMask { banned: true, ..AgentMask::default() };
    let masked = admin.get_agent(asked(Some(masked))).await.unwrap().into_inner();
    assert_eq!(masked.agent_version, "");

    let _following = agent.node().await.follow(None, None).await.unwrap();
    let after = admin.get_agent(asked(None)).await.unwrap().into_inner();
    assert_eq!(after.agent_version, env!("CARGO_PKG_VERSION"));
    host.stop().await;
}
