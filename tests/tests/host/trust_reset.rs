//! The runbook of `livepatch trust reset`: the commands of docs/trust-reset.md as they stand there, on a host with a
//! livepatch in force.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use livepatch_trust::RepositoryName;
use livepatch_types::PatchState;

use crate::repository::{OPERATOR_KEYS, Repository, operator_root, pair, sign};
use crate::support::*;

const PAGE: &str = include_str!("../../../docs/trust-reset.md");
/// The key that the operator's root names.
const OPERATOR: u8 = 33;
const RESTART: &str = "systemctl restart livepatch-loader";

/// The commands of the page, by the heading under which they stand: a list for each block.
fn commands() -> BTreeMap<&'static str, Vec<Vec<&'static str>>> {
    let mut sections: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    let (mut heading, mut inside) = ("", false);
    for line in PAGE.lines() {
        match line {
            "```sh" => {
                inside = true;
                sections.entry(heading).or_default().push(vec![]);
            }
            "```" => inside = false,
            _ if inside => sections.get_mut(heading).unwrap().last_mut().unwrap().push(line),
            _ => heading = line.strip_prefix('#').map_or(heading, |rest| rest.trim_start_matches('#').trim()),
        }
    }
    sections
}

/// A host whose vendor and operator both have roots, which runs livepatch 1.1; and root at it with the page.
struct Desk {
    site: Site,
    host: Host,
    repository: Repository,
    daemons: Daemons,
    /// What the commands find under the page's names.
    names: BTreeMap<&'static str, PathBuf>,
}

impl Desk {
    async fn new() -> Self {
        let site = Site::new().await;
        let host = Host::new(&site);
        let mut repository = Repository::new();
        let path = |name: &str| host.path().join(name);
        std::fs::remove_file(path("operator.pub")).unwrap();
        std::fs::write(path("vendor-root.json"), repository.root_file()).unwrap();
        let root = sign(&operator_root(1, &[OPERATOR], &[OPERATOR]), &OPERATOR_KEYS);
        std::fs::write(path("operator-root.json"), root).unwrap();
        std::fs::write(path("token"), TOKEN).unwrap();
        std::fs::create_dir(path("backup")).unwrap();
        site.shelf.lock().unwrap().assign =
            Some(Box::new(|host, _| assign(host, "stable", 1, &pair(OPERATOR))));
        repository.allow("1.1", &VENDOR.sign(&module(&info("1.1", &kernel(1)))));
        offer(&site, 1, "1.1", &repository);
        let daemons = host.enabled().await;
        daemons.listen();
        for file in ["vendor-root.json", "operator-root.json", "loader/vendor.json"] {
            let name = Path::new(file).file_name().unwrap();
            std::fs::copy(path(file), path("backup").join(name)).unwrap();
        }
        let names = [
            ("STATE", path("loader")),
            ("TRUST", path("")),
            ("BACKUP", path("backup")),
            ("TOKEN", path("token")),
        ];
        let desk = Self { names: names.into(), site, host, repository, daemons };
        assert_eq!(desk.host.livepatches(), ["livepatch_1_1"]);
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.host.path().join(name)
    }

    /// The daemons start anew, after a reboot or not.
    async fn restart(&mut self) {
        self.daemons = self.host.agent();
        // What is wrong is looked at by who reads the page.
        let _ = self.daemons.start().await;
        self.daemons.listen();
    }

    async fn reboot(&mut self) {
        self.host.kernel.reboot(kernel(1));
        self.restart().await;
    }

    /// Runs a command of the page; what it prints, and whether it succeeded.
    async fn run(&mut self, command: &str) -> (bool, String) {
        if command == RESTART {
            self.restart().await;
            return (true, String::new());
        }
        let sockets = self.daemons.directory().display().to_string();
        let program = env!("CARGO_BIN_EXE_livepatch-for-tests");
        let mut script =
            format!("livepatch() {{ {program} --runtime-dir {sockets} --loader-dir {sockets} \"$@\"; }}\n");
        for (name, path) in &self.names {
            let _ = writeln!(script, "{name}={}", path.display());
        }
        script.push_str(command);
        let run = move || Command::new("bash").args(["-euo", "pipefail", "-c", &script]).output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// What root sees who looks first.
    async fn look(&mut self) -> String {
        let mut seen = String::new();
        for command in commands().remove("Look first").unwrap().remove(0) {
            seen.push_str(&self.run(command).await.1);
        }
        seen
    }

    /// Follows a block of the page to its end: every command succeeds, or says a problem that the page speaks of.
    async fn follow(&mut self, heading: &str, block: usize, spoken_of: &[&str]) {
        for command in commands()[heading][block].clone() {
            let (done, said) = self.run(command).await;
            let known = spoken_of.iter().any(|words| said.contains(words));
            assert!(done || known, "{heading}: {command}\n{said}");
        }
    }

    /// The next livepatch comes: only where all is well.
    async fn next_livepatch_comes(&mut self) {
        self.repository.allow("1.2", &VENDOR.sign(&module(&info("1.2", &kernel(1)))));
        offer(&self.site, 9, "1.2", &self.repository);
        self.daemons.refresh().await.unwrap();
        assert_eq!(self.host.livepatches(), ["livepatch_1_2"]);
        assert_eq!(self.daemons.status().problem, None);
    }
}

fn offer(site: &Site, number: u64, of: &str, repository: &Repository) {
    let mut document = document(&kernel(1), number, Some(site.target(of, &kernel(1))));
    document.vendor = Some(repository.named());
    site.publish_signed(&document, &pair(OPERATOR));
    site.shelf.lock().unwrap().vendor = repository.files();
}

/// How a host is damaged, what the page's table says then, and the way out: heading and block.
type Case = (&'static str, fn(&mut Desk), &'static str, &'static str);

const MEMORY: &str = "What was seen of the vendor's repository is gone";
const CASES: [Case; 9] = [
    (
        "corrupt, with a backup",
        |desk| desk.write("loader/vendor.json", b"{"),
        "trust-state-unreadable",
        MEMORY,
    ),
    ("corrupt", |desk| desk.write("loader/vendor.json", b"{"), "trust-state-unreadable", "Without a backup"),
    ("lost, with a backup", |desk| desk.remove("loader/vendor.json"), "trust-state-missing", MEMORY),
    ("lost", |desk| desk.remove("loader/vendor.json"), "trust-state-missing", "Without a backup"),
    (
        "no vendor's root",
        |desk| desk.remove("vendor-root.json"),
        "vendor-root-missing",
        "A pinned root is gone",
    ),
    (
        "no operator's root",
        |desk| desk.remove("operator-root.json"),
        "operator-root-missing",
        "A pinned root is gone",
    ),
    ("another vendor", Desk::other_vendor, "vendor-other-repository", "Another root is pinned"),
    ("a newer root", Desk::newer_root, "vendor-root-newer-pinned", "Another root is pinned"),
    ("another operator", Desk::other_operator, "operator-other-root", "Another root is pinned"),
];

impl Desk {
    fn write(&mut self, file: &str, bytes: &[u8]) {
        std::fs::write(self.file(file), bytes).unwrap();
    }

    fn remove(&mut self, file: &str) {
        std::fs::remove_file(self.file(file)).unwrap();
    }

    /// The vendor began a new repository, and root put its root in place.
    fn other_vendor(&mut self) {
        self.repository.root.repository = RepositoryName::parse("debian-12-6.1-b").unwrap();
        self.write("vendor-root.json", &self.repository.root_file());
        offer(&self.site, 2, "1.1", &self.repository);
    }

    /// Root put a newer root of the vendor's in place, and the server does not have the one in between.
    fn newer_root(&mut self) {
        self.repository.root.header.version = 3;
        self.write("vendor-root.json", &self.repository.root_file());
        offer(&self.site, 2, "1.1", &self.repository);
    }

    /// The operator's root was lost, and root put that of a new one in place; the server's key is the same.
    fn other_operator(&mut self) {
        let mut root = operator_root(1, &[OPERATOR], &[OPERATOR]);
        root.repository = RepositoryName::parse("example-fleet-2").unwrap();
        self.write("operator-root.json", &sign(&root, &OPERATOR_KEYS));
    }
}

#[tokio::test]
async fn every_case_of_the_runbook_ends_well() {
    if !root_or_skipped() {
        return;
    }
    for (what, damage, code, heading) in CASES {
        let mut desk = Desk::new().await;
        damage(&mut desk);
        // Also after a reboot the host has what it had, and installs nothing new.
        desk.reboot().await;
        assert_eq!(desk.host.livepatches(), ["livepatch_1_1"], "{what}");
        let seen = desk.look().await;
        assert!(seen.contains(&format!("({code})")), "{what}: {seen}");
        assert!(PAGE.contains(&format!("| `{code}` |")), "{what}: the table does not have {code}");
        desk.follow(heading, 0, &[]).await;
        assert_eq!(desk.host.livepatches(), ["livepatch_1_1"], "{what}: what runs goes on");
        let (well, said) = desk.run("livepatch trust").await;
        assert!(well && said.contains("\ntimestamp   version 2, "), "{what}: {said}");
        let set_aside = desk.file("loader/vendor.json.set-aside").exists();
        let aside = commands()[heading][0].contains(&"livepatch trust reset")
            && ["corrupt", "another vendor", "a newer root"].contains(&what);
        assert_eq!(set_aside, aside, "{what}");
        desk.next_livepatch_comes().await;
    }
}

#[tokio::test]
async fn without_the_loaders_state_the_host_enrols_anew() {
    if !root_or_skipped() {
        return;
    }
    let heading = "The loader's own state is gone";
    for (damage, code) in [(Some("{"), "state-unreadable"), (None, "state-missing")] {
        let mut desk = Desk::new().await;
        match damage {
            Some(text) => desk.write("loader/state.json", text.as_bytes()),
            None => desk.remove("loader/state.json"),
        }
        desk.restart().await;
        let _ = desk.daemons.refresh().await;
        let seen = desk.look().await;
        assert!(seen.contains(&format!("({code})")), "{code}: {seen}");
        assert!(PAGE.contains(&format!("| `{code}`")), "{code}");
        desk.follow(
            heading,
            0,
            &["it is set aside, and this host is not enrolled any more", "(foreign-livepatch)"],
        )
        .await;
        assert_eq!(desk.daemons.status().problem.unwrap().code, "foreign-livepatch");
        assert_eq!(desk.host.livepatches(), ["livepatch_1_1"], "what runs goes on");
        desk.reboot().await;
        desk.follow(heading, 1, &[]).await;
        assert_eq!(desk.daemons.status().patch.state, PatchState::Applied);
        desk.next_livepatch_comes().await;
    }
}

/// A reset sets a state aside that cannot be read, and keeps it; but it never halves.
#[tokio::test]
async fn a_reset_with_an_unreadable_state() {
    let desk = Desk::new().await;
    std::fs::write(desk.file("loader/state.json"), "{").unwrap();
    let pinned = std::fs::read(desk.file("vendor-root.json")).unwrap();
    std::fs::write(desk.file("vendor-root.json"), "{").unwrap();
    let daemons = desk.host.agent();
    assert_eq!(code(daemons.reset_trust().await), "trust-unreadable");
    assert!(!desk.file("loader/state.json.unreadable").exists(), "nothing is set aside");
    std::fs::write(desk.file("vendor-root.json"), pinned).unwrap();
    assert_eq!(code(daemons.reset_trust().await), "state-set-aside");
    assert_eq!(std::fs::read_to_string(desk.file("loader/state.json.unreadable")).unwrap(), "{");
    assert!(desk.file("loader/vendor.json").exists() && !desk.file("loader/vendor.json.set-aside").exists());
    assert_eq!(code(daemons.refresh().await), "not-enabled");
    assert_eq!(desk.host.livepatches(), ["livepatch_1_1"], "what runs goes on");
    // There is nothing more to set aside.
    daemons.reset_trust().await.unwrap();
}

/// What the page's table says that a reset forgets and keeps.
#[tokio::test]
async fn a_reset_keeps_what_the_page_says() {
    let mut desk = Desk::new().await;
    desk.repository.allowance.withdrawn.push(version("1.0"));
    desk.repository.release();
    offer(&desk.site, 2, "1.1", &desk.repository);
    desk.daemons.refresh().await.unwrap();
    let state = |desk: &Desk| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(desk.host.state_file()).unwrap()).unwrap()
    };
    let before = state(&desk);
    desk.daemons.reset_trust().await.unwrap();
    let after = state(&desk);
    for kept in ["channel", "host", "seen", "applied", "held", "blocked", "document", "operator", "vendor"] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    let withdrawn = async |desk: &mut Desk| {
        let said = desk.run("livepatch trust").await.1;
        said.lines().find_map(|line| line.strip_prefix("withdrawn   ")).unwrap().to_owned()
    };
    assert_eq!(withdrawn(&mut desk).await, "1.0", "nothing was wrong with it");
    // Of what cannot be read nothing is known, until the next check.
    desk.write("loader/vendor.json", b"{");
    desk.restart().await;
    desk.daemons.reset_trust().await.unwrap();
    assert_eq!(withdrawn(&mut desk).await, "none");
    desk.daemons.refresh().await.unwrap();
    assert_eq!(withdrawn(&mut desk).await, "1.0", "learned again with it");
    assert_eq!(desk.host.livepatches(), ["livepatch_1_1"]);
}

/// A stolen key that signed 2099: the commands of the page end it.
#[tokio::test]
async fn a_time_far_ahead_ends_with_a_reset() {
    if !root_or_skipped() {
        return;
    }
    let mut desk = Desk::new().await;
    let mut ahead = document(&kernel(1), 2, Some(desk.site.target("1.1", &kernel(1))));
    ahead.vendor = Some(desk.repository.named());
    (ahead.issued, ahead.expires) =
        ("2099-01-01T00:00:00Z".parse().unwrap(), "2099-02-01T00:00:00Z".parse().unwrap());
    desk.site.publish_signed(&ahead, &pair(OPERATOR));
    let _ = desk.daemons.refresh().await;
    desk.repository.allow("1.2", &VENDOR.sign(&module(&info("1.2", &kernel(1)))));
    offer(&desk.site, 3, "1.2", &desk.repository);
    assert_eq!(code(desk.daemons.refresh().await), "clock-behind");
    assert!(desk.look().await.contains("(clock-behind)") && PAGE.contains("| `clock-behind`"));
    assert_eq!(desk.host.livepatches(), ["livepatch_1_1"]);
    desk.follow("A stolen key signed a time far ahead", 0, &[]).await;
    assert_eq!(desk.host.livepatches(), ["livepatch_1_2"]);
}
