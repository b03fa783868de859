//! `livepatch-build index` over archives that the test makes: what is right is read, and of what somebody on the way, an
//! owner of another key or the archive itself has changed nothing gets into the index.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod archive;
mod server;
mod ubuntu;

use std::fs;
use std::process::Output;
use std::time::Duration;

use archive::{Archive, Package, Release, SUITE};
use livepatch_archive::{KernelIndex, Standing};
use livepatch_kimage::KernelImage;
use livepatch_manifest::sha256;
use server::{Answer, serve};

/// Exit codes of `livepatch-build` (docs/building.md).
const SUCCESS: i32 = 0;
const ENVIRONMENT: i32 = 1;
const KERNEL: i32 = 4;
const ARCHIVE: i32 = 10;

fn error_of(output: &Output, code: i32) -> String {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains("\n\nhint: "), "{errors}");
    errors.lines().find_map(|line| line.strip_prefix("error: ")).unwrap().to_owned()
}

fn succeeds(output: &Output) -> serde_json::Value {
    let said = [&output.stdout[..], &output.stderr].concat();
    assert_eq!(output.status.code(), Some(SUCCESS), "{}", String::from_utf8_lossy(&said));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn read(archive: &Archive, out: &str) -> KernelIndex {
    KernelIndex::parse(&fs::read(archive.path(out)).unwrap()).unwrap()
}

fn releases(index: &KernelIndex) -> Vec<&str> {
    index.kernels.iter().map(|row| row.release.as_str()).collect()
}

#[test]
fn kernels_are_read_once() {
    let archive = Archive::new();
    let old = Package::new("6.1.0-1-amd64", 1);
    archive.publish(std::slice::from_ref(&old), &Release { date: -7200, ..Release::default() });
    let report = succeeds(&archive.index("index.json"));
    assert_eq!((&report["kernels"], &report["suites"][0]["fetched"]), (&1.into(), &1.into()));
    let index = read(&archive, "index.json");
    let [row] = &index.kernels[..] else { panic!() };
    assert_eq!(row.build_id.to_string(), "01".repeat(20));
    assert_eq!((&*row.distribution, &*row.pocket, row.standing), ("Debian", "release", Standing::Official));
    assert_eq!((&*row.package, &*row.version), ("linux-image-6.1.0-1-amd64", "1-1"));
    assert_eq!((row.builtin_keys.clone(), row.image_date.to_string()), (None, "2026-07-01T14:00:00Z".into()));
    let provenance = &row.provenance;
    assert_eq!(provenance.in_release, sha256(&fs::read(archive.in_release()).unwrap()));
    assert_eq!(provenance.packages, sha256(&fs::read(archive.packages_xz()).unwrap()));
    assert_eq!(provenance.package, sha256(&old.file));
    assert_eq!(provenance.signed_by.len(), 1);
    assert_eq!(row.published_by, index.archives[0].date);

    // The next run has nothing to do, and needs no file of the package.
    let bytes = fs::read(archive.path("index.json")).unwrap();
    fs::remove_file(archive.file(&old)).unwrap();
    assert_eq!(succeeds(&archive.index("index.json"))["suites"][0]["fetched"], 0);
    assert_eq!(fs::read(archive.path("index.json")).unwrap(), bytes);

    // What the archive has no more stays: hosts still run it.
    let new = Package::new("6.1.0-2-amd64", 2);
    archive.publish(std::slice::from_ref(&new), &Release::default());
    let report = succeeds(&archive.index("index.json"));
    assert_eq!((&report["kernels"], &report["suites"][0]["fetched"]), (&2.into(), &1.into()));
    assert_eq!(releases(&read(&archive, "index.json")), ["6.1.0-1-amd64", "6.1.0-2-amd64"]);

    // Not asked for: not fetched.
    let output = archive.command(&archive.url(), "some.json").args(["--package", "linux-*-3-amd64"]).output();
    assert_eq!(succeeds(&output.unwrap())["suites"][0]["packages"], 0);

    // The table of pockets decides, and the key: a name is easily said.
    let other = fs::read_to_string(archive.path("pockets.toml")).unwrap().replace("keyring.gpg", "other.gpg");
    fs::write(archive.path("other.toml"), other).unwrap();
    let mut command = archive.command(&archive.url(), "other.json");
    let keyring = archive.path("keyring.gpg");
    command.arg("--keyring").arg(keyring);
    fs::rename(archive.path("other.toml"), archive.path("pockets.toml")).unwrap();
    assert_eq!(succeeds(&command.output().unwrap())["suites"][0]["standing"], "not-official");
    assert_eq!(read(&archive, "other.json").kernels[0].standing, Standing::NotOfficial);
    assert_eq!(
        error_of(&archive.index("other.json"), ENVIRONMENT),
        format!(
            "{}/dists/{SUITE}/InRelease: the keyring {} is not here",
            archive.url(),
            archive.path("other.gpg").display()
        )
    );
}

#[test]
fn a_package_without_a_kernel_does_not_keep_the_others_out() {
    let archive = Archive::new();
    let odd =
        archive::deb(&archive::tar("./boot/vmlinuz-6.1.0-9-amd64", &archive::image("6.1.0-8-amd64", 8)));
    let packages = [
        Package::of_file("linux-image-6.1.0-1-amd64", "1", archive::deb(&archive::tar("./boot/other", b"x"))),
        Package::of_file("linux-image-6.1.0-2-amd64", "1", b"no package".to_vec()),
        Package::of_file("linux-image-6.1.0-9-amd64", "1", odd),
        Package::new("6.1.0-3-amd64", 3),
    ];
    archive.publish(&packages, &Release::default());
    let output = archive.index("index.json");
    assert_eq!(output.status.code(), Some(KERNEL));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let unread = report["suites"][0]["unread"].as_array().unwrap();
    let why: Vec<&str> = unread.iter().map(|unread| unread["why"].as_str().unwrap()).collect();
    assert_eq!(
        why,
        [
            "it has no boot/vmlinuz-RELEASE",
            "it is no debian package: it does not begin as one",
            "its image is called 6.1.0-9-amd64 and is of 6.1.0-8-amd64"
        ]
    );
    assert_eq!(releases(&read(&archive, "index.json")), ["6.1.0-3-amd64"]);
}

/// An attack: what is done to an archive that was good a moment ago, and what is said to that.
struct Attack {
    name: &'static str,
    attack: fn(&Archive, &[Package]),
    /// Follows the URL of the file: `{…}` are filled in.
    refused: &'static str,
}

/// The packages with another last one.
fn with_last(packages: &[Package], change: fn(&mut Package)) -> Vec<Package> {
    let mut packages = packages.to_vec();
    change(packages.last_mut().unwrap());
    packages
}

fn append(path: &std::path::Path, bytes: &[u8]) {
    let mut file = fs::read(path).unwrap();
    file.extend(bytes);
    fs::write(path, file).unwrap();
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "unsigned InRelease",
        attack: |archive, packages| {
            let text = archive.publish(packages, &Release::default());
            fs::write(archive.in_release(), text).unwrap();
        },
        refused: "{in_release}: it is not signed",
    },
    Attack {
        name: "another text in front of the signed one",
        attack: |archive, _| {
            let signed = fs::read(archive.in_release()).unwrap();
            fs::write(archive.in_release(), [b"Codename: bookworm\n".to_vec(), signed].concat()).unwrap();
        },
        refused: "{in_release}: it is not one signed text and nothing else",
    },
    Attack {
        name: "signed by another key",
        attack: |archive, packages| {
            let text = archive.publish(packages, &Release::default());
            fs::write(archive.in_release(), archive.sign("stranger", &text)).unwrap();
        },
        refused: "{in_release}: no key of {keyring} has signed it",
    },
    Attack {
        name: "changed after it was signed",
        attack: |archive, _| {
            let text = fs::read_to_string(archive.in_release()).unwrap();
            fs::write(archive.in_release(), text.replace("Origin: Debian", "Origin: Devian")).unwrap();
        },
        refused: "{in_release}: its signature is wrong: it was changed after it was signed",
    },
    Attack {
        name: "expired",
        attack: |archive, packages| {
            archive.publish(packages, &Release { valid_until: Some(-60), ..Release::default() });
        },
        refused: "{in_release}: it was valid until {time}",
    },
    Attack {
        name: "from the future",
        attack: |archive, packages| {
            archive.publish(packages, &Release { date: 3600, ..Release::default() });
        },
        refused: "{in_release}: it is of {time}, which is to come",
    },
    Attack {
        name: "older than what was seen",
        attack: |archive, packages| {
            archive.publish(packages, &Release { date: -90_000, ..Release::default() });
        },
        refused: "{in_release}: it is of {time}, and one of {time} was there before",
    },
    Attack {
        name: "the signed file of another suite",
        attack: |archive, packages| {
            let codename = "bookworm-proposed-updates".into();
            archive.publish(packages, &Release { codename, ..Release::default() });
        },
        refused: "{in_release}: it is of bookworm-proposed-updates",
    },
    Attack {
        name: "another Packages",
        attack: |archive, _| {
            let mut bytes = fs::read(archive.packages_xz()).unwrap();
            bytes[20] ^= 1;
            fs::write(archive.packages_xz(), bytes).unwrap();
        },
        refused: "{packages} is not the file that InRelease lists: its sha-256 is {digest}, not {digest}",
    },
    Attack {
        name: "a longer Packages",
        attack: |archive, _| append(&archive.packages_xz(), b"more"),
        refused: "{packages} is larger than the {number} bytes that it may have",
    },
    Attack {
        name: "a Packages that unpacks to more than is signed",
        attack: |archive, packages| {
            archive.publish(packages, &Release { packages_size: Some(10), ..Release::default() });
        },
        refused: "{packages}: it unpacks to more than 10 bytes",
    },
    Attack {
        name: "a Packages that is said to be huge",
        attack: |archive, packages| {
            archive.publish(packages, &Release { packages_size: Some(1 << 40), ..Release::default() });
        },
        refused: "{packages}: InRelease says that it has 1099511627776 bytes, and none has more than 268435456",
    },
    Attack {
        name: "another package",
        attack: |archive, packages| {
            let mut file = packages[1].file.clone();
            *file.last_mut().unwrap() ^= 1;
            fs::write(archive.file(&packages[1]), file).unwrap();
        },
        refused: "{package} is not the file that Packages lists: its sha-256 is {digest}, not {digest}",
    },
    Attack {
        name: "a shorter package",
        attack: |archive, packages| {
            fs::write(archive.file(&packages[1]), &packages[1].file[..100]).unwrap();
        },
        refused: "{package} is not the file that Packages lists: its sha-256 is {digest}, not {digest}",
    },
    Attack {
        name: "a longer package",
        attack: |archive, packages| append(&archive.file(&packages[1]), b"more"),
        refused: "{package} is larger than the {number} bytes that it may have",
    },
    Attack {
        name: "a package that is said to be huge",
        attack: |archive, packages| {
            archive.publish(&with_last(packages, |package| package.size = 1 << 40), &Release::default());
        },
        refused: "{package}: Packages says that it has 1099511627776 bytes, and none has more than 536870912",
    },
    Attack {
        name: "a path that leads out of the archive",
        attack: |archive, packages| {
            let elsewhere = |package: &mut Package| package.path = "pool/../../../secret.deb".into();
            archive.publish(&with_last(packages, elsewhere), &Release::default());
        },
        refused: "{packages}: the file of linux-image-6.1.0-2-amd64 is not below the archive: \"pool/../../../secret.deb\"",
    },
    Attack {
        name: "a path to another host",
        attack: |archive, packages| {
            let elsewhere = |package: &mut Package| package.path = "http://example.org/x.deb".into();
            archive.publish(&with_last(packages, elsewhere), &Release::default());
        },
        refused: "{packages}: the file of linux-image-6.1.0-2-amd64 is not below the archive: \"http://example.org/x.deb\"",
    },
];

/// The message with what differs from run to run put back into braces.
fn generalised(message: &str, archive: &Archive, package: &Package) -> String {
    let url = archive.url();
    let named = message
        .replace(&format!("{url}/dists/{SUITE}/InRelease"), "{in_release}")
        .replace(&format!("{url}/dists/{SUITE}/main/binary-amd64/Packages.xz"), "{packages}")
        .replace(&format!("{url}/{}", package.path), "{package}")
        .replace(&archive.path("keyring.gpg").display().to_string(), "{keyring}");
    let word = |word: &str| {
        let (core, end) = word.split_at(word.trim_end_matches(',').len());
        let hexadecimal = core.len() == 64 && core.bytes().all(|byte| byte.is_ascii_hexdigit());
        match core {
            _ if hexadecimal => format!("{{digest}}{end}"),
            _ if core.parse::<jiff::Timestamp>().is_ok() => format!("{{time}}{end}"),
            _ => word.to_owned(),
        }
    };
    named.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn attack_on_an_archive_leaves_the_index_as_it_was() {
    let archive = Archive::new();
    let packages = [Package::new("6.1.0-1-amd64", 1), Package::new("6.1.0-2-amd64", 2)];
    for Attack { name, attack, refused } in ATTACKS {
        // Before: one kernel. Then another one is published, and without the attack it is read.
        _ = fs::remove_file(archive.path("index.json"));
        archive.publish(&packages[..1], &Release { date: -7200, ..Release::default() });
        succeeds(&archive.index("index.json"));
        archive.publish(&packages, &Release::default());
        fs::copy(archive.path("index.json"), archive.path("unattacked.json")).unwrap();
        succeeds(&archive.index("unattacked.json"));
        assert_eq!(read(&archive, "unattacked.json").count(), 2, "{name}");

        attack(&archive, &packages);
        let (before, names) = (fs::read(archive.path("index.json")).unwrap(), archive.names());
        let output = archive.index("index.json");
        let message = generalised(&error_of(&output, ARCHIVE), &archive, &packages[1]);
        let most = [archive.packages_xz(), archive.file(&packages[1])]
            .map(|path| fs::metadata(path).unwrap().len() - 4);
        let message = most.iter().fold(message, |message, most| {
            message.replace(&format!("the {most} bytes that"), "the {number} bytes that")
        });
        assert_eq!(message, *refused, "{name}");
        assert_eq!(fs::read(archive.path("index.json")).unwrap(), before, "{name}");
        assert_eq!(archive.names(), names, "{name}");
    }
}

#[test]
fn attack_over_the_network_ends() {
    let archive = Archive::new();
    let package = Package::new("6.1.0-1-amd64", 1);
    archive.publish(std::slice::from_ref(&package), &Release::default());
    let root = archive.path("archive");
    let at = root.clone();
    let (url, _asked) = serve(move |path| Answer::File(at.join(path)));
    succeeds(&archive.command(&url, "index.json").output().unwrap());
    assert_eq!(releases(&read(&archive, "index.json")), ["6.1.0-1-amd64"]);

    let (length, path) = (package.size, package.path.clone());
    for (endless, most) in [("InRelease", 16 << 20), (".deb", length)] {
        let at = root.clone();
        let (url, _asked) = serve(move |path| match path.ends_with(endless) {
            true => Answer::Endless,
            false => Answer::File(at.join(path)),
        });
        let file = if endless == ".deb" { path.clone() } else { format!("dists/{SUITE}/InRelease") };
        assert_eq!(
            error_of(&archive.command(&url, "hostile.json").output().unwrap(), ARCHIVE),
            format!("{url}/{file} is larger than the {most} bytes that it may have")
        );
        assert!(!archive.path("hostile.json").exists());
    }

    // To a file of this host.
    let secret = format!("file://{}", archive.in_release().display());
    let (url, _asked) = serve(move |_| Answer::Elsewhere(secret.clone()));
    let error = error_of(&archive.command(&url, "hostile.json").output().unwrap(), ENVIRONMENT);
    assert!(error.starts_with(&format!("cannot fetch {url}/dists/{SUITE}/InRelease: ")), "{error}");

    let (url, _asked) = serve(|_| Answer::File("/nonexistent".into()));
    let error = error_of(&archive.command(&url, "hostile.json").output().unwrap(), ENVIRONMENT);
    let expected = format!("cannot fetch {url}/dists/{SUITE}/InRelease: 404  Not Found");
    assert!(error.starts_with(&expected), "{error}");
    assert!(!archive.path("hostile.json").exists());
}

#[test]
fn a_killed_run_leaves_what_it_found() {
    let archive = Archive::new();
    let packages = [Package::new("6.1.0-1-amd64", 1), Package::new("6.1.0-2-amd64", 2)];
    archive.publish(&packages, &Release::default());
    let (root, silent) = (archive.path("archive"), packages[1].path.clone());
    let at = root.clone();
    let (url, asked) = serve(move |path| match path == silent {
        true => Answer::Silence,
        false => Answer::File(at.join(path)),
    });
    let mut child = archive.command(&url, "index.json").spawn().unwrap();
    let wait_for = |what: &str| while asked.recv_timeout(Duration::from_secs(60)).unwrap() != what {};
    wait_for(&packages[1].path);
    child.kill().unwrap();
    child.wait().unwrap();
    // Whatever it had started has ended, too.
    wait_for(&format!("{} is over", packages[1].path));
    let index = read(&archive, "index.json");
    assert_eq!((releases(&index), index.archives.len()), (vec!["6.1.0-1-amd64"], 0));

    let (url, asked) = serve(move |path| Answer::File(root.join(path)));
    succeeds(&archive.command(&url, "index.json").output().unwrap());
    assert_eq!(releases(&read(&archive, "index.json")), ["6.1.0-1-amd64", "6.1.0-2-amd64"]);
    let asked: Vec<String> = asked.try_iter().filter(|path| path.ends_with(".deb")).collect();
    assert_eq!(asked, [packages[1].path.clone()], "what was found before is not fetched again");
}

#[test]
fn the_shipped_kernel_shows_its_build_id_and_keys() {
    let Some(kernel) = livepatch_vm::testing::kernel("debian-12-cloud-6.1").unwrap() else { return };
    let directory = kernel.directory.join("packages");
    let name = "linux-image-6.1.0-50-cloud-amd64";
    let file = fs::read(directory.join(format!("{name}_6.1.176-1_amd64.deb"))).unwrap();
    let archive = Archive::new();
    archive.publish(&[Package::of_file(name, "6.1.176-1", file)], &Release::default());
    succeeds(&archive.index("index.json"));
    let index = read(&archive, "index.json");
    let [row] = &index.kernels[..] else { panic!() };
    let image = KernelImage::parse(&fs::read(kernel.tree.vmlinuz()).unwrap()).unwrap();
    assert_eq!((&row.build_id, Some(&row.release)), (&image.build_id, image.release.as_ref()));
    // Debian Secure Boot CA.
    assert_eq!(row.builtin_keys, Some(vec!["7be19eae0bcfcbd6a7b433708be2ef02f7ec1571".into()]));
}
