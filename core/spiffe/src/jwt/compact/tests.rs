//! RFC 7515: what is a compact JWS, and what is not.

use serde_json::json;

use super::*;
use crate::jwt::testing::Signer;

const HEADER: &str = r#"{"alg":"ES256"}"#;

fn judge(signer: &Signer, token: &str) -> Result<Vec<u8>, JwtError> {
    Compact::parse(token)?.verify([&signer.key()].into_iter()).map(<[u8]>::to_vec)
}

#[test]
fn what_was_signed_comes_back_whatever_it_is() {
    let signer = Signer::new(Algorithm::ES256);
    for payload in ["", "foo", "\0\u{ffff}", "{\"a\":1,\"a\":2}"] {
        assert_eq!(judge(&signer, &signer.token(HEADER, payload)), Ok(payload.as_bytes().to_vec()));
    }
}

#[test]
fn a_token_has_three_parts() {
    let signer = Signer::new(Algorithm::ES256);
    let token = signer.token(HEADER, "foo");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    for not_three in
        ["", "foo", header, signed, &format!("{token}."), &format!(".{token}"), &format!("{token}.a.b")]
    {
        assert_eq!(judge(&signer, not_three), Err(JwtError::Parts), "{not_three}");
    }
    for wrong in [format!("..{signature}"), format!(".{payload}."), format!("{payload}.{header}.{signature}")]
    {
        assert!(judge(&signer, &wrong).is_err(), "{wrong}");
    }
    assert_eq!(judge(&signer, &format!("{signed}.")), Err(JwtError::Signature));
    let general =
        json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] });
    let flattened = json!({ "payload": payload, "protected": header, "signature": signature });
    for json in [general, flattened] {
        assert_eq!(judge(&signer, &json.to_string()), Err(JwtError::Parts));
    }
}

#[test]
fn the_size_of_a_token_is_bounded_before_it_is_looked_at() {
    let signer = Signer::new(Algorithm::ES256);
    let longest = |length: usize| {
        let overhead = signer.token(HEADER, "").len();
        signer.token(HEADER, &"a".repeat((length - overhead) * 3 / 4))
    };
    assert_eq!(longest(MAX_TOKEN_BYTES).len(), MAX_TOKEN_BYTES);
    assert!(judge(&signer, &longest(MAX_TOKEN_BYTES)).is_ok());
    assert_eq!(judge(&signer, &".".repeat(MAX_TOKEN_BYTES + 1)), Err(JwtError::Length(MAX_TOKEN_BYTES + 1)));
    assert_eq!(judge(&signer, &".".repeat(MAX_TOKEN_BYTES)), Err(JwtError::Parts));
}

#[test]
fn each_part_is_written_in_one_way_only() {
    let signer = Signer::new(Algorithm::ES256);
    let token = signer.token(r#"{"alg":"ES256" }"#, "foob"); // each part ends with bits that mean nothing
    assert!(judge(&signer, &token).is_ok());
    let parts: Vec<&str> = token.split('.').collect();
    for (index, name) in ["header", "payload", "signature"].into_iter().enumerate() {
        let (start, last) = parts[index].split_at(parts[index].len() - 1);
        let stray_bits = format!("{start}{}", char::from(last.as_bytes()[0] + 1));
        let others = ["==", "\n", "+/", " "].map(|more| format!("{}{more}", parts[index]));
        for changed in others.iter().chain([&stray_bits]) {
            let mut changed_parts = parts.clone();
            changed_parts[index] = changed;
            assert_eq!(judge(&signer, &changed_parts.join(".")), Err(JwtError::Base64(name)), "{changed}");
        }
    }
}

#[test]
fn the_algorithm_is_one_of_nine() {
    let signer = Signer::new(Algorithm::ES256);
    for alg in [
        json!("none"),
        json!("None"),
        json!(""),
        json!("HS256"),
        json!("HS512"),
        json!("EdDSA"),
        json!("ES256K"),
        json!("es256"),
        json!("ES256 "),
        json!("RSA-OAEP"),
        json!("dir"),
        json!(null),
        json!(["ES256"]),
    ] {
        let token = signer.token(&json!({ "alg": alg }).to_string(), "foo");
        assert_eq!(judge(&signer, &token), Err(JwtError::Algorithm), "{alg}");
    }
    assert_eq!(judge(&signer, &signer.token("{}", "foo")), Err(JwtError::Algorithm));
    for header in [
        "",
        "[]",
        "{\"alg\":\"ES256\",\"alg\":\"ES256\"}",
        "{\"alg\":\"ES256\"}{}",
        "\u{feff}{\"alg\":\"ES256\"}",
    ] {
        assert_eq!(judge(&signer, &signer.token(header, "foo")), Err(JwtError::Json("header")), "{header}");
    }
}

#[test]
fn a_key_verifies_its_own_algorithms_only() {
    let signers: Vec<Signer> = Algorithm::ALL.into_iter().map(Signer::new).collect();
    for signer in &signers {
        let token = signer.token(&json!({ "alg": signer.algorithm.name() }).to_string(), "foo");
        assert!(judge(signer, &token).is_ok(), "{:?}", signer.algorithm);
        for other in &signers {
            let claimed = signer.token(&json!({ "alg": other.algorithm.name() }).to_string(), "foo");
            assert_eq!(judge(signer, &claimed).is_ok(), signer.algorithm == other.algorithm);
            let foreign = judge(other, &token);
            assert_eq!(foreign.is_ok(), signer.algorithm == other.algorithm, "{:?}", other.algorithm);
        }
    }
}

#[test]
fn an_extension_that_is_not_known_is_refused_and_a_hint_is_passed_over() {
    let signer = Signer::new(Algorithm::ES256);
    let with = |more: &str| judge(&signer, &signer.token(&format!(r#"{{"alg":"ES256",{more}}}"#), "foo"));
    for more in [
        r#""crit":["exp"],"exp":1"#,
        r#""b64":false"#,
        r#""jwk":{"kty":"oct"}"#,
        r#""jku":"https://a""#,
        r#""x5u":"https://a""#,
        r#""x5c":[]"#,
        r#""enc":"A128GCM""#,
        r#""zip":"DEF""#,
        r#""kid":null"#,
    ] {
        assert!(matches!(with(more), Err(JwtError::Header(_))), "{more}");
    }
    assert!(with(r#""typ":"JWT","cty":"text","unheard":{"of":1}"#).is_ok(), "RFC 7515 section 4");
}

#[test]
fn ecdsa_signatures_have_one_length_and_numbers_in_range() {
    let signer = Signer::new(Algorithm::ES256);
    let token = signer.token(HEADER, "foo");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let good = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let (zero, one) = ([0; 32], [[0; 31].as_slice(), &[1]].concat());
    let (r, s) = good.split_at(32);
    let padded = [&[0], r, &[0], s].concat();
    let der = [&[0x30, 68, 2, 32][..], r, &[2, 32], s].concat();
    let mut forged = vec![
        vec![],
        vec![0; 64],
        padded,
        der,
        r.to_vec(),
        [good.as_slice(), &[0]].concat(),
        [&[0], good.as_slice()].concat(),
    ];
    for (first, second) in [
        (&zero[..], s),
        (r, &zero[..]),
        (&order[..], s),
        (r, &order[..]),
        (&one, &zero),
        (&one, &one),
        (&order, &order),
    ] {
        forged.push([first, second].concat());
    }
    assert!(judge(&signer, &token).is_ok());
    for signature in forged {
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
        assert_eq!(judge(&signer, &token), Err(JwtError::Signature), "{signature:02x?}");
    }
}

#[test]
fn a_pss_signature_is_no_pkcs1_signature_and_its_salt_is_as_long_as_its_hash() {
    let signer = Signer::new(Algorithm::RS256);
    let token = signer.token(r#"{"alg":"PS256"}"#, "foo");
    assert_eq!(judge(&signer, &token), Err(JwtError::Signature));
    let signer = signer.under(Algorithm::PS384);
    assert!(judge(&signer, &signer.token(r#"{"alg":"PS384"}"#, "foo")).is_ok());
    assert_eq!(judge(&signer, &signer.token(r#"{"alg":"PS512"}"#, "foo")), Err(JwtError::Signature));
}
