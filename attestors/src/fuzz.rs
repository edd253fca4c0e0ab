//! Texts and files that strangers have a hand in. The good ones lie in `corpus`; they are changed in a few places
//! and cut and joined, and whatever comes of it must neither panic nor take long, and what is still believed must
//! keep the rules. Here are cgroups, notes of ELF files and selectors; what an engine, a kubelet, an API server,
//! the bus or any HTTP server answers is changed beside what reads it, by [`changed`].
//!
//! No coverage guides the changes. `cargo xtask fuzz` multiplies the number of cases.

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*, sample::Index};
use spiffe::Selector;

use crate::{
    cgroups::{Cgroups, Owner},
    executables::build_id,
    selectors::{About, Vocabulary, kinds, warnings},
};

/// Every file of one part of the corpus.
fn corpus(part: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(part);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .expect("the corpus is part of the sources")
        .map(|file| file.expect("readable").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("readable")).collect()
}

/// One of the files, with words of the format put in, and parts removed or repeated.
pub(crate) fn changed(part: &str, words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let word = prop_oneof![
        proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        vec(any::<u8>(), 0..4),
    ];
    let change = (any::<Index>(), 0_usize..80, word);
    (proptest::sample::select(corpus(part)), vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
        for (at, removed, put) in changes {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + removed);
            drop(bytes.splice(at..end, put));
        }
        bytes
    })
}

/// Words of JSON, and numbers that are too much for some.
pub(crate) const JSON: &[&str] = &[
    "null",
    "true",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "\n",
    "-1",
    "1e999",
    "18446744073709551616",
    "\"items\":",
    "\"uid\":",
    "\"metadata\":{",
    "\"Pid\":",
    "[[[[[[[[[[[[[[[[",
];

const SEGMENTS: &[&str] = &[
    "/",
    "/..",
    "/../..",
    "\n",
    "0::",
    "1:memory:",
    ":",
    " (deleted)",
    "/docker",
    "/docker/4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c",
    "/system.slice",
    "/web.service",
    "/user.slice/user-7.slice/user@7.service",
    "/kubepods",
    "/pod7e7e2b0c-41d7-4a59-9f7f-6f0c6f2f5b11",
    "libpod-",
    "libpod-payload-",
    ".scope",
    ".slice",
    ".slice:cri-containerd:",
    "-pod",
    "_",
];

proptest! {
    #[test]
    fn cgroups_are_understood_or_refused_and_what_counts_is_not_below_what_somebody_was_given(
        bytes in changed("cgroup", SEGMENTS),
    ) {
        let text = String::from_utf8_lossy(&bytes);
        let Ok(cgroups) = Cgroups::parse(&text) else { return Ok(()) };
        let _ = (cgroups.unit(), cgroups.unit_under(&cgroups));
        let Ok(Some(container)) = cgroups.container() else { return Ok(()) };
        // The container is where one line leads, and that line has no name of another above it.
        let lines: Vec<&str> = cgroups.paths().map(|(_, path)| path).collect();
        prop_assert!(lines.iter().any(|path| path.starts_with(&container.path)));
        let (above, own) = container.path.rsplit_once('/').expect("a path");
        prop_assert!(own.contains(container.id.as_str()) && !above.contains(container.id.as_str()));
        if container.owner == Owner::System {
            prop_assert!(!above.contains("user@7.service/") && !above.contains("web.service"), "{above}");
        }
    }

    #[test]
    fn a_child_cgroup_of_any_name_makes_it_no_other_container_and_no_other_unit(
        bytes in changed("cgroup", SEGMENTS),
        child in proptest::sample::select(SEGMENTS).prop_filter("a name", |name| {
            !name.contains([':', '\n', ' ']) && !name.contains("..")
        }),
    ) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Ok(cgroups) = Cgroups::parse(&text) else { return Ok(()) };
        let below: String =
            text.lines().map(|line| format!("{}/{}\n", line.trim_end_matches('/'), child.trim_matches('/'))).collect();
        let Ok(inside) = Cgroups::parse(&below) else { return Ok(()) };
        if let Ok(Some(container)) = cgroups.container() {
            let now = inside.container();
            prop_assert!(now.is_err() || now == Ok(Some(container)));
        }
        if let Ok(Some(unit)) = cgroups.unit() {
            let now = inside.unit();
            prop_assert!(now.is_err() || now == Ok(Some(unit)));
        }
    }

    #[test]
    fn an_executable_has_a_build_id_or_none(bytes in changed("elf", &["\u{7f}ELF", "GNU\0", "\0\0\0\0"])) {
        let id = build_id(bytes.as_slice()).expect("bytes can be read");
        prop_assert!(id.is_none_or(|id| (2..=128).contains(&id.len())));
    }

    #[test]
    fn a_selector_is_accepted_or_refused_in_a_sentence(
        kind in "[a-z0-9_]{1,12}|unix|k8s|docker|systemd|cgroup|x509pop|spiffe_id",
        value in "(uid|ns|label|path|id|sa|v1|subject|)[:=/]?\\PC{0,40}",
    ) {
        let Ok(selector) = Selector::new(&kind, &value) else { return Ok(()) };
        for about in [About::Processes, About::Nodes] {
            if let Err(mistake) = Vocabulary::default().check(&selector, about) {
                prop_assert!(!mistake.to_string().is_empty());
            } else {
                prop_assert!(kinds().any(|known| known.name == kind && known.about == about));
            }
        }
        let _ = warnings(&[selector.clone(), selector]);
    }
}

#[test]
fn of_the_corpus_all_but_the_spoofs_are_clear() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/cgroup");
    for file in fs::read_dir(directory).expect("the corpus is part of the sources") {
        let path = file.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("text");
        let container = Cgroups::parse(&text).and_then(|cgroups| cgroups.container());
        match name.as_str() {
            "spoof-in-container" | "nested-kind" => {
                let id = container.expect("clear").expect("in a container").id;
                assert!(id.as_str().starts_with("9be2"), "{name}: the outermost one");
            }
            _ if name.starts_with("spoof") || name.starts_with("outside") => {
                assert!(container.is_err(), "{name}");
            }
            "v2-unit" | "v2-user" | "hybrid-session" => assert_eq!(container, Ok(None), "{name}"),
            _ => assert!(container.expect(&name).is_some(), "{name}"),
        }
    }
}
