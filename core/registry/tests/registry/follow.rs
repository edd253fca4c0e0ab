//! For all histories: `view(from) + delta = view(to)`, and a node's delta never holds what its view
//! does not. Views are compared with a second, naive reading of the rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{any_node, entry_with, id};
use proptest::prelude::*;
use registry::{
    Author, Change, Commit, Follow, Key, LogId, Object, Registry, Revision, Settings, Stored,
    objects::{Bundle, Entry, Node, NodeState, Sha256, TenantName, well_known},
};
use serde_json::json;
use spiffe::{Selector, SpiffeId, Timestamp, bundle};

const NODES: usize = 4;
const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

#[derive(Clone, Debug)]
enum Step {
    PutEntry { name: usize, spiffe_id: usize, parent: usize, selectors: u8, ttl: u8, federates: u8 },
    DeleteEntry { name: usize },
    PutNode { node: usize, selectors: u8, serial: u8, state: u8 },
    DeleteNode { node: usize },
    PutBundle { sequence: u64, whose: usize },
    DeleteBundle { whose: usize },
    Govern { what: usize, tenant: usize, whose: usize, stays: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let entry = (0..10_usize, 0..5_usize, 0..11_usize, 1..8_u8, 0..3_u8, 0..4_u8);
    prop_oneof![
        8 => entry.prop_map(|(name, spiffe_id, parent, selectors, ttl, federates)| {
            Step::PutEntry { name, spiffe_id, parent, selectors, ttl, federates }
        }),
        3 => (0..10_usize).prop_map(|name| Step::DeleteEntry { name }),
        3 => (0..NODES, 0..8_u8, 0..3_u8, 0..4_u8).prop_map(|(node, selectors, serial, state)| {
            Step::PutNode { node, selectors, serial, state }
        }),
        1 => (0..NODES).prop_map(|node| Step::DeleteNode { node }),
        2 => (1..9_u64, 0..3_usize).prop_map(|(sequence, whose)| Step::PutBundle { sequence, whose }),
        1 => (0..3_usize).prop_map(|whose| Step::DeleteBundle { whose }),
        8 => (0..6_usize, 0..3_usize, 0..5_usize, 0..4_u8).prop_map(|(what, tenant, whose, stays)| {
            Step::Govern { what, tenant, whose, stays: stays > 0 }
        }),
    ]
}

/// The server's own trust domain, and two with which entries may federate.
const DOMAINS: [&str; 3] = ["acme.example", "one.example", "two.example"];

fn node_id(node: usize) -> SpiffeId {
    id(&format!("/spire/agent/join_token/n{node}"))
}

/// Parents of every kind, and IDs that other entries give, so that chains and circles arise.
fn parent(number: usize) -> SpiffeId {
    match number {
        0 => any_node(),
        1 | 2 => id("/spire/server"),
        3..=6 => node_id(number - 3),
        given => given_id(given - 7),
    }
}

fn given_id(number: usize) -> SpiffeId {
    id(&format!("/s{number}"))
}

fn selectors(bits: u8) -> BTreeSet<Selector> {
    let names = ["t:a", "t:b", "t:c"].into_iter().enumerate();
    names.filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, text)| text.parse().unwrap()).collect()
}

/// What the log says, without any index.
type Objects = BTreeMap<Key, Stored>;

fn change(step: &Step, objects: &Objects) -> Option<Change> {
    let put = |object: Object| {
        let version = objects.get(&object.key()).map_or(0, |stored| stored.version) + 1;
        Some(Change::Put { version, object })
    };
    let delete = |key: Key| objects.contains_key(&key).then_some(Change::Delete(key));
    match step {
        Step::PutEntry { name, spiffe_id, parent: above, selectors: bits, ttl, federates } => {
            let others =
                (1..3_u8).filter(|n| federates & n != 0).map(|n| DOMAINS[usize::from(n)]).collect::<Vec<_>>();
            let fields = json!({
                "selectors": selectors(*bits), "x509_svid_ttl": ttl, "federates_with": others,
            });
            let path = given_id(*spiffe_id).path().to_owned();
            put(entry_with(&format!("e{name}"), &path, &parent(*above), fields).into())
        }
        Step::DeleteEntry { name } => delete(Key::Entry(format!("e{name}").parse().unwrap())),
        Step::PutNode { node, selectors: bits, serial, state } => put(Node {
            id: node_id(*node),
            attestor: "join_token".to_owned(),
            replaced_keys: vec![],
            environment: None,
            selectors: selectors(*bits),
            key_sha256: Sha256::of(b"key"),
            serial: format!("0{serial}"),
            serial_since: None,
            next_serial: None,
            next_key_sha256: None,
            expires_at: NOW,
            attested_at: NOW,
            state: match state {
                0 => NodeState::Banned,
                1 => NodeState::Joining,
                2 => NodeState::Fenced,
                _ => NodeState::Active,
            },
        }
        .into()),
        Step::Govern { what, tenant, whose, stays } => {
            let object = governed(*what, *tenant, *whose);
            if *stays { put(object) } else { delete(object.key()) }
        }
        Step::DeleteNode { node } => delete(Key::Node(node_id(*node))),
        Step::DeleteBundle { whose } => delete(Key::Bundle(DOMAINS[*whose].parse().unwrap())),
        Step::PutBundle { sequence, whose } => {
            let empty = bundle::Bundle::empty(DOMAINS[*whose].parse().unwrap());
            put(Bundle::new(bundle::Bundle { sequence: Some(*sequence), ..empty }).unwrap().into())
        }
    }
}

/// Something that a tenant owns; a policy of the third one is the platform's.
fn governed(what: usize, tenant: usize, whose: usize) -> Object {
    let owner = format!("t{tenant}");
    let created_at = "2026-01-01T00:00:00Z";
    let (key, body) = match what {
        0 => (format!("tenant/{owner}"), json!({ "name": owner, "created_at": created_at })),
        1 => {
            let id = given_id(whose);
            let body = json!({
                "id": id, "tenant": owner, "owner": "o", "purpose": "p", "autonomy": 1,
                "ceiling": { "scope": [] }, "review_at": created_at, "created_at": created_at,
            });
            (format!("actor/{id}"), body)
        }
        2 => {
            let name = format!("r{whose}");
            let body = json!({
                "name": name, "tenant": owner, "enforcement_points": [given_id(whose), given_id((whose + 1) % 5)],
                "tools": {}, "created_at": created_at,
            });
            (format!("resource/{name}"), body)
        }
        3 => {
            let name = format!("m{whose}");
            (format!("mandate/{name}"), json!({ "name": name, "tenant": owner, "created_at": created_at }))
        }
        4 => {
            let id =
                if tenant == 2 { format!("platform/p{whose}") } else { format!("actor/{owner}/p{whose}") };
            (format!("policy/{id}"), json!({ "id": id, "text": "", "pushed_at": created_at }))
        }
        _ => {
            let id = format!("0123456789ABCDEFGHJKMNPQ{whose}{whose}");
            let body = json!({
                "id": id, "actor": given_id(whose), "tenant": owner, "mandate": "m", "mandate_version": 1,
                "purpose": "p", "home": node_id(0), "environment": "e", "beginner": "itself", "root": id,
                "depth": 0, "depth_left": 0, "scope": [], "data_max": 0, "tier": 0, "isolation": "process",
                "egress": "open", "budget": { "actions": 1, "denials": 1, "children": 1 },
                "asked_sha256": Sha256::of(b"asked"), "began_at": created_at, "expires_at": created_at, "state": { "is": "active" },
            });
            (format!("task/{id}"), body)
        }
    };
    Object::from_json(&key.parse().unwrap(), body.to_string().as_bytes()).unwrap()
}

/// The rule as it is written down, evaluated by trying every entry again until nothing is added.
fn naive_view(objects: &Objects, node: &SpiffeId) -> Option<Objects> {
    let Object::Node(seat) = &objects.get(&Key::Node(node.clone()))?.object else { return None };
    if matches!(seat.state, NodeState::Banned | NodeState::Fenced) {
        return None;
    }
    let entries: Vec<&Entry> = objects
        .values()
        .filter_map(|stored| match &stored.object {
            Object::Entry(entry) => Some(&**entry),
            _ => None,
        })
        .collect();
    let server = well_known::server(&"acme.example".parse().unwrap());
    let mut answered = BTreeSet::from([node.clone(), any_node()]);
    for alias in entries.iter().filter(|entry| entry.parent_id == server) {
        if alias.selectors.is_subset(&seat.selectors) {
            answered.insert(alias.spiffe_id.clone());
        }
    }
    loop {
        let under = entries.iter().filter(|entry| answered.contains(&entry.parent_id));
        let more: Vec<SpiffeId> = under.map(|entry| entry.spiffe_id.clone()).collect();
        let before = answered.len();
        answered.extend(more);
        if answered.len() == before {
            break;
        }
    }
    let federates = |name: &str| {
        let in_view = entries.iter().filter(|entry| answered.contains(&entry.parent_id));
        in_view.flat_map(|entry| &entry.federates_with).any(|trust_domain| trust_domain.as_str() == name)
    };
    let is_placed = |id: &SpiffeId| {
        entries.iter().any(|entry| answered.contains(&entry.parent_id) && entry.spiffe_id == *id)
    };
    let tenants: BTreeSet<TenantName> = objects
        .values()
        .filter_map(|stored| match &stored.object {
            Object::Actor(actor) => is_placed(&actor.id).then(|| actor.tenant.clone()),
            Object::Resource(resource) => {
                resource.enforcement_points.iter().any(is_placed).then(|| resource.tenant.clone())
            }
            _ => None,
        })
        .collect();
    let in_view = |stored: &Stored| match &stored.object {
        Object::Entry(entry) => answered.contains(&entry.parent_id),
        Object::Node(other) => other.id == *node,
        Object::Bundle(bundle) => {
            let name = bundle.trust_domain().as_str();
            name == DOMAINS[0] || federates(name)
        }
        Object::Tenant(tenant) => tenants.contains(&tenant.name),
        Object::Actor(actor) => tenants.contains(&actor.tenant),
        Object::Mandate(mandate) => tenants.contains(&mandate.tenant),
        Object::Resource(resource) => tenants.contains(&resource.tenant),
        Object::Policy(policy) => policy.id.layer.tenant().is_none_or(|tenant| tenants.contains(tenant)),
        Object::Task(task) => tenants.contains(&task.tenant),
        Object::Token(_) | Object::Authority(_) | Object::Proof(_) => false,
    };
    Some(objects.iter().filter(|(_, stored)| in_view(stored)).map(|(k, s)| (k.clone(), s.clone())).collect())
}

fn as_map(stored: Vec<Stored>) -> Objects {
    let count = stored.len();
    let map: Objects = stored.into_iter().map(|stored| (stored.object.key(), stored)).collect();
    assert_eq!(map.len(), count, "an object is there twice");
    map
}

/// The views of all nodes at each revision.
type Views = Vec<[Option<Objects>; NODES]>;

fn play(history: &[Vec<Step>]) -> (Registry, Views) {
    let mut registry = Registry::new(Settings::new("acme.example".parse().unwrap()), LogId("log".to_owned()));
    let mut objects = Objects::new();
    let mut views: Views = vec![Default::default()];
    for steps in history {
        let mut changes = Vec::new();
        for step in steps {
            let Some(change) = change(step, &objects) else { continue };
            match &change {
                Change::Put { version, object } => {
                    objects.insert(object.key(), Stored { version: *version, object: object.clone() });
                }
                Change::Delete(key) => drop(objects.remove(key)),
            }
            changes.push(change);
        }
        let revision = registry.revision().next();
        let commit = Commit { revision, at: NOW, author: Author::Server, changes, leaf: Vec::new() };
        let touched = registry.apply(&commit).unwrap();
        let now: [Option<Objects>; NODES] = std::array::from_fn(|node| naive_view(&objects, &node_id(node)));
        for (node, (before, after)) in views.last().unwrap().iter().zip(&now).enumerate() {
            assert!(
                before == after || touched.concerns(&node_id(node)),
                "{revision:?} does not wake node {node}"
            );
            assert!(!touched.concerns(&node_id(node)) || touched.audience().has(&node_id(node)));
        }
        views.push(now);
        check_now(&registry, &objects, views.last().unwrap());
    }
    (registry, views)
}

/// The registry's answers about this moment are those of the naive reading.
fn check_now(registry: &Registry, objects: &Objects, views: &[Option<Objects>; NODES]) {
    for (node, expected) in views.iter().enumerate() {
        let node = node_id(node);
        let view = registry.view(&node).map(|snapshot| as_map(snapshot.objects));
        assert_eq!(&view, expected);
        for key in objects.keys() {
            let (Key::Entry(name), Some(Object::Entry(entry))) = (key, objects.get(key).map(|s| &s.object))
            else {
                continue;
            };
            let is_in_view = expected.as_ref().is_some_and(|view| view.contains_key(key));
            assert_eq!(registry.in_view(&node, name, NOW).is_some(), is_in_view);
            let answers = registry.nodes_of(&entry.parent_id).has(&node) && expected.is_some();
            assert_eq!(answers, is_in_view, "{node} and {}", entry.parent_id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_view_and_its_delta_are_the_next_view(
        history in prop::collection::vec(prop::collection::vec(step(), 0..4), 1..25)
    ) {
        let (registry, views) = play(&history);
        let last = views.last().unwrap();
        for (from, then) in views.iter().enumerate() {
            for node in 0..NODES {
                let from = Revision(from as u64);
                match registry.diff(&node_id(node), registry.log(), from) {
                    Follow::NoView => prop_assert!(last[node].is_none()),
                    Follow::UpToDate => prop_assert_eq!(from, registry.revision()),
                    Follow::Snapshot(snapshot) => {
                        prop_assert_eq!(Some(as_map(snapshot.objects)), last[node].clone());
                    }
                    Follow::Delta(delta) => {
                        prop_assert_eq!((delta.from, delta.to), (from, registry.revision()));
                        let mut view = then[node].clone().expect("only a view can be followed");
                        for key in &delta.gone {
                            prop_assert!(view.remove(key).is_some(), "{} was never in view", key);
                        }
                        view.extend(as_map(delta.put));
                        prop_assert_eq!(Some(view), last[node].clone());
                    }
                }
            }
        }
    }

    /// Loading the objects gives the registry that applying the commits gave.
    #[test]
    fn a_registry_restored_from_its_objects_gives_the_same_views(
        history in prop::collection::vec(prop::collection::vec(step(), 0..4), 1..25)
    ) {
        let (registry, views) = play(&history);
        let keys = registry.entries().map(Stored::from).chain(registry.nodes().map(Stored::from));
        let objects = keys.chain(registry.bundles().map(Stored::from));
        let objects = objects.chain(registry.tenants().map(Stored::from));
        let objects = objects.chain(registry.actors().map(Stored::from));
        let objects = objects.chain(registry.resources().map(Stored::from));
        let objects = objects.chain(registry.mandates().map(Stored::from));
        let objects = objects.chain(registry.policies().map(Stored::from));
        let objects = objects.chain(registry.tasks().map(Stored::from));
        let log = registry.log().clone();
        let restored = Registry::restore(registry.settings().clone(), log, registry.revision(), objects);
        for (node, expected) in views.last().unwrap().iter().enumerate() {
            let view = restored.view(&node_id(node)).map(|snapshot| as_map(snapshot.objects));
            prop_assert_eq!(&view, expected);
            match restored.diff(&node_id(node), restored.log(), restored.revision()) {
                Follow::NoView => prop_assert!(expected.is_none()),
                followed => prop_assert_eq!(followed, Follow::UpToDate),
            }
        }
    }
}
