//! The files of one kernel, out of packages or directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use livepatch_manifest::sha256;

use crate::KbuildError;
use crate::command::{self, tool};

/// Where the files of one kernel come from.
#[derive(Debug, Clone)]
pub enum KernelOrigin {
    /// A distribution's packages, or directories with their content.
    Packages {
        /// linux-image
        image: PathBuf,
        /// linux-headers
        headers: PathBuf,
    },
    /// A kernel that no distribution shipped.
    Own {
        /// The kernel, packed (`vmlinuz`) or not (`vmlinux`).
        vmlinux: PathBuf,
        /// Its configuration.
        config: PathBuf,
        /// Its `Module.symvers`.
        symvers: PathBuf,
        /// `lib/modules/RELEASE`, or the tree it was built in; not needed for what is compiled into the kernel.
        modules: Option<PathBuf>,
    },
}

/// The files of one kernel.
#[derive(Debug, Clone)]
pub struct KernelFiles {
    /// The kernel, packed or not.
    pub image: PathBuf,
    /// The directory with `modules.order` and the modules.
    pub modules: Option<PathBuf>,
    /// The configuration the kernel was built with.
    pub config: PathBuf,
    /// `Module.symvers`
    pub symvers: PathBuf,
}

impl KernelFiles {
    /// Finds the files. Packages are unpacked below `scratch`.
    pub fn find(origin: &KernelOrigin, scratch: &Path) -> Result<Self, KbuildError> {
        match origin {
            KernelOrigin::Packages { image, headers } => Self::in_packages(image, headers, scratch),
            KernelOrigin::Own { vmlinux, config, symvers, modules } => {
                if let Some(path) = modules.as_ref().filter(|path| !path.join(MODULES_ORDER).is_file()) {
                    return Err(KbuildError::Missing { path: path.clone(), what: MODULES_ORDER.into() });
                }
                Ok(Self {
                    image: vmlinux.clone(),
                    modules: modules.clone(),
                    config: config.clone(),
                    symvers: symvers.clone(),
                })
            }
        }
    }

    fn in_packages(image: &Path, headers: &Path, scratch: &Path) -> Result<Self, KbuildError> {
        let image_root = unpacked(image, &scratch.join("image"))?;
        let headers_root = unpacked(headers, &scratch.join("headers"))?;
        let vmlinuz = only_entry(&image_root.join("boot"), "vmlinuz-")
            .ok_or_else(|| KbuildError::Missing { path: image.into(), what: "boot/vmlinuz-*".into() })?;
        let release = vmlinuz.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("vmlinuz-"));
        let release = release.unwrap_or_default();
        let modules = [image_root.join("lib/modules"), image_root.join("usr/lib/modules")]
            .into_iter()
            .map(|base| base.join(release))
            .find(|path| path.is_dir())
            .ok_or_else(|| KbuildError::Missing {
                path: image.into(),
                what: format!("lib/modules/{release}"),
            })?;
        let source_root = headers_root.join("usr/src").join(format!("linux-headers-{release}"));
        let missing =
            |what: &str| KbuildError::Missing { path: headers.into(), what: format!("{what} of {release}") };
        let config =
            Some(source_root.join(".config")).filter(|p| p.is_file()).ok_or_else(|| missing(".config"))?;
        let symvers = Some(source_root.join("Module.symvers")).filter(|p| p.is_file());
        let symvers = symvers.ok_or_else(|| missing("Module.symvers"))?;
        Ok(Self { image: vmlinuz, modules: Some(modules), config, symvers })
    }

    /// The file of a module by its name with underscores, unpacked if need be.
    pub fn module(&self, name: &str) -> Result<Vec<u8>, KbuildError> {
        let Some(base) = &self.modules else { return Err(KbuildError::NoModules(name.to_owned())) };
        let missing = || KbuildError::Missing { path: base.clone(), what: format!("the module {name}") };
        let order = fs::read_to_string(base.join(MODULES_ORDER)).map_err(|_| missing())?;
        let path = module_path(&order, name).ok_or_else(missing)?;
        // Installed modules are below `kernel`, those of a build tree beside their sources.
        for (directory, suffix) in [("kernel", "ko"), ("kernel", "ko.xz"), (".", "ko")] {
            let file = base.join(directory).join(format!("{path}.{suffix}"));
            if !file.is_file() {
                continue;
            }
            let bytes = fs::read(&file).map_err(KbuildError::io("read", &file))?;
            return if suffix == "ko.xz" {
                unpack_xz(&bytes).map_err(KbuildError::io("unpack", &file))
            } else {
                Ok(bytes)
            };
        }
        Err(missing())
    }
}

/// The list of a kernel's modules (scripts/Makefile.modinst, Makefile `modules.order`).
const MODULES_ORDER: &str = "modules.order";

/// The path without suffix (`net/sched/cls_u32`) of a module. Lines are `kernel/net/sched/cls_u32.ko` where modules
/// are installed and in build trees up to 6.2, `net/sched/cls_u32.o` in later build trees.
fn module_path<'o>(order: &'o str, name: &str) -> Option<&'o str> {
    order.lines().find_map(|line| {
        let path = match line.strip_suffix(".ko") {
            Some(path) => path.strip_prefix("kernel/").unwrap_or(path),
            None => line.strip_suffix(".o")?,
        };
        (path.rsplit('/').next()?.replace('-', "_") == name).then_some(path)
    })
}

/// Largest unpacked module, in bytes.
const MAX_MODULE_BYTES: u64 = 256 << 20;

fn unpack_xz(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut out = Vec::new();
    liblzma::read::XzDecoder::new(bytes).take(MAX_MODULE_BYTES).read_to_end(&mut out)?;
    Ok(out)
}

/// The one entry of a directory whose name starts so.
fn only_entry(directory: &Path, start: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let mut found = entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|name| name.starts_with(start)));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn unpacked(path: &Path, to: &Path) -> Result<PathBuf, KbuildError> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    unpack_deb(path, to)?;
    Ok(to.to_owned())
}

/// Unpacks a binary package's files.
pub fn unpack_deb(package: &Path, to: &Path) -> Result<(), KbuildError> {
    fs::metadata(package).map_err(KbuildError::io("read", package))?;
    fs::create_dir_all(to).map_err(KbuildError::io("make", to))?;
    command::run(
        tool("dpkg-deb").arg("-x").arg(package).arg(to),
        &format!("unpacking {}", package.display()),
    )?;
    Ok(())
}

/// Where the kernel's source comes from.
#[derive(Debug, Clone)]
pub enum SourceOrigin {
    /// A `linux-source-*.deb`, which holds a tar.xz.
    Package(PathBuf),
    /// A source tree, which is copied.
    Tree(PathBuf),
}

impl SourceOrigin {
    /// Tells a package from a tree.
    pub fn new(path: &Path) -> Result<Self, KbuildError> {
        if path.is_dir() {
            if !path.join("Kbuild").is_file() {
                return Err(KbuildError::Missing { path: path.into(), what: "a linux source tree".into() });
            }
            return Ok(Self::Tree(path.to_owned()));
        }
        fs::metadata(path).map_err(KbuildError::io("read", path))?;
        Ok(Self::Package(path.to_owned()))
    }

    /// Puts the source into an empty directory.
    pub(crate) fn unpack(&self, to: &Path) -> Result<(), KbuildError> {
        match self {
            Self::Tree(tree) => {
                let mut copy = tool("cp");
                copy.args(["-a", "--reflink=auto", "-T"]).arg(tree).arg(to);
                command::run(&mut copy, "copying the source").map(|_| ())
            }
            Self::Package(package) => unpack_source_package(package, to, &[]),
        }
    }

    /// The text of some files, which must be there. Those of a package are kept below `cache`, because to find them
    /// all of it must be unpacked.
    pub fn texts(&self, files: &[&str], cache: &Path) -> Result<Vec<String>, KbuildError> {
        let directory = match self {
            Self::Tree(tree) => tree.clone(),
            Self::Package(package) => {
                let bytes = fs::read(package).map_err(KbuildError::io("read", package))?;
                let kept = cache.join("sources").join(sha256(&bytes).to_string());
                keep_files(package, files, &kept)?;
                kept
            }
        };
        let text = |file: &&str| {
            let path = directory.join(file);
            let bytes = fs::read(&path).map_err(KbuildError::io("read", &path))?;
            String::from_utf8(bytes)
                .map_err(|_| KbuildError::Format { path, why: "it is not UTF-8 text".into() })
        };
        files.iter().map(text).collect()
    }
}

/// Unpacks those files of a source package that are not in `kept` yet.
fn keep_files(package: &Path, files: &[&str], kept: &Path) -> Result<(), KbuildError> {
    let missing: Vec<&str> = files.iter().copied().filter(|file| !kept.join(file).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(kept).map_err(KbuildError::io("make", kept))?;
    let part = tempfile::tempdir_in(kept).map_err(KbuildError::io("make a directory in", kept))?;
    unpack_source_package(package, part.path(), &missing)?;
    for file in missing {
        let (from, to) = (part.path().join(file), kept.join(file));
        let parent = to.parent().unwrap_or(kept);
        fs::create_dir_all(parent).map_err(KbuildError::io("make", parent))?;
        fs::rename(&from, &to).map_err(KbuildError::io("keep", &to))?;
    }
    Ok(())
}

/// `dpkg-deb --fsys-tarfile | tar -xO ./usr/src/linux-source-*.tar.xz | tar -xJ`, without a shell. Only these files, or
/// all when none are named.
fn unpack_source_package(package: &Path, to: &Path, files: &[&str]) -> Result<(), KbuildError> {
    let what = format!("unpacking {}", package.display());
    let failed = |output: String| KbuildError::Failed { what: what.clone(), output };
    let mut outer = tool("dpkg-deb");
    outer.arg("--fsys-tarfile").arg(package).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut outer_child = outer.spawn().map_err(|e| command::start_error(&outer, &what, e))?;
    let mut member = tool("tar");
    member.args(["-x", "-O", "--wildcards", "./usr/src/linux-source-*.tar.xz"]);
    member.stdin(outer_child.stdout.take().map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped());
    let mut member_child = member.spawn().map_err(|e| command::start_error(&member, &what, e))?;
    let mut xz = tool("xz");
    xz.args(["-d", "-c", "-T0"]);
    xz.stdin(member_child.stdout.take().map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped());
    let mut xz_child = xz.spawn().map_err(|e| command::start_error(&xz, &what, e))?;
    let mut inner = tool("tar");
    inner.args(["-x", "--strip-components=1", "-C"]).arg(to);
    if !files.is_empty() {
        inner.args(["--wildcards", "--no-wildcards-match-slash"]);
        inner.args(files.iter().map(|file| format!("*/{file}")));
    }
    inner.stdin(xz_child.stdout.take().map_or_else(Stdio::null, Stdio::from));
    inner.stderr(Stdio::piped());
    let output = inner.output().map_err(|e| command::start_error(&inner, &what, e))?;
    let mut states = Vec::new();
    for (name, child) in [("dpkg-deb", &mut outer_child), ("tar", &mut member_child), ("xz", &mut xz_child)] {
        let status = child.wait().map_err(|e| failed(e.to_string()))?;
        if !status.success() {
            states.push(format!("{name} ended with {status}"));
        }
    }
    if output.status.success() && states.is_empty() {
        return Ok(());
    }
    Err(failed(format!("{} {}", command::tail(&output), states.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_both_kinds_of_list() {
        let table = [
            ("kernel/net/sched/cls_u32.ko\nkernel/net/key-x.ko\n", "key_x", Some("net/key-x")),
            ("kernel/kernel/torture.ko\n", "torture", Some("kernel/torture")),
            ("kernel/torture.o\n", "torture", Some("kernel/torture")),
            ("kernel/net/sched/cls_u32.ko\n", "cls", None),
            ("README\n", "README", None),
        ];
        for (order, name, expected) in table {
            assert_eq!(module_path(order, name), expected, "{order:?}");
        }
    }
}
