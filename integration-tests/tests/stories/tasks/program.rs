//! The example's program, with the Python packages that its users have.

use std::process::Command;

use integration_tests::{Answer, needs};

use super::Work;

#[test]
fn a_python_program_begins_shows_and_ends_its_task() {
    let Some((python, _)) = needs::python_client() else { return };
    let work = Work::up(&[]);
    drop(work.begin("sort"));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/task/task.py");
    let mut command = Command::new(python);
    command.args([program, "sort"]);
    command.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", work.writ.workload_socket().display()));
    let said = Answer::of(&mut command).done().json();
    assert_eq!(said["token"].as_str().map(|token| token.split('.').count()), Some(3), "{said}");
    work.ended(&said["task"], "done");
}
