//! SPIRE's own command line, unmodified, drives a Writ server. The oracle is SPIRE's own server beside it:
//! the same commands must end alike and answer in the same form.

use std::path::Path;

use integration_tests::spire::{Commands, Server as SpireServer};
use integration_tests::{Folder, daemon, node};
use serde_json::Value;

/// What one server answered, command by command.
struct Side<'a> {
    commands: &'a Commands,
    said: Vec<(String, i32, Value)>,
}

impl Side<'_> {
    /// Runs a command, notes how it ended, and gives back its answer.
    fn run(&mut self, arguments: &[&str]) -> Value {
        let answer = self.commands.run(&[arguments, &["-output", "json"]].concat());
        let json = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
        self.said.push((arguments.join(" "), answer.code, form(&json)));
        json
    }

    /// The same where Writ answers otherwise on purpose: both must do it, or both refuse.
    fn run_loosely(&mut self, _reason: &str, arguments: &[&str]) -> Value {
        let answer = self.commands.run(&[arguments, &["-output", "json"]].concat());
        let json: Value = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
        let is_done =
            json["results"].as_array().is_none_or(|all| all.iter().all(|one| one["status"]["code"] == 0));
        self.said.push((arguments.join(" "), answer.code, is_done.into()));
        json
    }

    /// The same for commands that print no JSON.
    fn plain(&mut self, arguments: &[&str]) -> String {
        let answer = self.commands.run(arguments);
        self.said.push((arguments.join(" "), answer.code, Value::Null));
        answer.out
    }
}

/// An answer without what must differ between two servers.
fn form(json: &Value) -> Value {
    const OWN: [&str; 15] = [
        "created_at",
        "expires_at",
        "x509svid_expires_at",
        "x509svid_serial_number",
        "asn1",
        "key_id",
        "public_key",
        "authority_id",
        "value",
        "token",
        "sequence_number",
        "refresh_hint",
        "svid_chain",
        "uptime",
        "message",
    ];
    match json {
        Value::Object(members) => {
            let kept = members.iter().map(|(name, value)| {
                let masked = match value {
                    Value::String(_) | Value::Number(_) if OWN.contains(&name.as_str()) => "…".into(),
                    // Entries' ids are texts, and those of SPIFFE are objects.
                    Value::String(id) if name == "id" && id.len() == 36 => "…".into(),
                    value => form(value),
                };
                (name.clone(), masked)
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(form).collect()),
        other => other.clone(),
    }
}

/// Runs one story on both servers and compares.
fn both(story: impl Fn(&mut Side<'_>, &str)) {
    let Some(spire) = SpireServer::start("") else { return };
    let writ = daemon::Server::start("");
    let Some(commands) = Commands::at(writ.socket()) else { return };
    let mut theirs = Side { commands: &spire.commands, said: Vec::new() };
    story(&mut theirs, &spire.address);
    let mut ours = Side { commands: &commands, said: Vec::new() };
    story(&mut ours, writ.address());
    let mut different = Vec::new();
    for (theirs, ours) in theirs.said.iter().zip(&ours.said) {
        let is_same = theirs.1 == ours.1 && theirs.2 == ours.2;
        if !is_same {
            let (command, code, json) = theirs;
            different.push(format!(
                "spire-server {command}\n  SPIRE: {code} {json}\n  Writ:  {} {}",
                ours.1, ours.2
            ));
        }
    }
    assert_eq!(theirs.said.len(), ours.said.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}

const PARENT: &str = "spiffe://writ.local/parent";

#[test]
fn entries_are_created_shown_updated_counted_and_deleted() {
    let folder = Folder::new();
    let data = folder.write(
        "entries.json",
        r#"{"entries":[{"spiffe_id":"spiffe://writ.local/d1","parent_id":"spiffe://writ.local/parent",
            "selectors":[{"type":"unix","value":"uid:1"}],"dns_names":["a.example"],"hint":"h"},
            {"entry_id":"d2","spiffe_id":"spiffe://writ.local/d2","parent_id":"spiffe://writ.local/parent",
            "selectors":[{"type":"unix","value":"uid:2"}],"admin":true}]}"#,
    );
    let (data, ids) = (text(&data), text(&folder.write("ids.json", r#"{"ids":["e2","nobody"]}"#)));
    both(|side, _| {
        let create = ["entry", "create", "-parentID", PARENT, "-spiffeID"];
        let with = |id: &'static str, more: &[&'static str]| [&create[..], &[id], more].concat();
        let made = side.run(&with("spiffe://writ.local/e1", &["-selector", "unix:uid:1"]));
        let id = made["results"][0]["entry"]["id"].as_str().unwrap_or_default().to_owned();
        side.run(&with("spiffe://writ.local/e1", &["-selector", "unix:uid:1"]));
        side.run(&with(
            "spiffe://writ.local/e2",
            &[
                "-entryID",
                "e2",
                "-selector",
                "unix:uid:1",
                "-selector",
                "unix:gid:2",
                "-x509SVIDTTL",
                "60",
                "-jwtSVIDTTL",
                "30",
                "-admin",
                "-downstream",
                "-dns",
                "one.example",
                "-dns",
                "two.example",
                "-hint",
                "second",
                "-entryExpiry",
                "4102444800",
                "-disableX509SVIDPrefetch",
                "-jwtSVIDIncludeJTI",
            ],
        ));
        side.run(&with("spiffe://writ.local/e3", &["-selector", "unix:uid:3", "-storeSVID"]));
        side.run(&with("spiffe://other.example/e4", &["-selector", "unix:uid:3"]));
        side.run(&with("spiffe://writ.local/e5", &["-selector", "unix"]));
        let unknown = ["-selector", "unix:uid:6", "-federatesWith", "spiffe://unknown.example"];
        let reason = "SPIRE calls it an internal error";
        side.run_loosely(reason, &[&create[..], &["spiffe://writ.local/e6"], &unknown].concat());
        side.run(&[
            "entry",
            "create",
            "-node",
            "-spiffeID",
            "spiffe://writ.local/rack",
            "-selector",
            "rack:7",
        ]);
        side.run(&["entry", "create", "-data", &data]);
        for filter in [
            &["-entryID", "e2"][..],
            &["-entryID", "nobody"],
            &["-spiffeID", "spiffe://writ.local/e1"],
            &["-parentID", PARENT],
            &["-selector", "unix:uid:1"],
            &["-selector", "unix:uid:1", "-matchSelectorsOn", "exact"],
            &["-selector", "unix:uid:1", "-selector", "unix:gid:2", "-matchSelectorsOn", "subset"],
            &["-selector", "unix:uid:3", "-selector", "unix:gid:2", "-matchSelectorsOn", "any"],
            &["-downstream"],
            &["-hint", "second"],
        ] {
            side.run(&[&["entry", "show"], filter].concat());
        }
        for filter in [&[][..], &["-parentID", PARENT], &["-hint", "second"], &["-selector", "unix:uid:1"]] {
            side.run(&[&["entry", "count"], filter].concat());
        }
        let changed = ["-parentID", PARENT, "-spiffeID", "spiffe://writ.local/e9", "-selector", "unix:uid:9"];
        side.run(&[&["entry", "update", "-entryID", &id][..], &changed, &["-hint", "new"]].concat());
        side.run(&[&["entry", "update", "-entryID", "nobody"][..], &changed].concat());
        side.run(&["entry", "show", "-entryID", &id]);
        side.run(&["entry", "delete", "-entryID", &id]);
        side.run(&["entry", "delete", "-entryID", &id]);
        side.run(&["entry", "delete", "-file", &ids]);
        side.run(&["entry", "count"]);
    });
}

#[test]
fn bundles_are_shown_set_listed_and_deleted() {
    let folder = Folder::new();
    both(|side, _| {
        side.run(&["bundle", "show"]);
        side.run(&["bundle", "count"]);
        let pem = text(&folder.write("foreign.pem", side.plain(&["bundle", "show"])));
        let document =
            text(&folder.write("foreign.json", side.plain(&["bundle", "show", "-format", "spiffe"])));
        let other = ["-id", "spiffe://other.example"];
        side.run(&[&["bundle", "set", "-path", &pem][..], &other].concat());
        side.run(&[&["bundle", "set", "-format", "spiffe", "-path", &document][..], &other].concat());
        side.run(&["bundle", "set", "-path", &pem, "-id", "spiffe://writ.local"]);
        side.run(&["bundle", "list"]);
        side.run(&[&["bundle", "list"][..], &other].concat());
        side.run(&["bundle", "list", "-id", "spiffe://nobody.example"]);
        side.run(&["bundle", "count"]);
        let entry = ["entry", "create", "-parentID", PARENT, "-spiffeID", "spiffe://writ.local/f"];
        let federated = ["-selector", "unix:uid:1", "-federatesWith", "spiffe://other.example"];
        side.run(&[&entry[..], &federated].concat());
        side.run(&["entry", "show", "-federatesWith", "spiffe://other.example"]);
        side.run(&[&["bundle", "delete", "-mode", "restrict"][..], &other].concat());
        side.run(&[&["bundle", "delete", "-mode", "dissociate"][..], &other].concat());
        let reason = "SPIRE does not count it as a revision, so that no agent hears of it";
        let left = side.run_loosely(reason, &["entry", "show", "-spiffeID", "spiffe://writ.local/f"]);
        assert_eq!(left["entries"][0]["federates_with"], serde_json::json!([]), "{left}");
        side.run(&[&["bundle", "set", "-path", &pem][..], &other].concat());
        side.run(
            &[&entry[..], &["-selector", "unix:uid:2", "-federatesWith", "spiffe://other.example"]].concat(),
        );
        side.run(&[&["bundle", "delete", "-mode", "delete"][..], &other].concat());
        side.run(&["entry", "count"]);
        side.run(&[&["bundle", "delete"][..], &other].concat());
    });
}

#[test]
fn agents_are_shown_listed_counted_banned_evicted_and_purged() {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    both(|side, address| {
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let token = side.run(&["token", "generate", "-ttl", "60"]);
            let token = token["value"].as_str().unwrap_or_default().to_owned();
            runtime.block_on(node::join(address, &token)).expect("a token lets a node join");
            // Writ's tokens have a name and a secret, and only the name is in the ID.
            let name = token.rsplit_once('.').map_or(token.as_str(), |(name, _)| name);
            nodes.push(format!("spiffe://writ.local/spire/agent/join_token/{name}"));
        }
        for node in &nodes {
            shape(side, &["agent", "show", "-spiffeID", node]);
        }
        for filter in [
            &[][..],
            &["-attestationType", "join_token"],
            &["-attestationType", "x509pop"],
            &["-banned", "true"],
            &["-canReattest", "true"],
            &["-expiresBefore", "2000-01-01 00:00:00 -0000 -00"],
        ] {
            shape(side, &[&["agent", "list"], filter].concat());
            side.run(&[&["agent", "count"], filter].concat());
        }
        shape(side, &["agent", "ban", "-spiffeID", &nodes[0]]);
        side.run(&["agent", "count", "-banned", "true"]);
        shape(side, &["agent", "evict", "-spiffeID", &nodes[1]]);
        side.run(&["agent", "count"]);
        side.run(&["agent", "show", "-spiffeID", "spiffe://writ.local/spire/agent/join_token/nobody"]);
        side.run(&["agent", "evict", "-spiffeID", "spiffe://writ.local/spire/agent/join_token/nobody"]);
        side.run(&["agent", "purge", "-dryRun"]);
        side.run(&["agent", "purge", "-expiredFor", "1h"]);
    });
}

#[test]
fn svids_are_minted() {
    both(|side, _| {
        let x509 = side.plain(&["x509", "mint", "-spiffeID", "spiffe://writ.local/m", "-dns", "m.example"]);
        assert!(x509.contains("BEGIN CERTIFICATE"), "{x509}");
        side.plain(&["x509", "mint", "-spiffeID", "spiffe://writ.local/m", "-ttl", "60s"]);
        side.plain(&["x509", "mint", "-spiffeID", "spiffe://other.example/m"]);
        let jwt = ["jwt", "mint", "-spiffeID", "spiffe://writ.local/m"];
        let token = side.plain(&[&jwt[..], &["-audience", "a", "-audience", "b"]].concat());
        assert_eq!(token.trim().split('.').count(), 3, "{token}");
        side.plain(&[&jwt[..], &["-audience", "a", "-ttl", "30s"]].concat());
        side.plain(&["jwt", "mint", "-spiffeID", "spiffe://other.example/m", "-audience", "a"]);
    });
}

#[test]
fn authorities_are_prepared_activated_tainted_and_revoked() {
    both(|side, _| {
        for kind in ["x509", "jwt"] {
            let named =
                |json: &Value, slot: &str| json[slot]["authority_id"].as_str().unwrap_or_default().to_owned();
            let old = named(&side.run(&["localauthority", kind, "show"]), "active");
            let next = named(&side.run(&["localauthority", kind, "prepare"]), "prepared_authority");
            assert!(!old.is_empty() && !next.is_empty(), "{:?}", side.said);
            let mut with = |verb: &str, id: &str| {
                let answer =
                    side.commands.run(&["localauthority", kind, verb, "-authorityID", id, "-output", "json"]);
                let json = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
                side.said.push((format!("localauthority {kind} {verb}"), answer.code, form(&json)));
            };
            with("taint", &old);
            with("revoke", &old);
            with("activate", "nobody");
            with("activate", &next);
            with("revoke", &old);
            with("taint", &old);
            with("taint", &old);
            with("revoke", &old);
            with("revoke", &old);
            let reason = "SPIRE goes on showing an authority that was revoked";
            side.run_loosely(reason, &["localauthority", kind, "show"]);
        }
    });
}

#[test]
fn its_log_its_health_and_its_tokens_answer() {
    both(|side, _| {
        side.plain(&["healthcheck"]);
        side.plain(&["healthcheck", "-verbose"]);
        side.run(&["logger", "set", "-level", "debug"]);
        side.run(&["logger", "get"]);
        side.run(&["logger", "set", "-level", "loud"]);
        shape(side, &["logger", "reset"]);
        let info = side.commands.run(&["debug", "getinfo", "-output", "json"]);
        side.said.push(("debug getinfo".to_owned(), info.code, Value::Null));
        side.run(&["token", "generate"]);
        side.run(&["token", "generate", "-ttl", "30", "-spiffeID", "spiffe://writ.local/rack"]);
        side.run(&["token", "generate", "-ttl", "-1"]);
        side.run(&["token", "generate", "-spiffeID", "spiffe://other.example/rack"]);
    });
}

#[test]
fn what_comes_later_says_that_it_is_not_there() {
    let writ = daemon::Server::start("");
    let Some(commands) = Commands::at(writ.socket()) else { return };
    for later in [
        &["federation", "list"][..],
        &["federation", "show", "-trustDomain", "other.example"],
        &["federation", "delete", "-id", "spiffe://other.example"],
        &["federation", "refresh", "-id", "spiffe://other.example"],
        &["upstreamauthority", "taint", "-subjectKeyID", "aa"],
        &["upstreamauthority", "revoke", "-subjectKeyID", "aa"],
    ] {
        let answer = commands.run(later);
        assert_ne!(answer.code, 0, "{later:?}: {}", answer.out);
        assert!(answer.err.contains("Unimplemented"), "{later:?}: {}", answer.err);
    }
}

/// Runs a command whose answer has the node's own name in it, and compares what is left.
fn shape(side: &mut Side<'_>, arguments: &[&str]) {
    let answer = side.commands.run(&[arguments, &["-output", "json"]].concat());
    let json: Value = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
    let names: Vec<_> = arguments.iter().filter(|word| !word.starts_with("spiffe://")).copied().collect();
    side.said.push((names.join(" "), answer.code, paths_masked(form(&json))));
}

fn paths_masked(json: Value) -> Value {
    match json {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| match name.as_str() {
                    "path" | "selectors" | "agent_version" => (name, "…".into()),
                    _ => (name, paths_masked(value)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(paths_masked).collect()),
        other => other,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
