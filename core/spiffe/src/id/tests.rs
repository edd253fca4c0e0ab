//! The SPIFFE-ID standard, section 2.

use proptest::prelude::*;

use super::*;

#[test]
fn a_path_cannot_run_into_the_name_of_its_trust_domain() {
    let trust_domain: TrustDomain = "acme.example".parse().unwrap();
    assert_eq!(trust_domain.join("/a").unwrap().as_str(), "spiffe://acme.example/a");
    assert_eq!(trust_domain.join("").unwrap(), trust_domain.id());
    for path in ["a", ".evil", "-x/a"] {
        assert_eq!(trust_domain.join(path), Err(IdError::NoSlash), "{path}");
    }
}

#[test]
fn an_id_is_taken_apart_where_its_path_begins() {
    let id: SpiffeId = "spiffe://acme.example/agent/triage".parse().unwrap();
    assert_eq!((id.trust_domain_name(), id.path()), ("acme.example", "/agent/triage"));
    let id: SpiffeId = "spiffe://acme.example".parse().unwrap();
    assert_eq!((id.trust_domain(), id.path()), ("acme.example".parse().unwrap(), ""));
}

#[test]
fn names_that_look_like_addresses_are_names_like_any_other() {
    for name in ["10.0.0.1", "999.1", "-", "_", "..", "a..b", "acme.example.", "0"] {
        assert_eq!(name.parse::<TrustDomain>().unwrap().as_str(), name);
        assert_eq!(format!("spiffe://{name}/x").parse::<SpiffeId>().unwrap().trust_domain_name(), name);
    }
}

#[test]
fn every_other_shape_of_uri_is_refused() {
    let refused = [
        ("", IdError::Empty),
        ("spiffe:", IdError::Scheme),
        ("spiffe:/acme/x", IdError::Scheme),
        ("//acme/x", IdError::Scheme),
        ("SPIFFE://acme/x", IdError::Scheme),
        (" spiffe://acme/x", IdError::Scheme),
        ("https://acme/x", IdError::Scheme),
        ("spiffe://", IdError::Empty),
        ("spiffe:///x", IdError::Empty),
        ("spiffe://Acme/x", IdError::TrustDomain),
        ("spiffe://user@acme/x", IdError::TrustDomain),
        ("spiffe://acme:80/x", IdError::TrustDomain),
        ("spiffe://[::1]/x", IdError::TrustDomain),
        ("spiffe://ac%6de/x", IdError::TrustDomain),
        ("spiffe://acm\u{e9}/x", IdError::TrustDomain),
        ("spiffe://acme?x", IdError::TrustDomain),
        ("spiffe://acme#x", IdError::TrustDomain),
        ("spiffe://acme\\x", IdError::TrustDomain),
        ("spiffe://acme/x?y", IdError::PathCharacter),
        ("spiffe://acme/x#y", IdError::PathCharacter),
        ("spiffe://acme/%78", IdError::PathCharacter),
        ("spiffe://acme/x;y", IdError::PathCharacter),
        ("spiffe://acme/x\n", IdError::PathCharacter),
        ("spiffe://acme/x\0", IdError::PathCharacter),
        ("spiffe://acme/\u{ff58}", IdError::PathCharacter),
        ("spiffe://acme/", IdError::EmptySegment),
        ("spiffe://acme//", IdError::EmptySegment),
        ("spiffe://acme//x", IdError::EmptySegment),
        ("spiffe://acme/x/", IdError::EmptySegment),
        ("spiffe://acme/.", IdError::DotSegment),
        ("spiffe://acme/x/../y", IdError::DotSegment),
        ("spiffe://acme/./x", IdError::DotSegment),
    ];
    for (text, error) in refused {
        assert_eq!(text.parse::<SpiffeId>(), Err(error), "{text:?}");
    }
    for text in ["spiffe://acme/...", "spiffe://acme/.x", "spiffe://acme/x..", "spiffe://acme/A_-.9"] {
        assert!(text.parse::<SpiffeId>().is_ok(), "{text:?}");
    }
}

#[test]
fn lengths_are_bounded_in_bytes() {
    let longest = "a".repeat(MAX_TRUST_DOMAIN_BYTES);
    assert!(longest.parse::<TrustDomain>().is_ok());
    assert_eq!(format!("{longest}a").parse::<TrustDomain>(), Err(IdError::Length(256, 255)));
    let id = format!("spiffe://acme/{}", "x".repeat(MAX_ID_BYTES - 14));
    assert!(id.parse::<SpiffeId>().is_ok());
    assert_eq!(format!("{id}x").parse::<SpiffeId>(), Err(IdError::Length(2049, 2048)));
}

proptest! {
    #[test]
    fn whatever_is_made_of_allowed_characters_is_an_id(
        name in "[a-z0-9._-]{1,255}",
        path in "(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}){0,8}",
    ) {
        let id: SpiffeId = format!("spiffe://{name}{path}").parse().unwrap();
        prop_assert_eq!((id.trust_domain_name(), id.path()), (name.as_str(), path.as_str()));
        prop_assert_eq!(id.trust_domain().join(&path).unwrap(), id.clone());
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
    }

    /// A second reading of the standard, character by character, comes to the same answer.
    #[test]
    fn an_id_is_accepted_exactly_by_the_rules(
        // Any text, and texts that are almost right.
        text in "(spiffe://)?[a-zA-Z./_%:@?# é-]{0,40}|spiffe://[a-z0-9.]{1,3}(/([.]{0,3}|%2e|[a-zA-Z.]{1,2}|x[?#]y)){1,4}",
    ) {
        let by_the_rules = text.strip_prefix("spiffe://").is_some_and(|rest| {
            let mut parts = rest.split('/');
            let name = parts.next().unwrap_or_default();
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
                && parts.all(|part| {
                    !["", ".", ".."].contains(&part)
                        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                })
        });
        prop_assert_eq!(text.parse::<SpiffeId>().is_ok(), by_the_rules);
    }

    #[test]
    fn no_text_makes_parsing_panic(text in any::<String>()) {
        let _ = text.parse::<SpiffeId>();
        let _ = format!("spiffe://{text}").parse::<SpiffeId>();
    }
}
