//! The whole command line with its help: each verb shows those examples of its noun that are about it.

use clap::{Command, CommandFactory as _};

/// The command line. What a noun's examples show, its verbs show too.
pub(crate) fn command() -> Command {
    with_examples(super::Writ::command(), "", "")
}

fn with_examples(command: Command, path: &str, inherited: &str) -> Command {
    let path = format!("{path} {}", command.get_name());
    let own = command.get_after_help().map(ToString::to_string);
    let about: Vec<_> = inherited.lines().filter(|line| is_about(line, path.trim())).collect();
    let command = match &own {
        None if !about.is_empty() => command.after_help(format!("Examples:\n{}", about.join("\n"))),
        _ => command,
    };
    let examples = own.unwrap_or_else(|| inherited.to_owned());
    let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |verb| with_examples(verb, &path, &examples))
    })
}

/// Whether an example's line has this command in it, perhaps behind another one and a pipe.
fn is_about(line: &str, command: &str) -> bool {
    let mut rest = line;
    while let Some(at) = rest.find(command) {
        rest = &rest[at + command.len()..];
        if line.starts_with("  ") && (rest.is_empty() || rest.starts_with(' ')) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at each visible command that does something.
    fn each(command: &Command, path: &str, look: &mut dyn FnMut(&Command, &str)) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = format!("{path} {}", verb.get_name());
            look(verb, &path);
            each(verb, &path, look);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_how() {
        let mut silent = Vec::new();
        each(&command(), "writ", &mut |verb, path| {
            assert!(verb.get_about().is_some(), "{path} does not say what it does");
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !help.contains(path) {
                silent.push(path.to_owned());
            }
        });
        assert!(
            silent.is_empty(),
            "without an example in --help: {silent:?}; add a line to their nouns' EXAMPLES"
        );
    }

    #[test]
    fn a_verb_shows_the_examples_that_are_about_it() {
        let command = command();
        let create = command.find_subcommand("token").and_then(|noun| noun.find_subcommand("create"));
        let help = create.and_then(Command::get_after_help).map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("writ token create --node web-1") && !help.contains("reset"), "{help}");
    }
}
