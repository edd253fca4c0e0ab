//! What an engine says of a container, read strictly. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Evidence, Fact, Strength, Wanted, cgroups::ContainerId};

/// A running container, as its engine described it.
#[derive(Clone, Debug)]
pub(super) struct Described {
    /// The container's first process, in the engine's pid namespace.
    pub(super) first: u32,
    /// Labels.
    labels: Vec<Fact>,
    /// Environment variables, which may be secrets: not kept where no entry asks for them.
    pub(super) env: Option<Vec<Fact>>,
    /// The image, as it was named when the container was made.
    image_id: Vec<Fact>,
    /// The image's digest.
    digest: Vec<Fact>,
    /// How many labels and variables can be no selector, because of control characters or their length.
    unusable: usize,
}

/// Why a description is not used. Nothing of it is repeated: it may hold a container's secrets.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("described it in a form that is not known here")]
    Form,
    #[error("described another container")]
    Another,
    #[error("says that it is not running")]
    NotRunning,
    #[error("describes it with more than {MOST} labels and variables")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    /// The image itself, whatever the name it was started by means today.
    image: Option<String>,
    state: State,
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    pid: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    env: Option<Vec<String>>,
}

impl Described {
    /// Reads the answer to the question about the container `id`, with or without its environment.
    pub(super) fn parse(answer: &[u8], id: &ContainerId, env: bool) -> Result<Self, Unusable> {
        let inspected: Inspected = serde_json::from_slice(answer).map_err(|_| Unusable::Form)?;
        if inspected.id != id.as_str() {
            return Err(Unusable::Another);
        }
        let State { running, pid: first } = inspected.state;
        if !running || first == 0 {
            return Err(Unusable::NotRunning);
        }
        let labels = inspected.config.labels.unwrap_or_default();
        let variables = inspected.config.env.unwrap_or_default();
        if labels.len() + variables.len() > MOST {
            return Err(Unusable::TooMany);
        }
        let mut unusable = 0;
        let mut facts = |values: &mut dyn Iterator<Item = String>, source| {
            let mut evidence = Evidence::default();
            values.for_each(|value| evidence.add(super::KIND, &value, source, Strength::Platform));
            unusable += evidence.notes.len();
            evidence.facts
        };
        let name = inspected.config.image.filter(|name| !name.is_empty());
        let digest = inspected.image.as_deref().and_then(digest);
        let mut labels = labels.iter().map(|(key, value)| format!("label:{key}:{value}"));
        let mut variables = variables.iter().map(|variable| format!("env:{variable}"));
        let mut name = name.iter().map(|name| format!("image_id:{name}"));
        let mut digest = digest.iter().map(|digest| format!("image_config_digest:{digest}"));
        Ok(Self {
            first,
            labels: facts(&mut labels, "label of its container"),
            env: env.then(|| facts(&mut variables, "environment of its container")),
            image_id: facts(&mut name, "image name of its container"),
            digest: facts(&mut digest, "image of its container"),
            unusable,
        })
    }

    /// Adds what is wanted.
    pub(super) fn tell(&self, wanted: &Wanted, evidence: &mut Evidence) {
        let parts = [
            ("label", self.labels.as_slice()),
            ("env", self.env.as_deref().unwrap_or_default()),
            ("image_id", &self.image_id),
            ("image_config_digest", &self.digest),
        ];
        for (_, facts) in parts.into_iter().filter(|(fact, _)| wanted.asks(super::KIND, fact)) {
            evidence.facts.extend_from_slice(facts);
        }
        if self.unusable > 0 {
            let count = self.unusable;
            evidence.note(format!("{count} labels or variables of its container make no selectors"));
        }
    }
}

/// `sha256:HEX`; some versions of Podman leave out the algorithm.
fn digest(image: &str) -> Option<String> {
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    let is_digest = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then(|| format!("sha256:{hex}"))
}

/// Each is a fact that every entry of this node is compared with.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::fuzz::{JSON, changed};

    proptest! {
        #[test]
        fn whatever_bytes_an_engine_answers_are_read_or_refused(bytes in changed("engine", JSON)) {
            let Ok(described) = Described::parse(&bytes, &id(), true) else { return Ok(()) };
            prop_assert!(described.first > 0);
            let mut evidence = Evidence::default();
            described.tell(&Wanted::everything(), &mut evidence);
            prop_assert!(evidence.selectors().all(|selector| selector.kind() == super::super::KIND));
            prop_assert!(evidence.facts.len() <= MOST + 2);
        }
    }

    fn id() -> ContainerId {
        ContainerId::parse(&"ab".repeat(32)).expect("an id")
    }

    /// As Docker 20.10 describes one, of what is read.
    fn described() -> Value {
        json!({
            "Id": id().as_str(),
            "State": { "Status": "running", "Running": true, "Paused": false, "Pid": 4711 },
            "Image": format!("sha256:{}", "c".repeat(64)),
            "Name": "/planner",
            "Config": {
                "Image": "acme/planner:1.4",
                "Env": ["PATH=/bin", "TOKEN=s3cret=="],
                "Labels": { "com.acme.role": "planner", "empty": "" },
            },
        })
    }

    fn parse(value: &Value) -> Result<Described, Unusable> {
        Described::parse(value.to_string().as_bytes(), &id(), true)
    }

    fn told(described: &Described) -> Vec<String> {
        let mut evidence = Evidence::default();
        described.tell(&Wanted::everything(), &mut evidence);
        evidence.selectors().map(ToString::to_string).collect()
    }

    #[test]
    fn selectors_are_as_spire_has_them() {
        let described = parse(&described()).expect("usable");
        assert_eq!(described.first, 4711);
        let digest = format!("docker:image_config_digest:sha256:{}", "c".repeat(64));
        let expected = [
            "docker:label:com.acme.role:planner",
            "docker:label:empty:",
            "docker:env:PATH=/bin",
            "docker:env:TOKEN=s3cret==",
            "docker:image_id:acme/planner:1.4",
            &digest,
        ];
        assert_eq!(told(&described), expected);
    }

    #[test]
    fn the_environment_is_kept_only_where_it_is_asked_for() {
        let text = described().to_string();
        let described = Described::parse(text.as_bytes(), &id(), false).expect("usable");
        assert!(described.env.is_none() && !format!("{described:?}").contains("s3cret"));
    }

    #[test]
    fn a_description_of_another_or_of_one_that_has_ended_is_not_used() {
        let mut other = described();
        other["Id"] = json!("cd".repeat(32));
        assert_eq!(parse(&other).err(), Some(Unusable::Another));
        for state in [json!({ "Running": false, "Pid": 0 }), json!({ "Running": true, "Pid": 0 })] {
            let mut ended = described();
            ended["State"] = state;
            assert_eq!(parse(&ended).err(), Some(Unusable::NotRunning));
        }
    }

    #[test]
    fn what_is_absent_gives_no_selector_and_what_is_no_digest_neither() {
        let mut bare = described();
        bare["Config"] = json!({ "Labels": null, "Env": null });
        bare["Image"] = json!("latest");
        assert_eq!(told(&parse(&bare).expect("usable")), [""; 0]);
        bare["Image"] = json!("d".repeat(64));
        assert_eq!(told(&parse(&bare).expect("usable")).len(), 1, "Podman left out the algorithm");
    }

    #[test]
    fn a_value_that_makes_no_selector_is_counted_and_not_repeated() {
        let mut odd = described();
        odd["Config"]["Labels"] = json!({ "a": "one\nunix:uid:0", "b": "x".repeat(5000), "c": "fine" });
        odd["Config"]["Env"] = json!(["KEY=s3cret\n"]);
        let described = parse(&odd).expect("usable");
        let mut evidence = Evidence::default();
        described.tell(&Wanted::everything(), &mut evidence);
        assert_eq!(evidence.notes, ["3 labels or variables of its container make no selectors"]);
        assert!(evidence.selectors().any(|selector| selector.as_str() == "docker:label:c:fine"));
    }

    #[test]
    fn what_is_not_understood_is_refused_without_a_word_of_it() {
        let twice = r#"{"Id":"s3cret","Id":"s3cret"}"#;
        let deep = "[".repeat(100_000);
        let crowd = {
            let mut crowd = described();
            crowd["Config"]["Env"] = json!(vec!["A=1"; MOST + 1]);
            crowd.to_string()
        };
        for text in ["", "null", "{}", r#"{"Id":"s3cret"}"#, twice, &deep, &crowd] {
            let error = Described::parse(text.as_bytes(), &id(), true).expect_err("refused");
            assert!(!error.to_string().contains("s3cret"));
        }
        let whole = described().to_string();
        for end in 0..whole.len() {
            assert_eq!(
                Described::parse(&whole.as_bytes()[..end], &id(), true).err(),
                Some(Unusable::Form),
                "cut off after {end} bytes"
            );
        }
    }
}
