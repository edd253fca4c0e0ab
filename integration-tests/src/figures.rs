//! How long an attestor takes that has to ask a platform, as `writ explain` tells it.

use serde_json::Value;

/// Explains a process of which `attestor` was never asked, and then again and again: the first time and the
/// shortest of the later ones, in microseconds. `docs/measured.md` says how to see them of a release build.
#[track_caller]
#[expect(clippy::print_stdout, reason = "this is what it is for")]
pub fn first_and_later(attestor: &str, mut explain: impl FnMut() -> Value) -> (f64, f64) {
    let mut took = || {
        let seen = explain();
        let knows = seen["selectors"].to_string().contains(&format!("{attestor}:"));
        assert!(knows, "{attestor} has nothing to say: {seen}");
        let attestors = seen["attestors"].as_array().expect("each has a state");
        let its = attestors.iter().find(|one| one["name"] == attestor).expect("it is one of them");
        its["took_us"].as_f64().expect("it was asked")
    };
    let first = took();
    let mut later: Vec<f64> = (0..LATER).map(|_| took()).collect();
    later.sort_by(f64::total_cmp);
    let [least, middle, most] = [later[0], later[LATER / 2], later[LATER - 1]];
    println!(
        "figure: {attestor}: first {first:.0} µs, later min {least:.0} median {middle:.0} max {most:.0} µs"
    );
    (first, least)
}

const LATER: usize = 21;
