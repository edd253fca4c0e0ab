//! Fixes in `core/spiffe`.

use super::{Fix, Out};

pub(super) const FIXES: &[Fix] = &[
    Fix {
        against: "a resumed session",
        out: &[Out {
            file: "core/spiffe/src/tls.rs",
            there: "config.send_tls13_tickets = 0;\n    config.session_storage = Arc::new(NoServerSessionStorage {});",
            instead: "config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "no_session_is_ever_resumed",
    },
    Fix {
        against: "a bundle of a moment ago",
        out: &[
            Out {
                file: "core/spiffe/src/tls/verifier.rs",
                there: "&(self.bundles)(), (self.now)()",
                instead: "&FIRST.get_or_init(|| (self.bundles)()).clone(), (self.now)()",
            },
            Out {
                file: "core/spiffe/src/tls/verifier.rs",
                there: "/// Who may be at the other end.\n",
                instead: "static FIRST: std::sync::OnceLock<Arc<Bundles>> = std::sync::OnceLock::new();\n/// Who may be at the other end.\n",
            },
        ],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "a_bundle_that_changes_counts_from_the_next_handshake_on",
    },
    Fix {
        against: "a token without an end",
        out: &[Out {
            file: "core/spiffe/src/jwt/svid.rs",
            there: r#"date(claims, "exp")?.ok_or(JwtError::Claim("exp", "is missing"))?"#,
            instead: r#"date(claims, "exp")?.unwrap_or(now)"#,
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "a_token_without_end_is_refused",
    },
    Fix {
        against: "a token for nobody in particular",
        out: &[Out {
            file: "core/spiffe/src/jwt/svid.rs",
            there: r#"None => return Err(JwtError::Claim("aud", "is missing")),"#,
            instead: "None => return Ok(()),",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "a_token_is_for_those_it_names",
    },
    Fix {
        against: "a token that names a whole trust domain",
        out: &[Out {
            file: "core/spiffe/src/jwt/svid.rs",
            there: r#""" => Err(JwtError::Claim("sub", "names a trust domain and no workload")),"#,
            instead: "",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "the_subject_is_a_workloads_spiffe_id",
    },
    Fix {
        against: "a claim that two readers read differently",
        out: &[Out {
            file: "core/spiffe/src/json.rs",
            there: "if object.contains_key(&name) {",
            instead: "if false {",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "a_member_named_twice_is_an_error_at_every_depth",
    },
    Fix {
        against: "one document verified, another read",
        out: &[Out {
            file: "core/spiffe/src/pin.rs",
            there: ".map_err(|_| PinError::Signature)?;",
            instead: ".ok();",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "nothing_of_a_signed_bundle_can_be_changed",
    },
    Fix {
        against: "a certificate's signature that nobody verified",
        out: &[Out {
            file: "core/spiffe/src/x509/path.rs",
            there: "let signed = authority.key.signed(self.last());",
            instead: "let signed = authority.key.signed(self.last()) || true;",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "every_changed_bit_of_a_certificate_is_refused",
    },
    Fix {
        against: "a token of an issuer whose signature nobody verified",
        out: &[Out {
            file: "core/spiffe/src/jwt/id_token.rs",
            there: r#"object(keys.verify(token)?, "payload")?"#,
            instead: r#"object(keys.verify(token).unwrap_or(token.unverified_payload()), "payload")?"#,
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "whatever_character_of_a_token_changes_what_it_says_is_the_same_or_nothing",
    },
    Fix {
        against: "an answer to another challenge",
        out: &[Out {
            file: "core/spiffe/src/returning.rs",
            there: "self.nonce,\n            request.as_ref(),",
            instead: "&[0; 32],\n            request.as_ref(),",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "only_the_nodes_key_answers_and_only_this_challenge",
    },
    Fix {
        against: "a machine's huge key",
        out: &[Out {
            file: "core/spiffe/src/x509/profile.rs",
            there: "pub const MAX_RSA_BITS: usize = 4096;",
            instead: "pub const MAX_RSA_BITS: usize = 8192;",
        }],
        package: "writ-attestors",
        suite: &["--lib"],
        test: "keys_of_more_than_4096_bits_are_refused_unseen",
    },
    Fix {
        against: "a long chain",
        out: &[Out {
            file: "core/spiffe/src/x509/svid.rs",
            there: "if chain.len() > path::MAX_CHAIN {",
            instead: "if false {",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "more_certificates_than_eight_are_not_looked_at",
    },
    Fix {
        against: "a search for a path that never ends",
        out: &[Out {
            file: "core/spiffe/src/x509/path.rs",
            there: "signatures: MAX_SIGNATURES,",
            instead: "signatures: usize::MAX,",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "a_crowd_of_namesakes_costs_a_bounded_number_of_signatures",
    },
    Fix {
        against: "a path that stands for another",
        out: &[Out {
            file: "core/spiffe/src/id.rs",
            there: r#""." | ".." => Err(IdError::DotSegment),"#,
            instead: "",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "an_id_is_accepted_exactly_by_the_rules",
    },
    Fix {
        against: "an ID with a hidden path",
        out: &[Out {
            file: "core/spiffe/src/id.rs",
            there: "_ if !segment.bytes().all(allowed) => Err(IdError::PathCharacter),",
            instead: "_ if false && segment.bytes().all(allowed) => Err(IdError::PathCharacter),",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "every_other_shape_of_uri_is_refused",
    },
    Fix {
        against: "a client certificate that nobody verified",
        out: &[Out {
            file: "core/spiffe/src/x509/svid.rs",
            there: "    path::find(Profile::Svid, leaf_der, &leaf, intermediates, anchors, &demands)?;\n",
            instead: "    let _ = path::find(Profile::Svid, leaf_der, &leaf, intermediates, anchors, &demands);\n",
        }],
        package: "writ-server",
        suite: &["--test", "stories"],
        test: "a_foreign_certificate_with_the_right_name_is_refused_in_the_handshake",
    },
    Fix {
        against: "a leaf that vouches for a leaf",
        out: &[Out {
            file: "core/spiffe/src/x509/profile.rs",
            there: "rule(authority.is_authority(), ",
            instead: "rule(true || authority.is_authority(), ",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "an_svid_signed_by_another_workload_is_refused",
    },
    Fix {
        against: "a key that signs certificates and must not",
        out: &[Out {
            file: "core/spiffe/src/x509/profile.rs",
            there: "rule(usage.is_none() || may_sign_certificates(authority), ",
            instead: "rule(true || usage.is_none() || may_sign_certificates(authority), ",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "an_svid_signed_by_another_workload_is_refused",
    },
    Fix {
        against: "a workload that is an authority",
        out: &[Out {
            file: "core/spiffe/src/x509/profile.rs",
            there: r#"rule(id.is_ok_and(|id| id.path().is_empty()), "its"#,
            instead: r#"rule(id.is_ok_and(|_| true), "its"#,
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "an_svid_signed_by_another_workload_is_refused",
    },
    Fix {
        against: "URI name constraints that nobody minds",
        out: &[Out {
            file: "core/spiffe/src/x509/constraints.rs",
            there: "GeneralName::URI(uri) => Name::Uri(uri),",
            instead: "GeneralName::URI(_) => return true,",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "section_4_2_uri_name_constraints_confine_an_authority",
    },
    Fix {
        against: "a token that costs much to parse",
        out: &[Out {
            file: "core/spiffe/src/jwt/compact.rs",
            there: "if token.len() > most {",
            instead: "if false {",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "the_size_of_a_token_is_bounded_before_it_is_looked_at",
    },
    Fix {
        against: "a token with more parts than three",
        out: &[Out {
            file: "core/spiffe/src/jwt/compact.rs",
            there: "let (Some(header), Some(payload), Some(signature), None) =",
            instead: "let (Some(header), Some(payload), Some(signature), _) =",
        }],
        package: "writ-spiffe",
        suite: &["--lib"],
        test: "a_token_has_three_parts",
    },
];
