//! Carrying a plan out: copies everything while it is hashed, and says how the copies are run.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use peer::launch::{AsUser, is_fixed};

use super::{
    Unmeasurable,
    config::Launch,
    environment::Environment,
    measurement::Measurement,
    plan::Plan,
    shape::Kind,
    tree::{self, Contents, Meter, copy_file, uncopied},
};

/// A command whose files were measured and lie where only root can change them.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) measurement: Measurement,
    pub(super) program: PathBuf,
    /// With the program's name in front.
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Where it begins, if that is a part of it.
    pub(super) directory: Option<PathBuf>,
}

/// Measures what is planned, into an empty `folder` that only root can change.
pub(super) fn measure(
    user: &AsUser,
    plan: &Plan,
    given: &[(OsString, OsString)],
    config: &Launch,
    socket: &str,
    folder: &Path,
    meter: &mut Meter<'_>,
) -> Result<Measured, Unmeasurable> {
    let rule = config.rule(&plan.path);
    let environment = Environment::of(given, &rule, socket);
    let mut measurement = Measurement::default();
    measurement.add("kind", plan.kind.name());

    let program = if plan.is_fixed {
        None
    } else {
        Some(folder.join("bin").join(plan.program.file_name().unwrap_or_default()))
    };
    if program.is_some() {
        new_folder(&folder.join("bin"))?;
    }
    let mut file = tree::open(user, &plan.program, OFlag::empty())?;
    let (_, executable) = copy_file(&mut file, &plan.program, program.as_deref(), true, meter)?;
    measurement.add("executable", executable.to_string());

    let mut copies = Vec::new();
    for tree in &plan.trees {
        let to = folder.join(&tree.at);
        if folder.starts_with(&tree.source) {
            return Err(Unmeasurable::HoldsCopies { of: tree.source.clone(), folder: folder.to_owned() });
        }
        if let Some(above) = to.parent().filter(|above| *above != folder && !above.exists()) {
            new_folder(above)?;
        }
        let contents = tree::take(user, &tree.source, Some(&to), meter)?;
        measurement.add("files", contents.digest(Path::new("")).to_string());
        copies.push((contents, to));
    }
    match &plan.script {
        Some((tree, path)) => {
            let script = copies.get(*tree).and_then(|(contents, _)| contents.file(path));
            let missing = || Unmeasurable::Missing {
                root: plan.trees.get(*tree).map_or_else(PathBuf::new, |tree| tree.source.clone()),
                file: path.clone(),
            };
            measurement.add_script(script.ok_or_else(missing)?);
        }
        None if plan.kind == Kind::Binary => measurement.add_script(executable),
        // A class path has no one file; a module may be the interpreter's own.
        None => {}
    }
    if let Some(lock) = copies.first().and_then(|(contents, _)| lock(contents, plan.kind)) {
        measurement.add_lock(lock);
    } else if let Some((contents, _)) = copies.iter().find(|(_, to)| to.ends_with("venv")) {
        measurement.add_lock(contents.digest(Path::new("")));
    }
    if plan.kind == Kind::Python {
        for (contents, to) in &copies {
            stays_together(contents, to)?;
        }
    }

    let most = rule.arguments.unwrap_or(usize::MAX);
    measurement.add("name", plan.name.within(Path::new("")).as_bytes());
    for (number, argument) in plan.arguments.iter().enumerate() {
        let is_measured = number < plan.own || number - plan.own < most;
        if is_measured {
            measurement.add("argument", argument.within(Path::new("")).as_bytes());
        }
    }
    if let Some(most) = rule.arguments {
        measurement.add("arguments measured", most.to_string());
    }
    let listed = rule.env.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>();
    for name in listed {
        // One that is not set is another thing than one that is empty.
        let value = environment.measured.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        measurement.add("environment", name);
        measurement.add(
            if value.is_some() { "value" } else { "unset" },
            value.map_or(&[][..], |value| value.as_bytes()),
        );
    }
    warn(&mut measurement, plan);

    Ok(Measured {
        measurement,
        program: program.unwrap_or_else(|| plan.program.clone()),
        arguments: std::iter::once(&plan.name)
            .chain(&plan.arguments)
            .map(|word| word.within(folder))
            .collect(),
        environment: environment.all,
        directory: plan.directory.as_ref().map(|directory| folder.join(directory)),
    })
}

/// The lock file at the root of a program, else what is installed below it.
fn lock(contents: &Contents, kind: Kind) -> Option<super::measurement::Digest> {
    let (files, folders): (&[&str], &[&str]) = match kind {
        Kind::Python => (
            &["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.lock", "requirements.txt"],
            &[".venv", "venv"],
        ),
        Kind::Node => {
            (&["package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"], &["node_modules"])
        }
        Kind::Java | Kind::Shell | Kind::Binary => return None,
    };
    let file = files.iter().find_map(|name| contents.file(Path::new(name)));
    let folder = || folders.iter().map(Path::new).find(|name| contents.has_folder(name));
    file.or_else(|| folder().map(|name| contents.digest(name)))
}

/// What is installed in a virtual environment must lie in it, and its base must be root's.
fn stays_together(contents: &Contents, copy: &Path) -> Result<(), Unmeasurable> {
    for path in contents.files_in("site-packages", "py") {
        if path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"__editable__")) {
            return Err(Unmeasurable::Editable {
                file: path.to_owned(),
                place: "a folder elsewhere".to_owned(),
            });
        }
    }
    for path in contents.files_in("site-packages", "pth") {
        let file = copy.join(path);
        let text = fs::read(&file).map_err(uncopied(&file))?;
        for line in String::from_utf8_lossy(&text).lines().map(str::trim) {
            let is_code = line.starts_with("import ") || line.starts_with("import\t");
            if line.is_empty() || line.starts_with('#') || is_code {
                continue;
            }
            let place = Path::new(line);
            let is_inside = place.is_relative() && !line.split('/').any(|part| part == "..");
            if !is_inside && !matches!(is_fixed(place), Ok(Ok(_))) {
                return Err(Unmeasurable::Editable { file: path.to_owned(), place: line.to_owned() });
            }
        }
    }
    for path in contents.named("pyvenv.cfg") {
        let file = copy.join(path);
        let text = fs::read(&file).map_err(uncopied(&file))?;
        let text = String::from_utf8_lossy(&text);
        let home = text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim().eq_ignore_ascii_case("home")).then(|| value.trim())
        });
        let home = PathBuf::from(home.unwrap_or_default());
        if !home.is_absolute() || !matches!(is_fixed(&home), Ok(Ok(_))) {
            return Err(Unmeasurable::Loose { program: file, place: home });
        }
    }
    Ok(())
}

/// Says what the digest does not cover.
fn warn(measurement: &mut Measurement, plan: &Plan) {
    for file in &plan.named {
        measurement.warn(format!("the argument {file} names a file whose content is not measured"));
    }
    if plan.kind == Kind::Shell {
        measurement.warn("the programs and files that the script uses are not measured");
    }
    if plan.kind == Kind::Python && plan.script.is_none() {
        measurement.warn("the module is not in the program's folder, so only its name is measured");
    }
    measurement.warn(
        "shared libraries and the interpreter's own library are the system's and are not measured, nor is code that \
         the program fetches while it runs",
    );
}

pub(super) fn new_folder(path: &Path) -> Result<(), Unmeasurable> {
    DirBuilder::new().mode(0o755).create(path).map_err(uncopied(path))?;
    // Whatever the umask.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(uncopied(path))
}
