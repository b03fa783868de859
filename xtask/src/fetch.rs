//! `cargo xtask fetch`: the kernels that demo.toml names, downloaded through apt and extracted.
//!
//! `packages/` keeps finished downloads. A kernel's directory is made under another name and renamed when it
//! is complete; `kernel.toml` in it says what it was made from, so that a second run has nothing to do.
//!
//! Beside them are the boot loaders that start such kernels under Secure Boot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use livepatch_vm::{KernelTree, testing};

use crate::changelog::{Item, items_naming};
use crate::config::{Demo, Fix, Kernel, Package, Source, Word};
use crate::error::Error;
use crate::process::{cannot_start, command, extract, output, require_success};
use crate::progress::Step;
use livepatch_carve::carve;

const STAMP: &str = "kernel.toml";

/// What starts Debian's kernels where the firmware has Microsoft's keys, and enrols keys there: the package, and what is
/// needed of it.
const BOOT_LOADERS: [(&str, &str); 3] = [
    ("shim-signed", "usr/lib/shim/shimx64.efi.signed"),
    ("shim-helpers-amd64-signed", "usr/lib/shim/mmx64.efi.signed"),
    ("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
];

/// Fetches all kernels that are not there yet.
pub(crate) fn fetch(demo: &Demo, kernels: &Path) -> Result<(), Error> {
    let _lock = lock(kernels)?;
    for kernel in &demo.kernel {
        let directory = kernels.join(kernel.name.as_str());
        let wanted = toml::to_string(kernel).map_err(|e| Error::Config(e.to_string()))?;
        let stamp = fs::read_to_string(directory.join(STAMP)).unwrap_or_default();
        if stamp == wanted {
            eprintln!("{} is there", kernel.name);
            continue;
        }
        let part = kernels.join(format!("{}.part", kernel.name));
        remove_directory(&part)?;
        if toml::from_str::<Kernel>(&stamp).is_ok_and(|made| made.same_packages(kernel)) {
            // Only the fixes changed. The stamp comes last: until then the next fetch does this again.
            carve_fixes(kernel, &kernels.join("packages"), &part)?;
            replace(&part, &directory.join("carve"))?;
            write(&directory.join(STAMP), wanted.as_bytes())?;
        } else {
            make_kernel(kernel, &kernels.join("packages"), &part)?;
            write(&part.join(STAMP), wanted.as_bytes())?;
            replace(&part, &directory)?;
        }
        eprintln!("{} is complete", kernel.name);
    }
    Ok(())
}

/// Fetches the boot loaders if they are not there yet, as the archive has them now. They are not installed: their packages
/// would make this machine start with them.
pub(crate) fn fetch_boot_loaders(kernels: &Path) -> Result<(), Error> {
    let _lock = lock(kernels)?;
    let directory = kernels.join(testing::BOOT_LOADERS);
    let is_there = |file: &str| directory.join(Path::new(file).file_name().unwrap_or_default()).exists();
    if let Ok(versions) = fs::read_to_string(directory.join("versions"))
        && BOOT_LOADERS.iter().all(|(_, file)| is_there(file))
    {
        eprintln!("{} are there", versions.trim_end());
        return Ok(());
    }
    let part = kernels.join(format!("{}.part", testing::BOOT_LOADERS));
    remove_directory(&part)?;
    make_directory(&part)?;
    let mut versions = Vec::new();
    for (name, file) in BOOT_LOADERS {
        let package = candidate(name)?;
        extract(&download(&package, &kernels.join("packages"))?, &part, &[&format!("./{file}")])?;
        let loader = part.join(file);
        fs::rename(&loader, part.join(loader.file_name().unwrap_or_default()))
            .map_err(|e| Error::io(format!("keep {file}"), e))?;
        versions.push(format!("{name} {}", package.version));
    }
    remove_directory(&part.join("usr"))?;
    write(&part.join("versions"), format!("{}\n", versions.join(", ")).as_bytes())?;
    replace(&part, &directory)?;
    eprintln!("{} are complete", versions.join(", "));
    Ok(())
}

/// Makes the directory; nobody else fetches into it until the file is dropped.
fn lock(kernels: &Path) -> Result<File, Error> {
    make_directory(&kernels.join("packages/partial"))?;
    let lock = File::create(kernels.join(".lock")).map_err(|e| Error::io("make a lock file", e))?;
    lock.lock().map_err(|e| Error::io("wait for another fetch", e))?;
    Ok(lock)
}

fn make_kernel(kernel: &Kernel, packages: &Path, into: &Path) -> Result<(), Error> {
    let image = download(&kernel.image, packages)?;
    let headers: Vec<PathBuf> =
        kernel.headers.iter().map(|package| download(package, packages)).collect::<Result<_, _>>()?;
    let old = download(&kernel.source.old_package(), packages)?;
    let new = download(&kernel.source.new_package(), packages)?;

    make_directory(&into.join("packages"))?;
    for package in [&image, &old, &new].into_iter().chain(&headers) {
        let link = into.join("packages").join(package.file_name().unwrap_or_default());
        fs::hard_link(package, &link).map_err(|e| Error::io(format!("link {}", link.display()), e))?;
    }
    let step = Step::begin(format!("extracted {}", kernel.image.package));
    extract_into(&image, &into.join("image"))?;
    let tree = KernelTree::open(&into.join("image"))?;
    step.done();
    let step = Step::begin(format!("extracted the headers of {}", tree.release()));
    for package in &headers {
        extract_into(package, &into.join("headers"))?;
    }
    step.done();
    carve_fixes(kernel, packages, &into.join("carve"))
}

/// Makes the directory with both versions of the files that fixes touch, and a patch per fix.
fn carve_fixes(kernel: &Kernel, packages: &Path, into: &Path) -> Result<(), Error> {
    for (package, name) in [(kernel.source.old_package(), "old"), (kernel.source.new_package(), "new")] {
        let archive = download(&package, packages)?;
        let step = Step::begin(format!("extracted files of {} {}", package.package, package.version));
        extract_sources(&archive, &kernel.source, &kernel.fix, &into.join(name))?;
        step.done();
    }
    kernel.fix.iter().try_for_each(|fix| carve_fix(fix, into))
}

/// The package as a file, downloaded if it is not there.
pub(crate) fn download(package: &Package, packages: &Path) -> Result<PathBuf, Error> {
    let Package { package: name, version } = package;
    for architecture in ["amd64", "all"] {
        let path = packages.join(format!("{name}_{version}_{architecture}.deb"));
        if path.exists() {
            return Ok(path);
        }
    }
    let (file, bytes) = match look_up(package) {
        // The archive's index may be old, or empty as in a fresh container.
        Err(Error::VersionGone { .. }) if renew_index()? => look_up(package)?,
        found => found?,
    };
    let partial = packages.join("partial").join(&file);
    let step = Step::begin_bytes(format!("downloaded {name} {version}"), bytes);
    // apt checks the hash that the signed index has for the package.
    let child = command("apt-get")
        .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .arg(format!("{name}={version}"))
        .current_dir(packages.join("partial"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| cannot_start("apt-get", e))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = loop {
        match receiver.recv_timeout(Duration::from_millis(200)) {
            Ok(output) => break output.map_err(|e| cannot_start("apt-get", e))?,
            Err(_) => step.at(fs::metadata(&partial).map_or(0, |metadata| metadata.len())),
        }
    };
    require_success("apt-get", &output)?;
    let path = packages.join(&file);
    fs::rename(&partial, &path).map_err(|e| Error::io(format!("make {}", path.display()), e))?;
    step.done();
    Ok(path)
}

/// Fetches the archive's index, at most once; false when it was already, or when only root may.
fn renew_index() -> Result<bool, Error> {
    static RENEWED: AtomicBool = AtomicBool::new(false);
    if !crate::setup::is_root()? || RENEWED.swap(true, Ordering::Relaxed) {
        return Ok(false);
    }
    let step = Step::begin("fetched the package index (apt-get update)");
    output(command("apt-get").args(["-q", "update"]))?;
    step.done();
    Ok(true)
}

/// The package's file name and size, as the archive's index has them.
fn look_up(package: &Package) -> Result<(String, u64), Error> {
    let Package { package: name, version } = package;
    let asked =
        output(command("apt-get").args(["--print-uris", "download"]).arg(format!("{name}={version}")));
    let unknown = |detail: &str| detail.contains("was not found") || detail.contains("Unable to locate");
    let text = match asked {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(Error::Program { detail, .. }) if unknown(&detail) => {
            let (package, version) = (name.to_string(), version.to_string());
            return Err(Error::VersionGone { package, version, offered: offered(name)? });
        }
        Err(error) => return Err(error),
    };
    parse_uri(&text).ok_or_else(|| Error::Program {
        program: "apt-get".into(),
        detail: format!("no address for {name} {version}"),
    })
}

/// `'http://…' name_version_arch.deb SIZE SHA256:…`
fn parse_uri(text: &str) -> Option<(String, u64)> {
    let mut words = text.lines().find(|line| line.starts_with('\''))?.split_whitespace().skip(1);
    let file = words.next().filter(|file| file.ends_with(".deb") && !file.contains('/'))?;
    Some((file.into(), words.next()?.parse().ok()?))
}

/// The package in the version that apt would install.
fn candidate(name: &str) -> Result<Package, Error> {
    let word = |text: &str| Word::try_from(text.to_owned()).map_err(Error::Config);
    let asked = || -> Result<Option<String>, Error> {
        let text = output(command("apt-cache").args(["policy", name]))?;
        Ok(parse_candidate(&String::from_utf8_lossy(&text)))
    };
    let version = match asked()? {
        None if renew_index()? => asked()?,
        found => found,
    };
    let gone =
        || Error::VersionGone { package: name.into(), version: "in any version".into(), offered: Vec::new() };
    Ok(Package { package: word(name)?, version: word(&version.ok_or_else(gone)?)? })
}

/// `  Candidate: 1.51`, or `(none)`; nothing at all for a package that apt has not heard of.
fn parse_candidate(text: &str) -> Option<String> {
    let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// The versions that the archive has now, newest first.
fn offered(package: &Word) -> Result<Vec<String>, Error> {
    let text = output(command("apt-cache").arg("madison").arg(package.as_str()))?;
    Ok(parse_madison(&String::from_utf8_lossy(&text)))
}

fn parse_madison(text: &str) -> Vec<String> {
    let mut versions: Vec<String> =
        text.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim().to_string())).collect();
    versions.dedup();
    versions
}

fn extract_into(package: &Path, into: &Path) -> Result<(), Error> {
    make_directory(into)?;
    extract(package, into, &[])
}

/// Extracts the files that fixes touch, and the changelog.
fn extract_sources(package: &Path, source: &Source, fixes: &[Fix], into: &Path) -> Result<(), Error> {
    let name = source.package.as_str();
    let (archive, changelog) =
        (format!("usr/src/{name}.tar.xz"), format!("usr/share/doc/{name}/changelog.Debian.gz"));
    make_directory(into)?;
    extract(package, into, &[&format!("./{archive}"), &format!("./{changelog}")])?;
    fs::rename(into.join(&changelog), into.join("changelog.Debian.gz"))
        .map_err(|e| Error::io("keep the changelog", e))?;
    if !fixes.is_empty() {
        let files = fixes.iter().map(|fix| format!("{name}/{}", fix.file.as_str()));
        // With --occurrence it stops reading when it has them all.
        let tar = ["--extract", "--xz", "--no-same-owner", "--strip-components=1", "--occurrence=1"];
        output(
            command("tar")
                .args(tar)
                .arg("--file")
                .arg(into.join(&archive))
                .arg("--directory")
                .arg(into)
                .args(files),
        )?;
    }
    remove_directory(&into.join("usr"))
}

/// Writes `CVE.patch` and says what the changelog has on it.
fn carve_fix(fix: &Fix, carved: &Path) -> Result<(), Error> {
    let (cve, file) = (fix.cve.to_string(), fix.file.as_str());
    let read = |version: &str| {
        let path = carved.join(version).join(file);
        let bytes = fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        String::from_utf8(bytes).map_err(|_| Error::NotText { path })
    };
    let patch = carve(file, &read("old")?, &read("new")?, fix.rule()).map_err(|source| Error::Carve {
        cve: cve.clone(),
        file: file.into(),
        source,
    })?;
    write(&carved.join(format!("{cve}.patch")), patch.as_bytes())?;

    match changelog_item(fix, carved)? {
        Some(item) => eprintln!("carved {cve}: {} in {}", item.text, item.version),
        None => eprintln!("carved {cve}: {} (the changelog does not name it)", fix.title),
    }
    Ok(())
}

/// What the changelog of the newer source says of a fix.
pub(crate) fn changelog_item(fix: &Fix, carved: &Path) -> Result<Option<Item>, Error> {
    let changelog = output(command("gzip").args(["-dc", "--"]).arg(carved.join("new/changelog.Debian.gz")))?;
    Ok(items_naming(&String::from_utf8_lossy(&changelog), &fix.cve).into_iter().next())
}

/// Puts a complete directory in the place of another.
fn replace(complete: &Path, directory: &Path) -> Result<(), Error> {
    remove_directory(directory)?;
    fs::rename(complete, directory).map_err(|e| Error::io(format!("make {}", directory.display()), e))
}

pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|e| Error::io(format!("make {}", path.display()), e))
}

pub(crate) fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|e| Error::io(format!("write {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn addresses_are_read() {
        let line = "W: x\n'http://h/pool/l_1_all.deb' l_1_all.deb 139131140 SHA256:93\n";
        assert_eq!(parse_uri(line), Some(("l_1_all.deb".into(), 139_131_140)));
        assert_eq!(parse_uri("'http://h/x' ../x.deb 1 SHA256:0"), None);
        assert_eq!(parse_uri(""), None);
    }

    #[test]
    fn offered_versions_are_read() {
        let text = " l | 6.1.192-2 | http://h a\n l | 6.1.192-2 | http://h b\n l | 6.1.176-1 | http://h c\n";
        assert_eq!(parse_madison(text), ["6.1.192-2", "6.1.176-1"]);
    }

    #[test]
    fn the_candidate_is_read() {
        let policy =
            "shim-signed:\n  Installed: (none)\n  Candidate: 1.51~1+16.1-2~deb12u1\n  Version table:\n";
        assert_eq!(parse_candidate(policy).unwrap(), "1.51~1+16.1-2~deb12u1");
        assert_eq!(parse_candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    fn word(text: &str) -> Word {
        #[derive(serde::Deserialize)]
        struct Holder {
            word: Word,
        }
        toml::from_str::<Holder>(&format!("word = {text:?}")).unwrap().word
    }

    #[test]
    fn a_version_that_is_gone_is_named_with_what_there_is() {
        let gone = Package { package: word("bash"), version: word("0.0.1-1") };
        let error = look_up(&gone).unwrap_err();
        assert_eq!(error.exit(), Exit::VersionGone);
        let report = error.report();
        assert!(
            report.starts_with("error: the archive has no bash 0.0.1-1\n\nhint: the archive offers "),
            "{report}"
        );
        assert!(report.contains("edit demo.toml"), "{report}");
    }

    #[test]
    fn without_a_network_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        // Port 9 of loopback, where nothing listens: apt sees what it sees when the archive is out of reach.
        let asked = output(
            command("apt-get")
                .args([
                    "-q",
                    "-o",
                    "Acquire::http::Proxy=http://127.0.0.1:9",
                    "-o",
                    "APT::Sandbox::User=root",
                ])
                .args(["-o", "Acquire::https::Proxy=http://127.0.0.1:9", "-o", "Acquire::Retries=0"])
                .args(["download", "hello"])
                .current_dir(directory.path()),
        );
        let error = asked.unwrap_err();
        assert_eq!(error.exit(), Exit::NoNetwork, "{}", error.report());
        assert!(error.report().contains("hint: check the network and apt's sources"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
