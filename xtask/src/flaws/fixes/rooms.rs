//! Fixes in the other rooms.

use super::{Fix, Out};

pub(super) const FIXES: &[Fix] = &[
    Fix {
        against: "one join token lets several in",
        out: &[Out {
            file: "core/registry/src/decide/token.rs",
            there: r#"TokenState::Bound { .. } => Err("the token is bound to another key"),"#,
            instead: "TokenState::Bound { .. } => Ok(token),",
        }],
        package: "writ-registry",
        suite: &["--test", "registry"],
        test: "of_many_keys_that_race_for_one_token_exactly_one_wins",
    },
    Fix {
        against: "a certificate that is two nodes",
        out: &[Out {
            file: "attestors/src/node/x509pop/server.rs",
            there: "twin: vouched.twin.as_deref().map(fingerprint),",
            instead: "twin: None,",
        }],
        package: "writ-attestors",
        suite: &["--lib"],
        test: "a_certificate_and_its_twin_name_each_other",
    },
    Fix {
        against: "a huge key",
        out: &[Out {
            file: "server/src/ca/subject_key.rs",
            there: "= 2048..=4096;",
            instead: "= 512..=65536;",
        }],
        package: "writ-server",
        suite: &["--lib"],
        test: "rsa_keys_have_2048_to_4096_bits_bare_and_in_requests",
    },
    Fix {
        against: "a machine's long chain",
        out: &[
            Out {
                file: "attestors/src/node/x509pop/server.rs",
                there: "if payload.certificates.len() > MAX_CHAIN {",
                instead: "if false {",
            },
            Out {
                file: "core/spiffe/src/x509/authorities.rs",
                there: "if chain.len() > path::MAX_CHAIN {",
                instead: "if false {",
            },
        ],
        package: "writ-attestors",
        suite: &["--lib"],
        test: "what_is_foreign_too_long_or_nonsense_is_refused_before_it_is_computed_with",
    },
    Fix {
        against: "an issuer that leads elsewhere",
        out: &[Out {
            file: "attestors/src/node/oidc/keys.rs",
            there: "jwks.filter(|uri| self.host.has(uri));",
            instead: "jwks.filter(|_| true);",
        }],
        package: "writ-attestors",
        suite: &["--lib"],
        test: "an_issuer_that_leads_elsewhere_lies_or_talks_without_end_is_not_followed",
    },
    Fix {
        against: "an issuer that talks without end",
        out: &[
            Out {
                file: "attestors/src/https/host.rs",
                there: "Limited::new(response.into_body(), MAX_ANSWER)",
                instead: "Limited::new(response.into_body(), usize::MAX)",
            },
            Out {
                file: "core/spiffe/src/jwt/key_set.rs",
                there: "if document.len() > MAX_KEY_SET_BYTES {",
                instead: "if false {",
            },
        ],
        package: "writ-attestors",
        suite: &["--lib"],
        test: "an_issuer_that_leads_elsewhere_lies_or_talks_without_end_is_not_followed",
    },
    Fix {
        against: "strangers who make the server ask",
        out: &[Out {
            file: "attestors/src/node/oidc/keys.rs",
            there: "if known.asked.is_none_or(|asked| asked.elapsed() >= ASKED_ONCE_IN) {",
            instead: "if true {",
        }],
        package: "writ-attestors",
        suite: &["--lib"],
        test: "new_keys_are_noticed_and_made_up_ones_make_the_server_ask_no_more_often",
    },
    Fix {
        against: "selectors in the audit log",
        out: &[Out {
            file: "core/registry/src/decide/entry/batch.rs",
            there: r#""effect": effect.as_str(),"#,
            instead: r#""effect": effect.as_str(), "selectors": entry.selectors,"#,
        }],
        package: "writ-registry",
        suite: &["--test", "registry"],
        test: "the_audit_log_tells_what_was_done_but_not_the_selectors",
    },
    Fix {
        against: "a join token's secret in an ID",
        out: &[Out {
            file: "core/registry/src/decide/entry/batch.rs",
            there: "entry.parent_id = well_known::without_token_secret(&entry.parent_id);",
            instead: "let _ = (&mut entry, well_known::without_token_secret);",
        }],
        package: "writ-registry",
        suite: &["--test", "registry"],
        test: "a_parent_built_from_a_whole_token_is_kept_without_the_secret",
    },
    Fix {
        against: "a page that reserves memory",
        out: &[Out {
            file: "server/src/api/list.rs",
            there: "let entries: Vec<_> = found.by_ref().take(most).cloned().collect();",
            instead: "let most = if most < usize::MAX { i32::MAX as usize } else { most };
            let mut entries = vec![None; if most < usize::MAX { most } else { 0 }];
            entries.clear();
            entries.extend(found.by_ref().take(most).cloned().map(Some));
            let entries: Vec<_> = entries.into_iter().flatten().collect();",
        }],
        package: "writ-integration-tests",
        suite: &["--test", "integration"],
        test: "a_page_of_two_billion_costs_no_more_than_what_is_there",
    },
    Fix {
        against: "one flag taken for another when it is shown",
        out: &[Out {
            file: "server-api/src/wire/entry.rs",
            there: "downstream: kept(mask.downstream, entry.downstream),",
            instead: "downstream: kept(mask.downstream, entry.admin),",
        }],
        package: "writ-server-api",
        suite: &["--lib"],
        test: "a_mask_shows_the_fields_it_names_and_no_other",
    },
    Fix {
        against: "one flag taken for another when it is set",
        out: &[Out {
            file: "server-api/src/wire/entry.rs",
            there: "patch.downstream = Some(wire.downstream);",
            instead: "patch.downstream = Some(wire.admin);",
        }],
        package: "writ-server-api",
        suite: &["--lib"],
        test: "an_update_changes_the_fields_of_its_mask_and_no_other",
    },
    Fix {
        against: "one flag taken for another on the wire",
        out: &[Out {
            file: "server-api/src/wire/entry.rs",
            there: "downstream: entry.downstream,\n        expires_at",
            instead: "downstream: entry.admin,\n        expires_at",
        }],
        package: "writ-server-api",
        suite: &["--lib"],
        test: "a_field_arrives_if_and_only_if_it_is_set",
    },
    Fix {
        against: "an SVID of another node's entry",
        out: &[Out {
            file: "core/registry/src/view.rs",
            there: "if id == node.id || id == self.well_known.any_node {\n                return Some(entry);",
            instead: "if id == id.clone() {\n                return Some(entry);",
        }],
        package: "writ-server",
        suite: &["--test", "stories"],
        test: "a_node_gets_svids_for_its_own_entries_and_for_no_other",
    },
    Fix {
        against: "a file of keys that others can read",
        out: &[Out {
            file: "daemon/src/disk.rs",
            there: "replace(path, bytes, 0o600)",
            instead: "replace(path, bytes, 0o644)",
        }],
        package: "writ-integration-tests",
        suite: &["--test", "integration"],
        test: "what_is_private_stays_so_where_the_umask_takes_nothing_away",
    },
    Fix {
        against: "a file of keys that others could read before",
        out: &[Out {
            file: "daemon/src/disk.rs",
            there: "if mode & forbidden != 0 {",
            instead: "if mode & forbidden != 0 && false {",
        }],
        package: "writ-integration-tests",
        suite: &["--test", "integration"],
        test: "a_key_that_others_could_read_stops_the_start_with_its_path_and_a_remedy",
    },
    Fix {
        against: "a process that became another program",
        out: &[Out {
            file: "peer/src/held.rs",
            there: "Ok((_, now)) if !now.is(&self.image) =>",
            instead: "Ok((_, now)) if false =>",
        }],
        package: "writ-peer",
        suite: &["--test", "same_process"],
        test: "running_another_program_after_connecting_is_noticed",
    },
    Fix {
        against: "a copied state directory",
        out: &[Out {
            file: "core/registry/src/decide/fence.rs",
            there: "&& node.key_sha256.matches(&shown.key_sha256)",
            instead: "&& false",
        }],
        package: "writ-server",
        suite: &["--test", "stories"],
        test: "a_copy_that_came_back_by_the_key_is_noticed_when_the_agent_shows_its_own_certificate",
    },
    Fix {
        against: "a banned node that comes back",
        out: &[Out {
            file: "core/registry/src/decide/returning.rs",
            there: "NodeState::Banned => Err(NodeRefusal::Banned),",
            instead: "NodeState::Banned => Ok(node),",
        }],
        package: "writ-server",
        suite: &["--test", "stories"],
        test: "banned_and_evicted_nodes_do_not_come_back",
    },
    Fix {
        against: "an authority that outlives its end on an open connection",
        out: &[Out {
            file: "server/src/callers.rs",
            there: "if !vouches(registry, &self.signer) {",
            instead: "if false {",
        }],
        package: "writ-server",
        suite: &["--test", "stories"],
        test: "what_a_connection_rests_on_is_gone_when_its_authority_is_revoked",
    },
    Fix {
        against: "what the disk did not take",
        out: &[Out {
            file: "server/src/writer.rs",
            there: "self.health.unready(PART, error.to_string());\n            let failed",
            instead: "self.health.unready(PART, error.to_string());\n            self.current.store(Arc::new(group.draft));\n            let failed",
        }],
        package: "writ-server",
        suite: &["--lib"],
        test: "on_a_full_disk_nothing_changes_and_later_it_goes_on",
    },
    Fix {
        against: "the same SVIDs pushed once more",
        out: &[Out {
            file: "workload-api/src/call.rs",
            there: "if answer != self.last {",
            instead: "if answer != self.last || true {",
        }],
        package: "writ-workload-api",
        suite: &["--test", "streams"],
        test: "a_change_is_pushed_and_the_same_again_is_not",
    },
    Fix {
        against: "an SVID that waits for a tick",
        out: &[Out {
            file: "agent/src/spine.rs",
            there: "if self.may_have(&id) && !known {",
            instead: "if false && !known {",
        }],
        package: "writ-agent",
        suite: &["--lib"],
        test: "an_svid_on_demand_is_made_when_somebody_asks",
    },
    Fix {
        against: "an SVID that nobody asks for",
        out: &[Out {
            file: "agent/src/identities.rs",
            there: "let _ = self.asked.send(id);",
            instead: "drop(id);",
        }],
        package: "writ-agent",
        suite: &["--lib"],
        test: "an_entry_without_an_svid_is_asked_for_once_and_served_when_it_comes",
    },
    Fix {
        against: "a deletion that an agent never hears of",
        out: &[Out {
            file: "core/registry/src/view.rs",
            there: "(true, false) => gone.push(key.clone()),",
            instead: "(true, false) if gone.len() > 1 << 20 => gone.push(key.clone()),\n                (true, false) => {}",
        }],
        package: "writ-registry",
        suite: &["--test", "registry"],
        test: "a_view_and_its_delta_are_the_next_view",
    },
    Fix {
        against: "a method that nobody authorized",
        out: &[Out {
            file: "server/src/callers.rs",
            there: "    (\"/spire.api.server.debug.v1.Debug/GetInfo\", May::Local),\n",
            instead: "",
        }],
        package: "writ-server",
        suite: &["--lib"],
        test: "every_method_that_is_served_has_a_row_and_no_row_is_about_nothing",
    },
    Fix {
        against: "a batch without an end",
        out: &[Out {
            file: "server/src/sign.rs",
            there: "if orders.len() > MAX_BATCH {",
            instead: "if orders.len() > usize::MAX - MAX_BATCH {",
        }],
        package: "writ-server",
        suite: &["--test", "stories"],
        test: "a_bad_key_spoils_its_own_order_only_and_a_batch_has_an_end",
    },
    Fix {
        against: "an error of accept that ends the server",
        out: &[Out {
            file: "server-api/src/accept/mod.rs",
            there: "tokio::time::sleep(PAUSE_AFTER_ERROR).await;",
            instead: "return;",
        }],
        package: "writ-integration-tests",
        suite: &["--test", "integration"],
        test: "a_server_without_free_descriptors_survives_and_serves_again",
    },
];
