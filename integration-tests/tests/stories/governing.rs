//! Actors and mandates as code: what an administrator declares, approves and takes back.

use integration_tests::Writ;

/// The file that the page on tasks shows.
fn shown() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tasks.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let (_, yaml) = page.split_once("```yaml\n").expect("it shows a file");
    yaml.split_once("```").expect("the file ends").0.to_owned()
}

fn applied(writ: &Writ, text: &str) -> String {
    let file = writ.data().with_extension("yaml");
    std::fs::write(&file, text).expect("it is ours");
    file.to_string_lossy().into_owned()
}

#[test]
fn what_the_page_shows_is_applied_once_and_counts_once_it_is_approved() {
    let writ = Writ::up();
    let path = applied(&writ, &shown());
    let drift = writ.run(&["diff", "-f", &path]);
    assert_eq!(drift.code, 1, "nothing of it is there yet");
    assert!(drift.out.contains("would be created  mandate sort-tickets"), "{}", drift.out);
    assert!(!drift.err.contains("there is no"), "each is seen on top of those before it: {}", drift.err);
    let done = writ.run(&["apply", "-f", &path]).done();
    assert!(done.out.contains("created  tenant acme"), "{}", done.out);
    let _ = writ.run(&["diff", "-f", &path]).done();
    let _ = writ.run(&["apply", "-f", &path]).done();

    let mandate = || writ.ask(&["mandate", "show", "sort-tickets"])["mandates"][0].clone();
    assert!(mandate()["approved"].is_null(), "a draft gives nothing");
    let other = "0".repeat(64);
    let refused = writ.run(&["mandate", "approve", "sort-tickets", "--sha256", &other]).refused();
    assert!(refused.contains("another one by now"), "{refused}");
    let _ = writ.run(&["mandate", "approve", "sort-tickets"]).done();
    assert_eq!(mandate()["approved"]["one_person"], true);
    assert_eq!(mandate()["approved"]["version"], 1);
    let reach = writ.ask(&["actor", "show", "/agent/triage"])["actors"][0]["standing_reach"].clone();
    assert_eq!(reach, serde_json::json!([]), "it can do nothing unless somebody asks");

    let wider = shown().replace("begin: {workloads: [/scheduler]}", "begin: {itself: true}");
    let path = applied(&writ, &wider);
    let drift = writ.run(&["diff", "-f", &path]);
    assert!(drift.code == 1 && drift.out.contains("would be updated  mandate sort-tickets"), "{}", drift.out);
    let warned = writ.run(&["apply", "-f", &path]).done();
    assert!(warned.err.contains("standing privilege"), "{}", warned.err);
    assert_eq!(mandate()["approved"]["version"], 1, "other terms wait for another approval");
    let _ = writ.run(&["mandate", "approve", "sort-tickets"]).done();
    let shown = writ.run(&["actor", "show", "/agent/triage"]).done().out;
    assert!(shown.contains("standing reach  sort-tickets v2: tickets/list"), "{shown}");
    let _ = writ.run(&["mandate", "withdraw", "sort-tickets"]).done();
    assert!(mandate()["approved"].is_null() && mandate()["draft"]["version"] == 3);
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    let writ = Writ::up();
    for (from, to, says) in [
        ("owner: ada@acme.example", "owner: ''", "owner is empty"),
        ("review_at: 2099-01-01", "review_at: 2001-01-01", "lies in the past"),
        ("ttl: 15m", "ttl: 30h", "the most of tier 1"),
        ("begin: {workloads: [/scheduler]}", "begin: {}", "nobody may begin it"),
        ("tier: 1", "tier: 7", "is not one of the levels"),
        ("param: queue", "param: que", "names the parameter que"),
        ("environments: [default]\n", "environments: [moon]\n", "not in the ceiling"),
    ] {
        let text = shown();
        assert!(text.contains(from), "{from}");
        let answer = writ.run(&["apply", "-f", &applied(&writ, &text.replacen(from, to, 1))]);
        assert_eq!(answer.code, 1, "{to}");
        assert!(answer.err.contains(says), "{to}: {}", answer.err);
    }
}

#[test]
fn kill_switches_and_environments_are_told() {
    let writ = Writ::up();
    let _ = writ.run(&["apply", "-f", &applied(&writ, &shown())]).done();
    let _ = writ.run(&["actor", "disable", "/agent/triage", "--why", "it ran wild"]).done();
    let actor = || writ.ask(&["actor", "show", "/agent/triage"])["actors"][0].clone();
    assert_eq!(actor()["disabled"], "it ran wild");
    let _ = writ.run(&["actor", "enable", "/agent/triage"]).done();
    assert!(actor()["disabled"].is_null());
    let _ = writ.run(&["tenant", "disable", "acme", "--why", "not paid"]).done();
    assert!(writ.run(&["tenant", "list"]).done().out.contains("disabled: not paid"));
    let _ = writ.run(&["tenant", "enable", "acme"]).done();
    let _ = writ.run(&["node", "set-environment", "local", "prod"]).done();
    assert!(writ.run(&["node", "list"]).done().out.contains("prod"));
    assert_eq!(writ.ask(&["task", "list"])["tasks"], serde_json::json!([]));
    let none = "01JD8000000000000000000000";
    assert!(writ.run(&["task", "end", none, "--why", "x"]).refused().contains("there is no task"));
    assert!(writ.run(&["entry", "show"]).done().out.contains("task only"));
}

#[test]
fn a_directory_of_policies_is_checked_here_and_pushed_layer_by_layer() {
    let writ = Writ::up();
    let _ = writ.run(&["apply", "-f", &applied(&writ, &shown())]).done();
    let folder = writ.data().with_extension("policies");
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("it is ours");
        std::fs::write(path, text).expect("it is ours");
    };
    let path = folder.to_string_lossy().into_owned();
    put("actor/acme/base.cedar", "permit(principal, action, resource);");
    put("platform/lab.cedar", "forbid(principal, action, resource) when { context.nonsense };");
    assert_eq!(writ.run(&["policy", "check", &path]).code, 1, "what does not validate is told");
    assert!(writ.run(&["policy", "push", &path]).code != 0, "and refused by the server");
    put("platform/lab.cedar", "// forbids nothing");
    put("platform/lab.lowers.yaml", "egress: [2]");
    let _ = writ.run(&["policy", "check", &path]).done();
    let _ = writ.run(&["policy", "push", &path]).done();
    assert!(writ.run(&["policy", "show"]).done().out.contains("lowers egress of tier 2"));
    assert!(writ.run(&["status"]).done().out.contains("platform/lab lowers"));
    let again = writ.run(&["policy", "push", &path]).done().out;
    assert!(again.contains("actor/acme: nothing changed"), "{again}");
    std::fs::remove_file(folder.join("platform/lab.lowers.yaml")).expect("it is ours");
    let _ = writ.run(&["policy", "push", &path]).done();
    assert!(!writ.run(&["policy", "show"]).done().out.contains("lowers egress"));
}
