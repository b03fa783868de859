//! Whether a module may reach this kernel. Everything here looks at sealed bytes, before they do.

use livepatch_kernel::Kernel;
use livepatch_manifest::ModuleObject;
use livepatch_modsig::{Certificate, ModuleInfo, module_info, verify_module};
use livepatch_types::{BuildId, KernelIdentity, ModuleName, PatchVersion};

use crate::Problem;

/// Checks a module for a target on a kernel: length, digest, the vendor's signature, and that the signed module says
/// of itself what the document says of it.
pub fn verify(
    bytes: &[u8],
    object: &ModuleObject,
    version: PatchVersion,
    kernel: &KernelIdentity,
    vendor: &[Certificate],
) -> Result<Vec<PatchedModule>, Problem> {
    object.check(bytes)?;
    let verified = verify_module(bytes, vendor)?;
    let info = module_info(verified.content)
        .map_err(|error| Problem::new("wrong-module", format!("the module is refused: {error}"), TELL))?;
    check_info(&info, version, kernel)?;
    info.all("livepatch_object").map(PatchedModule::parse).collect()
}

/// A module whose functions a livepatch redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchedModule {
    /// Its name.
    pub name: ModuleName,
    /// The one that the livepatch was built for.
    pub build_id: BuildId,
}

/// Where the modules that came with a kernel are (modules.dep(5)); others are in `updates`, `extra`, `misc`.
const SHIPPED: &str = "kernel/";

impl PatchedModule {
    /// `cls_u32 0123…`, as the signed module says it.
    fn parse(text: &str) -> Result<Self, Problem> {
        let parts = text.split_once(' ');
        let read =
            parts.and_then(|(name, id)| Some((ModuleName::parse(name).ok()?, BuildId::parse(id).ok()?)));
        let (name, build_id) = read.ok_or_else(|| {
            let message = format!(
                "the signed module says livepatch_object={}, which is no module with a build-id",
                shown(text)
            );
            Problem::new("wrong-module", message, TELL)
        })?;
        Ok(Self { name, build_id })
    }
}

/// Whether the modules that a livepatch goes to are those that it was built for. The kernel finds them by name, and
/// code of another module must stay as it is.
pub fn check_modules(kernel: &dyn Kernel, patched: &[PatchedModule]) -> Result<(), Problem> {
    const HINT: &str = "the module is not the one of the kernel's package (dkms, a driver of somebody else): \
        this livepatch cannot go with it; remove the module, or install the fixed kernel and reboot";
    let loaded = kernel.modules()?;
    for PatchedModule { name, build_id } in patched {
        let foreign = |what: String| {
            Problem::new("foreign-module", format!("the livepatch is for module {name}, but {what}"), HINT)
        };
        match loaded.iter().find(|module| module.name == *name).map(|module| &module.build_id) {
            Some(Some(actual)) if actual == build_id => {}
            Some(Some(actual)) => return Err(foreign(format!("another one is loaded (build-id {actual})"))),
            Some(None) => return Err(foreign("the one that is loaded has no build-id".into())),
            None => match kernel.module_file(name) {
                Some(file) if !file.starts_with(SHIPPED) => {
                    return Err(foreign(format!("modprobe would load {}", shown(&file))));
                }
                _ => {}
            },
        }
    }
    Ok(())
}

const TELL: &str = "the server offers something else than it says; tell its operator";

fn check_info(info: &ModuleInfo, version: PatchVersion, kernel: &KernelIdentity) -> Result<(), Problem> {
    const KERNEL: &str =
        "the module was built for another kernel than this one runs; tell the server's operator";
    let rows = [
        ("livepatch", "Y".to_owned(), "wrong-module", TELL),
        ("name", version.module_name().to_string(), "wrong-module", TELL),
        ("livepatch_version", version.to_string(), "wrong-module", TELL),
        ("livepatch_kernel_build_id", kernel.build_id.to_string(), "wrong-kernel", KERNEL),
        ("livepatch_kernel_release", kernel.release.to_string(), "wrong-kernel", KERNEL),
    ];
    let get = |key| {
        let value = info.get_unique(key);
        value.map_err(|error| Problem::new("wrong-module", format!("the module is refused: {error}"), TELL))
    };
    for (key, expected, code, hint) in rows {
        let actual = get(key)?;
        if actual != expected {
            let message =
                format!("the signed module says {key}={} where {expected} is expected", shown(actual));
            return Err(Problem::new(code, message, hint));
        }
    }
    // `6.1.0-50-cloud-amd64 SMP preempt mod_unload modversions `: the release is the first word.
    let vermagic = get("vermagic")?;
    if vermagic.split(' ').next() != Some(kernel.release.as_str()) {
        let message =
            format!("the signed module says vermagic={} where {} runs", shown(vermagic), kernel.release);
        return Err(Problem::new("wrong-kernel", message, KERNEL));
    }
    Ok(())
}

fn shown(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use livepatch_kernel::FakeKernel;
    use livepatch_types::{Architecture, KernelRelease};

    use super::*;

    #[test]
    fn a_namesake_without_a_build_id() {
        let build_id = BuildId::from_bytes(&[1; 20]).unwrap();
        let (architecture, release) = (Architecture::Amd64, KernelRelease::parse("6.1.0").unwrap());
        let kernel = FakeKernel::new(KernelIdentity { architecture, release, build_id: build_id.clone() });
        let name = ModuleName::parse("cls_u32").unwrap();
        kernel.add_livepatch(name.clone());
        let problem = check_modules(&kernel, &[PatchedModule { name, build_id }]).unwrap_err();
        insta::assert_snapshot!(problem, @"the livepatch is for module cls_u32, but the one that is loaded has no build-id");
    }

    #[test]
    fn what_a_module_says_is_shown_short_and_on_one_line() {
        for (value, expected) in [
            ("livepatch_1_1", "livepatch_1_1".to_owned()),
            ("a\nb\x1b[31m\0c", "ab[31mc".to_owned()),
            (&"ä".repeat(81), "ä".repeat(80)),
        ] {
            assert_eq!(shown(value), expected);
        }
    }
}
