//! The way from a signed `InRelease` to what identifies a kernel. Each link is checked before the next is looked at, and the
//! index is written after each kernel: a run that is killed leaves what it has found, whole.

use std::path::Path;

use jiff::Timestamp;
use livepatch_archive::clear_signed;
use livepatch_archive::deb::{self, kernel_image};
use livepatch_archive::packages::{self, PooledPackage, kernel_images};
use livepatch_archive::pockets::{Pocket, other_suite};
use livepatch_archive::{
    KernelIndex, KernelRow, ListedFile, PocketTable, Provenance, ReleaseFile, SeenRelease, Standing,
    unpack_xz,
};
use livepatch_kimage::IdentifiedImage;
use livepatch_manifest::sha256;
use livepatch_modsig::Certificate;
use livepatch_types::{Architecture, BuildId, Clock, KernelRelease, Sha256Digest};
use serde::Serialize;

use super::error::{KernelError, WalkError};
use super::fetch::{RepositoryUrl, fetch};
use super::signature::verify;
use super::sources::Source;
use crate::files::{read, write};
use crate::pipeline::Progress;

/// How far a clock may be behind that of an archive, in seconds.
const MOST_SECONDS_AHEAD: i64 = 600;

/// What to look at, and where results go.
#[derive(Debug)]
pub struct Walk<'w> {
    /// The suites.
    pub sources: &'w [Source],
    /// Only packages with these names, in which `*` stands for any text; none: all.
    pub packages: &'w [String],
    /// What is official.
    pub pockets: &'w PocketTable,
    /// The index, which may be there already.
    pub out: &'w Path,
}

/// A package that is what the archive signed, and whose kernel cannot be read all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Why not.
    pub why: String,
}

/// What became of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuiteReport {
    /// URL of the archive.
    pub repository: String,
    /// The suite.
    pub suite: String,
    /// The distribution.
    pub distribution: String,
    /// The pocket.
    pub pocket: String,
    /// Whether its kernels are official ones.
    pub standing: Standing,
    /// `Date` of its `InRelease`.
    pub date: Timestamp,
    /// How many packages with kernels were asked for and are there.
    pub packages: usize,
    /// How many of them were fetched.
    pub fetched: usize,
    /// Those without a kernel that can be read.
    pub unread: Vec<Unread>,
}

/// An `InRelease` that is signed, of the suite, and new enough.
struct Signed {
    release: ReleaseFile,
    signed_by: Vec<String>,
    sha256: Sha256Digest,
    standing: Standing,
    distribution: String,
    pocket: String,
}

/// The packages of one component, and the file that lists them.
struct Listing {
    path: String,
    sha256: Sha256Digest,
    kernels: Vec<PooledPackage>,
}

/// What a kernel's package says of it.
struct Kernel {
    build_id: BuildId,
    release: KernelRelease,
    builtin_keys: Option<Vec<String>>,
    image_date: Timestamp,
}

/// Looks at all suites, one after the other, and writes what is found into the index.
pub fn walk(
    walk: &Walk<'_>,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Vec<SuiteReport>, WalkError> {
    let mut index = open(walk.out)?;
    walk.sources.iter().map(|source| suite(walk, source, &mut index, clock.now(), progress)).collect()
}

/// The index at a path; an empty one when there is none.
pub fn open(path: &Path) -> Result<KernelIndex, WalkError> {
    if !path.exists() {
        return Ok(KernelIndex::default());
    }
    let bytes = read(path)?;
    KernelIndex::parse(&bytes).map_err(|source| WalkError::Index { path: path.to_owned(), source })
}

fn suite(
    walk: &Walk<'_>,
    source: &Source,
    index: &mut KernelIndex,
    now: Timestamp,
    progress: &Progress<'_>,
) -> Result<SuiteReport, WalkError> {
    let signed = in_release(walk, source, index, now, progress)?;
    let mut report = SuiteReport {
        repository: source.repository.to_string(),
        suite: source.suite.clone(),
        distribution: signed.distribution.clone(),
        pocket: signed.pocket.clone(),
        standing: signed.standing,
        date: signed.release.date,
        packages: 0,
        fetched: 0,
        unread: Vec::new(),
    };
    let mut before = index.to_bytes();
    for component in &source.components {
        let listing = listing(source, component, &signed, progress)?;
        let wanted = |PooledPackage { entry, .. }: &&PooledPackage| {
            entry.architecture == Architecture::Amd64.to_string()
                && matches_any(walk.packages, &entry.package)
        };
        let packages: Vec<&PooledPackage> = listing.kernels.iter().filter(wanted).collect();
        report.packages += packages.len();
        let to_fetch =
            packages.iter().filter(|package| index.of_package(&package.entry.sha256).is_none()).count();
        let mut fetched = 0;
        for pooled in packages {
            let entry = &pooled.entry;
            let known = index.of_package(&entry.sha256).map(|row| Kernel {
                build_id: row.build_id.clone(),
                release: row.release.clone(),
                builtin_keys: row.builtin_keys.clone(),
                image_date: row.image_date,
            });
            let kernel = match known {
                Some(kernel) => kernel,
                None => {
                    let mib = entry.size_bytes.div_ceil(1 << 20);
                    progress(&format!(
                        "{}: {} fetching {} {} ({mib} MiB)",
                        source.suite,
                        bar(fetched, to_fetch),
                        entry.package,
                        entry.version
                    ));
                    let package = package(&source.repository, pooled)?;
                    fetched += 1;
                    report.fetched += 1;
                    match identify(&package) {
                        Ok(kernel) => kernel,
                        Err(error) => {
                            let (package, version) = (entry.package.clone(), entry.version.clone());
                            report.unread.push(Unread { package, version, why: error.to_string() });
                            continue;
                        }
                    }
                }
            };
            index.add(row(source, &signed, &listing, pooled, kernel));
            before = save(walk.out, index, before)?;
        }
    }
    index.remember(SeenRelease {
        repository: source.repository.to_string(),
        suite: source.suite.clone(),
        date: signed.release.date,
        in_release: signed.sha256,
    });
    save(walk.out, index, before)?;
    Ok(report)
}

/// How far it is, on a terminal and in a log: `[######--------------] 3 of 10`.
fn bar(done: usize, of: usize) -> String {
    const WIDTH: usize = 20;
    let filled = (done * WIDTH / of.max(1)).min(WIDTH);
    format!("[{}{}] {done} of {of}", "#".repeat(filled), "-".repeat(WIDTH - filled))
}

/// Writes the index when it is another than before.
fn save(path: &Path, index: &KernelIndex, before: Vec<u8>) -> Result<Vec<u8>, WalkError> {
    let bytes = index.to_bytes();
    if bytes != before {
        write(path, &bytes)?;
    }
    Ok(bytes)
}

fn in_release(
    walk: &Walk<'_>,
    source: &Source,
    index: &KernelIndex,
    now: Timestamp,
    progress: &Progress<'_>,
) -> Result<Signed, WalkError> {
    let Source { repository, suite, .. } = source;
    let path = format!("dists/{suite}/InRelease");
    let url = repository.file(&path);
    let pocket = walk.pockets.of_suite(suite);
    let keyring = source.keyring.as_deref().or(pocket.map(|pocket| pocket.keyring.as_path()));
    let keyring = keyring.ok_or_else(|| WalkError::NoKeyring(url.clone()))?;
    progress(&format!("{suite}: fetching {url}"));
    let file = fetch(repository, &path, clear_signed::MAX_BYTES)?;
    let signed =
        verify(&file, keyring).map_err(|source| WalkError::Signature { url: url.clone(), source })?;
    let release =
        ReleaseFile::parse(&signed.text).map_err(|source| WalkError::Release { url: url.clone(), source })?;
    if let Some(found) = other_suite(suite, pocket, &release) {
        return Err(WalkError::OtherSuite { url, found: found.to_owned() });
    }
    is_new_enough(&url, &release, now, index.seen(repository.as_str(), suite))?;
    // Who has the keys of another archive can sign what they like, this distribution's name too.
    let official = pocket.filter(|pocket| pocket.is_origin_of(&release) && pocket.keyring == keyring);
    let one_line = |text: &str| text.chars().filter(|letter| !letter.is_control()).take(64).collect();
    let unknown = || release.origin.as_deref().unwrap_or("unknown");
    Ok(Signed {
        signed_by: signed.signed_by,
        sha256: sha256(&file),
        standing: official.map_or(Standing::NotOfficial, |pocket| pocket.standing),
        distribution: official.map_or_else(|| one_line(unknown()), |pocket| pocket.distribution.clone()),
        pocket: official.map_or_else(|| suite.clone(), |pocket: &Pocket| pocket.name.clone()),
        release,
    })
}

fn is_new_enough(
    url: &str,
    release: &ReleaseFile,
    now: Timestamp,
    seen: Option<&SeenRelease>,
) -> Result<(), WalkError> {
    let url = url.to_owned();
    match (release.date, release.valid_until, seen) {
        (date, ..) if date.as_second() > now.as_second() + MOST_SECONDS_AHEAD => {
            Err(WalkError::Future { url, date })
        }
        (_, Some(until), _) if until < now => Err(WalkError::Expired { url, until }),
        (date, _, Some(seen)) if date < seen.date => Err(WalkError::Older { url, date, seen: seen.date }),
        _ => Ok(()),
    }
}

/// `Packages` of a component: what `InRelease` lists, and nothing else.
fn listing(
    source: &Source,
    component: &str,
    signed: &Signed,
    progress: &Progress<'_>,
) -> Result<Listing, WalkError> {
    let Source { repository, suite, .. } = source;
    let files = &signed.release.files;
    let plain_path = format!("{component}/binary-{}/Packages", Architecture::Amd64);
    let packed_path = format!("{plain_path}.xz");
    let plain = files.get(&plain_path);
    let (path, listed) = match (files.get(&packed_path), plain) {
        (Some(packed), _) => (packed_path, packed),
        (None, Some(plain)) => (plain_path.clone(), plain),
        (None, None) => {
            let url = repository.file(&format!("dists/{suite}/InRelease"));
            return Err(WalkError::NotListed { url, path: plain_path });
        }
    };
    let place = match path.rsplit_once('/').filter(|_| signed.release.by_hash) {
        Some((directory, _)) => format!("dists/{suite}/{directory}/by-hash/SHA256/{}", listed.sha256),
        None => format!("dists/{suite}/{path}"),
    };
    let url = repository.file(&place);
    let most_bytes = packages::MAX_BYTES;
    // What it unpacks to is known before anything is unpacked.
    for size_bytes in [listed.size_bytes, plain.map_or(0, |plain| plain.size_bytes)] {
        if size_bytes > most_bytes {
            return Err(WalkError::Size { url, by: "InRelease", size_bytes, most_bytes });
        }
    }
    progress(&format!("{suite}: fetching {url}"));
    let file = checked(repository, &place, listed, "InRelease")?;
    let text = if path == plain_path {
        file
    } else {
        let unpacked = unpack_xz(&file, plain.map_or(most_bytes, |plain| plain.size_bytes));
        let unpacked = unpacked.map_err(|source| WalkError::Unpack { url: url.clone(), source })?;
        if let Some(plain) = plain {
            is_listed(&url, &unpacked, plain, "InRelease")?;
        }
        unpacked
    };
    let kernels = kernel_images(&text).map_err(|source| WalkError::Packages { url, source })?;
    Ok(Listing { path, sha256: listed.sha256, kernels })
}

/// A file of the archive that is what another file lists.
fn checked(
    repository: &RepositoryUrl,
    path: &str,
    listed: &ListedFile,
    by: &'static str,
) -> Result<Vec<u8>, WalkError> {
    let file = fetch(repository, path, listed.size_bytes)?;
    is_listed(&repository.file(path), &file, listed, by)?;
    Ok(file)
}

fn is_listed(url: &str, file: &[u8], listed: &ListedFile, by: &'static str) -> Result<(), WalkError> {
    let found = sha256(file);
    if found == listed.sha256 {
        return Ok(());
    }
    Err(WalkError::Digest { url: url.to_owned(), by, found, listed: listed.sha256 })
}

fn package(
    repository: &RepositoryUrl,
    PooledPackage { entry, path }: &PooledPackage,
) -> Result<Vec<u8>, WalkError> {
    let (size_bytes, most_bytes) = (entry.size_bytes, deb::MAX_DEB_BYTES);
    if size_bytes > most_bytes {
        let url = repository.file(path.as_str());
        return Err(WalkError::Size { url, by: "Packages", size_bytes, most_bytes });
    }
    let listed = ListedFile { sha256: entry.sha256, size_bytes };
    checked(repository, path.as_str(), &listed, "Packages")
}

fn identify(package: &[u8]) -> Result<Kernel, KernelError> {
    let packaged = kernel_image(package)?;
    let image = IdentifiedImage::parse(&packaged.bytes)?;
    let (build_id, release) = (image.build_id.clone(), image.release.clone());
    if release.as_ref() != Some(&packaged.release) {
        let release = release.map_or_else(|| "an unknown release".into(), |release| release.to_string());
        return Err(KernelError::OtherRelease { name: packaged.release.to_string(), release });
    }
    Ok(Kernel {
        build_id,
        release: packaged.release,
        builtin_keys: builtin_keys(image),
        image_date: packaged.modified,
    })
}

/// Key ids of the certificates in a kernel; none when the kernel does not show them, or one of them is not read.
fn builtin_keys(image: IdentifiedImage) -> Option<Vec<String>> {
    let image = image.with_symbols().ok()?;
    let key = |der: &&[u8]| Certificate::from_der(der).ok().map(|certificate| certificate.key_id_hex());
    image.certificates()?.iter().map(key).collect()
}

fn row(
    source: &Source,
    signed: &Signed,
    listing: &Listing,
    pooled: &PooledPackage,
    kernel: Kernel,
) -> KernelRow {
    let PooledPackage { entry, path } = pooled;
    KernelRow {
        architecture: Architecture::Amd64,
        build_id: kernel.build_id,
        release: kernel.release,
        distribution: signed.distribution.clone(),
        suite: source.suite.clone(),
        pocket: signed.pocket.clone(),
        standing: signed.standing,
        package: entry.package.clone(),
        version: entry.version.clone(),
        builtin_keys: kernel.builtin_keys,
        image_date: kernel.image_date,
        published_by: signed.release.date,
        provenance: Provenance {
            repository: source.repository.to_string(),
            signed_by: signed.signed_by.clone(),
            in_release: signed.sha256,
            packages_path: listing.path.clone(),
            packages: listing.sha256,
            package_path: path.as_str().to_owned(),
            package: entry.sha256,
        },
    }
}

/// Whether a name is one of these, or there are none. `*` stands for any text.
fn matches_any(patterns: &[String], name: &str) -> bool {
    let matches = |pattern: &String| match pattern.split_once('*') {
        Some((before, after)) => {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        }
        None => pattern == name,
    };
    patterns.is_empty() || patterns.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        for (done, of, expected) in [
            (0, 0, "[--------------------] 0 of 0"),
            (0, 3, "[--------------------] 0 of 3"),
            (3, 10, "[######--------------] 3 of 10"),
            (7, 7, "[####################] 7 of 7"),
        ] {
            assert_eq!(bar(done, of), expected);
        }
    }
}
