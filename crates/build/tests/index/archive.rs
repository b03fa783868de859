//! An archive that the test makes and signs, as small as apt's format allows.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::SignedDuration;
use livepatch_manifest::sha256;
use livepatch_types::{Clock as _, SystemClock};
use tempfile::TempDir;

pub(crate) const SUITE: &str = "bookworm";

/// A package with a kernel.
#[derive(Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) file: Vec<u8>,
    /// `Filename` in `Packages`, and where it is in the archive if that is below it.
    pub(crate) path: String,
    /// `Size` in `Packages`.
    pub(crate) size: u64,
}

impl Package {
    pub(crate) fn new(release: &str, build_id: u8) -> Self {
        let name = format!("linux-image-{release}");
        let file = deb(&tar(&format!("./boot/vmlinuz-{release}"), &image(release, build_id)));
        Self::of_file(&name, "1-1", file)
    }

    pub(crate) fn of_file(name: &str, version: &str, file: Vec<u8>) -> Self {
        let path = format!("pool/main/l/linux/{name}_{version}_amd64.deb");
        Self { name: name.into(), version: version.into(), size: file.len() as u64, file, path }
    }

    fn paragraph(&self) -> String {
        format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nDescription: a kernel\n of a test\nFilename: {}\nSize: {}\nSHA256: {}\n\n",
            self.name,
            self.version,
            self.path,
            self.size,
            sha256(&self.file)
        )
    }
}

/// What `Release` says.
#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) codename: String,
    /// Seconds from now.
    pub(crate) date: i64,
    pub(crate) valid_until: Option<i64>,
    /// What it says of `Packages`: its length, if another.
    pub(crate) packages_size: Option<u64>,
}

impl Default for Release {
    fn default() -> Self {
        Self { codename: SUITE.into(), date: -3600, valid_until: Some(7200), packages_size: None }
    }
}

/// Directories: the archive, home directories of two owners of keys, and what the program writes.
pub(crate) struct Archive {
    directory: TempDir,
}

impl Drop for Archive {
    fn drop(&mut self) {
        for owner in ["owner", "stranger"] {
            _ = Command::new("gpgconf")
                .arg("--homedir")
                .arg(self.path(owner))
                .args(["--kill", "all"])
                .status();
        }
    }
}

impl Archive {
    /// Two keys, and a table of pockets that names the owner's.
    pub(crate) fn new() -> Self {
        let archive = Self { directory: tempfile::tempdir().unwrap() };
        for owner in ["owner", "stranger"] {
            fs::create_dir(archive.path(owner)).unwrap();
            let key = format!("{owner} <{owner}@example.org>");
            archive.gpg(
                owner,
                &["--passphrase", "", "--quick-gen-key", &key, "ed25519", "sign", "never"],
                b"",
            );
        }
        fs::write(archive.path("keyring.gpg"), archive.gpg("owner", &["--export"], b"")).unwrap();
        let keyring = archive.path("keyring.gpg");
        let pocket = |name: &str, standing: &str, suite: &str| {
            format!(
                "[[pocket]]\ndistribution = \"Debian\"\nname = \"{name}\"\nstanding = \"{standing}\"\nsuites = [\"{suite}\"]\norigin = \"Debian\"\nnamed-by = \"codename\"\nkeyring = {keyring:?}\n"
            )
        };
        let table = [
            "schema = 1\n".to_owned(),
            pocket("release", "official", SUITE),
            pocket("proposed-updates", "not-official", "bookworm-proposed-updates"),
        ];
        fs::write(archive.path("pockets.toml"), table.concat()).unwrap();
        archive
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path("archive").display())
    }

    fn gpg(&self, owner: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.path(owner)).args(["--batch", "--no-permission-warning"]);
        piped(command.args(arguments), input)
    }

    pub(crate) fn sign(&self, owner: &str, text: &str) -> Vec<u8> {
        self.gpg(owner, &["--clearsign"], text.as_bytes())
    }

    /// The file with an owner's public key.
    pub(crate) fn keyring(&self, owner: &str) -> PathBuf {
        let path = self.path(&format!("{owner}.gpg"));
        fs::write(&path, self.gpg(owner, &["--export"], b"")).unwrap();
        path
    }

    pub(crate) fn in_release(&self) -> PathBuf {
        self.path("archive").join("dists").join(SUITE).join("InRelease")
    }

    pub(crate) fn packages_xz(&self) -> PathBuf {
        self.path("archive").join("dists").join(SUITE).join("main/binary-amd64/Packages.xz")
    }

    pub(crate) fn file(&self, package: &Package) -> PathBuf {
        self.path("archive").join(&package.path)
    }

    /// Makes the archive anew, and returns the text that was signed.
    pub(crate) fn publish(&self, packages: &[Package], release: &Release) -> String {
        let fields = format!("Origin: Debian\nSuite: stable\nCodename: {}\n", release.codename);
        self.publish_as(SUITE, &fields, "owner", packages, release)
    }

    /// The same for any suite, with these fields in front and by this owner's key.
    pub(crate) fn publish_as(
        &self,
        suite: &str,
        fields: &str,
        owner: &str,
        packages: &[Package],
        release: &Release,
    ) -> String {
        let suite = self.path("archive").join("dists").join(suite);
        for package in packages.iter().filter(|package| package.path.starts_with("pool/")) {
            put(&self.file(package), &package.file);
        }
        let text: String = packages.iter().map(Package::paragraph).collect();
        let packed = piped(Command::new("xz").arg("-c"), text.as_bytes());
        put(&suite.join("main/binary-amd64/Packages.xz"), &packed);
        let date = |seconds: i64| {
            let time = SystemClock.now() + SignedDuration::from_secs(seconds);
            time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
        };
        let valid_until = release.valid_until.map(|seconds| format!("Valid-Until: {}\n", date(seconds)));
        let signed = format!(
            "{fields}Date: {}\n{}SHA256:\n {} {} main/binary-amd64/Packages\n {} {} main/binary-amd64/Packages.xz\n",
            date(release.date),
            valid_until.unwrap_or_default(),
            sha256(text.as_bytes()),
            release.packages_size.unwrap_or(text.len() as u64),
            sha256(&packed),
            packed.len()
        );
        put(&suite.join("InRelease"), &self.sign(owner, &signed));
        signed
    }

    /// `livepatch-build index` of the suite, with the index at `out`.
    pub(crate) fn command(&self, url: &str, out: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch-build"));
        command.args(["index", "--repository", url, "--suite", SUITE, "--format", "json", "--pockets"]);
        command
            .arg(self.path("pockets.toml"))
            .arg("--out")
            .arg(self.path(out))
            .current_dir(self.directory.path());
        command
    }

    pub(crate) fn index(&self, out: &str) -> Output {
        self.command(&self.url(), out).output().unwrap()
    }

    /// What lies beside the index.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Runs a program on some bytes.
fn piped(command: &mut Command, input: &[u8]) -> Vec<u8> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || to.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A kernel image: a boot header and, as its payload, an ELF file with a build-id and nothing else.
pub(crate) fn image(release: &str, build_id: u8) -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    let mut note = [4u32, 20, 3].map(u32::to_le_bytes).concat();
    note.extend(b"GNU\0");
    note.extend([build_id; 20]);
    elf.extend(&note);
    // The names of the sections: none.
    let names_at = elf.len() as u64;
    elf.extend([0; 8]);
    let sections = elf.len() as u64;
    elf[40..48].copy_from_slice(&sections.to_le_bytes());
    for (at, value) in [(52, 64u16), (58, 64), (60, 3), (62, 2)] {
        elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    elf.extend([0; 64]);
    // Notes and names (SHT_NOTE, SHT_STRTAB).
    for (kind, offset, length) in [(7u32, 64u64, note.len() as u64), (3, names_at, 8)] {
        let mut section = [0; 64];
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[24..32].copy_from_slice(&offset.to_le_bytes());
        section[32..40].copy_from_slice(&length.to_le_bytes());
        elf.extend(section);
    }

    let mut out = vec![0; 1024];
    out[0x1f1] = 1;
    out[0x202..0x206].copy_from_slice(b"HdrS");
    out[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    out[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    out[0x24c..0x250].copy_from_slice(&(elf.len() as u32).to_le_bytes());
    let text = format!("{release} (builder) #1\0");
    out[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    out.extend(elf);
    out
}

/// A tar archive with one file.
pub(crate) fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(format!("{:011o}\0", 1_782_914_400).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = header.to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}

pub(crate) fn deb(data: &[u8]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", b""), ("data.tar", data)] {
        out.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes(),
        );
        out.extend(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}
