//! Compiling what was pushed. Only texts that changed are parsed again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cedar_policy::{EntityUid, PolicyId};
use registry::{
    objects::{self, Layer, Sha256, TenantName},
    scope::ResourceName,
};

use super::{
    rule::{self, Rule},
    schema::{DEFAULTS, DEFAULTS_NAME},
    slices::Slices,
    split::split,
};

/// All policies, ready to decide. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    layers: HashMap<Layer, Arc<Compiled>>,
    parsed: Parsed,
    version: Option<Sha256>,
}

/// One layer's policies.
#[derive(Debug)]
pub(crate) struct Compiled {
    texts: Sha256,
    pub(crate) slices: Slices,
    /// A layer with one of these decides nothing: it denies.
    pub(crate) faults: Vec<Fault>,
}

/// What is wrong with a text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("policy {policy}: {why}")]
pub struct Fault {
    /// The text's name and the policy's place in it.
    pub policy: String,
    /// What to mend.
    pub why: String,
}

/// Whose an actor or a resource is, for the check of who a tenant's policies name.
pub trait Owners {
    /// The tenant of an actor; `None` where there is no such actor.
    fn of_actor(&self, id: &str) -> Option<TenantName>;
    /// The tenant of a resource; `None` where there is no such resource.
    fn of_resource(&self, name: &ResourceName) -> Option<TenantName>;
}

/// Everything that is wrong with one text, as whoever pushes it must know.
pub fn check(policy: &objects::Policy, owners: &impl Owners) -> Vec<Fault> {
    let (rules, mut faults) = read(&[policy], &HashMap::new(), &mut HashMap::new());
    for (name, rule) in rules {
        let owner = match &policy.id.layer {
            Layer::Platform => None,
            Layer::Actor(own) => rule::principal(&rule.policy).and_then(|uid| foreign(&uid, own, owners)),
            Layer::Resource(own) => rule::resource(&rule.policy).and_then(|uid| foreign(&uid, own, owners)),
        };
        faults.extend(owner.map(|why| Fault { policy: name, why }));
    }
    faults
}

impl Policies {
    /// Compiles these texts; what `before` parsed already is taken over. A text with a fault makes its whole
    /// layer deny, so a push is [`check`]ed before it is accepted.
    pub fn compile<'a>(texts: impl IntoIterator<Item = &'a objects::Policy>, before: &Self) -> Self {
        let defaults = objects::Policy {
            id: DEFAULTS_NAME.parse().expect("this is a policy's name"),
            text: DEFAULTS.to_owned(),
            lowers: objects::Lowers::default(),
            pushed_at: spiffe::Timestamp::default(),
        };
        let mut by_layer: HashMap<Layer, Vec<&objects::Policy>> = HashMap::new();
        for text in texts {
            by_layer.entry(text.id.layer.clone()).or_default().push(text);
        }
        let platform = by_layer.entry(Layer::Platform).or_default();
        if !platform.iter().any(|text| text.id == defaults.id) {
            platform.push(&defaults);
        }
        let mut compiled = Self::default();
        let mut versions = Vec::new();
        for (layer, mut texts) in by_layer {
            texts.sort_by(|a, b| a.id.cmp(&b.id));
            let digest = digest(&texts);
            versions.push(digest.0);
            let known = before.layers.get(&layer).filter(|known| known.texts == digest);
            let layer_now = match known {
                Some(known) => {
                    let parsed = before.parsed.iter().filter(|((of, _), _)| *of == layer);
                    compiled.parsed.extend(parsed.map(|(key, rule)| (key.clone(), Arc::clone(rule))));
                    Arc::clone(known)
                }
                None => {
                    let (rules, faults) = read(&texts, &before.parsed, &mut compiled.parsed);
                    let named = rules
                        .into_iter()
                        .map(|(name, rule)| (rule.policy.new_id(PolicyId::new(name)), rule.mentions));
                    Arc::new(Compiled { texts: digest, slices: Slices::of(named.collect()), faults })
                }
            };
            compiled.layers.insert(layer, layer_now);
        }
        versions.sort_unstable();
        compiled.version = Some(Sha256::of(&versions.concat()));
        compiled
    }

    /// Names exactly these texts: equal wherever they are the same.
    pub fn version(&self) -> String {
        self.version.map(|version| hex::encode(&version.0[..8])).unwrap_or_default()
    }

    /// Everything that makes a layer deny.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.layers.values().flat_map(|layer| &layer.faults)
    }

    /// How many policies there are, the platform's defaults included.
    pub fn len(&self) -> usize {
        self.layers.values().map(|layer| layer.slices.len()).sum()
    }

    /// Whether there is none, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn layer(&self, layer: &Layer) -> Option<&Compiled> {
        self.layers.get(layer).map(Arc::as_ref)
    }
}

/// What became of each text that was parsed.
type Parsed = HashMap<(Layer, Sha256), Arc<Result<Rule, Vec<String>>>>;

/// The rules of one layer's texts under the names that diagnostics show: the author's `@id`, else the text's
/// name and the policy's place in it.
fn read(
    texts: &[&objects::Policy],
    before: &Parsed,
    parsed: &mut Parsed,
) -> (Vec<(String, Rule)>, Vec<Fault>) {
    let (mut rules, mut faults, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for text in texts {
        for (place, part) in split(&text.text).into_iter().enumerate() {
            let place = format!("{}#{}", text.id, place + 1);
            let key = (text.id.layer.clone(), Sha256::of(part.as_bytes()));
            let known = before.get(&key).or_else(|| parsed.get(&key)).cloned();
            let rule = known.unwrap_or_else(|| Arc::new(Rule::parse(part, &text.id.layer)));
            parsed.insert(key, Arc::clone(&rule));
            match rule.as_ref() {
                Ok(rule) => {
                    let name = rule.id.clone().unwrap_or_else(|| place.clone());
                    if names.insert(name.clone()) {
                        rules.push((name, rule.clone()));
                    } else {
                        let why =
                            format!("another policy of this layer has the @id {name:?} too; rename one");
                        faults.push(Fault { policy: place, why });
                    }
                }
                Err(whys) => {
                    faults.extend(whys.iter().map(|why| Fault { policy: place.clone(), why: why.clone() }))
                }
            }
        }
    }
    (rules, faults)
}

fn digest(texts: &[&objects::Policy]) -> Sha256 {
    let mut all = Vec::new();
    for text in texts {
        all.extend_from_slice(text.id.to_string().as_bytes());
        all.extend_from_slice(&Sha256::of(text.text.as_bytes()).0);
    }
    Sha256::of(&all)
}

/// What is wrong where a policy of `own` names an actor or a resource of somebody else.
fn foreign(named: &EntityUid, own: &TenantName, owners: &impl Owners) -> Option<String> {
    let id: &str = named.id().as_ref();
    let resource = |name: &str| owners.of_resource(&name.split('/').next()?.parse().ok()?);
    let owner = match named.type_name().to_string().as_str() {
        "Writ::Actor" => owners.of_actor(id),
        "Writ::Resource" | "Writ::Tool" => resource(id),
        _ => None,
    };
    let owner = owner.filter(|owner| owner != own)?;
    Some(format!("it names {named}, which belongs to {owner}; policies of {own} name only its own"))
}
