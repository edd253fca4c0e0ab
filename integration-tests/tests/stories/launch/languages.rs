//! Real interpreters, and what makes another program of one.

use std::fs;
use std::process::Command;

use integration_tests::{Answer, needs, test_workload};

use super::{Place, give, make_executable};

const PYTHON: &str = "/usr/bin/python3";

/// A Python program that imports a module beside it and asks who it is.
fn python(place: &Place) {
    let asks = place.asks();
    place.write(
        "main.py",
        &format!("import helper, subprocess, sys\nsys.stdout.flush()\nsys.exit(subprocess.run({asks:?}.split()).returncode)\n"),
    );
    place.write("helper.py", "ANSWER = 42\n");
    place.write("requirements.lock", "example==1.0\n");
}

#[test]
fn python_node_java_shell_and_a_static_binary_each_receive_their_identity_by_measurement() {
    if !needs::root()
        || !needs::program("node", "nodejs")
        || !needs::program("javac", "openjdk-17-jdk-headless")
    {
        return;
    }
    let place = Place::up();
    let asks = place.asks();
    python(&place);

    let other = place.make_folder("app/node");
    let script = place.write(
        "node/main.js",
        &format!("process.exit(require('child_process').spawnSync({asks:?}, {{shell: true, stdio: 'inherit'}}).status)"),
    );
    place.write("node/package.json", "{\"name\": \"example\"}");
    place.write("node/package-lock.json", "{}");
    assert!(script.starts_with(&other));

    place.write("ask.sh", &format!("exec {asks}\n"));

    place.make_folder("app/java");
    let source = place.write(
        "java/Main.java",
        &format!(
            "public class Main {{ public static void main(String[] a) throws Exception {{\n\
             System.exit(new ProcessBuilder({asks:?}.split(\" \")).inheritIO().start().waitFor()); }} }}"
        ),
    );
    let java = place.app().join("java");
    let _ = Answer::of(Command::new("javac").arg(&source).current_dir(&java)).done();
    let _ =
        Answer::of(Command::new("jar").args(["cfe", "main.jar", "Main", "Main.class"]).current_dir(&java))
            .done();

    let source = place.write(
        "ask.c",
        &format!(
            "#include <unistd.h>\nint main(void) {{ return execl({:?}, \"ask\", \"fetch\", {:?}, (char *)0); }}\n",
            test_workload().display().to_string(),
            place.writ.workload_socket().display().to_string()
        ),
    );
    let binary = place.app().join("ask");
    let _ = Answer::of(Command::new("gcc").args(["-static", "-o"]).arg(&binary).arg(&source)).done();
    give(&binary);

    let programs: [(&str, &[&str]); 6] = [
        ("/python", &[PYTHON, "-u", "main.py", "--mode", "fast"]),
        ("/node", &["node", "node/main.js"]),
        ("/java", &["java", "-Xmx64m", "-jar", "java/main.jar"]),
        ("/java-class", &["java", "-cp", "java", "Main"]),
        ("/shell", &["sh", "ask.sh"]),
        ("/binary", &["./ask"]),
    ];
    for (path, program) in programs {
        place.register(path, program);
    }
    for (path, program) in programs {
        place.is(path, program);
    }

    for edited in ["main.py", "node/main.js", "java/main.jar", "java/Main.class", "ask.sh", "ask"] {
        let file = place.app().join(edited);
        let mut bytes = fs::read(&file).expect("readable");
        bytes.push(b'\n');
        fs::write(&file, bytes).expect("writable");
    }
    for (path, program) in programs {
        // An archive that was edited may not even run.
        let answer = place.run(program);
        assert!(!answer.out.contains(&place.writ.id(path)), "{program:?}: {answer:?}");
    }
}

#[test]
fn an_edited_module_lock_dependency_argument_or_variable_makes_another_program() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    python(&place);
    place.make_folder("app/.venv");
    let _ =
        Answer::of(Command::new(PYTHON).args(["-m", "venv", "--without-pip"]).arg(place.app().join(".venv")))
            .done();
    let packages =
        fs::read_dir(place.app().join(".venv/lib")).expect("there").flatten().next().expect("one").path();
    let dependency = packages.join("site-packages/dependency.py");
    fs::write(&dependency, "X = 1\n").expect("ours");
    let program = [".venv/bin/python", "-u", "main.py", "one"];
    place.register("/agent", &program);
    place.is("/agent", &program);

    let measured = place.measure(&program);
    let selectors: Vec<_> =
        measured["selectors"].as_array().expect("some").iter().map(ToString::to_string).collect();
    let lock = Answer::of(Command::new("sha256sum").arg(place.app().join("requirements.lock"))).done().out;
    assert!(selectors.contains(&format!("\"launch:lock_sha256:{}\"", &lock[..64])), "{selectors:?}");
    let script = Answer::of(Command::new("sha256sum").arg(place.app().join("main.py"))).done().out;
    assert!(selectors.contains(&format!("\"launch:script_sha256:{}\"", &script[..64])), "{selectors:?}");

    for (file, change) in [
        (place.app().join("helper.py"), "ANSWER = 43\n"),
        (place.app().join("requirements.lock"), "example==1.1\n"),
        (dependency, "X = 2\n"),
        (place.app().join("new.py"), "\n"),
    ] {
        let before = fs::read(&file).ok();
        fs::write(&file, change).expect("ours");
        place.is_nobody(&program);
        match before {
            Some(before) => fs::write(&file, before).expect("ours"),
            None => fs::remove_file(&file).expect("ours"),
        }
        place.is("/agent", &program);
    }
    place.is_nobody(&[".venv/bin/python", "-u", "main.py", "two"]);
    place.is_nobody(&[PYTHON, "-u", "main.py", "one"]);

    // What Python would rather read than the source is no part of the program, so it cannot be poisoned.
    place.make_folder("app/__pycache__");
    place.write("__pycache__/helper.cpython-311.pyc", "not code");
    place.is("/agent", &program);
}

#[test]
fn what_would_load_other_code_is_left_out_or_refused() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    let evil = place.make_folder("evil");
    fs::write(evil.join("helper.py"), "print('evil')\n").expect("ours");
    fs::write(evil.join("sitecustomize.py"), "print('evil')\n").expect("ours");
    place.write("main.py", "import os, sys\nprint('ran', sorted(os.environ), sys.path)\n");
    let mut command = place.command(&["--", PYTHON, "main.py"]);
    let evil = evil.display().to_string();
    for name in [
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONHOME",
        "HOME",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LC_ALL",
        "ANYTHING",
    ] {
        if name != "LD_PRELOAD" && name != "LD_LIBRARY_PATH" && name != "PYTHONHOME" {
            command.env(name, &evil);
        }
    }
    let answer = Answer::of(&mut command).done();
    assert!(answer.out.starts_with("ran ") && !answer.out.contains("evil"), "{answer:?}");

    for (program, says) in [
        (&[PYTHON, "-c", "1"][..], "-c"),
        (&[PYTHON], "no program"),
        (&["sh", "-c", "true"], "-c"),
        (&["env", PYTHON, "main.py"], "runs other programs"),
        (&["perl", "-e", "1"], "runs other programs"),
        (&["no-such-program"], "on PATH"),
        (&[PYTHON, "none.py"], "none.py"),
    ] {
        let refused = place.run(program).refused();
        assert!(refused.contains(says), "{program:?}: {refused}");
    }

    // An interpreter that its user can change is none.
    let own = place.app().join("python3");
    fs::copy(PYTHON, &own).expect("ours");
    give(&own);
    make_executable(&own);
    let refused = place.run(&["./python3", "main.py"]).refused();
    assert!(refused.contains("can be changed by others than root"), "{refused}");
}
