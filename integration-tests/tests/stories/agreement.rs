//! Writ and go-spiffe are asked the same questions. Wherever they do not agree, `table` names the
//! clause of the standard that decides; a difference that no row explains fails the story.
//!
//! The cases are made from a seed, half of them by changing a good one in one or two places.
//! `cargo xtask agree` asks many more than CI does.

mod bundles;
mod chains;
mod ids;
mod judge;
mod table;
mod tokens;

use std::collections::BTreeMap;
use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use integration_tests::{needs, writ_command};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use judge::{Answer, Judge};

#[test]
fn writ_and_go_spiffe_agree_but_where_a_clause_says_otherwise() {
    let Some(program) = needs::go_client("go/judge") else { return };
    let number =
        |name: &str, usual: u32| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let cases = number("WRIT_AGREEMENT_CASES", 4_000) as usize;
    let seed = u64::from(number("WRIT_AGREEMENT_SEED", 1));
    let mut writ = Judge::start(writ_command().args(["validate", "--stdin-jsonl"]));
    let mut go = Judge::start(&mut std::process::Command::new(program));
    let mut maker = Maker::new(seed);
    let mut seen = BTreeMap::new();
    let mut unexplained = Vec::new();
    let mut accepted = BTreeMap::<&str, usize>::new();

    for _ in 0..cases.div_ceil(BATCH) {
        maker.now = now();
        let questions: Vec<Question> = (0..BATCH).map(|_| maker.question()).collect();
        let answers = judge::ask_both(&mut writ, &mut go, &questions);
        for (question, (ours, theirs)) in questions.iter().zip(answers) {
            if ours.is_ok() && theirs.is_ok() {
                *accepted.entry(question.op).or_default() += 1;
            }
            if ours.agrees_with(&theirs) {
                continue;
            }
            match table::explain(question.op, &ours, &theirs) {
                Some(row) => *seen.entry(row).or_insert(0_usize) += 1,
                None => unexplained.push((question.clone(), ours, theirs)),
            }
        }
    }

    let asked = cases.div_ceil(BATCH) * BATCH;
    let differences: usize = seen.values().sum();
    println!(
        "{asked} cases, seed {seed}: {differences} differences, each explained; both accept {accepted:?}"
    );
    for (row, times) in &seen {
        println!("  {times:>7} × {row}");
    }
    for op in OPERATIONS {
        assert!(accepted.contains_key(op), "no case of {op} was good, so nothing was compared");
    }
    report(&unexplained);
    if asked >= 100_000 {
        let unused = table::clauses().filter(|clause| !seen.contains_key(clause)).collect::<Vec<_>>();
        assert!(unused.is_empty(), "these rows explain nothing any more: {unused:#?}");
    }
}

/// One question, for both.
#[derive(Clone, Debug)]
struct Question {
    op: &'static str,
    input: Value,
}

const OPERATIONS: [&str; 5] =
    ["spiffe_id", "trust_domain", "bundle_parse", "jwtsvid_validate", "x509svid_verify"];
/// How many questions are on their way at once.
const BATCH: usize = 500;

/// Makes cases from a seed: the same seed gives the same mixture, though never the same keys.
struct Maker {
    random: StdRng,
    tokens: tokens::Keys,
    now: i64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), tokens: tokens::Keys::new(), now: now() }
    }

    fn question(&mut self) -> Question {
        let random = &mut self.random;
        match random.random_range(0..20) {
            0..=5 => Question { op: "spiffe_id", input: json!({ "id_b64": base64(&ids::id(random)) }) },
            6..=8 => {
                Question { op: "trust_domain", input: json!({ "s_b64": base64(&ids::trust_domain(random)) }) }
            }
            9..=12 => bundles::question(random, &self.tokens),
            13..=17 => tokens::question(random, &self.tokens, self.now),
            _ => chains::question(random, self.now),
        }
    }
}

/// Fails with what no row explains, each kind once.
fn report(unexplained: &[(Question, Answer, Answer)]) {
    let mut kinds = BTreeMap::<_, (usize, &(Question, Answer, Answer))>::new();
    for difference in unexplained {
        let (question, ours, theirs) = difference;
        kinds.entry((question.op, ours.kind(), theirs.kind())).or_insert((0, difference)).0 += 1;
    }
    let lines = kinds.iter().map(|((op, ..), (times, (question, ours, theirs)))| {
        format!("{times} × {op}: writ {ours}; go-spiffe {theirs}; for example {}\n", question.input)
    });
    assert!(kinds.is_empty(), "differences that no clause explains:\n{}", lines.collect::<String>());
}

/// A text with one or two bytes changed, taken out, put in or doubled.
fn damaged(random: &mut StdRng, bytes: &[u8], alphabet: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..=2) {
        let at = random.random_range(0..=bytes.len());
        let new = *alphabet.choose(random).expect("an alphabet");
        match random.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] = new,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes.insert(at, bytes[at]),
            _ => bytes.insert(at, new),
        }
    }
    bytes
}

/// go-spiffe judges tokens by the clock, so Writ is told the same time.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    i64::try_from(since.as_secs()).expect("a year that fits")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
