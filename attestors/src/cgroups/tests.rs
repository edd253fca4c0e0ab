//! Layouts of real hosts, and of those who would like to be mistaken for another.

use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const UID: &str = "7e7e2b0c-41d7-4a59-9f7f-6f0c6f2f5b11";
const UID_: &str = "7e7e2b0c_41d7_4a59_9f7f_6f0c6f2f5b11";

fn parse(text: &str) -> Cgroups {
    Cgroups::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The container of a process that is at this path of cgroup v2.
fn at(path: &str) -> Result<Option<Container>, Unclear> {
    parse(&format!("0::{path}\n")).container()
}

fn filled(path: &str) -> String {
    path.replace("{A}", A).replace("{B}", B).replace("{UID}", UID).replace("{UID_}", UID_)
}

#[track_caller]
fn is(path: &str, engine: Engine, pod: bool, owner: Owner) {
    let path = filled(path);
    let container = at(&path).expect("clear").unwrap_or_else(|| panic!("{path} is in no container"));
    assert_eq!((container.engine, container.id.as_str()), (engine, A), "{path}");
    assert_eq!(container.pod_uid.as_ref().map(PodUid::as_str), pod.then_some(UID), "{path}");
    assert_eq!(container.owner, owner, "{path}");
    assert!(path.starts_with(&container.path) && container.path.contains(A) && !container.path.contains(B));
}

#[track_caller]
fn is_unclear(text: &str, part: &str) {
    let text = filled(text);
    let reason = Cgroups::parse(&text).and_then(|cgroups| cgroups.container()).expect_err(&text).to_string();
    assert!(reason.contains(part), "{text}: {reason}");
}

#[test]
fn a_container_is_known_by_the_names_that_engines_give() {
    for (path, engine) in [
        ("/docker/{A}", Engine::Docker),
        ("/docker/{A}/init", Engine::Docker),
        ("/system.slice/docker-{A}.scope", Engine::Docker),
        ("/machine.slice/docker-{A}.scope/init", Engine::Docker),
        ("/ecs/7e7e2b0c41d74a599f7f6f0c6f2f5b11/{A}", Engine::Docker),
        ("/ecstasks.slice/ecstasks-7e7e2b0c41d7.slice/docker-{A}.scope", Engine::Docker),
        ("/libpod_parent/libpod-{A}", Engine::Podman),
        ("/libpod_parent/{B}/libpod-{A}", Engine::Podman),
        ("/machine.slice/libpod-{A}.scope/container", Engine::Podman),
        ("/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", Engine::Podman),
        ("/k8s.io/{A}", Engine::Containerd),
        ("/system.slice/nerdctl-{A}.scope", Engine::Containerd),
    ] {
        // A pod of Podman has an id as long as a container's.
        let path = path.replace("{B}", &"c".repeat(64));
        is(&path, engine, false, Owner::System);
    }
}

#[test]
fn a_container_of_a_pod_is_known_by_the_names_that_kubelets_give() {
    for (path, engine) in [
        ("/kubepods/besteffort/pod{UID}/{A}", Engine::Unknown),
        ("/kubepods/burstable/pod{UID}/{A}/inner", Engine::Unknown),
        ("/kubepods/pod{UID}/{A}", Engine::Unknown),
        ("/kubepods/kubepods/besteffort/pod{UID}/{A}", Engine::Unknown),
        ("/kubelet/kubepods/pod{UID_}/{A}", Engine::Unknown),
        ("/kubepods/pod{UID}/crio-{A}", Engine::CriO),
        ("/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{A}.scope", Engine::Containerd),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/crio-{A}.scope",
            Engine::CriO,
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice/docker-{A}.scope",
            Engine::Docker,
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{A}.scope",
            Engine::Containerd,
        ),
        ("/kubepods-besteffort-pod{UID_}.slice:cri-containerd:{A}", Engine::Containerd),
        (
            "/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{A}",
            Engine::Containerd,
        ),
    ] {
        is(path, engine, true, Owner::System);
    }
    let fixed = format!("/kubepods/pod2732ca68f6358eba7703fb6f82a25c94/{A}");
    let pod = at(&fixed).expect("clear").expect("a container").pod_uid.expect("a pod");
    assert_eq!(pod.as_str(), "2732ca68f6358eba7703fb6f82a25c94");
}

#[test]
fn of_nested_containers_the_outermost_counts() {
    for path in [
        "/docker/{A}/docker/{B}",
        "/docker/{A}/kubepods/besteffort/pod{UID}/{B}",
        "/docker/{A}/system.slice/docker-{B}.scope",
    ] {
        is(path, Engine::Docker, false, Owner::System);
    }
    is(
        "/kubepods/pod{UID}/{A}/kubepods/pod11111111-1111-1111-1111-111111111111/{B}",
        Engine::Unknown,
        true,
        Owner::System,
    );
}

#[test]
fn a_container_in_a_place_that_a_user_or_a_unit_owns_is_marked_as_theirs() {
    let user = "/user.slice/user-1000.slice/user@1000.service";
    is(&format!("{user}/user.slice/libpod-{{A}}.scope/container"), Engine::Podman, false, Owner::User(1000));
    let nested = format!("{user}/user.slice/user-1001.slice/libpod-{{A}}.scope");
    is(&nested, Engine::Podman, false, Owner::User(1000));
    let web = Owner::Unit("web.service".to_owned());
    is("/system.slice/web.service/libpod-payload-{A}", Engine::Podman, false, web);
}

#[test]
fn a_name_of_a_container_where_no_engine_makes_one_proves_nothing() {
    for path in [
        "/mine/docker/{A}",
        "/mine/{A}",
        "/{A}",
        "/docker-{A}.scope",
        "/system.slice/web.service/docker/{A}",
        "/system.slice/web.service/docker-{A}.scope",
        "/system.slice/web.service/payload/libpod-payload-{A}",
        "/system.slice/web.service/kubepods/pod{UID}/{A}",
        "/user.slice/user-1000.slice/session-2.scope/docker-{A}.scope",
        "/user.slice/user-1000.slice/user@1000.service/docker/{A}",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{A}.scope",
        "/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod{UID}.slice/crio-{A}.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service/docker-{A}.scope",
        "/user.slice/user-1000.slice/user@1001.service/docker-{A}.scope",
        "/system.slice/docker.service/docker/{A}",
        "/docker/mine/{A}",
        "/docker/docker-{A}.scope",
        "/kubepods/{A}",
        "/libpod_parent/docker-{A}",
        "/lxc.payload.mine/docker/{A}",
        "/system.slice/{A}",
    ] {
        is_unclear(&format!("0::{path}"), "proves nothing");
    }
    is_unclear("0::/kubepods/podmine/{A}", "has no pod's uid");
    is_unclear("0::/kubepods.slice/kubepods-podmine.slice/crio-{A}.scope", "has no pod's uid");
}

#[test]
fn a_carriage_return_belongs_to_the_name() {
    assert_eq!(at(&format!("/docker/{A}\r")), Ok(None));
    assert_eq!(parse("0::/system.slice/web.service\r\n").unit(), Ok(None));
}

#[test]
fn most_processes_are_in_no_container() {
    let short = &A[..63];
    for path in [
        "/",
        "/init.scope",
        "/user.slice/user-1000.slice/session-2.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service",
        "/system.slice/web.service",
        "/system.slice/web.service/worker",
        "/docker",
        "/docker/buildkit/k3c8zq1pzi5s0vyqkl2w",
        "/kubepods/besteffort/pod{UID}",
        "/machine.slice/libpod-conmon-{A}.scope",
        "/libpod_parent/libpod-conmon-{A}",
        "/libpod_parent/conmon",
        "/docker/SHORT",
        "/docker-SHORT.scope",
    ] {
        let path = filled(path).replace("SHORT", short);
        assert_eq!(at(&path), Ok(None), "{path}");
    }
    assert_eq!(at(&format!("/docker/{}", "A".repeat(64))), Ok(None), "engines write lower case");
    assert_eq!(parse("").container(), Ok(None));
}

#[test]
fn v1_and_hybrid_hosts_say_the_same_in_many_lines() {
    let v1 = filled(
        "12:rdma:/\n11:cpu,cpuacct:/docker/{A}\n10:memory:/docker/{A}\n9:devices:/docker/{A}\n\
         1:name=systemd:/docker/{A}\n",
    );
    let id = |text: &str| parse(text).container().map(|found| found.map(|found| found.id.to_string()));
    assert_eq!(id(&v1), Ok(Some(A.to_owned())));
    for unified in ["0::/", "0::/docker/{A}", "0::/docker", "0::/system.slice/containerd.service"] {
        assert_eq!(id(&(v1.clone() + &filled(unified))), Ok(Some(A.to_owned())), "{unified}");
    }
    let rootless = filled(
        "3:memory:/user.slice\n2:cpu:/\n\
         1:name=systemd:/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope\n\
         0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope\n",
    );
    assert_eq!(id(&rootless), Ok(Some(A.to_owned())));
}

#[test]
fn lines_that_contradict_each_other_prove_nothing() {
    is_unclear("1:memory:/docker/{A}\n0::/docker/{B}\n", "two containers");
    is_unclear("1:memory:/kubepods/pod{UID}/{A}\n0::/docker/{A}\n", "two containers");
    is_unclear("1:memory:/docker/{A}\n0::/system.slice/web.service\n", "elsewhere in cgroup v2");
    is_unclear("1:memory:/docker/{A}\n0::/user.slice/user-1000.slice/session-2.scope\n", "elsewhere");
    is_unclear("2:memory:/docker/{A}\n1:cpu:/mine/docker/{B}\n0::/\n", "proves nothing");
    is_unclear("1:memory:/docker/{A}\n0::/docker/{A}x\n", "elsewhere");
    is_unclear("0::/docker/{A}\n0::/docker/{B}\n", "listed twice");
}

#[test]
fn a_cgroup_outside_of_the_agents_namespace_proves_nothing() {
    for path in ["/../docker/{A}", "/../../kubepods/pod{UID}/{A}", "/..", "/docker/{A}/../{B}", "/../{A}"] {
        is_unclear(&format!("0::{path}"), "cgroup namespace");
    }
}

#[test]
fn a_text_that_linux_would_not_write_proves_nothing() {
    for text in ["x", "0:/a", "0::a", ":::", "x::/a", "0:memory:/a", "4::/a", "0::/a//b", "0::/a/", "0::/./a"]
    {
        is_unclear(text, "not as Linux writes it");
    }
    is_unclear("0::/docker/{A} (deleted)", "has been removed");
    is_unclear(&"0::/a".repeat(20_000), "longer than");
    let many: String = (1..100).map(|n| format!("{n}:name=h{n}:/\n")).collect();
    is_unclear(&many, "more than 64");
}

#[track_caller]
fn unit(text: &str) -> Option<String> {
    parse(text).unit().expect("clear").map(|unit| unit.name().to_owned())
}

#[test]
fn a_unit_is_the_first_segment_that_is_no_slice() {
    for (path, name) in [
        ("/system.slice/web.service", Some("web.service")),
        ("/system.slice/web.service/worker/inner.service", Some("web.service")),
        ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
        ("/agents.slice/agents-planner.slice/planner@7.service", Some("planner@7.service")),
        ("/system.slice/_cpu.service", Some("cpu.service")),
        ("/system.slice/__x.service", Some("_x.service")),
        (r"/system.slice/dev-disk\x2dby.swap", Some(r"dev-disk\x2dby.swap")),
        ("/init.scope", Some("init.scope")),
        ("/user.slice/user-1000.slice/session-2.scope", Some("session-2.scope")),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service", Some("user@1000.service")),
        ("/machine.slice/libpod-{A}.scope/system.slice/web.service", Some("libpod-{A}.scope")),
        ("/", None),
        ("/system.slice", None),
        ("/docker/{A}/system.slice/web.service", None),
        ("/mine/system.slice/web.service", None),
        ("/system.slice/getty@.service", None),
        ("/system.slice/@x.service", None),
        ("/system.slice/web.timer", None),
        ("/system.slice/a b.service", None),
        ("/system.slice/.service", None),
        ("/.slice/web.service", None),
    ] {
        assert_eq!(unit(&format!("0::{}", filled(path))), name.map(filled), "{path}");
    }
    assert_eq!(unit(&format!("0::/system.slice/{}.service", "w".repeat(300))), None);
}

#[test]
fn of_hybrid_hosts_only_what_systemd_manages_counts_and_must_agree() {
    assert_eq!(
        unit("3:memory:/mine\n1:name=systemd:/system.slice/web.service\n0::/\n").as_deref(),
        Some("web.service")
    );
    assert_eq!(
        unit("1:name=systemd:/system.slice/web.service\n0::/system.slice/web.service/w\n").as_deref(),
        Some("web.service")
    );
    assert_eq!(unit("3:memory:/system.slice/web.service\n1:name=systemd:/\n0::/\n"), None);
    for text in [
        "1:name=systemd:/system.slice/web.service\n0::/system.slice/db.service\n",
        "1:name=systemd:/docker/x\n0::/system.slice/containerd.service\n",
    ] {
        assert!(parse(text).unit().expect_err(text).to_string().contains("elsewhere"), "{text}");
    }
}

#[test]
fn a_systemd_that_is_not_at_the_root_answers_for_what_is_below_it() {
    let pid1 = parse(&filled("1:name=systemd:/docker/{A}/init.scope\n0::/docker/{A}/init.scope\n"));
    let of = |path: &str| {
        let path = filled(path);
        let unit = parse(&format!("1:name=systemd:{path}\n0::{path}\n")).unit_under(&pid1).expect("clear");
        unit.map(|unit| unit.name().to_owned())
    };
    assert_eq!(of("/docker/{A}/system.slice/web.service").as_deref(), Some("web.service"));
    assert_eq!(of("/docker/{A}/init.scope").as_deref(), Some("init.scope"));
    assert_eq!(of("/docker/{B}/system.slice/web.service"), None);
    assert_eq!(of("/system.slice/web.service"), None);
    assert_eq!(of("/docker/{A}"), None);
    let pid1 = parse("0::/init.scope");
    let host = parse("0::/system.slice/web.service").unit_under(&pid1).expect("clear");
    assert_eq!(host.expect("a unit").name(), "web.service");
}

#[test]
fn a_path_can_be_asked_for_by_its_hierarchy() {
    let cgroups = parse("4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c:d\n");
    assert_eq!(cgroups.unified(), Some("/c:d"));
    assert_eq!(cgroups.controller("cpuacct"), Some("/a"));
    assert_eq!(cgroups.controller("name=systemd"), Some("/b"));
    assert_eq!((cgroups.controller(""), cgroups.controller("memory")), (None, None));
    assert_eq!(cgroups.paths().count(), 3);
}
