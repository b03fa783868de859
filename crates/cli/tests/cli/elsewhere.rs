//! Where there is no daemon and cannot be one: the kernel is looked at, and all say whose it is.

use std::path::Path;

use livepatch_api::daemon::Status;
use livepatch_types::PatchState;

use crate::support::*;

/// A container or WSL, whose kernel has these livepatches; none: they are not shown.
fn place(marker: &str, release: &str, livepatches: Option<&[(&str, &str)]>) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(marker, "lxc\n");
    write("proc/sys/kernel/osrelease", &format!("{release}\n"));
    if livepatches.is_some() {
        std::fs::create_dir_all(directory.path().join("sys/kernel/livepatch")).unwrap();
    }
    for (name, transition) in livepatches.unwrap_or_default() {
        write(&format!("sys/kernel/livepatch/{name}/enabled"), "1\n");
        write(&format!("sys/kernel/livepatch/{name}/transition"), transition);
    }
    directory
}

fn status(directory: &Path) -> Status {
    let output = livepatch(directory, &["status", "--format", "json"], "");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    fits("status", &output.stdout);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_seen_of_a_kernel_in_a_container() {
    let release = "6.1.0-50-cloud-amd64";
    let ours = ("livepatch_113_1", "0");
    for (marker, livepatches, state, version, said) in [
        (
            ".dockerenv",
            Some(&[ours][..]),
            PatchState::Applied,
            "113.1",
            "(docker)…; enabled: livepatch_113_1",
        ),
        (
            "run/.containerenv",
            Some(&[("livepatch_113_1", "1")]),
            PatchState::Applying,
            "113.1",
            "(podman)…; enabled: livepatch_113_1",
        ),
        (
            "run/systemd/container",
            Some(&[("kpatch_a", "0"), ours]),
            PatchState::Applied,
            "113.1",
            "(lxc)…; enabled: kpatch_a, livepatch_113_1",
        ),
        (".dockerenv", Some(&[("kpatch_a", "0")]), PatchState::Unknown, "-", "(docker)…; enabled: kpatch_a"),
        (".dockerenv", Some(&[]), PatchState::Unapplied, "-", "(docker)…; no livepatch is enabled"),
        (".dockerenv", None, PatchState::Unknown, "-", "(docker)…; its livepatches are not shown here"),
    ] {
        let directory = place(marker, release, livepatches);
        let status = status(directory.path());
        let shown = status.patch.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        assert_eq!((status.patch.state, shown.as_str()), (state, version), "{said}");
        let problem = status.problem.unwrap();
        let of_host = format!(": the kernel {release} is that of its host");
        assert_eq!(problem.message, format!("this is a container {}", said.replace('…', &of_host)));
        assert_eq!(problem.code, "container");
    }
}

#[test]
fn all_say_the_same_there() {
    let directory = place(".dockerenv", "6.1.0-50-cloud-amd64", Some(&[("livepatch_113_1", "0")]));
    let output = livepatch(directory.path(), &["status"], "");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(3), ""));
    insta::assert_snapshot!(text(&output.stdout), @"
    enabled     no
    kernel      not recognised
    server      none
    tier        none
    last check  none since the daemon started
    covered     not known yet
    livepatch   113.1 applied

    problem: this is a container (docker): the kernel 6.1.0-50-cloud-amd64 is that of its host; enabled: livepatch_113_1 (container)
    hint: install and ask livepatch on the host; all its containers are covered with it
    ");
    let mut said = Vec::new();
    let output = livepatch(directory.path(), &["check"], "");
    assert_eq!(output.status.code(), Some(3));
    insta::assert_snapshot!(text(&output.stdout), @"LIVEPATCH UNKNOWN - this is a container (docker): the kernel 6.1.0-50-cloud-amd64 is that of its host; enabled: livepatch_113_1 | fixed=0 open=0");
    let output = canonical_livepatch(directory.path(), &["status", "--format", "json"], "");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).starts_with("this is a container (docker): "), "{}", text(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let livepatch_of = &shown["Status"][0]["Livepatch"];
    assert_eq!((&livepatch_of["State"], &livepatch_of["Version"]), (&"applied".into(), &"113.1".into()));
    assert_eq!(
        canonical_livepatch(directory.path(), &["kernel-upgrade-required"], "").status.code(),
        Some(1)
    );
    for (livepatches, place) in [(Some(&[][..]), ".dockerenv"), (None, "unused")] {
        let release = if livepatches.is_some() { "6.1.0-50-amd64" } else { "5.15-microsoft" };
        said.push(status(self::place(place, release, livepatches).path()).problem.unwrap().message);
    }
    insta::assert_snapshot!(said.join("\n"), @"
    this is a container (docker): the kernel 6.1.0-50-amd64 is that of its host; no livepatch is enabled
    this is WSL: its kernel 5.15-microsoft gets no livepatches; its livepatches are not shown here
    ");
    // There is nothing to wait for.
    let output = crate::never_hangs::in_time("wait", || livepatch(directory.path(), &["wait"], ""));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), ""));
    assert!(text(&output.stdout).contains("problem: this is a container "), "{}", text(&output.stdout));
    let said = livepatch(directory.path(), &["doctor"], "");
    assert!(text(&said.stdout).starts_with("wrong  place      this is a container (docker): "));
}

#[test]
fn windows_and_a_status_of_the_host() {
    let release = "5.15.167.4-microsoft-standard-WSL2";
    let directory = place("unused", release, None);
    let problem = status(directory.path()).problem.unwrap();
    assert_eq!(problem.code, "wsl");
    assert!(problem.hints[0].starts_with("Windows updates this kernel"), "{problem:?}");

    // A container that is shown the directory of its host has all of it.
    let directory = place(".dockerenv", "6.1.0-50-cloud-amd64", Some(&[]));
    let left = serde_json::to_string(&crate::support::status()).unwrap();
    std::fs::write(directory.path().join("status.json"), left).unwrap();
    let output = livepatch(directory.path(), &["status"], "");
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stdout).contains("livepatch   113.1 applied since "), "{}", text(&output.stdout));
}
