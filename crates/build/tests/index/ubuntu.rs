//! Ubuntu's pockets, as the table that the program comes with tells them apart: suites that are named alike by codename, signed
//! by the same keys.

use std::fs;
use std::process::{Command, Output};

use livepatch_archive::{KernelIndex, Standing};

use crate::archive::{Archive, Package, Release};
use crate::succeeds;

/// Suite, what it says it is of, distribution and pocket of its kernels, and whether they are official.
const SUITES: [(&str, &str, &str, &str, Standing); 7] = [
    ("jammy", "Ubuntu", "Ubuntu", "release", Standing::Official),
    ("jammy-updates", "Ubuntu", "Ubuntu", "updates", Standing::Official),
    ("jammy-security", "Ubuntu", "Ubuntu", "security", Standing::Official),
    ("jammy-infra-updates", "UbuntuESM", "Ubuntu", "esm", Standing::Official),
    ("jammy-infra-security", "UbuntuESM", "Ubuntu", "esm", Standing::Official),
    ("jammy-proposed", "Ubuntu", "Ubuntu", "proposed", Standing::NotOfficial),
    ("jammy-backports", "Ubuntu", "Ubuntu", "backports", Standing::NotOfficial),
];

/// The shipped table, with the owner's keys in the place of the distribution's.
fn table(archive: &Archive) {
    let keyring = archive.keyring("owner");
    let shipped = include_str!("../../../archive/data/pockets.toml");
    let line = |line: &str| match line.starts_with("keyring = ") {
        true => format!("keyring = {keyring:?}\n"),
        false => format!("{line}\n"),
    };
    fs::write(archive.path("pockets.toml"), shipped.lines().map(line).collect::<String>()).unwrap();
}

fn index(archive: &Archive, suites: &[&str], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch-build"));
    command.args(["index", "--repository", &archive.url(), "--format", "json", "--pockets"]);
    command.arg(archive.path("pockets.toml")).arg("--out").arg(archive.path("index.json")).args(more);
    command.args(suites.iter().flat_map(|suite| ["--suite", suite]));
    command.current_dir(archive.path("")).output().unwrap()
}

fn read(archive: &Archive) -> KernelIndex {
    KernelIndex::parse(&fs::read(archive.path("index.json")).unwrap()).unwrap()
}

#[test]
fn official_is_what_the_pocket_is() {
    let archive = Archive::new();
    table(&archive);
    // One kernel in each pocket, and one that goes the way of all: proposed, then updates and security.
    let promoted = Package::new("5.15.0-107-generic", 99);
    for (number, (suite, origin, ..)) in (1..).zip(SUITES) {
        let mut packages = vec![Package::new(&format!("5.15.0-{number}-generic"), number)];
        if ["jammy-proposed", "jammy-updates", "jammy-security"].contains(&suite) {
            packages.push(promoted.clone());
        }
        let fields = format!("Origin: {origin}\nSuite: {suite}\nCodename: jammy\n");
        archive.publish_as(suite, &fields, "owner", &packages, &Release::default());
    }
    let suites = SUITES.map(|(suite, ..)| suite);
    succeeds(&index(&archive, &suites, &[]));
    let kernels = read(&archive);
    for (number, (suite, _, distribution, pocket, standing)) in (1..).zip(SUITES) {
        let release = format!("5.15.0-{number}-generic");
        let row = kernels.kernels.iter().find(|row| row.release.as_str() == release).unwrap();
        assert_eq!(
            (&*row.suite, &*row.distribution, &*row.pocket, row.standing),
            (suite, distribution, pocket, standing)
        );
    }
    let row = kernels.kernels.iter().find(|row| row.release.as_str() == "5.15.0-107-generic").unwrap();
    let places = kernels.find(row.architecture, &row.build_id);
    let standings: Vec<_> = places.iter().map(|row| row.standing).collect();
    assert_eq!(standings, [Standing::Official, Standing::Official, Standing::NotOfficial]);
}

/// Whoever signs with other keys, or says another origin, has no official kernel, whatever the suite is called.
#[test]
fn a_personal_archive_is_not_official_under_the_same_suite() {
    let archive = Archive::new();
    table(&archive);
    let packages = [Package::new("5.15.0-107-generic", 5)];
    let stranger = archive.keyring("stranger");
    let stranger = stranger.to_str().unwrap();
    for origin in ["LP-PPA-somebody", "Ubuntu"] {
        let fields = format!("Origin: {origin}\nSuite: jammy\nCodename: jammy\n");
        archive.publish_as("jammy", &fields, "stranger", &packages, &Release::default());
        assert_ne!(index(&archive, &["jammy"], &[]).status.code(), Some(0), "not by the table's keys");
        succeeds(&index(&archive, &["jammy"], &["--keyring", stranger]));
        let kernels = read(&archive);
        assert!(kernels.kernels.iter().all(|row| row.standing == Standing::NotOfficial), "{origin}");
        fs::remove_file(archive.path("index.json")).unwrap();
    }
}

/// All of Ubuntu's pockets have the same codename: who puts proposed in the place of updates is found by the suite.
#[test]
fn proposed_does_not_pass_for_updates() {
    let archive = Archive::new();
    table(&archive);
    let fields = "Origin: Ubuntu\nSuite: jammy-proposed\nCodename: jammy\n";
    let packages = [Package::new("5.15.0-107-generic", 5)];
    archive.publish_as("jammy-updates", fields, "owner", &packages, &Release::default());
    let output = index(&archive, &["jammy-updates"], &[]);
    assert_eq!(output.status.code(), Some(10));
    assert!(String::from_utf8(output.stderr).unwrap().contains("jammy-proposed"));
}
