//! What no attestation by a kernel can tell, shown with the words that an administrator reads about it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use integration_tests::attacker::Attacker;
use integration_tests::{Answer, needs};
use nix::sys::signal::Signal;

use super::{ATTACKER, Stage};

/// That `docs/limits.md` says so.
pub(super) fn is_told(sentence: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let text = fs::read_to_string(page).expect("there is a page of limits");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(sentence), "docs/limits.md does not say: {sentence}");
}

/// And so is whoever makes an entry that rests on nothing else.
fn is_warned(stage: &Stage, words: &str) {
    let path = format!("unix:path:{}", stage.good.display());
    let create = ["entry", "create", "--spiffe-id", "/weak", "--parent", "local", "--selector", &path];
    let answer = stage.writ.run(&create).done();
    assert!(answer.err.contains(words), "{}", answer.err);
}

#[test]
fn a_process_that_becomes_the_good_program_before_it_is_accepted_is_that_program_and_the_documents_say_so() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let mut lender = stage.intruder();
    stage.writ.signal("agent", Signal::SIGSTOP);
    lender.does(&format!("connect {}", stage.socket().display()));
    lender.does(&format!("exec-behind {}", stage.good.display()));
    stage.writ.signal("agent", Signal::SIGCONT);
    assert_eq!(lender.order("greet"), "ok");
    assert_eq!(lender.asks(), stage.program());
    is_told("becomes another program before the agent has accepted it");
    is_warned(&stage, "can connect, keep the connection and run it afterwards");
}

#[test]
fn whoever_a_living_process_shares_its_connection_with_is_served_as_that_process_and_the_documents_say_so() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let mut generous = stage.start(ATTACKER, &stage.good);
    assert!(generous.is_accepted(&stage.socket()));
    generous.does("stay-behind");
    assert_ne!(generous.order("where"), generous.pid().to_string(), "another process asks");
    assert_eq!(generous.asks(), stage.program());
    is_told("A connection speaks for the process that made it");
}

#[test]
fn a_library_that_the_user_puts_into_the_good_program_is_that_program_and_the_documents_say_so() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let source = stage.folder.write("inside.c", INSIDE);
    let library = stage.folder.join("inside.so");
    let mut compile = Command::new("cc");
    let _ = Answer::of(compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source)).done();
    let mut command = Command::new(&stage.good);
    command.env("LD_PRELOAD", &library).env("PROVE", stage.folder.join("proof"));
    fs::write(stage.folder.join("proof"), "").expect("the folder is ours");
    nix::unistd::chown(&stage.folder.join("proof"), Some(ATTACKER.into()), None).expect("root may");
    let mut inhabited = Attacker::start(command.uid(ATTACKER).gid(ATTACKER), &stage.folder);
    assert_eq!(fs::read_to_string(stage.folder.join("proof")).expect("it is ours"), "inside");
    assert_eq!(inhabited.tries(&stage.socket()), stage.program());
    is_told("A library loaded by `LD_PRELOAD`");
}

const INSIDE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void inside(void) {
    FILE *proof = fopen(getenv("PROVE"), "w");
    if (proof) { fputs("inside", proof); fclose(proof); }
}
"#;
