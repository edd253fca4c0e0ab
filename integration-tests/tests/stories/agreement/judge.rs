//! A program that answers questions line by line, as `writ validate` does.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use super::Question;

/// A program that is asked.
pub(super) struct Judge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What it answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) value: Result<Value, String>,
}

impl Judge {
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        Self { child, input, output }
    }

    /// Asks all questions while the answers to the first ones come in.
    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let Self { input, output, .. } = self;
        thread::scope(|scope| {
            scope.spawn(|| {
                for (id, question) in questions.iter().enumerate() {
                    let line = json!({ "id": id, "op": question.op, "input": question.input });
                    writeln!(input, "{line}").expect("it reads");
                }
                input.flush().expect("it reads");
            });
            (0..questions.len()).map(|id| answer(output, id)).collect()
        })
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks both at the same time, and gives their answers side by side.
pub(super) fn ask_both(writ: &mut Judge, go: &mut Judge, questions: &[Question]) -> Vec<(Answer, Answer)> {
    thread::scope(|scope| {
        let theirs = scope.spawn(|| go.ask(questions));
        let ours = writ.ask(questions);
        ours.into_iter().zip(theirs.join().expect("go-spiffe answers")).collect()
    })
}

fn answer(output: &mut BufReader<ChildStdout>, id: usize) -> Answer {
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    let mut answer: Value = serde_json::from_str(&line).expect("an answer is JSON");
    assert_eq!(answer["id"], id, "answers come in the order of the questions");
    let value = match answer["verdict"].as_str() {
        Some("ok") => Ok(answer["value"].take()),
        Some("reject") => Err(answer["error"].as_str().expect("a reason").to_owned()),
        _ => panic!("not a verdict: {answer}"),
    };
    Answer { value }
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        self.value.is_ok()
    }

    /// Both refuse, or both accept and understand the same; claims are compared by what both show of them.
    pub(super) fn agrees_with(&self, theirs: &Self) -> bool {
        match (&self.value, &theirs.value) {
            (Err(_), Err(_)) => true,
            (Ok(ours), Ok(theirs)) => {
                let theirs = theirs.as_object().expect("go-spiffe shows an object");
                theirs.iter().all(|(name, value)| ours[name] == *value)
            }
            _ => false,
        }
    }
}

impl Answer {
    /// The answer without what differs from case to case.
    pub(super) fn kind(&self) -> String {
        let letters =
            |text: &String| text.chars().filter(|letter| !letter.is_ascii_digit()).take(90).collect();
        self.value.as_ref().map_or_else(letters, |_| "accepts".to_owned())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Ok(value) => write!(f, "accepts {value}"),
            Err(error) => write!(f, "refuses ({error})"),
        }
    }
}
