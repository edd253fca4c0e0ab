use cedar_policy::{Entities, Request};
use registry::scope::{Effect, Tier};
use serde_json::json;

use super::{Done, Moment, action, arguments, context, task};
use crate::{
    Claimed,
    policy::schema,
    testing::{Good, NOW, call, chain, grant, id, policy, world},
};

/// What is published and what is made must be the same: Cedar checks entities, context and request.
#[test]
fn whatever_policies_see_is_what_the_schema_says() {
    let (world, good, chain) = (world(), Good::default(), chain());
    let call = call(
        "files/write",
        json!({ "path": "/a", "n": 3, "list": ["x", 1], "odd": [{}], "o": {}, "t": true }),
    )
    .claimed(Claimed { confidence: Some(10), note: Some("because".into()) })
    .unwrap();
    let label = registry::scope::Label {
        confidentiality: 2.try_into().unwrap(),
        categories: ["pay".parse().unwrap()].into(),
        sources: ["mail".parse().unwrap()].into(),
    };
    let done = Done { reads: 1, changes: 2, denials: 3, effects: [Effect::Read, Effect::Net].into() };
    let situation = good.situation();
    let mut params = grant(1, None);
    params.params = [("customer".parse().unwrap(), registry::scope::Scalar::Text("c-17".into()))].into();
    let task = task(&params);
    for effect in
        [Effect::Read, Effect::Write, Effect::Delete, Effect::Net, Effect::Lease, Effect::Exec, Effect::Pay]
    {
        let moment = Moment {
            call: &call,
            effect,
            tier: Tier::T1,
            cross_tenant: false,
            label: &label,
            result: &label,
            situation: &situation,
            now: NOW,
            depth: 0,
            done: &done,
        };
        let action = action(effect);
        let guarded = world.guarded(&"files".parse().unwrap()).unwrap();
        let (_, callable) = guarded.tool(call.tool()).unwrap();
        let tool = &callable.known;
        let (_, actor) = world.actor(&chain.grant(&id(1)).unwrap().actor).unwrap();
        let (_, tenant) = world.tenant(&"acme".parse().unwrap()).unwrap();
        for approved in [None, Some("ann")] {
            let uids = [&task, &action, tool].map(|known| known.lineage.uid.clone());
            let [principal, action, resource] = uids;
            let context = context(&moment, |_| true, approved);
            Request::new(principal, action, resource, context, Some(schema())).unwrap();
        }
        let known = [&task, &action, tool, actor, tenant, &guarded.known].map(|known| known.entity.clone());
        let entities = known.into_iter().chain(arguments(call.arguments()));
        Entities::from_entities(entities, Some(schema())).unwrap();
    }
}

#[test]
fn the_weekday_and_the_hour_are_those_of_utc() {
    let at =
        |text: &str| crate::Now { wall: spiffe::Timestamp::parse_rfc3339(text).unwrap(), boot: NOW.boot };
    let mut world = world();
    let permit =
        "permit(principal, action, resource) when { context.time.weekday == 7 && context.time.hour == 23 };";
    world.put(&policy("actor/acme/all", permit));
    world.settle();
    for (text, permitted) in [
        ("2026-11-29T23:59:59Z", true), // a Sunday
        ("2026-11-30T00:00:00Z", false),
        ("2026-11-29T22:59:59Z", false),
    ] {
        let verdict = crate::judge(
            &mut chain(),
            &id(1),
            &world,
            &Good::default().situation(),
            &call("files/read", json!({})),
            at(text),
        );
        assert_eq!(verdict.code().is_none(), permitted, "{text} {:?}", verdict.decision);
    }
}
