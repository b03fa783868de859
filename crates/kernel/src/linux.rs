use std::ffi::CString;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use livepatch_types::{KernelIdentity, KernelRelease, ModuleName};
use rustix::io::Errno;

use crate::error::Signed;
use crate::keyring::KeyringName;
use crate::origin::image_package;
use crate::{
    Kernel, KernelError, Livepatch, LoadError, LoadFacts, LoadRefusal, LoadedModule, OriginEvidence,
    SealedModule, parse,
};

/// `O_NONBLOCK` of include/uapi/asm-generic/fcntl.h: `delete_module` fails at once when the module is in use.
const O_NONBLOCK: i32 = 0o4000;

/// The kernel that runs this program, seen through /proc and /sys.
#[derive(Debug, Clone)]
pub struct LinuxKernel {
    root: PathBuf,
}

impl Default for LinuxKernel {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl LinuxKernel {
    /// Reads `proc` and `sys` under `root`. With any root but `/` modules are neither loaded nor unloaded.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    fn livepatch_path(&self, name: &ModuleName, file: &str) -> PathBuf {
        self.path("sys/kernel/livepatch").join(name.as_str()).join(file)
    }

    fn switch(&self, relative: &str) -> Option<bool> {
        parse::switch(&std::fs::read_to_string(self.path(relative)).ok()?)
    }

    fn read_livepatch(&self, name: ModuleName) -> Result<Option<Livepatch>, KernelError> {
        let read = |file| -> Result<Option<bool>, KernelError> {
            let path = self.livepatch_path(&name, file);
            // The entry goes away at the end of disabling, perhaps between two reads.
            let Some(text) = absent_is_none(read_text(&path))? else { return Ok(None) };
            let value = parse::switch(&text);
            value
                .map(Some)
                .ok_or_else(|| KernelError::Content { path, why: format!("{text:?} is not 0 or 1") })
        };
        let (Some(enabled), Some(in_transition)) = (read("enabled")?, read("transition")?) else {
            return Ok(None);
        };
        Ok(Some(Livepatch { name, enabled, in_transition }))
    }

    pub(crate) fn must_be_running_kernel(&self) -> Result<(), KernelError> {
        if self.root == Path::new("/") { Ok(()) } else { Err(KernelError::OnlyATree) }
    }
}

impl Kernel for LinuxKernel {
    fn identity(&self) -> Result<KernelIdentity, KernelError> {
        let uname = rustix::system::uname();
        let machine = uname.machine().to_string_lossy();
        let architecture =
            parse::architecture(&machine).ok_or_else(|| KernelError::Architecture(machine.into_owned()))?;
        let path = self.path("proc/sys/kernel/osrelease");
        let release = KernelRelease::parse(read_text(&path)?.trim_end())
            .map_err(|error| KernelError::content(path, &error))?;
        let path = self.path("sys/kernel/notes");
        let build_id = parse::gnu_build_id(&read_bytes(&path)?)
            .ok_or_else(|| KernelError::Content { path, why: "there is no GNU build-id in it".into() })?;
        Ok(KernelIdentity { architecture, release, build_id })
    }

    fn boot_id(&self) -> Result<String, KernelError> {
        Ok(read_text(&self.path("proc/sys/kernel/random/boot_id"))?.trim_end().to_owned())
    }

    fn since_boot(&self) -> Result<Duration, KernelError> {
        let path = self.path("proc/uptime");
        let text = read_text(&path)?;
        parse::uptime(&text).ok_or_else(|| KernelError::Content {
            path,
            why: format!("{text:?} does not begin with seconds"),
        })
    }

    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        let path = self.path("sys/kernel/livepatch");
        let list_error = |source| match source {
            error if is_absent(&error) => KernelError::NoLivepatching,
            source => KernelError::File { action: "list", path: path.clone(), source },
        };
        let mut patches = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(list_error)? {
            let name = entry.map_err(list_error)?.file_name();
            let name = ModuleName::parse(&name.to_string_lossy())
                .map_err(|error| KernelError::content(path.clone(), &error))?;
            patches.extend(self.read_livepatch(name)?);
        }
        patches.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(patches)
    }

    fn modules(&self) -> Result<Vec<LoadedModule>, KernelError> {
        // A kernel without loadable modules has no such file.
        let text = absent_is_none(read_text(&self.path("proc/modules")))?.unwrap_or_default();
        let mut names = parse::module_names(&text);
        names.sort();
        let modules = names.into_iter().map(|name| {
            let notes = self.path("sys/module").join(name.as_str()).join("notes/.note.gnu.build-id");
            let build_id = std::fs::read(notes).ok().and_then(|bytes| parse::gnu_build_id(&bytes));
            LoadedModule { name, build_id }
        });
        Ok(modules.collect())
    }

    fn module_file(&self, name: &ModuleName) -> Option<String> {
        let release = std::fs::read_to_string(self.path("proc/sys/kernel/osrelease")).ok()?;
        let release = KernelRelease::parse(release.trim_end()).ok()?;
        let list = self.path("lib/modules").join(release.as_str()).join("modules.dep");
        parse::module_file(&std::fs::read_to_string(list).ok()?, name)
    }

    fn facts(&self) -> LoadFacts {
        let text = |relative| std::fs::read_to_string(self.path(relative)).ok();
        LoadFacts {
            livepatch_support: Some(self.path("sys/kernel/livepatch").is_dir()),
            modules_disabled: self.switch("proc/sys/kernel/modules_disabled"),
            signatures_enforced: self.switch("sys/module/module/parameters/sig_enforce"),
            lockdown: text("sys/kernel/security/lockdown").and_then(|text| parse::lockdown(&text)),
            ftrace_enabled: self.switch("proc/sys/kernel/ftrace_enabled"),
            taint: text("proc/sys/kernel/tainted").and_then(|text| text.trim_end().parse().ok()),
        }
    }

    fn origin_evidence(&self) -> OriginEvidence {
        let text = |file: &str| read_capped(&self.path(file)).unwrap_or_default();
        let release = text("proc/sys/kernel/osrelease").trim_end().to_owned();
        let builtin = self.keyrings().and_then(|keyrings| {
            let builtin = keyrings.into_iter().find(|keyring| keyring.name == KeyringName::Builtin)?;
            Some(builtin.keys.into_iter().map(|key| key.subject).collect())
        });
        OriginEvidence {
            version: text("proc/version"),
            version_signature: text("proc/version_signature"),
            package: image_package(&text("var/lib/dpkg/status"), &release),
            builtin_keys: builtin,
            release,
        }
    }

    fn load(&self, module: &SealedModule) -> Result<(), LoadError> {
        self.must_be_running_kernel()?;
        match rustix::system::finit_module(module, c"", 0) {
            Ok(()) => Ok(()),
            // x86_64 never lacks the call; a kernel without CONFIG_LIVEPATCH answers so to a livepatch.
            Err(Errno::OPNOTSUPP) => Err(LoadRefusal::Unsupported.into()),
            Err(errno) => Err(LoadError::from_errno(errno, &self.facts(), Signed::of(module.bytes()))),
        }
    }

    fn set_enabled(&self, name: &ModuleName, enabled: bool) -> Result<(), KernelError> {
        let path = self.livepatch_path(name, "enabled");
        // Not fs::write, which would create the file in a tree and truncate one in sysfs.
        let file = std::fs::OpenOptions::new().write(true).open(&path);
        let written =
            file.and_then(|mut file| std::io::Write::write_all(&mut file, if enabled { b"1" } else { b"0" }));
        let Err(source) = written else { return Ok(()) };
        if is_absent(&source) {
            return Err(KernelError::NoSuchLivepatch(name.clone()));
        }
        match Errno::from_io_error(&source) {
            Some(errno @ (Errno::BUSY | Errno::INVAL)) => {
                let action = if enabled { "enable" } else { "disable" };
                Err(KernelError::LivepatchBusy { action, name: name.clone(), errno })
            }
            _ => Err(KernelError::File { action: "write", path, source }),
        }
    }

    fn unload(&self, name: &ModuleName) -> Result<(), KernelError> {
        self.must_be_running_kernel()?;
        // A module name holds no NUL.
        let text = CString::new(name.as_str()).unwrap_or_default();
        match rustix::system::delete_module(&text, O_NONBLOCK) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(KernelError::NoSuchModule(name.clone())),
            Err(Errno::WOULDBLOCK | Errno::BUSY) => Err(KernelError::ModuleInUse(name.clone())),
            Err(errno) => Err(KernelError::Unload { name: name.clone(), errno }),
        }
    }
}

/// ENOENT, or ENODEV: what a read says of a sysfs file whose object has just gone.
fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::NODEV)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, KernelError> {
    std::fs::read(path).map_err(|source| KernelError::File { action: "read", path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<String, KernelError> {
    std::fs::read_to_string(path).map_err(|source| KernelError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// A text for people, which may be missing or foreign; what is longer than any package database is cut.
fn read_capped(path: &Path) -> Option<String> {
    const MOST: u64 = 64 << 20;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn absent_is_none(result: Result<String, KernelError>) -> Result<Option<String>, KernelError> {
    match result {
        Ok(text) => Ok(Some(text)),
        Err(KernelError::File { source, .. }) if is_absent(&source) => Ok(None),
        Err(error) => Err(error),
    }
}
