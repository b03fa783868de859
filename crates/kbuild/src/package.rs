//! The files of one kernel, out of packages or directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::KbuildError;
use crate::command::{self, tool};

/// What a linux-image and a linux-headers package hold of one kernel.
#[derive(Debug, Clone)]
pub struct KernelFiles {
    /// `boot/vmlinuz-RELEASE`
    pub vmlinuz: PathBuf,
    /// `lib/modules/RELEASE`
    pub modules: PathBuf,
    /// The configuration the kernel was built with.
    pub config: PathBuf,
    /// `Module.symvers`
    pub symvers: PathBuf,
}

impl KernelFiles {
    /// Finds the files in an image and a headers package, each a `.deb` or a directory with its content. Packages are
    /// unpacked below `scratch`.
    pub fn find(image: &Path, headers: &Path, scratch: &Path) -> Result<Self, KbuildError> {
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
        Ok(Self { vmlinuz, modules, config, symvers })
    }

    /// The file of a module by its name with underscores, unpacked if need be.
    pub fn module(&self, name: &str) -> Result<Vec<u8>, KbuildError> {
        let base = self.modules.join("kernel");
        let missing = || KbuildError::Missing { path: base.clone(), what: format!("the module {name}") };
        let path = self.module_path(name).ok_or_else(missing)?;
        for (suffix, packed) in [("ko", false), ("ko.xz", true)] {
            let file = base.join(format!("{path}.{suffix}"));
            if !file.is_file() {
                continue;
            }
            let bytes = fs::read(&file).map_err(KbuildError::io("read", &file))?;
            return if packed {
                unpack_xz(&bytes).map_err(KbuildError::io("unpack", &file))
            } else {
                Ok(bytes)
            };
        }
        Err(missing())
    }

    /// The path without suffix (`net/sched/cls_u32`) of a module, from `modules.order`.
    fn module_path(&self, name: &str) -> Option<String> {
        let order = fs::read_to_string(self.modules.join("modules.order")).ok()?;
        order.lines().find_map(|line| {
            let path = line.strip_prefix("kernel/").unwrap_or(line);
            let path = path.strip_suffix(".ko")?;
            (path.rsplit('/').next()?.replace('-', "_") == name).then(|| path.to_owned())
        })
    }
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
fn unpack_deb(package: &Path, to: &Path) -> Result<(), KbuildError> {
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
            Self::Package(package) => unpack_source_package(package, to),
        }
    }
}

/// `dpkg-deb --fsys-tarfile | tar -xO ./usr/src/linux-source-*.tar.xz | tar -xJ`, without a shell.
fn unpack_source_package(package: &Path, to: &Path) -> Result<(), KbuildError> {
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
