//! An extracted linux-image package: its kernel, configuration and modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{VmError, program};

/// An extracted kernel package, as `dpkg-deb -x` leaves it (`boot/`, `lib/modules/`).
#[derive(Debug, Clone)]
pub struct KernelTree {
    root: PathBuf,
    release: String,
    /// What each module needs, nearest first, all the way down. From modules.dep.
    dependencies: BTreeMap<Module, Vec<Module>>,
    /// Modules that are part of the kernel image.
    builtin: Vec<String>,
    /// What the kernel's crypto API calls its algorithms when it asks modprobe for them, and the module of each. From
    /// modules.alias.
    aliases: Vec<(String, String)>,
}

/// A module's path below `lib/modules/RELEASE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Module(String);

impl Module {
    /// The path without what says that it is compressed.
    pub(crate) fn plain_name(&self) -> &str {
        COMPRESSED.iter().find_map(|(ending, _)| self.0.strip_suffix(ending)).unwrap_or(&self.0)
    }

    fn name(&self) -> String {
        module_name(&self.0)
    }
}

/// Endings of compressed modules and who decompresses them.
const COMPRESSED: [(&str, &str); 3] = [(".xz", "xz"), (".zst", "zstd"), (".gz", "gzip")];

impl KernelTree {
    /// Opens the directory. A missing `modules.dep`, which the package's scripts would have made, is made.
    pub fn open(root: &Path) -> Result<Self, VmError> {
        let refused = |detail: &str| VmError::NotAKernel { path: root.into(), detail: detail.into() };
        let boot = fs::read_dir(root.join("boot")).map_err(|_| refused("it has no boot directory"))?;
        let release = boot
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("vmlinuz-").map(String::from))
            .max()
            .ok_or_else(|| refused("it has no boot/vmlinuz-*"))?;
        let modules = root.join("lib/modules").join(&release);
        if !modules.is_dir() {
            return Err(refused("it has no modules for its kernel"));
        }
        let table = modules.join("modules.dep");
        if !table.exists() {
            program::output("/sbin/depmod", &["-b", &root.to_string_lossy(), &release])?;
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|e| VmError::io(format!("read {}", path.display()), e))
        };
        let dependencies = parse_dependencies(&read(&table)?);
        let builtin = read(&modules.join("modules.builtin"))?.lines().map(module_name).collect();
        let aliases = parse_aliases(&read(&modules.join("modules.alias")).unwrap_or_default());
        Ok(Self { root: root.into(), release, dependencies, builtin, aliases })
    }

    /// The kernel release, as `uname -r` says it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The compressed kernel image.
    pub fn vmlinuz(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The kernel's configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join(format!("boot/config-{}", self.release))
    }

    /// The file of a module, compressed or not.
    pub fn module_path(&self, name: &str) -> Result<PathBuf, VmError> {
        Ok(self.modules_directory().join(&self.find(name)?.0))
    }

    /// The module and all it needs, in the order in which they must be loaded; empty if it is built in.
    pub(crate) fn load_order(&self, name: &str) -> Result<Vec<Module>, VmError> {
        if self.builtin.contains(&module_name(name)) {
            return Ok(Vec::new());
        }
        let module = self.find(name)?;
        let mut order: Vec<Module> = self.dependencies(module).iter().rev().cloned().collect();
        order.push(module.clone());
        Ok(order)
    }

    /// All that a module needs, nearest first.
    pub(crate) fn dependencies(&self, module: &Module) -> &[Module] {
        self.dependencies.get(module).map_or(&[], Vec::as_slice)
    }

    /// The module's bytes, decompressed.
    pub(crate) fn module_bytes(&self, module: &Module) -> Result<Vec<u8>, VmError> {
        let path = self.modules_directory().join(&module.0);
        match COMPRESSED.iter().find(|(ending, _)| module.0.ends_with(ending)) {
            Some((_, program)) => program::output(program, &["-dc", "--", &path.to_string_lossy()]),
            None => fs::read(&path).map_err(|e| VmError::io(format!("read {}", path.display()), e)),
        }
    }

    /// The directory with the modules.
    pub fn modules_directory(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// Modules with algorithms of the crypto API (`kernel/crypto`), each with the names that the kernel asks for. The
    /// accelerated ones of processors are not among them.
    pub(crate) fn algorithms(&self) -> BTreeMap<String, Vec<&str>> {
        let mut out: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for module in self.dependencies.keys().filter(|module| module.0.starts_with("kernel/crypto/")) {
            let name = module.name();
            let aliases = self.aliases.iter().filter(|(_, of)| *of == name);
            let aliases: Vec<&str> = aliases.map(|(alias, _)| alias.as_str()).collect();
            if !aliases.is_empty() {
                out.insert(name, aliases);
            }
        }
        out
    }

    fn find(&self, name: &str) -> Result<&Module, VmError> {
        let wanted = module_name(name);
        self.dependencies
            .keys()
            .find(|module| module.name() == wanted)
            .ok_or_else(|| VmError::NoModule { module: name.into(), release: self.release.clone() })
    }
}

/// `kernel/drivers/virtio-rng.ko.xz` is the module `virtio_rng`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Lines of modules.dep: `path: path path …`.
fn parse_dependencies(text: &str) -> BTreeMap<Module, Vec<Module>> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, needs)| {
            (Module(module.into()), needs.split_whitespace().map(|path| Module(path.into())).collect())
        })
        .collect()
}

/// Lines of modules.alias about the crypto API: `alias crypto-crc32c crc32c_generic`.
fn parse_aliases(text: &str) -> Vec<(String, String)> {
    let read = |line: &str| {
        let mut words = line.strip_prefix("alias ")?.split(' ');
        let (alias, module) = (words.next()?, words.next()?);
        alias.starts_with("crypto-").then(|| (alias.to_owned(), module_name(module)))
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIASES: &str = "# by depmod\nalias pci:v1* virtio_pci\nalias crypto-crc32c crc32c_generic\n\
        alias crypto-crc32c-generic crc32c_generic\nalias crypto-crc32c crc32c-intel\nalias crypto-x unknown\n";

    #[test]
    fn algorithms_are_known_by_what_the_kernel_asks_for() {
        let expected = [("crc32c_generic".to_owned(), vec!["crypto-crc32c", "crypto-crc32c-generic"])];
        assert_eq!(tree().algorithms(), BTreeMap::from(expected));
    }

    fn tree() -> KernelTree {
        let table = "kernel/crypto/crc32c_generic.ko:\nkernel/arch/x86/crypto/crc32c-intel.ko:\n\
                     kernel/net/virtio_net.ko.xz: kernel/core/net_failover.ko.xz kernel/core/failover.ko.xz\n\
                     kernel/core/net_failover.ko.xz: kernel/core/failover.ko.xz\n\
                     kernel/core/failover.ko.xz:\n";
        KernelTree {
            root: "/k".into(),
            release: "6.1.0".into(),
            dependencies: parse_dependencies(table),
            builtin: vec!["virtio_pci".into()],
            aliases: parse_aliases(ALIASES),
        }
    }

    #[test]
    fn dependencies_load_first() {
        let order = tree().load_order("virtio-net").unwrap();
        let names: Vec<_> = order.iter().map(Module::name).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net"]);
        assert_eq!(order[2].plain_name(), "kernel/net/virtio_net.ko");
    }

    #[test]
    fn built_in_modules_need_nothing_and_unknown_ones_are_named() {
        assert!(tree().load_order("virtio_pci").unwrap().is_empty());
        let error = tree().load_order("nope").unwrap_err();
        assert_eq!(error.to_string(), "kernel 6.1.0 has no module nope");
    }

    #[test]
    fn compressed_modules_are_decompressed() {
        let directory = tempfile::tempdir().unwrap();
        let tree = KernelTree { root: directory.path().into(), ..tree() };
        let modules = tree.modules_directory();
        fs::create_dir_all(&modules).unwrap();
        fs::write(modules.join("m.ko"), "module").unwrap();
        program::output("xz", &["--", &modules.join("m.ko").to_string_lossy()]).unwrap();
        assert_eq!(tree.module_bytes(&Module("m.ko.xz".into())).unwrap(), b"module");
    }
}
