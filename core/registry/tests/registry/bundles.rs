//! Bundles of other trust domains: kept by hand, and in the views of those who federate.

use registry::{
    Key, Object, Refusal,
    decide::{
        bundle::{BundlePatch, DeleteBundles, Federating, PutBundles, UpdateBundles},
        entry::{Effect, UpdateEntries},
    },
    objects::EntryPatch,
};
use serde_json::json;
use spiffe::{SpiffeId, TrustDomain, bundle::Bundle};

use crate::support::{World, entry, entry_id, entry_with};

fn other() -> TrustDomain {
    "other.example".parse().unwrap()
}

fn bundle(sequence: u64) -> Bundle {
    Bundle { sequence: Some(sequence), ..Bundle::empty(other()) }
}

fn set(world: &mut World, bundle: Bundle, replace: bool) -> Result<u64, Refusal> {
    let mut outcomes = world.run(PutBundles { bundles: vec![bundle], replace });
    outcomes.remove(0).map(|bundle| bundle.version)
}

fn delete(world: &mut World, entries: Federating) -> Result<(), Refusal> {
    let mut outcomes = world.run(DeleteBundles { trust_domains: vec![other()], entries });
    outcomes.remove(0).map(drop)
}

/// Whether the node's view has the foreign bundle.
fn sees(world: &World, node: &SpiffeId) -> bool {
    let view = world.registry.view(node).unwrap().objects;
    view.iter().any(|stored| matches!(&stored.object, Object::Bundle(b) if *b.trust_domain() == other()))
}

#[test]
fn a_bundle_is_created_once_replaced_at_will_and_the_same_again_is_no_change() {
    let mut world = World::new();
    assert_eq!(set(&mut world, bundle(1), false), Ok(1));
    assert!(matches!(set(&mut world, bundle(2), false), Err(Refusal::AlreadyExists(_))));
    assert_eq!(set(&mut world, bundle(2), true), Ok(2));
    let commits = world.log.len();
    assert_eq!(set(&mut world, bundle(2), true), Ok(2));
    assert_eq!(world.log.len(), commits);
}

#[test]
fn the_servers_own_bundle_is_nobodys_to_set_or_delete() {
    let mut world = World::new();
    let own: TrustDomain = "acme.example".parse().unwrap();
    let refused =
        world.run(PutBundles { bundles: vec![Bundle::empty(own.clone()), bundle(1)], replace: true });
    assert!(matches!(refused[0], Err(Refusal::Invalid(_))) && refused[1].is_ok());
    let refused = world.run(DeleteBundles { trust_domains: vec![own], entries: Federating::Delete });
    assert!(matches!(refused[0], Err(Refusal::Invalid(_))));
}

#[test]
fn an_update_changes_the_parts_that_it_names() {
    let mut world = World::new();
    let patch = |hint| BundlePatch {
        bundle: Bundle { refresh_hint: Some(hint), ..bundle(9) },
        x509_authorities: false,
        jwt_authorities: false,
        refresh_hint: true,
        sequence: false,
    };
    let missing = world.run(UpdateBundles { updates: vec![patch(60)] });
    assert!(matches!(missing[0], Err(Refusal::NotFound(_))));
    set(&mut world, bundle(1), false).unwrap();
    let updated = world.run(UpdateBundles { updates: vec![patch(60)] }).remove(0).unwrap();
    assert_eq!(*updated.authorities(), Bundle { refresh_hint: Some(60), ..bundle(1) });
}

#[test]
fn a_foreign_bundle_is_in_view_where_an_entry_federates_with_it_and_nowhere_else() {
    let mut world = World::new();
    let (near, far) = (world.join("near"), world.join("far"));
    let federating =
        |name: &str| entry_with(name, "/w", &near, json!({ "federates_with": ["other.example"] }));
    let refused = world.create(federating("e")).result.unwrap_err();
    assert!(matches!(refused, Refusal::Precondition(_)), "{refused}");
    set(&mut world, bundle(1), false).unwrap();
    assert!(!sees(&world, &near));
    assert_eq!(world.create(federating("e")).result, Ok(Effect::Created));
    assert!(sees(&world, &near) && !sees(&world, &far));
    let before = world.registry.revision();
    set(&mut world, bundle(2), true).unwrap();
    let touched = world.registry.touched_since(before).unwrap().next().unwrap();
    assert!(touched.concerns(&near) && !touched.concerns(&far));
    let patch = EntryPatch { federates_with: Some(Default::default()), ..EntryPatch::default() };
    world.run(UpdateEntries { updates: vec![(entry_id("e"), patch)] });
    assert!(!sees(&world, &near));
}

#[test]
fn what_becomes_of_entries_of_a_deleted_bundle_is_said_by_who_deletes_it() {
    let mut world = World::new();
    let node = world.join("n");
    set(&mut world, bundle(1), false).unwrap();
    world.create(entry_with("e", "/w", &node, json!({ "federates_with": ["other.example"] })));
    world.create(entry("f", "/v", &node));
    let refusal = delete(&mut world, Federating::Forbid).unwrap_err();
    assert_eq!(refusal.to_string(), "cannot delete bundle; federated with 1 registration entries");
    assert!(sees(&world, &node));

    delete(&mut world, Federating::Dissociate).unwrap();
    assert!(!sees(&world, &node));
    assert!(world.registry.entry(&entry_id("e")).unwrap().federates_with.is_empty());
    assert!(matches!(delete(&mut world, Federating::Dissociate), Err(Refusal::NotFound(_))));

    set(&mut world, bundle(1), false).unwrap();
    let patch = EntryPatch { federates_with: Some([other()].into()), ..EntryPatch::default() };
    world.run(UpdateEntries { updates: vec![(entry_id("e"), patch)] });
    delete(&mut world, Federating::Delete).unwrap();
    assert!(world.registry.object(&Key::Entry(entry_id("e"))).is_none());
    assert_eq!(world.entries_of(&node), ["f"]);
    assert_eq!(world.last_record()["facts"]["entries"], json!(["entry/e"]));
}
