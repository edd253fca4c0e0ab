//! What keeps each attack of `docs/authority-attacks.md` out. Where the logic is pure its own test must notice, which
//! is quicker than the story on real processes, and says more exactly where it is.

use super::{Fix, Out};

const fn authz(against: &'static str, out: &'static [Out], test: &'static str) -> Fix {
    Fix { against, out, package: "writ-authz", suite: &["--lib"], test }
}

const fn story(against: &'static str, out: &'static [Out], test: &'static str) -> Fix {
    Fix { against, out, package: "writ-integration-tests", suite: &["--test", "integration"], test }
}

const JUDGE: &str = "core/authz/src/judge/mod.rs";
const SITUATION: &str = "core/authz/src/judge/situation.rs";
const LABELS: &str = "core/authz/src/judge/labels.rs";
const REMEMBERED: &str = "agent/src/tasks/labels.rs";
const CHAIN: &str = "core/authz/src/chain/mod.rs";

pub(super) const FIXES: &[Fix] = &[
    authz(
        "authority: A1, a secret is sent away",
        &[Out {
            file: LABELS,
            there: "if tool.effect == Effect::Read || label.may_flow_to(clearance) {",
            instead: "if tool.effect == Effect::Read || label.may_flow_to(clearance) || true {",
        }],
        "what_was_read_may_go_only_where_it_may",
    ),
    authz(
        "authority: A2, a write where an untrusted page says",
        &[Out {
            file: LABELS,
            there: "if tool.effect == Effect::Read || !label.is_tainted() {",
            instead: "if tool.effect == Effect::Read || !label.is_tainted() || true {",
        }],
        "after_untrusted_input_control_arguments_are_bound_or_a_person_is_asked",
    ),
    authz(
        "authority: A3, an allowed tool with other arguments",
        &[Out {
            file: "core/authz/src/judge/grant.rs",
            there: "match missing.or(bad) {",
            instead: "match missing.or(bad).filter(|_| false) {",
        }],
        "an_argument_that_no_rule_allows_is_denied",
    ),
    authz(
        "authority: A4, a denied call in fifty variations",
        &[Out {
            file: JUDGE,
            there: "Decision::Deny(denial) if denial.code.is_probing() => {",
            instead: "Decision::Deny(denial) if false && denial.code.is_probing() => {",
        }],
        "one_denial_too_many_suspends_the_task_and_environments_fault_counts_for_nothing",
    ),
    Fix {
        against: "authority: A5, a stolen name of a task",
        out: &[Out {
            file: "agent/src/tasks/book.rs",
            there: "let found = all.into_iter().find(|live| live.id() == named);",
            instead: "let found = self.get(named);",
        }],
        package: "writ-agent",
        suite: &["--lib"],
        test: "a_process_has_its_task_and_nobody_elses",
    },
    authz(
        "authority: A9, a child goes on after its parent",
        // Each of the two is enough by itself.
        &[
            Out {
                file: CHAIN,
                there: "for id in self.below(task) {\n            let is_over =",
                instead: "for id in [task.clone()] {\n            let is_over =",
            },
            Out {
                file: JUDGE,
                there: "line.iter().try_for_each(|member| member.may_act(now))?;",
                instead: "own.may_act(now)?;",
            },
        ],
        "an_ancestors_end_or_suspension_holds_for_all_below",
    ),
    authz(
        "authority: A13, a note of a secret for another actor",
        &[Out {
            file: JUDGE,
            there: "let held = resource.label.join(situation.stored);",
            instead: "let held = resource.label.clone();",
        }],
        "a_write_leaves_its_label_in_a_store_and_a_read_brings_it_along",
    ),
    authz(
        "authority: A15, names that are there twice",
        &[Out {
            file: "core/authz/src/json.rs",
            there: "Ok(Self::of(json::parse(bytes)?)?)",
            instead: "Ok(Self::of(serde_json::from_slice(bytes)?)?)",
        }],
        "what_two_readers_could_read_differently_is_refused",
    ),
    Fix {
        against: "authority: A15, headers that name another tool",
        out: &[Out {
            file: "mcp-gateway/src/http.rs",
            there: r#"_ => Err(mismatch("the header Mcp-Name is not what the message names")),"#,
            instead: "_ => Ok(()),",
        }],
        package: "writ-mcp-gateway",
        suite: &["--lib"],
        test: "what_a_header_says_otherwise_than_the_message_is_refused",
    },
    authz(
        "authority: A16, children without end",
        &[Out { file: CHAIN, there: "try_for_each(Member::can_afford_child)?;", instead: "for_each(drop);" }],
        "a_task_and_all_below_it_have_so_many_children_and_so_much_depth",
    ),
    authz(
        "authority: A19, a permit from before the end",
        &[Out {
            file: "core/authz/src/permit.rs",
            there: "if self.is_void() {\n            let why",
            instead: "if false && self.is_void() {\n            let why",
        }],
        "an_end_or_a_suspension_voids_the_permits_that_are_out_and_those_being_used",
    ),
    authz(
        "authority: A19, on as a disabled actor",
        &[Out {
            file: JUDGE,
            there: "if let Some(why) = &actor.disabled {",
            instead: "if let Some(why) = actor.disabled.as_ref().filter(|_| false) {",
        }],
        "who_is_suspended_ended_disabled_or_overdue_does_nothing",
    ),
    authz(
        "authority: A21, on where the node stands elsewhere",
        &[Out {
            file: SITUATION,
            there: "if *self.environment != grant.environment {",
            instead: "if false && *self.environment != grant.environment {",
        }],
        "each_fact_that_is_wrong_denies_with_its_own_code",
    ),
    authz(
        "authority: A22, on without the server's word",
        &[Out {
            file: SITUATION,
            there: "if age.is_none_or(|age| age > most) {",
            instead: "if age.is_none() {",
        }],
        "freshness_is_asked_by_tier_and_tier_3_needs_the_servers_word",
    ),
    authz(
        "authority: A22, at tier 3 without being asked about",
        &[Out {
            file: SITUATION,
            there: "if tier == Tier::T3 && !self.confirmed {",
            instead: "if false && !self.confirmed {",
        }],
        "freshness_is_asked_by_tier_and_tier_3_needs_the_servers_word",
    ),
    authz(
        "authority: A22, time gained by setting the clock back",
        &[Out {
            file: "core/authz/src/chain/member.rs",
            there: " || now.boot >= self.until =>",
            instead: " =>",
        }],
        "a_task_acts_until_its_time_on_both_clocks_and_setting_one_back_helps_nothing",
    ),
    Fix {
        against: "authority: A24, an edited entry of the log",
        out: &[Out {
            file: "core/audit/src/verify.rs",
            there: "if Hash::leaf(entry) != *hash {",
            instead: "if false && Hash::leaf(entry) != *hash {",
        }],
        package: "writ-audit",
        suite: &["--lib"],
        test: "what_is_wrong_is_named_by_the_first_entry_that_it_concerns",
    },
    Fix {
        against: "authority: A24, a log that was altered and signed anew",
        out: &[Out {
            file: "core/audit/src/verify.rs",
            there: "chains.follow(index, entry, *hash)?;",
            instead: "let _ = chains.follow::<F::Error>(index, entry, *hash);",
        }],
        package: "writ-audit",
        suite: &["--lib"],
        test: "a_server_that_signs_what_it_has_altered_is_betrayed_by_the_nodes_chains",
    },
    authz(
        "authority: laundering, end and begin anew",
        &[Out {
            file: JUDGE,
            there: "about.label = own.label().join(situation.domain);",
            instead: "about.label = own.label().clone();",
        }],
        "what_the_domain_remembers_counts_like_what_the_task_has_read",
    ),
    authz(
        "authority: laundering, a child of one's own",
        &[Out { file: CHAIN, there: "standing.label = standing.label.join(parent.label());", instead: "" }],
        "a_confined_childs_answer_tells_its_parent_what_the_child_knows",
    ),
    authz(
        "authority: laundering, a tool that declassifies and is not as it was approved",
        &[Out {
            file: "core/authz/src/judge/lowered.rs",
            there: "tool.definition_sha256.filter(|approved| call.definition() == Some(*approved))?;",
            instead: "tool.definition_sha256?;",
        }],
        "a_transformer_drops_nothing_with_another_definition_or_with_none",
    ),
    story(
        "authority: laundering, fork",
        FORKED,
        "a_fork_that_begins_a_task_of_its_own_knows_what_its_parent_read",
    ),
    story(
        "authority: laundering, fork twice",
        FORKED,
        "a_grandchild_whose_parent_is_gone_knows_what_was_read",
    ),
    story(
        "authority: laundering, writ run",
        &[Out {
            file: "agent/src/tasks/begin.rs",
            there: "let label = self.labels.of(asker).and_then(|label| {",
            instead: "let label = std::io::Result::Ok(Label::default()).and_then(|label| {",
        }],
        "what_a_tainted_actor_launches_knows_what_it_read_after_its_task_and_during_it",
    ),
];

/// A process of which nothing is known remembers nothing: neither its parents count nor what is around it.
const FORKED: &[Out] = &[Out {
    file: REMEMBERED,
    there: "Ok(known.fold(label, |label, parent| label.join(&inner.known.of(parent, &cgroup))))",
    instead: "drop(known);\n        Ok(if inner.processes.contains(&process) { label } else { Label::default() })",
}];
