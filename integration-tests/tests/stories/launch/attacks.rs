//! What somebody of the same user tries while a launch is measured, and what a launch must not be used for.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use integration_tests::{Answer, needs, writ_binary};

use super::{Place, USER, give};

/// Makes whoever measures look at one file and the one that runs find another, in one of four ways.
fn swap(place: &Place, way: usize, good: &str, evil: &str) {
    let script = place.app().join("main.py");
    let beside = place.folder.join("beside");
    let put = |text: &str| {
        fs::write(&beside, text).expect("ours");
        give(&beside);
    };
    // A file that is not there at this moment is what the race is about.
    match way {
        0 => {
            let _ = fs::write(&script, evil);
            let _ = fs::write(&script, good);
        }
        1 => {
            put(evil);
            let _ = fs::rename(&beside, &script);
            put(good);
            let _ = fs::rename(&beside, &script);
        }
        2 => {
            let _ = fs::remove_file(&script);
            let _ = symlink("../evil/main.py", &script);
            let _ = fs::remove_file(&script);
            let _ = fs::write(&script, good);
        }
        _ => {
            let (app, away) = (place.app(), place.folder.join("away"));
            let _ = fs::rename(&app, &away);
            let _ = symlink(place.folder.join("evil"), &app);
            let _ = fs::remove_file(&app);
            let _ = fs::rename(&away, &app);
        }
    }
}

#[test]
fn edits_renames_and_links_while_a_launch_is_measured_never_give_another_program_the_identity_40_rounds() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    let asks = place.asks();
    let program = |word: &str| {
        format!(
            "import subprocess, sys\nprint('{word}')\nsys.stdout.flush()\nsys.exit(subprocess.run({asks:?}.split()).returncode)\n"
        )
    };
    let (good, evil) = (program("good"), program("evil"));
    let script = place.write("main.py", &good);
    let other = place.make_folder("evil");
    fs::write(other.join("main.py"), &evil).expect("ours");
    place.register("/good", &["/usr/bin/python3", "main.py"]);
    place.is("/good", &["/usr/bin/python3", "main.py"]);
    let script = script.display().to_string();
    let id = place.writ.id("/good");
    let (mut served, mut refused) = (0, 0);
    for round in 0..40 {
        let stop = AtomicBool::new(false);
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    swap(&place, round % 4, &good, &evil);
                }
            });
            let mut command = place.command(&["--", "/usr/bin/python3", &script]);
            let answer = Answer::of(command.current_dir("/"));
            stop.store(true, Ordering::Relaxed);
            answer
        });
        assert!(
            !(answer.out.contains("evil") && answer.out.contains(&id)),
            "round {round}: the other program was served\n{answer:?}"
        );
        served += usize::from(answer.out.contains(&id));
        refused += usize::from(!answer.out.contains(&id));
    }
    assert_eq!(served + refused, 40);
    // Afterwards all is as before.
    place.is("/good", &["/usr/bin/python3", "main.py"]);
}

/// Opening a pipe waits for whoever writes to it.
#[test]
fn a_pipe_where_a_file_should_be_keeps_no_launch_waiting() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    for name in ["main.py", "program"] {
        let mut make = Command::new("mkfifo");
        let made = make.args(["--mode", "777"]).arg(place.app().join(name)).uid(USER).gid(USER);
        let _ = Answer::of(made).done();
    }
    symlink("program", place.app().join("link.sh")).expect("ours");
    let other = place.make_folder("other").join("good.sh");
    fs::write(&other, "echo good\n").expect("ours");
    for program in [
        &["/usr/bin/python3", "main.py"][..],
        &["sh", "main.py"],
        &["sh", "link.sh"],
        &["./program"],
        &["./link.sh"],
    ] {
        let mut run = integration_tests::Running::start(
            place.command(&["--"]).args(program),
            "run",
            place.folder.path(),
        );
        let ended = run.ended(crate::SOON * 3);
        assert!(!ended.success(), "{program:?}: {ended}");
        // Nor has it kept the agent's hands full.
        let good = place.run(&["sh", &other.display().to_string()]);
        assert_eq!((good.code, good.out.as_str()), (0, "good\n"), "{program:?}: {good:?}");
    }
}

#[test]
fn a_running_program_imports_what_was_measured_whatever_lies_at_its_place_by_then() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    let asks = place.asks();
    place.write(
        "main.py",
        &format!(
            "import subprocess, sys\nprint('ready', flush=True)\nsys.stdin.readline()\nimport late\nprint(late.WORD, flush=True)\n\
             sys.exit(subprocess.run({asks:?}.split()).returncode)\n"
        ),
    );
    place.write("late.py", "WORD = 'measured'\n");
    let program = ["/usr/bin/python3", "main.py"];
    place.register("/late", &program);
    let mut run =
        integration_tests::Running::start(place.command(&["--"]).args(program), "run", place.folder.path());
    assert_eq!(run.line(crate::SOON), "ready");
    place.write("late.py", "WORD = 'edited'\n");
    fs::rename(place.app(), place.folder.join("away")).expect("ours");
    place.make_folder("app");
    place.write("late.py", "WORD = 'another'\n");
    run.say("go on");
    assert_eq!(run.line(crate::SOON), "measured");
    assert!(run.line(crate::SOON).contains(&place.writ.id("/late")));
}

/// Why the copies are not mounted over the originals (docs/decisions: the copy runs).
#[test]
fn a_mount_over_a_users_file_would_not_hold_since_its_user_can_take_it_away_from_elsewhere() {
    if !needs::root() {
        return;
    }
    let folder = integration_tests::Folder::new();
    let app = folder.join("app");
    fs::create_dir(&app).expect("ours");
    give(&app);
    fs::write(app.join("x"), "original\n").expect("ours");
    let copy = folder.write("copy", "measured\n");
    let script = format!("mount --bind {0:?} {1:?}/x && cat {1:?}/x && read go && cat {1:?}/x", copy, app);
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let mut inside = integration_tests::Running::start(&mut inside, "inside", folder.path());
    assert_eq!(inside.line(crate::SOON), "measured");
    let replace = ["-c", "rm -f \"$0\" && echo another > \"$0\""];
    let file = app.join("x");
    let _ = Answer::of(Command::new("sh").args(replace).arg(&file).uid(USER).gid(USER)).done();
    inside.say("go");
    assert_eq!(inside.line(crate::SOON), "another");
}

#[test]
fn what_a_user_may_not_read_is_not_measured_for_it_and_copies_are_for_its_eyes_only() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    let secret = place.folder.write("secret.sh", "echo secret\n");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    symlink(&secret, place.app().join("link.sh")).expect("ours");
    for program in [["sh", "../secret.sh"], ["sh", "link.sh"]] {
        let refused = place.run(&program).refused();
        assert!(refused.contains("Permission denied"), "{refused}");
    }
    // A launched program reads its own copy, and another user does not.
    place.write("show.sh", "echo $0; exec sleep 600\n");
    let run = integration_tests::Running::start(
        &mut place.command(&["--", "sh", "show.sh"]),
        "run",
        place.folder.path(),
    );
    let copy = run.line(crate::SOON);
    let cat = |uid: u32| Answer::of(Command::new("cat").arg(&copy).uid(uid).gid(uid)).code;
    assert_eq!((cat(USER), cat(1)), (0, 1), "{copy}");
    let write = Answer::of(Command::new("sh").args(["-c", "echo evil > \"$0\"", &copy]).uid(USER).gid(USER));
    assert_ne!(write.code, 0, "its own user changed it");
}

#[test]
fn a_launch_is_no_way_out_of_a_sandbox() {
    if !needs::root() || !needs::program("setpriv", "util-linux") || !needs::program("unshare", "util-linux")
    {
        return;
    }
    let place = Place::up();
    place.write("x.sh", "echo out\n");
    let (writ, socket) =
        (writ_binary().display().to_string(), place.writ.workload_socket().display().to_string());
    for (sandbox, says) in [
        (&["setpriv", "--no-new-privs"][..], "no_new_privs"),
        (&["unshare", "--mount"], "mount namespace"),
        (&["unshare", "--user", "--map-root-user"], ""),
        (&["unshare", "--cgroup"], "cgroup namespace"),
    ] {
        let mut command = Command::new(sandbox[0]);
        command.args(&sandbox[1..]).args([&writ, "run", "--socket", &socket, "--", "sh", "x.sh"]);
        let answer = Answer::of(command.current_dir(place.app()));
        assert!(answer.code != 0 && !answer.out.contains("out"), "{sandbox:?}: {answer:?}");
        assert!(answer.err.contains(says), "{sandbox:?}: {answer:?}");
    }
    // A network of its own is kept.
    place.write("net.sh", "cat /proc/net/dev\n");
    let mut command = Command::new("unshare");
    command.args(["--net", &writ, "run", "--socket", &socket, "--", "sh", "net.sh"]);
    let answer = Answer::of(command.current_dir(place.app())).done();
    assert_eq!(answer.out.lines().count(), 3, "a new network has a loopback and no more: {}", answer.out);
}
