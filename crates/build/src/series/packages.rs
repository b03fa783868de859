//! Packages that a directory has: which are kernels that a series follows, and whether they are whole.
//!
//! A package that is still being written must not be taken for a kernel. With an index (apt's `Packages`) a file is whole
//! when it has the index' size and SHA-256; without one, when its archive ends where the file does.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use livepatch_archive::packages::{MAX_BYTES, PackageEntry, readable};
use livepatch_archive::unpack_xz;
use livepatch_kbuild::KbuildError;
use livepatch_manifest::sha256;

use crate::files::read;
use crate::series::file::Follow;

/// How an `ar` archive begins, and the length of a member's header (ar(5)).
const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const AR_HEADER_BYTES: usize = 60;

/// How an xz stream begins.
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// A kernel that a directory or an index has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKernel {
    /// Its image package, as `linux-image-6.1.0-50-cloud-amd64_6.1.176-1`.
    pub name: String,
    /// What the series says of such kernels.
    pub branch: String,
    /// File names of image, headers and source.
    pub files: [String; 3],
    /// What keeps it from being built: files that are not there, or not whole.
    pub waiting: Vec<String>,
}

/// Reads apt's index, `Packages` or `Packages.xz`. What lacks one of the fields that are asked for is passed over.
pub fn read_index(path: &Path) -> Result<Vec<PackageEntry>, KbuildError> {
    let format =
        |error: &dyn std::fmt::Display| KbuildError::Format { path: path.into(), why: error.to_string() };
    let mut bytes = read(path)?;
    if bytes.starts_with(XZ_MAGIC) {
        bytes = unpack_xz(&bytes, MAX_BYTES).map_err(|error| format(&error))?;
    }
    readable(&bytes).map_err(|error| format(&error))
}

/// The kernels of a directory that the series follows, by name; with an index exactly those that it lists.
pub fn kernels(
    follows: &[Follow],
    directory: &Path,
    index: Option<&[PackageEntry]>,
) -> Result<Vec<FoundKernel>, KbuildError> {
    let io = |source| KbuildError::Io { action: "read", path: directory.to_owned(), source };
    let present: BTreeSet<String> = fs::read_dir(directory)
        .map_err(io)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let names: BTreeSet<String> = match index {
        Some(index) => index.iter().map(PackageEntry::file_name).collect(),
        None => present.clone(),
    };
    let mut out = Vec::new();
    for file in &names {
        let Some((package, version, architecture)) = parts(file) else { continue };
        for follow in follows {
            let Some(middle) = matched(&follow.image, package) else { continue };
            let headers = format!("{}_{version}_{architecture}.deb", follow.headers.replacen('*', middle, 1));
            let source = format!("{}_{version}_all.deb", follow.source);
            let files = [file.clone(), headers, source];
            let mut waiting = Vec::new();
            for name in &files {
                if !present.contains(name) {
                    waiting.push(format!("{name} is not there"));
                } else if let Some(why) = incomplete(&directory.join(name), name, index)? {
                    waiting.push(format!("{name} {why}"));
                }
            }
            out.push(FoundKernel {
                name: format!("{package}_{version}"),
                branch: follow.branch.clone(),
                files,
                waiting,
            });
            break;
        }
    }
    Ok(out)
}

/// Package, version and architecture of a file name.
fn parts(file: &str) -> Option<(&str, &str, &str)> {
    let mut parts = file.strip_suffix(".deb")?.splitn(3, '_');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// What the `*` of a pattern stands for in a name.
fn matched<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let (before, after) = pattern.split_once('*')?;
    name.strip_prefix(before)?.strip_suffix(after).filter(|middle| !middle.is_empty())
}

/// Why a file is not whole.
fn incomplete(
    path: &PathBuf,
    name: &str,
    index: Option<&[PackageEntry]>,
) -> Result<Option<String>, KbuildError> {
    if let Some(index) = index {
        let Some(entry) = index.iter().find(|entry| entry.file_name() == name) else {
            return Ok(Some("is not in the index".into()));
        };
        let bytes = read(path)?;
        let right = bytes.len() as u64 == entry.size_bytes && sha256(&bytes) == entry.sha256;
        return Ok((!right).then(|| "is not the file that the index names, or not all of it".into()));
    }
    let io = |source| KbuildError::Io { action: "read", path: path.clone(), source };
    let mut file = fs::File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut magic = [0; AR_MAGIC.len()];
    let (mut at, mut members) = (AR_MAGIC.len() as u64, 0);
    let mut whole = file.read_exact(&mut magic).is_ok() && magic == *AR_MAGIC;
    while whole && at < length {
        let mut header = [0; AR_HEADER_BYTES];
        file.seek(SeekFrom::Start(at)).map_err(io)?;
        let size = (file.read_exact(&mut header).is_ok() && header.ends_with(b"`\n"))
            .then(|| std::str::from_utf8(&header[48..58]).ok()?.trim_end().parse::<u64>().ok())
            .flatten();
        match size {
            // Members begin at even offsets.
            Some(size) => at = at.saturating_add(AR_HEADER_BYTES as u64 + size.next_multiple_of(2)),
            None => whole = false,
        }
        members += 1;
    }
    // debian-binary, control and data.
    let whole = whole && at == length && members >= 3;
    Ok((!whole).then(|| "is not all there, or no Debian package".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow() -> Follow {
        Follow {
            branch: "6.1".into(),
            image: "linux-image-6.1.0-*-cloud-amd64".into(),
            headers: "linux-headers-6.1.0-*-cloud-amd64".into(),
            source: "linux-source-6.1".into(),
        }
    }

    /// A package with three members.
    fn deb(last: &[u8]) -> Vec<u8> {
        let mut out = AR_MAGIC.to_vec();
        for (name, content) in
            [("debian-binary", b"2.0\n".as_slice()), ("control.tar", b"c"), ("data.tar", last)]
        {
            out.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes(),
            );
            out.extend(content);
            out.extend(vec![b'\n'; content.len() % 2]);
        }
        out
    }

    const FILES: [&str; 3] = [
        "linux-image-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb",
        "linux-headers-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb",
        "linux-source-6.1_6.1.176-1_all.deb",
    ];

    #[test]
    fn only_whole_packages_make_a_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let found = || kernels(&[follow()], directory.path(), None).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
        write("linux-image-6.1.0-50-amd64_6.1.176-1_amd64.deb", &deb(b"another flavour"));
        write("linux-image-6.1.0-50-cloud-amd64-dbg_6.1.176-1_amd64.deb", &deb(b"no kernel"));
        write("apt's lock", b"");
        assert_eq!(found(), []);
        write(FILES[0], &deb(b"image"));
        write(FILES[2], &deb(b"source"));
        let [kernel] = &found()[..] else { panic!() };
        assert_eq!(kernel.name, "linux-image-6.1.0-50-cloud-amd64_6.1.176-1");
        assert_eq!(kernel.waiting, [format!("{} is not there", FILES[1])]);
        for cut in 0..deb(b"headers").len() {
            write(FILES[1], &deb(b"headers")[..cut]);
            let waiting = found()[0].waiting.clone();
            assert_eq!(waiting, [format!("{} is not all there, or no Debian package", FILES[1])], "{cut}");
        }
        write(FILES[1], &deb(b"headers"));
        assert_eq!(found()[0].waiting, [""; 0]);
        assert_eq!(found()[0].files, FILES.map(str::to_owned));
    }

    #[test]
    fn an_index_says_what_the_files_must_be() {
        let directory = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for file in FILES {
            let (package, version, architecture) = parts(file).unwrap();
            text.push_str(&format!(
                "Package: {package}\nVersion: {version}\nArchitecture: {architecture}\nDescription: kernel\n Size: 3\nSize: {}\nSHA256: {}\n\n",
                file.len(),
                sha256(file.as_bytes())
            ));
        }
        text.push_str("Package: half\nVersion: 1\n");
        let path = directory.path().join("Packages");
        fs::write(&path, text).unwrap();
        let index = read_index(&path).unwrap();
        assert_eq!(index.len(), 3);
        let waiting = || kernels(&[follow()], directory.path(), Some(&index)).unwrap()[0].waiting.clone();
        assert_eq!(waiting(), FILES.map(|file| format!("{file} is not there")));
        for file in FILES {
            fs::write(directory.path().join(file), file).unwrap();
        }
        assert_eq!(waiting(), [""; 0]);
        fs::write(directory.path().join(FILES[0]), FILES[0].replace('5', "6")).unwrap();
        let why = "is not the file that the index names, or not all of it";
        assert_eq!(waiting(), [format!("{} {why}", FILES[0])]);
    }
}
