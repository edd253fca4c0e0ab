//! An administrator mints what no entry gives, and nobody can tell it from any other SVID.

use integration_tests::{Folder, Writ};

use crate::own_uid;

#[test]
fn what_is_minted_is_an_svid_that_others_believe_and_the_rules_of_ids_hold_for_it() {
    let writ = Writ::up();
    let folder = Folder::new();
    let dir = folder.path().join("svid");
    let dir = dir.to_str().expect("its name is a text");
    let minted = writ.ask(&["mint", "x509", "--spiffe-id", "/break-glass", "--ttl", "2m", "--write", dir]);
    assert_eq!(minted["spiffe_id"], writ.id("/break-glass"));
    for name in ["svid.pem", "key.pem", "bundle.pem"] {
        assert!(
            std::fs::read_to_string(format!("{dir}/{name}")).is_ok_and(|pem| pem.starts_with("-----BEGIN "))
        );
    }

    writ.entry("/judge", &[&own_uid()]);
    let minted = writ.ask(&["mint", "jwt", "--spiffe-id", "/break-glass", "--audience", "db"]);
    let token = minted["token"].as_str().expect("a token");
    let judged = writ.ask(&["fetch", "jwt", "--audience", "db", "--validate", token]);
    assert_eq!(judged["spiffe_id"], writ.id("/break-glass"));

    for id in ["/spire/server", "/writ/any-node", "spiffe://other.example/a"] {
        let refused = writ.run(&["mint", "jwt", "--spiffe-id", id, "--audience", "db"]);
        assert_ne!(refused.code, 0, "{id}: {}", refused.out);
    }
    assert_eq!(writ.run(&["mint", "x509", "--spiffe-id", "/a", "--ttl", "1500ms"]).code, 2);
}
