//! [`Shape`]: what a command line runs, read as its interpreter reads it. Pure.
//!
//! What is not understood is refused: an option that this page does not know may load code from anywhere.

use std::{ffi::OsStr, ffi::OsString, os::unix::ffi::OsStrExt as _};

use super::Unmeasurable;

/// Who runs the code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Python,
    Node,
    Java,
    Shell,
    /// The file is the program.
    Binary,
}

/// Where the code is. Numbers count the arguments behind the program's name, from zero.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Code {
    /// The program's own file.
    Itself,
    /// The argument that names a script.
    Script(usize),
    /// `python -m`: a module by this name, found from the current directory.
    Module(String),
    /// `java -jar`.
    Jar(usize),
    /// `java -cp`: the argument with the path, if there is one.
    ClassPath(Option<usize>),
}

/// A command line that is understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Shape {
    pub(super) code: Code,
    /// The first argument that the program itself gets.
    pub(super) own: usize,
}

impl Kind {
    /// What a program of this file name is.
    pub(super) fn of(file: &OsStr) -> Result<Self, Unmeasurable> {
        let name = file.to_str().unwrap_or_default();
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        match bare {
            "python" => Ok(Self::Python),
            "node" | "nodejs" => Ok(Self::Node),
            "java" => Ok(Self::Java),
            "sh" | "bash" | "dash" => Ok(Self::Shell),
            _ if OTHERS.contains(&bare) || name.starts_with("ld-") || name.starts_with("ld.so") => {
                Err(Unmeasurable::Runs(name.to_owned()))
            }
            _ => Ok(Self::Binary),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Java => "java",
            Self::Shell => "shell",
            Self::Binary => "binary",
        }
    }
}

impl Shape {
    /// What these arguments make a program of this kind run.
    pub(super) fn of(kind: Kind, arguments: &[OsString]) -> Result<Self, Unmeasurable> {
        let words: Vec<&[u8]> = arguments.iter().map(|word| word.as_bytes()).collect();
        match kind {
            Kind::Python => python(&words),
            Kind::Node => node(&words),
            Kind::Java => java(&words),
            Kind::Shell => shell(&words),
            Kind::Binary => Ok(Self { code: Code::Itself, own: 0 }),
        }
    }
}

fn python(words: &[&[u8]]) -> Result<Shape, Unmeasurable> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if *word == b"--check-hash-based-pycs" {
            at += 2;
            continue;
        }
        let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { break };
        let mut rest = letters;
        while let Some((letter, behind)) = rest.split_first() {
            rest = behind;
            // What an option takes is the rest of the word, or the next one.
            let taken = || if behind.is_empty() { words.get(at + 1).copied() } else { Some(behind) };
            match letter {
                b'm' => {
                    let module = taken().and_then(|name| std::str::from_utf8(name).ok());
                    let module = module.filter(|name| is_module(name)).ok_or_else(|| option("-m"))?;
                    let own = at + 1 + usize::from(behind.is_empty());
                    return Ok(Shape { code: Code::Module(module.to_owned()), own });
                }
                b'W' | b'X' => {
                    let value = taken().ok_or_else(|| option("-X"))?;
                    let name = value.split(|byte| *byte == b'=').next().unwrap_or_default();
                    if *letter == b'X' && !PYTHON_X.contains(&name) {
                        return Err(option(&format!("-X {}", String::from_utf8_lossy(name))));
                    }
                    at += usize::from(behind.is_empty());
                    break;
                }
                b'b' | b'B' | b'd' | b'I' | b'O' | b'P' | b'q' | b's' | b'S' | b'u' | b'v' => {}
                _ => return Err(option(&format!("-{}", char::from(*letter)))),
            }
        }
        at += 1;
    }
    script(words, at)
}

fn node(words: &[&[u8]]) -> Result<Shape, Unmeasurable> {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with(b"-")) {
        let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
        if !NODE.contains(&name) {
            return Err(option(&String::from_utf8_lossy(name)));
        }
        at += 1;
    }
    script(words, at)
}

fn shell(words: &[&[u8]]) -> Result<Shape, Unmeasurable> {
    let mut at = 0;
    while let Some(letters) = words.get(at).and_then(|word| word.strip_prefix(b"-")) {
        at += 1;
        match letters {
            b"-" => break,
            b"o" => at += 1,
            _ if !letters.is_empty() && letters.iter().all(|letter| b"aefhnuvxC".contains(letter)) => {}
            _ => return Err(option(&format!("-{}", String::from_utf8_lossy(letters)))),
        }
    }
    script(words, at)
}

fn java(words: &[&[u8]]) -> Result<Shape, Unmeasurable> {
    let mut class_path = None;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let Some(option_name) = word.strip_prefix(b"-") else { break };
        match option_name {
            b"jar" => {
                words.get(at + 1).ok_or(Unmeasurable::NoProgram)?;
                return Ok(Shape { code: Code::Jar(at + 1), own: at + 2 });
            }
            b"cp" | b"classpath" | b"-class-path" => {
                class_path = Some(at + 1);
                at += 2;
                continue;
            }
            b"-add-opens" | b"-add-exports" | b"-add-modules" => {
                at += 2;
                continue;
            }
            b"ea" | b"da" | b"esa" | b"dsa" | b"server" | b"-enable-preview" | b"Xint" => {}
            _ if is_harmless_in_java(option_name) => {}
            _ => return Err(option(&format!("-{}", String::from_utf8_lossy(option_name)))),
        }
        at += 1;
    }
    match words.get(at) {
        None => Err(Unmeasurable::NoProgram),
        Some(word) if word.starts_with(b"@") => Err(option("@FILE")),
        // A source file, compiled and run.
        Some(word) if word.ends_with(b".java") => Ok(Shape { code: Code::Script(at), own: at + 1 }),
        Some(_) => Ok(Shape { code: Code::ClassPath(class_path), own: at + 1 }),
    }
}

/// Sizes, switches, and properties that only the program reads.
fn is_harmless_in_java(name: &[u8]) -> bool {
    let is_number = |value: &[u8]| value.first().is_some_and(u8::is_ascii_digit);
    let is_word = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_alphanumeric);
    for size in [b"Xmx", b"Xms", b"Xss", b"Xmn"] {
        if let Some(value) = name.strip_prefix(size) {
            return is_number(value) && is_word(value);
        }
    }
    if let Some(switch) = name.strip_prefix(b"XX:+").or_else(|| name.strip_prefix(b"XX:-")) {
        return is_word(switch) && !JAVA_SWITCHES.contains(&switch);
    }
    if let Some(setting) = name.strip_prefix(b"XX:") {
        // A setting that is not a number may be a command or a file.
        let mut parts = setting.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return is_word(name)
            && is_number(value)
            && value.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
    }
    let Some(property) = name.strip_prefix(b"D") else { return false };
    let read_by_java: [&[u8]; 5] = [b"java.", b"javax.", b"jdk.", b"sun.", b"com.sun."];
    !read_by_java.iter().any(|prefix| property.starts_with(prefix))
}

/// A script is a file that is named; standard input and nothing at all are not.
fn script(words: &[&[u8]], at: usize) -> Result<Shape, Unmeasurable> {
    match words.get(at).copied() {
        None | Some(b"-" | b"") => Err(Unmeasurable::NoProgram),
        Some(_) => Ok(Shape { code: Code::Script(at), own: at + 1 }),
    }
}

fn is_module(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    name.split('.').all(part)
}

fn option(name: &str) -> Unmeasurable {
    Unmeasurable::Option(name.to_owned())
}

/// Programs that run other programs or scripts, in ways that are not read here.
const OTHERS: &[&str] = &[
    "perl",
    "ruby",
    "php",
    "lua",
    "luajit",
    "deno",
    "bun",
    "Rscript",
    "R",
    "tclsh",
    "wish",
    "guile",
    "awk",
    "gawk",
    "mawk",
    "nawk",
    "sed",
    "find",
    "xargs",
    "env",
    "nohup",
    "timeout",
    "nice",
    "ionice",
    "setsid",
    "stdbuf",
    "chroot",
    "unshare",
    "nsenter",
    "sudo",
    "su",
    "runuser",
    "setpriv",
    "doas",
    "busybox",
    "toybox",
    "strace",
    "ltrace",
    "gdb",
    "zsh",
    "ksh",
    "mksh",
    "fish",
    "csh",
    "tcsh",
    "pypy",
    "jshell",
    "make",
    "expect",
    "emacs",
    "vi",
    "vim",
    "script",
    "watch",
    "parallel",
    "flock",
    "taskset",
    "chrt",
    "prlimit",
    "systemd-run",
    "docker",
    "podman",
    "uv",
    "poetry",
    "pipx",
    "npm",
    "npx",
    "yarn",
    "pnpm",
    "writ",
    "ip",
    "ssh",
    "git",
];
const PYTHON_X: &[&[u8]] = &[
    b"dev",
    b"utf8",
    b"faulthandler",
    b"importtime",
    b"tracemalloc",
    b"int_max_str_digits",
    b"no_debug_ranges",
];
const NODE: &[&[u8]] = &[
    b"--max-old-space-size",
    b"--enable-source-maps",
    b"--no-warnings",
    b"--trace-warnings",
    b"--trace-uncaught",
    b"--unhandled-rejections",
    b"--stack-trace-limit",
    b"--no-deprecation",
    b"--throw-deprecation",
];
/// They read further options, or commands, from files of the current directory.
const JAVA_SWITCHES: &[&[u8]] = &[b"ReadVMOptionsFile", b"UnlockDiagnosticVMOptions", b"EnableJVMCI"];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, line: &str) -> Result<Shape, Unmeasurable> {
        Shape::of(kind, &line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_script_is_found_behind_the_options_that_are_known() {
        for (kind, line, code, own) in [
            (Kind::Python, "x.py -c y", Code::Script(0), 1),
            (Kind::Python, "-Bu -W ignore -Xdev x.py", Code::Script(4), 5),
            (Kind::Python, "-Wignore -m http.server 80", Code::Module("http.server".into()), 3),
            (Kind::Python, "-umpkg a", Code::Module("pkg".into()), 1),
            (Kind::Node, "--max-old-space-size=64 x.js -e y", Code::Script(1), 2),
            (Kind::Shell, "-eu -o pipefail x.sh -c", Code::Script(3), 4),
            (Kind::Shell, "-- x.sh", Code::Script(1), 2),
            (Kind::Java, "-Xmx64m -jar x.jar -cp", Code::Jar(2), 3),
            (Kind::Java, "-cp a:b -Dmode=x Main y", Code::ClassPath(Some(1)), 4),
            (Kind::Java, "Main", Code::ClassPath(None), 1),
            (Kind::Java, "X.java", Code::Script(0), 1),
            (Kind::Binary, "-c anything", Code::Itself, 0),
        ] {
            assert_eq!(of(kind, line).unwrap(), Shape { code, own }, "{line}");
        }
    }

    #[test]
    fn code_that_is_not_in_a_measured_file_is_refused() {
        for (kind, lines) in [
            (
                Kind::Python,
                &[
                    "",
                    "-",
                    "-c 1",
                    "-ic",
                    "-i x.py",
                    "-X pycache_prefix=/tmp x.py",
                    "-m",
                    "-m a/b",
                    "-uc 1",
                    "-E x.py",
                ][..],
            ),
            (
                Kind::Node,
                &["", "-e 1", "-r ./x x.js", "--require=./x x.js", "--import ./x x.js", "--env-file=e x.js"],
            ),
            (Kind::Shell, &["", "-c x", "-s", "-l x.sh", "-i x.sh", "--rcfile x", "-ec x"]),
            (
                Kind::Java,
                &[
                    "",
                    "-jar",
                    "@f",
                    "-javaagent:x Main",
                    "-XX:OnError=x Main",
                    "-XX:Flags=f Main",
                    "-Djava.library.path=x Main",
                    "-XX:+ReadVMOptionsFile Main",
                    "-agentpath:x Main",
                    "--module-path x Main",
                    "-Xbootclasspath/a:x Main",
                    "-XX:VMOptionsFile=1x/y M",
                ],
            ),
        ] {
            for line in lines {
                assert!(of(kind, line).is_err(), "{kind:?} {line}");
            }
        }
    }

    #[test]
    fn a_program_that_runs_others_is_no_binary() {
        for name in ["perl", "perl5.36", "env", "ld-linux-x86-64.so.2", "busybox", "sudo", "lua5.4"] {
            assert!(Kind::of(OsStr::new(name)).is_err(), "{name}");
        }
        assert_eq!(Kind::of(OsStr::new("python3.11")).unwrap(), Kind::Python);
        assert_eq!(Kind::of(OsStr::new("agent-7")).unwrap(), Kind::Binary);
        assert_eq!(Kind::of(OsStr::new("pythonista")).unwrap(), Kind::Binary);
    }
}
