//! What keeps each attack of `docs/attacks.md` out, and which story must fail without it.
//!
//! Where one defence stands behind another all of them are taken out, or the story could not fail. Not here:
//! attacks against which nothing is done that could be left undone. Uids are the kernel's, mounts are never
//! read, and the kernel itself shows cgroups from the agent's own namespace.

/// One attack, with all that stands in its way.
pub(super) struct Attack {
    /// What is tried, in a few words, behind the word by which all of these are chosen.
    pub(super) attack: &'static str,
    /// What is taken out.
    pub(super) out: &'static [Out],
    /// The stories that must fail then.
    pub(super) tests: &'static [&'static str],
}

/// One place where a defence is.
pub(super) struct Out {
    /// The file.
    pub(super) file: &'static str,
    /// The text that is the defence; it is there exactly once.
    pub(super) there: &'static str,
    /// What stands there when it is taken out.
    pub(super) instead: &'static str,
}

const fn out(file: &'static str, there: &'static str, instead: &'static str) -> Out {
    Out { file, there, instead }
}

const HELD: &str = "peer/src/held.rs";
const PIDFD: &str = "peer/src/pidfd.rs";
const PIN: &str = "peer/src/pin.rs";
const WATCH: &str = "peer/src/watch/mod.rs";
const EXECUTABLES: &str = "attestors/src/executables/look.rs";
const HASH: &str = "attestors/src/executables/hash.rs";

/// In the order of `docs/attacks.md`.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        attack: "attack: another program after accept",
        out: &[
            out(
                HELD,
                "Ok((_, now)) if !now.is(&self.image) =>",
                "Ok((_, now)) if false && !now.is(&self.image) =>",
            ),
            out(WATCH, "event.what == What::Exec && event.at > held.since", "false"),
            out(
                EXECUTABLES,
                "if !found.image.is(&peer.image()) {\n            return Err(",
                "if false {\n            return Err(",
            ),
        ],
        tests: &[
            "a_connection_lent_after_accept_gets_nothing_in_200_rounds",
            "a_process_that_executed_another_program_after_accept_gets_nothing_in_200_rounds",
        ],
    },
    Attack {
        attack: "attack: open streams of those who changed or died",
        out: &[
            out(
                HELD,
                "if !self.pidfd.alive() {\n            return Err(Changed::Exited { pid });\n        }\n        match seen {",
                "if pid > 0 {\n            return Ok(());\n        }\n        match seen {",
            ),
            out(WATCH, "event.what == What::Exec && event.at > held.since", "false"),
            out("workload-api/src/socket/connection.rs", "        () = exited(&line) => return,\n", ""),
        ],
        tests: &["open_streams_of_200_processes_that_executed_died_or_became_another_user_get_nothing_new"],
    },
    Attack {
        attack: "attack: root given up after connecting",
        out: &[out(
            HELD,
            "Ok((now, _)) if now.credentials != self.then.credentials =>",
            "Ok((now, _)) if false && now.credentials != self.then.credentials =>",
        )],
        tests: &["a_process_that_gave_up_its_user_after_connecting_gets_nothing_of_it_in_200_rounds"],
    },
    Attack {
        attack: "attack: a set-uid program before accept",
        out: &[out(PIN, "if was == now { Ok(()) }", "if true { Ok(()) }")],
        tests: &["a_connection_left_behind_by_a_set_uid_program_gets_nothing_of_root_in_200_rounds"],
    },
    Attack {
        attack: "attack: a reused pid after accept",
        // The process is looked up by its number, each time.
        out: &[
            out(
                PIDFD,
                "matches!(poll(&mut ask, PollTimeout::ZERO), Ok(0))",
                "drop(poll(&mut ask, PollTimeout::ZERO));\n        true",
            ),
            out(PIDFD, "Some(libc::ESRCH) => Err(error),\n                _", "_"),
            out(
                HELD,
                "let seen = Now::read(&self.pidfd, self.dir.as_fd())\n            .and_then(|now| Ok((now, Image::of_process(self.dir.as_fd())?)));",
                "let seen = crate::pin::open_dir(pid)\n            .and_then(|dir| Ok((Now::read(&self.pidfd, dir.as_fd())?, Image::of_process(dir.as_fd())?)));",
            ),
            // Ids that are no longer of the same moment would tell the two apart after all.
            out(
                HELD,
                "Ok((now, _)) if now.credentials != self.then.credentials =>",
                "Ok((now, _)) if false && now.credentials != self.then.credentials =>",
            ),
            out(
                HELD,
                "Status::read(self.dir.as_fd())",
                "Status::read(crate::pin::open_dir(self.pid())?.as_fd())",
            ),
        ],
        tests: &[
            "a_connection_held_while_the_victim_gets_its_makers_pid_gets_nothing_in_10_000_rounds",
            "open_streams_of_1_000_dead_processes_whose_pids_others_got_get_nothing_new",
        ],
    },
    Attack {
        attack: "attack: a reused pid before accept",
        out: &[out(
            PIN,
            "Pinning::ByPidfd => pidfd_of(socket)?,",
            "Pinning::ByPidfd => PidFd::open(pid).map_err(|error| PinError::of(pid, error))?,",
        )],
        tests: &["a_connection_accepted_after_the_victim_got_its_makers_pid_gets_nothing_in_10_000_rounds"],
    },
    Attack {
        attack: "attack: a path that is true elsewhere",
        out: &[out(
            EXECUTABLES,
            "Ok(found) if found.is(&image) => Ok(text.into()),",
            "Ok(_) => Ok(text.into()),",
        )],
        tests: &["a_path_faked_in_namespaces_of_the_users_own_gets_nothing_in_50_rounds"],
    },
    Attack {
        attack: "attack: a bind mount over the program",
        // What lies at the path is hashed instead of what runs.
        out: &[
            out(
                "attestors/src/executables.rs",
                "move || process.open_exe()",
                "move || std::fs::File::open(process.exe_link()?)",
            ),
            out(HASH, "    if !is_unchanged(&file)? {\n        return Err(HashError::Changed);\n    }\n", ""),
            out(HASH, "if left > 0 || !is_unchanged(&file)? {", "if left > 0 {"),
            out(HASH, "known.lock().put(state, content.clone());", "drop(known);"),
        ],
        tests: &["a_bind_mount_over_a_program_gets_nothing_of_what_is_good_in_50_rounds"],
    },
    Attack {
        attack: "attack: a forged exe link",
        out: &[out(
            EXECUTABLES,
            "Some(executions) => executions.of(peer, found.image, file_system),",
            "Some(_) => Execution::Seen,",
        )],
        tests: &["a_forged_exe_link_gets_nothing_of_a_path_or_hash_where_the_exec_was_seen_in_100_rounds"],
    },
    Attack {
        attack: "attack: a cgroup named like another unit",
        // The innermost decides.
        out: &[out(
            "attestors/src/cgroups/unit.rs",
            ".find(|name| !is_slice(name))?;",
            ".filter(|name| Unit::parse(name).is_some()).last()?;",
        )],
        tests: &[
            "a_child_cgroup_named_like_the_victims_gets_nothing_in_100_rounds",
            "a_private_cgroup_namespace_gets_nothing_in_50_rounds",
            "a_unit_that_names_its_own_cgroups_like_another_unit_gets_nothing_of_it",
        ],
    },
    Attack {
        attack: "attack: tracing the good program",
        out: &[out(
            "attestors/src/workload/unix.rs",
            "if executable && status.tracer == 0 {",
            "if executable {",
        )],
        tests: &["a_traced_program_is_not_known_by_its_path_or_hash_in_50_rounds"],
    },
    Attack {
        attack: "attack: a cgroup named like another container",
        // The innermost decides, wherever the engine's first process is.
        out: &[
            out(
                "attestors/src/cgroups/container.rs",
                "    let mut length = 0;\n",
                "    if let Some(Name { id, .. }) = line.segments().filter_map(Name::parse).last() {\n        let (engine, owner, path) = (Engine::Docker, Owner::System, line.path.clone());\n        return Ok(Some(Container { engine, id, pod_uid: None, owner, path }));\n    }\n    let mut length = 0;\n",
            ),
            out(
                "attestors/src/workload/docker.rs",
                "if is_in.as_ref() != Some(container) || !first.alive() {",
                "if is_in.is_none() {",
            ),
        ],
        tests: &["a_cgroup_named_like_anothers_container_gives_nothing_of_it"],
    },
    Attack {
        attack: "attack: the cgroup of a container that has ended",
        out: &[out(
            "attestors/src/workload/docker.rs",
            "(running.first.alive() && (running.described.env.is_some() || !env)).then_some(running)",
            "(running.described.env.is_some() || !env).then_some(running)",
        )],
        tests: &["a_container_that_ended_is_forgotten_with_its_id"],
    },
    Attack {
        attack: "attack: using up descriptors by dying",
        out: &[out(
            PIN,
            "        if !pidfd.alive() {\n            return Err(PinError::Gone);",
            "        if !pidfd.alive() {\n            std::mem::forget(dir);\n            return Err(PinError::Gone);",
        )],
        tests: &["after_10_000_processes_that_connected_and_died_as_many_files_are_open_as_before"],
    },
];
