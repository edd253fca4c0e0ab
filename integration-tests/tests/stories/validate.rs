//! `writ validate --stdin-jsonl` answers every line, in order, before it reads the next.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use integration_tests::writ_command;
use serde_json::{Value, json};

#[test]
fn every_line_has_its_answer_and_none_ends_it() {
    let mut validate = writ_command()
        .args(["validate", "--stdin-jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("writ starts");
    let mut questions = validate.stdin.take().expect("it was asked for");
    let mut answers = BufReader::new(validate.stdout.take().expect("it was asked for")).lines();
    let mut ask = |line: &str| -> Value {
        writeln!(questions, "{line}").expect("it reads");
        let answer = answers.next().expect("it answers").expect("text");
        serde_json::from_str(&answer).expect("JSON")
    };

    // acme.example
    let answer =
        ask(&json!({"id": 7, "op": "trust_domain", "input": {"s_b64": "YWNtZS5leGFtcGxl"}}).to_string());
    assert_eq!((&answer["id"], &answer["verdict"]), (&json!(7), &json!("ok")), "{answer}");
    assert_eq!(answer["value"]["trust_domain"], "acme.example");
    assert!(answer["us"].is_u64(), "{answer}");

    let answer = ask(&json!({"id": "x", "op": "from_the_future", "input": {}}).to_string());
    assert_eq!((&answer["id"], &answer["verdict"]), (&json!("x"), &json!("unsupported")));
    for bad in ["", "{", "null", "[]", "\"\"", "{\"op\":1}", "\u{0}", "{\"id\":1,\"op\":\"spiffe_id\"}"] {
        assert_eq!(ask(bad)["verdict"], "reject", "{bad:?}");
    }
    assert_eq!(ask(&"x".repeat(17 << 20))["verdict"], "reject", "a line beyond 16 MiB");
    // spiffe://acme.example/a, with an ID that JSON numbers would lose
    let answer = ask(
        r#"{"id":12345678901234567890123,"op":"spiffe_id","input":{"id_b64":"c3BpZmZlOi8vYWNtZS5leGFtcGxlL2E=","more":1}}"#,
    );
    assert_eq!(answer["value"], json!({"trust_domain": "acme.example", "path": "/a"}));

    drop(questions);
    assert!(validate.wait().expect("it ends").success(), "the end of input is a success");
}
