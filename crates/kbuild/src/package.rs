//! The files of one kernel, out of packages or directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use livepatch_klp::elf::Object;
use livepatch_manifest::sha256;

use crate::KbuildError;
use crate::command::{self, tool};
use crate::compile::read_output;
use crate::content::{VERSION_CONTROL, known_digest};
use crate::sandbox::{Isolation, Job, Limits, Sandbox};

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

    /// What gcc wrote into the first module: `GCC: (Debian 12.2.0-14+deb12u1) 12.2.0`.
    pub fn compiler_comment(&self) -> Option<String> {
        let order = fs::read_to_string(self.modules.as_ref()?.join(MODULES_ORDER)).ok()?;
        let name = order.lines().next()?.rsplit('/').next()?.split('.').next()?.replace('-', "_");
        let module = Object::parse(&self.module(&name).ok()?).ok()?;
        let comment = module.sections.iter().find(|section| section.name == ".comment")?;
        let text = String::from_utf8_lossy(&comment.data).into_owned();
        text.split('\0').find(|line| line.starts_with("GCC: ")).map(str::to_owned)
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

    /// What it holds, in a word. What was learnt of trees is kept in `cache`.
    pub(crate) fn identity(&self, cache: &Path) -> Result<String, KbuildError> {
        match self {
            Self::Package(package) => {
                let bytes = fs::read(package).map_err(KbuildError::io("read", package))?;
                Ok(format!("package {}", sha256(&bytes)))
            }
            Self::Tree(tree) => {
                let path = tree.canonicalize().map_err(KbuildError::io("find", tree))?;
                Ok(format!("tree {}", known_digest(&path, cache)?))
            }
        }
    }

    /// Puts the source into an empty directory. Links are copied as links, everything belongs to the caller.
    pub(crate) fn unpack(&self, to: &Path, sandbox: &Sandbox) -> Result<(), KbuildError> {
        match self {
            Self::Tree(tree) => copy_tree(tree, to),
            Self::Package(package) => unpack_source_package(package, to, &[], &sandbox.of_host()),
        }
    }

    /// The text of some files, which must be there. Those of a package are kept below `cache`, because to find them
    /// all of it must be unpacked.
    pub fn texts(
        &self,
        files: &[&str],
        cache: &Path,
        isolation: Isolation,
    ) -> Result<Vec<String>, KbuildError> {
        let directory = match self {
            Self::Tree(tree) => tree.clone(),
            Self::Package(package) => {
                let bytes = fs::read(package).map_err(KbuildError::io("read", package))?;
                let kept = cache.join("sources").join(sha256(&bytes).to_string());
                keep_files(package, files, &kept, isolation)?;
                kept
            }
        };
        let text = |file: &&str| {
            let text = String::from_utf8(read_output(&directory, file)?);
            let why = || "it is not UTF-8 text".to_owned();
            text.map_err(|_| KbuildError::Format { path: directory.join(file), why: why() })
        };
        files.iter().map(text).collect()
    }
}

/// Unpacks those files of a source package that are not in `kept` yet.
fn keep_files(package: &Path, files: &[&str], kept: &Path, isolation: Isolation) -> Result<(), KbuildError> {
    let missing: Vec<&str> = files.iter().copied().filter(|file| !kept.join(file).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(kept).map_err(KbuildError::io("make", kept))?;
    let part = tempfile::tempdir_in(kept).map_err(KbuildError::io("make a directory in", kept))?;
    let sandbox = Sandbox::open(isolation, None, Limits::default())?;
    unpack_source_package(package, part.path(), &missing, &sandbox)?;
    for file in missing {
        let (from, to) = (part.path().join(file), kept.join(file));
        let parent = to.parent().unwrap_or(kept);
        fs::create_dir_all(parent).map_err(KbuildError::io("make", parent))?;
        fs::rename(&from, &to).map_err(KbuildError::io("keep", &to))?;
    }
    Ok(())
}

fn copy_tree(tree: &Path, to: &Path) -> Result<(), KbuildError> {
    let mut copy = tool("cp");
    copy.args(["-a", "--no-preserve=ownership", "--reflink=auto", "-t"]).arg(to);
    for entry in fs::read_dir(tree).map_err(KbuildError::io("read", tree))? {
        let entry = entry.map_err(KbuildError::io("read", tree))?;
        if entry.file_name() != VERSION_CONTROL {
            copy.arg(entry.path());
        }
    }
    command::run(&mut copy, "copying the source").map(|_| ())
}

/// `dpkg-deb --fsys-tarfile | tar -xO ./usr/src/linux-source-*.tar.xz | tar -xJ`, without a shell, and each alone. Only these
/// files, or all when none are named.
fn unpack_source_package(
    package: &Path,
    to: &Path,
    files: &[&str],
    sandbox: &Sandbox,
) -> Result<(), KbuildError> {
    let what = format!("unpacking {}", package.display());
    let package = package.canonicalize().map_err(KbuildError::io("read", package))?;
    let mut outer = Job::new("dpkg-deb", "/");
    outer.arg("--fsys-tarfile").arg(&package).reads(&package);
    let mut member = Job::new("tar", "/");
    member.args(["-x", "-O", "--wildcards", "./usr/src/linux-source-*.tar.xz"]);
    let mut xz = Job::new("xz", "/");
    xz.args(["-d", "-c", "-T0"]);
    let mut input = Stdio::null();
    let mut children = Vec::new();
    for (name, job) in [("dpkg-deb", outer), ("tar", member), ("xz", xz)] {
        let mut command = sandbox.command(&job);
        command.stdin(input).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| command::start_error(&command, &what, error))?;
        input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        children.push((name, child));
    }
    let mut inner = Job::new("tar", to);
    inner.args(["-x", "--strip-components=1", "--no-same-owner"]).writes(to);
    if !files.is_empty() {
        inner.args(["--wildcards", "--no-wildcards-match-slash"]);
        inner.args(files.iter().map(|file| format!("*/{file}")));
    }
    // When it ends, the others have nobody to write to, and end too.
    let output = sandbox.run_with_input(&inner, input, &what);
    let mut states = Vec::new();
    for (name, child) in &mut children {
        let status = child.wait().map_err(KbuildError::io("wait for", name as &str))?;
        if !status.success() {
            states.push(format!("{name} ended with {status}"));
        }
    }
    let output = output?;
    if output.status.success() && states.is_empty() {
        return Ok(());
    }
    Err(KbuildError::Failed { what, output: format!("{} {}", command::tail(&output), states.join(", ")) })
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
