//! Cedar's public corpus, all of it, through the slices: what Cedar's authors say is what we say.

use std::{
    env, fs,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use cedar_policy::{Authorizer, Context, Request};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Mentions,
    bare::{Bare, Read},
};

#[derive(Deserialize)]
struct Case {
    policies: String,
    entities: String,
    schema: String,
    requests: Vec<Asked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    description: String,
    principal: Uid,
    action: Uid,
    resource: Uid,
    context: Box<RawValue>,
    decision: String,
    reason: Vec<String>,
    errors: Vec<String>,
}

#[derive(Deserialize)]
struct Uid {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// So many cases and requests does the corpus have; with fewer, something was lost on the way.
const SIZE: [usize; 2] = [7_750, 62_000];

#[test]
fn the_public_corpus_is_decided_as_its_authors_say_and_slicing_changes_nothing() {
    let Some(folder) = corpus() else { return };
    let names = fs::read_dir(folder.join("corpus-tests")).unwrap().map(|entry| entry.unwrap().path());
    let is_case = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".json") && !name.ends_with(".entities.json")
    };
    let mut cases: Vec<_> = names.filter(is_case).collect();
    cases.sort();
    let requests = AtomicUsize::new(0);
    thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(4).max(1)) {
            let (folder, requests) = (&folder, &requests);
            scope.spawn(move || {
                for case in part {
                    requests.fetch_add(decide(folder, case), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!([cases.len(), requests.into_inner()], SIZE);
}

fn decide(folder: &Path, case: &Path) -> usize {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let Case { policies, entities, schema, requests } =
        serde_json::from_str(&fs::read_to_string(case).unwrap()).unwrap();
    let world = Read::parse(&read(&policies), Some(&read(&schema)), &read(&entities))
        .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    for asked in &requests {
        let about = [&asked.principal, &asked.action, &asked.resource]
            .map(|uid| (uid.kind.as_str(), uid.id.as_str()));
        let place = || format!("{}, {}", case.display(), asked.description);
        let bare =
            world.decide(about, asked.context.get()).unwrap_or_else(|error| panic!("{}: {error}", place()));
        let sorted = |ids: &[String]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        let expected = Bare {
            allow: asked.decision == "allow",
            reasons: sorted(&asked.reason),
            errors: sorted(&asked.errors),
        };
        assert_eq!(bare, expected, "{}", place());
        let (request, _) = world.request(about, asked.context.get()).unwrap();
        let whole = Authorizer::new().is_authorized(&request, &world.policies, &world.entities);
        assert_eq!(bare, Bare::of(&whole), "{}, without slicing", place());
        let mentioned = Authorizer::new().is_authorized(
            &world.with_what_is_mentioned(&request),
            &world.policies,
            &world.entities,
        );
        assert_eq!(bare, Bare::of(&mentioned), "{}, without what no policy mentions", place());
    }
    requests.len()
}

impl Read {
    /// The same request, without what no policy could look at.
    fn with_what_is_mentioned(&self, request: &Request) -> Request {
        let mut mentions = Mentions::default();
        self.policies.policies().for_each(|policy| mentions.join(&Mentions::of(&policy.to_json().unwrap())));
        let context = request.context().unwrap().clone().into_iter();
        let context = Context::from_pairs(context.filter(|(name, _)| mentions.include(name))).unwrap();
        let uids = [request.principal(), request.action(), request.resource()];
        let [principal, action, resource] = uids.map(|uid| uid.unwrap().clone());
        Request::new(principal, action, resource, context, None).unwrap()
    }
}

/// Where `cargo xtask test tools` put it; in CI it must be there.
fn corpus() -> Option<PathBuf> {
    let this = env::current_exe().unwrap();
    let target = this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let folder = target.expect("tests are run from cargo's target directory").join("corpora/cedar");
    if folder.join("version").exists() {
        return Some(folder);
    }
    let enable = "cargo xtask test tools (it needs Go)";
    assert!(env::var("CI").as_deref() != Ok("true"), "Cedar's corpus is not there; run {enable}");
    if let Some(notes) = env::var_os("WRIT_NOT_RUN") {
        let mut notes = OpenOptions::new().append(true).create(true).open(notes).unwrap();
        writeln!(notes, "the public corpus of Cedar's tests\t{enable}").unwrap();
    }
    None
}
