//! What the guest boots from: busybox, an init script, kernel modules and the caller's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::cpio::Writer;
use crate::program::{installed, shared_libraries};
use crate::{KernelTree, VmError, guest::USER};

const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("init.sh");
const INIT_DISK: &str = include_str!("init-disk.sh");
const SERVE: &str = include_str!("serve.sh");
/// Modules that init loads, one path a line, in load order.
const LOAD_LIST: &str = "/etc/modules-load";

enum Entry {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Symlink { target: String },
}

/// The content of a guest's root file system. Building it twice gives the same bytes.
#[derive(Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
    load_list: Vec<String>,
    dependencies: BTreeMap<String, Vec<String>>,
    /// Lines of modules.alias.
    aliases: BTreeSet<String>,
}

impl Initramfs {
    /// An archive with busybox of this machine, the init script and its command server.
    pub fn new() -> Result<Self, VmError> {
        let mut initramfs = Self::default();
        if !Path::new(BUSYBOX).exists() {
            return Err(VmError::MissingProgram { program: "busybox".into() });
        }
        initramfs.file_from("/bin/busybox", 0o755, Path::new(BUSYBOX))?;
        initramfs.file("/init", 0o755, INIT)?;
        initramfs.file("/etc/serve", 0o755, SERVE)?;
        initramfs.file("/etc/passwd", 0o644, passwd())?;
        initramfs.file("/etc/group", 0o644, format!("root:x:0:\n{USER}:x:1000:\n"))?;
        initramfs.file("/etc/hosts", 0o644, "127.0.0.1 localhost guest\n")?;
        initramfs.file("/etc/resolv.conf", 0o644, "nameserver 10.0.2.3\n")?;
        for directory in ["/sbin", "/usr/bin", "/usr/sbin", "/proc", "/sys", "/dev", "/run", "/tmp", "/root"]
        {
            initramfs.directory(directory)?;
        }
        Ok(initramfs)
    }

    /// An archive with the network card's modules for this kernel as well: what most guests want.
    pub fn with_network(tree: &KernelTree) -> Result<Self, VmError> {
        let mut initramfs = Self::new()?;
        initramfs.kernel_modules(tree, &["virtio_pci", "virtio_net"])?;
        Ok(initramfs)
    }

    /// An archive that mounts the first disk (ext4) and starts the system on it, which must be systemd. Files below
    /// `/payload` are then in `/run/payload`; no others reach the system.
    pub fn for_disk(tree: &KernelTree) -> Result<Self, VmError> {
        let mut initramfs = Self::new()?;
        // ext4 asks for the algorithm by name: no module depends on it.
        initramfs.kernel_modules(tree, &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"])?;
        initramfs.file("/init", 0o755, INIT_DISK)?;
        Ok(initramfs)
    }

    /// Adds a file; its directories are made. A file that is already there is replaced.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Result<&mut Self, VmError> {
        self.insert(path, Entry::File { mode, bytes: bytes.into() })
    }

    /// Adds a file of the host.
    pub fn file_from(&mut self, path: &str, mode: u32, host: &Path) -> Result<&mut Self, VmError> {
        let bytes = fs::read(host).map_err(|e| VmError::io(format!("read {}", host.display()), e))?;
        self.file(path, mode, bytes)
    }

    /// Adds a program of the host with the shared libraries that it needs, each at its place on the host.
    pub fn program(&mut self, path: &str, host: &Path) -> Result<&mut Self, VmError> {
        for library in shared_libraries(host)? {
            self.file_from(&library.to_string_lossy(), 0o755, &library)?;
        }
        self.file_from(path, 0o755, host)
    }

    /// Adds a program of the host's search path as [`Self::program`] does, in `/usr/bin`.
    pub fn installed_program(&mut self, name: &str) -> Result<&mut Self, VmError> {
        self.program(&format!("/usr/bin/{name}"), &installed(name)?)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Self, VmError> {
        self.insert(path, Entry::Symlink { target: target.into() })
    }

    /// Adds an empty directory.
    pub fn directory(&mut self, path: &str) -> Result<&mut Self, VmError> {
        self.insert(path, Entry::Directory)
    }

    /// Adds modules with what they depend on; the guest loads them at boot, dependencies first.
    pub fn kernel_modules(&mut self, tree: &KernelTree, names: &[&str]) -> Result<&mut Self, VmError> {
        for name in names {
            for path in self.add_module(tree, name)? {
                if !self.load_list.contains(&path) {
                    self.load_list.push(path);
                }
            }
        }
        let list = self.load_list.iter().map(|path| format!("{path}\n")).collect::<String>();
        self.file(LOAD_LIST, 0o644, list)
    }

    /// Adds modules with what they depend on; the guest loads them only when asked with `modprobe`.
    pub fn kernel_modules_unloaded(
        &mut self,
        tree: &KernelTree,
        names: &[&str],
    ) -> Result<&mut Self, VmError> {
        for name in names {
            self.add_module(tree, name)?;
        }
        Ok(self)
    }

    /// Adds the algorithms of the kernel's crypto API: a kernel that has them as modules calls modprobe when a module wants
    /// one (btrfs crc32c, for example), and that module cannot be loaded without.
    pub fn crypto_algorithms(&mut self, tree: &KernelTree) -> Result<&mut Self, VmError> {
        for (module, aliases) in tree.algorithms() {
            self.aliases.extend(aliases.iter().map(|alias| format!("alias {alias} {module}\n")));
            self.add_module(tree, &module)?;
        }
        Ok(self)
    }

    /// The archive's bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        for (path, entry) in &self.entries {
            match entry {
                Entry::Directory => writer.directory(path, 0o755),
                Entry::File { mode, bytes } => writer.file(path, *mode, bytes),
                Entry::Symlink { target } => writer.symlink(path, target),
            }
        }
        writer.finish()
    }

    /// Writes the archive to a file of the host.
    pub fn write_to(&self, host: &Path) -> Result<(), VmError> {
        fs::write(host, self.build()).map_err(|e| VmError::io(format!("write {}", host.display()), e))
    }

    /// Adds one module and its dependencies, and gives their paths in load order.
    fn add_module(&mut self, tree: &KernelTree, name: &str) -> Result<Vec<String>, VmError> {
        let directory = format!("/lib/modules/{}", tree.release());
        let mut paths = Vec::new();
        for module in tree.load_order(name)? {
            let path = format!("{directory}/{}", module.plain_name());
            self.file(&path, 0o644, tree.module_bytes(&module)?)?;
            // What modules.dep says of a module: everything before it, nearest first.
            let dependencies =
                tree.dependencies(&module).iter().map(|m| m.plain_name().to_string()).collect();
            self.dependencies.insert(module.plain_name().into(), dependencies);
            paths.push(path);
        }
        let table: String = self
            .dependencies
            .iter()
            .map(|(module, needs)| format!("{module}: {}\n", needs.join(" ")))
            .collect();
        self.file(&format!("{directory}/modules.dep"), 0o644, table)?;
        let aliases: String = self.aliases.iter().map(String::as_str).collect();
        self.file(&format!("{directory}/modules.alias"), 0o644, aliases)?;
        self.file(&format!("{directory}/modules.symbols"), 0o644, "")?;
        Ok(paths)
    }

    fn insert(&mut self, path: &str, entry: Entry) -> Result<&mut Self, VmError> {
        let path = clean(path)?;
        for (at, _) in path.match_indices('/') {
            match self.entries.entry(path[..at].to_string()).or_insert(Entry::Directory) {
                Entry::Directory => {}
                Entry::File { .. } | Entry::Symlink { .. } => {
                    return Err(VmError::Invalid(format!(
                        "/{} is not a directory in the initramfs",
                        &path[..at]
                    )));
                }
            }
        }
        if !(matches!(entry, Entry::Directory) && self.entries.contains_key(&path)) {
            self.entries.insert(path, entry);
        }
        Ok(self)
    }
}

fn passwd() -> String {
    format!("root:x:0:0:root:/root:/bin/sh\n{USER}:x:1000:1000:{USER}:/tmp:/bin/sh\n")
}

/// The path as the archive wants it: without the first slash.
fn clean(path: &str) -> Result<String, VmError> {
    let refused = || VmError::Invalid(format!("{path:?} is not a plain absolute path"));
    let rest = path.strip_prefix('/').ok_or_else(refused)?;
    if rest.contains('\0') || rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refused());
    }
    Ok(rest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(initramfs: &Initramfs) -> Vec<&str> {
        initramfs.entries.keys().map(String::as_str).collect()
    }

    #[test]
    fn directories_come_by_themselves_and_first() {
        let mut initramfs = Initramfs::default();
        initramfs.file("/a/b/c", 0o600, "x").unwrap().symlink("/a/l", "b/c").unwrap();
        assert_eq!(names(&initramfs), ["a", "a/b", "a/b/c", "a/l"]);
        assert_eq!(initramfs.build(), initramfs.build());
    }

    #[test]
    fn odd_paths_are_refused() {
        let mut initramfs = Initramfs::default();
        for path in ["relative", "/a/../b", "/", "//a", "/a/", "/a\0b"] {
            assert!(initramfs.file(path, 0o644, "").is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let mut initramfs = Initramfs::default();
        initramfs.file("/a", 0o644, "").unwrap();
        let error = initramfs.file("/a/b", 0o644, "").err().unwrap();
        assert_eq!(error.to_string(), "/a is not a directory in the initramfs");
    }
}
