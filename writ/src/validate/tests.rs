//! The protocol line by line, and one case of each operation; the operations' own rules are tested in `core/spiffe`.

use std::{cell::RefCell, rc::Rc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::*;

/// An authority that is valid from 2026 to 2036.
const ROOT: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBSDCB76ADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXIwHhcNMjYw\n\
MTAxMDAwMDAwWhcNMzYwMTAxMDAwMDAwWjAMMQowCAYDVQQDDAFyMFkwEwYHKoZI\n\
zj0CAQYIKoZIzj0DAQcDQgAEo6TMgCn0MGm7Kq0ibMuC8WdpeXsWKBqvFiXYQcu6\n\
wbgJcMUMXm+cz0ilRdvilQb1Qkurmp1meNhak1ioXHZY7aNCMEAwDwYDVR0TAQH/\n\
BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHQYDVR0OBBYEFBWH0kGG9BEaG+R04KxG\n\
Y02bduk4MAoGCCqGSM49BAMCA0gAMEUCIQDxGw27tk2yLQj5tslfMzWEnQS9l5i3\n\
PP+Z8WIiF9zXmQIgc7M2r9kzRjIFZozFKUNqZ7wU+uXee6uMwdbAHYat0n0=\n\
-----END CERTIFICATE-----\n";
/// The X509-SVID of `spiffe://acme.example/web` under it.
const SVID: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBVjCB/aADAgECAgECMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXIwHhcNMjYw\n\
MTAxMDAwMDAwWhcNMzYwMTAxMDAwMDAwWjAAMFkwEwYHKoZIzj0CAQYIKoZIzj0D\n\
AQcDQgAELxe0afA/02SKrmWc9Avr1R77iXsh+YM51pqZW/lsOltSIYF38FmRA19w\n\
8+eJkH5igLQspcvJoQpA+MtRxJkD/6NcMFowDgYDVR0PAQH/BAQDAgeAMB8GA1Ud\n\
IwQYMBaAFBWH0kGG9BEaG+R04KxGY02bduk4MCcGA1UdEQEB/wQdMBuGGXNwaWZm\n\
ZTovL2FjbWUuZXhhbXBsZS93ZWIwCgYIKoZIzj0EAwIDSAAwRQIhAMbPp+FS3A8s\n\
jDrfwCZEeKGB5WIWkdDWmY/BRPqKu6KxAiB4pIhJx0QTpt2ted3J3p4QqYMmvo6D\n\
FJ7JTpE0umuVzA==\n\
-----END CERTIFICATE-----\n";

const NOW: &str = "2030-01-01T00:00:00Z";

fn answers(lines: &[u8]) -> Vec<String> {
    let mut output = Vec::new();
    run(lines, &mut output, || Timestamp::parse_rfc3339(NOW).unwrap()).unwrap();
    String::from_utf8(output).unwrap().lines().map(str::to_owned).collect()
}

fn answer_to(op: &str, input: Value) -> Value {
    let line = json!({ "id": 7, "op": op, "input": input }).to_string();
    let answers = answers(line.as_bytes());
    assert_eq!(answers.len(), 1);
    let answer: Value = serde_json::from_str(&answers[0]).unwrap();
    assert_eq!(answer["id"], 7);
    assert!(answer["us"].is_u64() && answer["error"].is_string());
    answer
}

fn accepted(op: &str, input: Value) -> Value {
    let answer = answer_to(op, input);
    assert_eq!(answer["verdict"], "ok", "{answer}");
    answer["value"].clone()
}

fn assert_rejected(op: &str, input: Value) {
    let answer = answer_to(op, input);
    assert_eq!((&answer["verdict"], &answer["value"]), (&json!("reject"), &Value::Null), "{answer}");
    assert_ne!(answer["error"], "");
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The DER of a PEM text, in base64.
fn der(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn ids_come_back_unchanged_whatever_they_are() {
    for id in [
        "1",
        "null",
        "-0.0",
        "1.10",
        "1e400",
        "123456789012345678901234567890",
        r#""a\u0062\"""#,
        r#"{"a" : [1,1]}"#,
    ] {
        let line = format!(r#"{{"id":{id},"op":"trust_domain","input":{{"s_b64":"YQ=="}}}}"#);
        assert!(answers(line.as_bytes())[0].starts_with(&format!(r#"{{"id":{id},"verdict":"ok""#)), "{id}");
    }
}

#[test]
fn every_line_is_answered_in_its_place_however_bad_it_is() {
    let good = json!({ "id": "good", "op": "trust_domain", "input": { "s_b64": "YQ==" } }).to_string();
    let bad = [
        &b""[..],
        b"{",
        b"[]",
        b"7",
        b"\xff\xfe",
        b"{\"id\":1}",
        b"{\"id\":1,\"op\":2}",
        b"{\"op\":\"spiffe_id\"}",
        b"{\"id\":1,\"id\":2,\"op\":\"spiffe_id\"}",
        b"{} {}",
        b"null",
    ];
    let mut lines = Vec::new();
    for line in bad {
        lines.extend([line, b"\n", good.as_bytes(), b"\n"].concat());
    }
    let answers = answers(&lines);
    assert_eq!(answers.len(), 2 * bad.len());
    for pair in answers.chunks(2) {
        assert!(pair[0].contains(r#""verdict":"reject","value":null,"error":""#), "{}", pair[0]);
        assert!(pair[1].starts_with(r#"{"id":"good","verdict":"ok""#), "{}", pair[1]);
    }
    assert!(answers[10].starts_with(r#"{"id":1,"#), "an id is found where the rest is wrong");
}

#[test]
fn a_line_that_is_too_long_is_answered_and_the_next_one_too() {
    let longest = format!(r#"{{"id":1,"op":"none"{}}}"#, " ".repeat(MAX_LINE_BYTES - 20));
    assert_eq!(longest.len(), MAX_LINE_BYTES);
    let answers = answers(format!("{longest}\n{longest} \n{longest} {longest}\n{longest}").as_bytes());
    let verdicts: Vec<_> = answers.iter().map(|answer| answer.contains("unsupported")).collect();
    assert_eq!(verdicts, [true, false, false, true]);
}

#[test]
fn an_unknown_operation_is_unsupported() {
    let answer = answer_to("jwtsvid_mint", json!({}));
    assert_eq!((&answer["verdict"], &answer["value"]), (&json!("unsupported"), &Value::Null));
}

/// Gives one line at a time, and notes when it is asked for the next.
struct Lines(Vec<&'static [u8]>, Rc<RefCell<Vec<&'static str>>>);

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1.borrow_mut().push("read");
        let line = self.0.pop().unwrap_or_default();
        buffer[..line.len()].copy_from_slice(line);
        Ok(line.len())
    }
}

/// Notes when it is flushed.
struct Answers(Rc<RefCell<Vec<&'static str>>>);

impl Write for Answers {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.borrow_mut().push("flush");
        Ok(())
    }
}

#[test]
fn each_answer_is_flushed_before_the_next_line_is_read() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let lines = std::io::BufReader::new(Lines(vec![b"{}\n", b"{}\n"], order.clone()));
    run(lines, std::io::BufWriter::new(Answers(order.clone())), Timestamp::default).unwrap();
    assert_eq!(*order.borrow(), ["read", "flush", "read", "flush", "read"]);
}

#[test]
fn spiffe_id_and_trust_domain() {
    let value = accepted("spiffe_id", json!({ "id_b64": b64("spiffe://acme.example/web"), "more": 1 }));
    assert_eq!(value, json!({ "trust_domain": "acme.example", "path": "/web" }));
    let value = accepted("trust_domain", json!({ "s_b64": b64("acme.example") }));
    assert_eq!(value, json!({ "trust_domain": "acme.example" }));
    assert_rejected("spiffe_id", json!({ "id_b64": b64("spiffe://acme.example/web/") }));
    assert_rejected("spiffe_id", json!({ "id_b64": b64(b"spiffe://acme/\xff") }));
    assert_rejected("spiffe_id", json!({ "id_b64": "not base64" }));
    assert_rejected("spiffe_id", json!({}));
    assert_rejected("spiffe_id", Value::Null);
    assert_rejected("trust_domain", json!({ "s_b64": b64("Acme") }));
}

#[test]
fn x509svid_verify() {
    let case = |trust_domain: &str, now: &str| json!({ "chain_der_b64": [der(SVID)], "bundles": { trust_domain: [der(ROOT)] }, "now": now });
    assert_eq!(
        accepted("x509svid_verify", case("acme.example", NOW)),
        json!({ "spiffe_id": "spiffe://acme.example/web" })
    );
    assert_rejected("x509svid_verify", case("other.example", NOW));
    assert_rejected("x509svid_verify", case("acme.example", "2036-01-01T00:00:01Z"));
    assert_rejected("x509svid_verify", case("acme.example", "today"));
    assert_rejected("x509svid_verify", case("Acme", NOW));
    assert_rejected("x509svid_verify", json!({ "chain_der_b64": [], "bundles": {}, "now": NOW }));
}

#[test]
fn bundle_parse() {
    let document =
        json!({ "keys": [{ "kty": "EC", "use": "x509-svid", "x5c": [der(ROOT)] }], "spiffe_sequence": 3 });
    let case = |document: &str| json!({ "trust_domain": "acme.example", "doc_b64": b64(document) });
    let value = accepted("bundle_parse", case(&document.to_string()));
    assert_eq!(
        value,
        json!({ "x509_authorities": 1, "jwt_authorities": 0, "sequence": 3, "refresh_hint": null })
    );
    assert_rejected("bundle_parse", case("{}"));
    assert_rejected("bundle_parse", json!({ "trust_domain": "", "doc_b64": b64("{\"keys\":[]}") }));
}

#[test]
fn x509_path() {
    let case = json!({ "trusted_certs": [ROOT], "untrusted_intermediates": [], "peer_certificate": SVID,
        "validation_time": NOW, "extended_key_usage": ["serverAuth"], "max_chain_depth": null, "features": [] });
    let with = |name: &str, value: Value| {
        let mut case = case.clone();
        case[name] = value;
        case
    };
    assert_eq!(accepted("x509_path", case.clone()), Value::Null);
    assert_eq!(accepted("x509_path", with("validation_time", Value::Null)), Value::Null, "now");
    assert_eq!(accepted("x509_path", with("max_chain_depth", json!(0))), Value::Null);
    assert_rejected("x509_path", with("validation_time", json!("2036-01-01T00:00:01+00:00")));
    assert_rejected("x509_path", with("peer_certificate", json!(ROOT)));
    assert_rejected("x509_path", with("trusted_certs", json!([])));
    assert_rejected("x509_path", with("trusted_certs", json!([SVID])));
    assert_rejected("x509_path", with("peer_certificate", json!("no PEM")));
    assert_rejected("x509_path", with("extended_key_usage", json!(["unheardOf"])));
}

/// RFC 7515 appendix A.3: an ES256 key, and a token under it.
const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
);

fn key() -> Value {
    serde_json::from_str(KEY).unwrap()
}

#[test]
fn jws_verify() {
    let payload = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
    for jwk in [key(), json!({ "keys": [key()] })] {
        let verified = accepted("jws_verify", json!({ "jwk": jwk, "jws": TOKEN }));
        assert_eq!(verified, json!({ "payload_b64": b64(payload) }));
    }
    assert_rejected("jws_verify", json!({ "jwk": key(), "jws": TOKEN.replace("NU1Q", "NU1A") }));
    assert_rejected("jws_verify", json!({ "jwk": {}, "jws": TOKEN }));
    assert_rejected("jws_verify", json!({ "jws": TOKEN }));
}

#[test]
fn jwk_parse() {
    assert_eq!(accepted("jwk_parse", json!({ "jwk": key() })), Value::Null);
    assert_rejected("jwk_parse", json!({ "jwk": { "kty": "oct", "k": "AA" } }));
    assert_rejected("jwk_parse", json!({ "jwk": { "keys": [key(), { "kty": "OKP" }] } }));
    let twice = KEY.replacen('{', r#"{"kty":"EC","#, 1);
    let answers =
        answers(format!(r#"{{"op":"jwk_parse","input":{{"jwk":{}}}}}"#, twice.replace('\n', "")).as_bytes());
    assert!(answers[0].contains("\"reject\""), "a member that is there twice is seen: {answers:?}");
}

#[test]
fn sig_verify() {
    let (message, signature) = TOKEN.rsplit_once('.').unwrap();
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    let der = [&[0x30, 0x45, 2, 0x20][..], &signature[..32], &[2, 0x21, 0], &signature[32..]].concat();
    let x = KEY.split('"').nth(11).unwrap();
    let y = KEY.split('"').nth(15).unwrap();
    let point =
        [x, y].map(|it| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(it).unwrap()).concat();
    let spki = [P256.as_slice(), &point].concat();
    let case = |key: &str, value: Value, signature: &[u8]| {
        let mut case =
            json!({ "alg": "ES256", "message_b64": b64(message), "signature_b64": b64(signature) });
        case[key] = value;
        case
    };
    assert_eq!(accepted("sig_verify", case("jwk", key(), &signature)), Value::Null);
    assert_eq!(accepted("sig_verify", case("key_der_b64", json!(b64(&spki)), &der)), Value::Null);
    assert_rejected("sig_verify", case("jwk", key(), &der));
    assert_rejected("sig_verify", case("key_der_b64", json!(b64(&spki)), &signature));
    let mut both = case("jwk", key(), &signature);
    both["key_der_b64"] = json!(b64(&spki));
    assert_rejected("sig_verify", both);
    assert_rejected("sig_verify", case("neither", json!(1), &signature));
    for alg in ["ES384", "RS256", "HS256", "none"] {
        let mut case = case("jwk", key(), &signature);
        case["alg"] = json!(alg);
        assert_rejected("sig_verify", case);
    }
}

/// The start of a SubjectPublicKeyInfo of a P-256 key, up to its coordinates.
const P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

#[test]
fn jwtsvid_validate() {
    let keys: Value = serde_json::from_str(JWT_KEYS).unwrap();
    let case = json!({ "token": JWT_SVID, "audience": ["db"], "jwks": { "acme.example": keys }, "now": NOW });
    let with = |name: &str, value: Value| {
        let mut case = case.clone();
        case[name] = value;
        case
    };
    let valid = accepted("jwtsvid_validate", case.clone());
    assert_eq!(valid["spiffe_id"], "spiffe://acme.example/web");
    assert_eq!(valid["claims"]["aud"], json!(["db"]));
    assert_rejected("jwtsvid_validate", with("token", json!(TOKEN)));
    assert_rejected("jwtsvid_validate", with("audience", json!([])));
    assert_rejected("jwtsvid_validate", with("audience", json!(["other"])));
    assert_rejected("jwtsvid_validate", with("jwks", json!({})));
    assert_rejected("jwtsvid_validate", with("jwks", json!({ "other.example": keys })));
    assert_rejected("jwtsvid_validate", with("jwks", json!({ "acme.example": { "keys": [] } })));
    assert_rejected("jwtsvid_validate", with("now", json!("2031-01-01T00:00:00Z")));
    let mut for_certificates = keys.clone();
    for_certificates["keys"][0]["use"] = json!("x509-svid");
    assert_rejected("jwtsvid_validate", with("jwks", json!({ "acme.example": for_certificates })));
}

/// The JWT bundle of `acme.example`.
const JWT_KEYS: &str = r#"{"keys":[{"kty":"EC","use":"jwt-svid","kid":"k","crv":"P-256",
    "x":"jZD0pOfs1W_h3uH7PDpHWvhtitd5zcyeDsIrh0iMp8Y","y":"-JdDEf3HGsxZ1KkKS59-dPjRN-X_6XLe3TgomlzVNVY"}]}"#;
/// The JWT-SVID of `spiffe://acme.example/web` under it, for the audience `db`; it ends in the year 2030.
const JWT_SVID: &str = concat!(
    "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsiLCJ0eXAiOiJKV1QifQ.",
    "eyJhdWQiOlsiZGIiXSwiZXhwIjoxODkzNDU2MzAwLCJ",
    "zdWIiOiJzcGlmZmU6Ly9hY21lLmV4YW1wbGUvd2ViIn0.",
    "jl3czwnYF7hLo-ALFz6Ys4YaFFDp4dr71BpL_SlJ3m9kw8zwYUlaWD5NTPcdqrvK8c19zGG2en9h8q1hS-m9DA",
);

#[test]
fn an_array_is_no_question_and_no_input() {
    let answers = answers(
        b"[5,\"trust_domain\",{\"s_b64\":\"YS5i\"}]\n{\"op\":\"trust_domain\",\"input\":[\"YS5i\"]}\n",
    );
    assert!(answers.len() == 2 && answers.iter().all(|answer| answer.contains("\"reject\"")), "{answers:?}");
}

#[test]
fn container_info_is_what_the_cgroups_say_and_mountinfo_is_not_asked() {
    let (own, foreign) = ("a".repeat(64), "b".repeat(64));
    let pod = "7e7e2b0c-41d7-4a59-9f7f-6f0c6f2f5b11";
    let mountinfo = format!("1 0 0:1 /docker/{foreign} /sys/fs/cgroup rw - cgroup2 none rw\n");
    for (cgroup, container_id, pod_uid) in [
        (format!("0::/kubepods/besteffort/pod{pod}/{own}\n"), own.as_str(), pod),
        (format!("0::/docker/{own}/docker/{foreign}\n"), &own, ""),
        ("0::/system.slice/web.service\n".to_owned(), "", ""),
    ] {
        let value = accepted("container_info", json!({ "cgroup": cgroup, "mountinfo": mountinfo }));
        assert_eq!(value, json!({ "container_id": container_id, "pod_uid": pod_uid }));
    }
    for unclear in [
        format!("0::/../docker/{own}\n"),
        format!("1:cpu:/docker/{own}\n0::/docker/{foreign}\n"),
        format!("0::/user.slice/user-7.slice/user@7.service/docker-{foreign}.scope\n"),
        "nonsense".to_owned(),
    ] {
        assert_rejected("container_info", json!({ "cgroup": unclear, "mountinfo": mountinfo }));
    }
}

#[test]
fn cedar_authorize_gives_cedars_own_result() {
    let uid = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let input = |context: Value| {
        json!({
            "policies": "permit(principal, action, resource in Folder::\"f\");\nforbid(principal, action, resource) when \
                         { context.n > 9007199254740993 };",
            "schema": "entity User; entity Folder; entity File in [Folder];\n\
                       action view appliesTo { principal: User, resource: File, context: { n: Long } };",
            "entities": [
                { "uid": uid("File", "a"), "attrs": {}, "parents": [uid("Folder", "f")] },
            ],
            "request": {
                "principal": uid("User", "u"), "action": uid("Action", "view"), "resource": uid("File", "a"),
                "context": context,
            },
        })
    };
    for (n, decision, reason) in
        [(9_007_199_254_740_993_i64, "allow", "policy0"), (9_007_199_254_740_994, "deny", "policy1")]
    {
        let value = accepted("cedar_authorize", input(json!({ "n": n })));
        assert_eq!(value, json!({ "decision": decision, "reasons": [reason], "errors": [] }));
    }
    for wrong in [json!({}), json!({ "n": "x" }), json!({ "n": 1, "m": 1 })] {
        assert_rejected("cedar_authorize", input(wrong));
    }
    let mut unread = input(json!({ "n": 1 }));
    unread["policies"] = "permit(".into();
    assert_rejected("cedar_authorize", unread);
    assert_rejected("cedar_authorize", json!({}));
}
