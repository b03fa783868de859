//! Symbols as the kernel counts them: of several of one name, the one that the patch is for is redirected. What is
//! redirected is read out of the running kernel's memory.

use std::error::Error;
use std::path::Path;

use livepatch_build::pipeline::{PatchRequest, Workbench};
use livepatch_tests::guest::{SHORT, load, unload};
use livepatch_tests::{cloud_kernel, kernel_request, livepatch_request, replace_line};
use livepatch_types::SystemClock;
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network, compile_static};

/// What the kernel puts at the start of a function that nothing traces: `nopl 0(%rax,%rax,1)`
/// (arch/x86/include/asm/nops.h, x86_nops[5]).
const NOT_REDIRECTED: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// `call` with a distance of four bytes.
const CALL: u8 = 0xe8;

/// Every symbol of the running kernel: address, kind, name.
struct Symbols(Vec<(u64, char, String)>);

impl Symbols {
    fn read(guest: &Guest) -> Result<Self, Box<dyn Error>> {
        let names = "user_read|kern_path|ftrace_trampoline|ftrace_caller|ftrace_regs_caller";
        let list = Command::shell(format!("grep -wE '{names}' /proc/kallsyms"));
        let parse = |line: &str| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.next()?.chars().next()?, words.next()?.to_owned()))
        };
        Ok(Self(guest.check(&list, SHORT)?.lines().filter_map(parse).collect()))
    }

    /// The only symbol of this name and kind.
    fn one(&self, name: &str, kind: char) -> u64 {
        let found: Vec<_> = self.0.iter().filter(|s| s.1 == kind && s.2 == name).map(|s| s.0).collect();
        assert_eq!(found.len(), 1, "{kind} {name} among {:?}", self.0);
        found[0]
    }

    /// Whether ftrace's code begins there.
    fn is_ftrace(&self, address: u64) -> bool {
        self.0.iter().any(|(at, _, name)| *at == address && name.starts_with("ftrace_"))
    }
}

fn bytes_at(guest: &Guest, address: u64) -> Result<[u8; 5], Box<dyn Error>> {
    let text = guest.check(&Command::new("kcore").arg(format!("{address:x}")).arg("5"), SHORT)?;
    let value = u64::from_str_radix(text.trim(), 16)?;
    let [_, _, _, bytes @ ..] = value.to_be_bytes();
    Ok(bytes)
}

/// Whether the function at this address is redirected: it begins with a call to ftrace's code, not with a no-operation.
fn is_redirected(guest: &Guest, address: u64) -> Result<bool, Box<dyn Error>> {
    let bytes = bytes_at(guest, address)?;
    if bytes == NOT_REDIRECTED {
        return Ok(false);
    }
    let [CALL, distance @ ..] = bytes else { return Err(format!("{address:#x}: {bytes:02x?}").into()) };
    let to = address.wrapping_add(5).wrapping_add_signed(i32::from_le_bytes(distance).into());
    // Trampolines come with what they are made for.
    assert!(Symbols::read(guest)?.is_ftrace(to), "{address:#x} calls {to:#x}, which is no code of ftrace");
    Ok(true)
}

fn patches(source: &Path) -> Vec<String> {
    let after = |path, line: &str, added: &str| replace_line(source, path, line, &format!("{line}{added}"));
    vec![
        after(
            "security/selinux/ss/policydb.c",
            "usrdatum->value = le32_to_cpu(buf[1]);",
            "\n\tif (usrdatum->value == 7777) {\n\t\trc = -EINVAL;\n\t\tgoto bad;\n\t}",
        ),
        after(
            "fs/namei.c",
            "int ret = filename_lookup(AT_FDCWD, filename, flags, path, NULL);",
            "\n\n\tif (!strcmp(name, \"/livepatched\"))\n\t\tret = -EDOM;",
        ),
    ]
}

#[test]
fn of_two_symbols_of_one_name_the_right_one_is_redirected() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let request = PatchRequest { patches: patches(bench.tree().path()), arguments: Vec::new() };
    let built = bench.build(&request, &livepatch_request(), &SystemClock, &|_| ())?;
    let functions: Vec<_> = built.bundle.manifest.objects.iter().flat_map(|o| &o.functions).collect();
    assert_eq!(functions.len(), 2, "{functions:?}");

    let directory = tempfile::tempdir()?;
    let program = directory.path().join("kcore");
    compile_static(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sympos/kcore.c"), &program)?;
    let mut initramfs = Initramfs::new()?;
    initramfs.file("/livepatch.ko", 0o644, built.bundle.module.clone())?;
    initramfs.file_from("/usr/bin/kcore", 0o755, &program)?;
    let guest = Guest::boot(&BootSpec {
        network: Network::None,
        ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build())
    })?;

    let symbols = Symbols::read(&guest)?;
    // SELinux's is local, the keyring's is not; in kernel/pid_namespace.c there is a variable of that name.
    let (selinux, keyring) = (symbols.one("user_read", 't'), symbols.one("user_read", 'T'));
    let (function, variable) = (symbols.one("kern_path", 'T'), symbols.one("kern_path", 'd'));
    // The kernel counts in the order of addresses, from 1.
    let place = |wanted: u64, other: u64| if wanted < other { 1 } else { 2 };
    for (name, sympos) in [("user_read", place(selinux, keyring)), ("kern_path", place(function, variable))] {
        let found = functions.iter().find(|f| f.name == name).map(|f| f.sympos);
        assert_eq!(found, Some(sympos), "{name}");
    }
    let redirected = || -> Result<[bool; 3], Box<dyn Error>> {
        Ok([
            is_redirected(&guest, selinux)?,
            is_redirected(&guest, keyring)?,
            is_redirected(&guest, function)?,
        ])
    };
    let bind = Command::shell("mkdir -p /there && mount --bind /livepatched /there 2>&1");
    let error_of_mount = || -> Result<String, Box<dyn Error>> { Ok(guest.run(&bind, SHORT)?.text()) };
    let content = bytes_at(&guest, variable)?;

    assert_eq!(redirected()?, [false; 3], "before");
    assert!(error_of_mount()?.contains("No such file"), "{}", error_of_mount()?);
    load(&guest)?;
    assert_eq!(redirected()?, [true, false, true], "applied: SELinux's, the keyring's, kern_path");
    assert!(error_of_mount()?.contains("Numerical argument out of domain"), "{}", error_of_mount()?);
    assert_eq!(bytes_at(&guest, variable)?, content, "the variable of that name");
    unload(&guest)?;
    assert_eq!(redirected()?, [false; 3], "reverted");
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}
