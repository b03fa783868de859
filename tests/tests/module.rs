//! The livepatch module itself, loaded by hand into the kernels exactly as Debian ships them.

use std::error::Error;
use std::path::Path;

use livepatch_build::pipeline::{PatchRequest, Workbench};
use livepatch_klp::shipped::{Shipped as _, ShippedModule};
use livepatch_tests::guest::{SHORT, load, unload};
use livepatch_tests::{
    build_patches, carved_patch, cloud_kernel, kernel_request, livepatch_request, newer_cloud_kernel,
    replace_line,
};
use livepatch_types::SystemClock;
use livepatch_vm::testing::{self, FetchedKernel};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network, compile_static};

const FIXES: [&str; 2] = ["CVE-2026-93146", "CVE-2026-74544"];
/// What the kernel does about return instructions that are predicted wrongly.
const RETBLEED: &str = "/sys/devices/system/cpu/vulnerabilities/retbleed";

/// Processors for which the kernel has a mitigation that rewrites calls, or returns.
const SKYLAKE: [&str; 4] = ["vendor=GenuineIntel", "family=6", "model=94", "stepping=3"];
const ZEN_2: [&str; 4] = ["vendor=AuthenticAMD", "family=23", "model=49", "stepping=0"];

/// A way to boot.
#[derive(Default)]
struct Boot<'b> {
    name: &'b str,
    cls_u32: Module,
    cpu: &'b [&'b str],
    arguments: &'b [&'b str],
    /// Words that [`RETBLEED`] must have.
    retbleed: &'b str,
}

/// When the module that a fix is for is loaded.
#[derive(Default, PartialEq)]
enum Module {
    #[default]
    Before,
    After,
}

/// Runs every check program; 1 is vulnerable, 0 fixed.
fn states(guest: &Guest) -> Result<Vec<i32>, Box<dyn Error>> {
    FIXES.iter().map(|cve| Ok(guest.run(&Command::new(*cve), SHORT)?.status)).collect()
}

/// Builds both fixes, then on every boot: vulnerable, fixed, reverted, fixed again, and a clean log.
fn fixes_and_reverts(kernel: &FetchedKernel, boots: &[Boot<'_>]) -> Result<(), Box<dyn Error>> {
    let built = build_patches(kernel, &FIXES.map(|cve| carved_patch(kernel, cve)))?;
    let directory = tempfile::tempdir()?;
    for Boot { name, cls_u32, cpu, arguments, retbleed } in boots {
        let mut initramfs = Initramfs::new()?;
        initramfs.kernel_modules(&kernel.tree, &["sch_ingress"])?;
        match cls_u32 {
            Module::Before => initramfs.kernel_modules(&kernel.tree, &["cls_u32"])?,
            Module::After => initramfs.kernel_modules_unloaded(&kernel.tree, &["cls_u32"])?,
        };
        initramfs.file("/livepatch.ko", 0o644, built.bundle.module.clone())?;
        for cve in FIXES {
            let program = directory.path().join(cve);
            compile_static(&testing::workspace().join(format!("checks/{cve}.c")), &program)?;
            initramfs.file_from(&format!("/usr/bin/{cve}"), 0o755, &program)?;
        }
        let spec = BootSpec {
            network: Network::None,
            cpu_properties: cpu.iter().map(ToString::to_string).collect(),
            kernel_args: arguments.iter().map(ToString::to_string).collect(),
            ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build())
        };
        let guest = Guest::boot(&spec)?;
        let answer = guest.check(&Command::shell(format!("cat {RETBLEED} || true")), SHORT)?;
        assert!(answer.contains(retbleed), "{name}: {}", answer);
        if *cls_u32 == Module::Before {
            assert_eq!(states(&guest)?, [1, 1], "{name}: before");
        }
        load(&guest)?;
        if *cls_u32 == Module::After {
            guest.check(&Command::new("modprobe").arg("cls_u32"), SHORT)?;
        }
        assert_eq!(states(&guest)?, [0, 0], "{name}: applied");
        unload(&guest)?;
        assert_eq!(states(&guest)?, [1, 1], "{name}: reverted");
        load(&guest)?;
        assert_eq!(states(&guest)?, [0, 0], "{name}: applied again");
        assert_eq!(guest.kernel_problems()?, [], "{name}");
        guest.shutdown()?;
    }
    Ok(())
}

#[test]
fn it_fixes_vmlinux_and_modules_and_reverts() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    fixes_and_reverts(
        &kernel,
        &[
            Boot { name: "a module that is there already", ..Boot::default() },
            Boot { name: "a module that comes later", cls_u32: Module::After, ..Boot::default() },
        ],
    )
}

/// QEMU's TCG has no IBT: nothing here proves what hardware does at a missing `endbr64`.
#[test]
fn a_kernel_with_call_padding_is_fixed_under_every_mitigation() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = newer_cloud_kernel() else { return Ok(()) };
    fixes_and_reverts(
        &kernel,
        &[
            Boot { name: "a module that comes later", cls_u32: Module::After, ..Boot::default() },
            Boot {
                name: "call depth tracking",
                cpu: &SKYLAKE,
                arguments: &["retbleed=stuff"],
                retbleed: "Stuffing",
                ..Boot::default()
            },
            Boot {
                name: "call depth tracking, and a module that comes later",
                cls_u32: Module::After,
                cpu: &SKYLAKE,
                arguments: &["retbleed=stuff"],
                retbleed: "Stuffing",
            },
            Boot {
                name: "untrained return thunks",
                cpu: &ZEN_2,
                arguments: &["retbleed=unret", "spec_rstack_overflow=off"],
                retbleed: "untrained return thunk",
                ..Boot::default()
            },
            Boot { name: "no mitigations", arguments: &["mitigations=off"], ..Boot::default() },
        ],
    )
}

/// Reads to an address that is no user address and no kernel address either. If `access_ok` compares with anything but
/// the kernel's bound, the processor refuses the address instead, and the kernel warns.
const READ_TO_NOWHERE: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int main(void)
{
	int zero = open("/dev/zero", O_RDONLY);

	return read(zero, (void *)0x900000000000, 10) == -1 && errno == EFAULT ? 0 : 1;
}
"#;

/// A patch that shows itself at a read of 7777 bytes, a look-up of one name, and signal 50.
fn marks(source: &Path) -> Vec<String> {
    let after = |path, line: &str, added: &str| replace_line(source, path, line, &format!("{line}{added}"));
    let before = |path, line: &str, added: &str| replace_line(source, path, line, &format!("{added}{line}"));
    vec![
        // In vfs_read: access_ok compares with a number that the kernel writes at boot.
        before(
            "fs/read_write.c",
            "if (unlikely(!access_ok(buf, count)))",
            "if (count == 7777)\n\t\treturn -EDOM;\n\t",
        ),
        // In __d_lookup, which finds its table by such numbers.
        after(
            "fs/dcache.c",
            "unsigned int hash = name->hash;",
            "\n\n\tif (name->len == 17 && !memcmp(name->name, \"livepatched-entry\", 17))\n\
             \t\tpr_info(\"livepatch: found by its number\\n\");",
        ),
        // In __send_signal_locked, which ends at a tracepoint: a jump label and a static call.
        after("kernel/signal.c", "result = TRACE_SIGNAL_IGNORED;", "\n\tif (sig == 50)\n\t\tgoto ret;"),
    ]
}

/// What the livepatch of [`marks`] does: a read of 7777 bytes fails, signal 50 is lost, a look-up is told.
fn marks_seen(guest: &Guest) -> Result<[bool; 3], Box<dyn Error>> {
    let works = |script: &str| -> Result<bool, Box<dyn Error>> {
        Ok(guest.run(&Command::shell(script), SHORT)?.success())
    };
    guest.check(&Command::new("/usr/bin/read-to-nowhere"), SHORT)?;
    let mark = guest.mark()?;
    guest.check(&Command::shell("mkdir /tmp/livepatched-entry && rmdir /tmp/livepatched-entry"), SHORT)?;
    let told = guest.console_since(mark)?.contains("livepatch: found by its number");
    let read = works("dd if=/dev/zero of=/dev/null bs=7777 count=1")?;
    let lost = works("sleep 1 & kill -50 $! && wait $!")?;
    Ok([!read, told, lost])
}

#[test]
fn runtime_constants_and_static_calls_work_in_a_livepatch() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = newer_cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let request = PatchRequest { patches: marks(bench.tree().path()), arguments: Vec::new() };
    let built = bench.build(&request, &livepatch_request(), &SystemClock, &|_| ())?;
    let directory = tempfile::tempdir()?;
    let (source, program) = (directory.path().join("read.c"), directory.path().join("read"));
    std::fs::write(&source, READ_TO_NOWHERE)?;
    compile_static(&source, &program)?;

    for (cpu, arguments) in [(vec![], vec![]), (SKYLAKE.to_vec(), vec!["retbleed=stuff"])] {
        let mut initramfs = Initramfs::new()?;
        initramfs.file("/livepatch.ko", 0o644, built.bundle.module.clone())?;
        initramfs.file_from("/usr/bin/read-to-nowhere", 0o755, &program)?;
        let spec = BootSpec {
            network: Network::None,
            cpu_properties: cpu.iter().map(ToString::to_string).collect(),
            kernel_args: arguments.iter().map(ToString::to_string).collect(),
            ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build())
        };
        let guest = Guest::boot(&spec)?;
        assert_eq!(marks_seen(&guest)?, [false; 3], "before");
        load(&guest)?;
        assert_eq!(marks_seen(&guest)?, [true; 3], "applied");
        // The jump label and the static call of the livepatch follow the kernel's own.
        const TRACING: &str = "/sys/kernel/tracing";
        guest.check(&Command::shell(format!("mount -t tracefs none {TRACING}")), SHORT)?;
        let event = format!("{TRACING}/events/signal/signal_generate/enable");
        guest.check(&Command::shell(format!("echo 1 > {event}")), SHORT)?;
        assert_eq!(marks_seen(&guest)?, [true; 3], "applied and traced");
        guest.check(&Command::shell(format!("grep -q 'signal_generate: sig=50 ' {TRACING}/trace")), SHORT)?;
        guest.check(&Command::shell(format!("echo 0 > {event}")), SHORT)?;
        unload(&guest)?;
        assert_eq!(marks_seen(&guest)?, [false; 3], "reverted");
        assert_eq!(guest.kernel_problems()?, []);
        guest.shutdown()?;
    }
    Ok(())
}

#[test]
fn addresses_of_sealed_functions_are_refused() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = newer_cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    // Nothing in the kernel takes the address of this function, so it overwrites the endbr64 there at boot.
    let seals = |line: &str, of: &str| {
        let added = format!("\n\tWRITE_ONCE(m->private, {of});");
        replace_line(bench.tree().path(), "kernel/time/namespace.c", line, &format!("{line}{added}"))
    };
    let show = "show_offset(m, CLOCK_BOOTTIME, &time_ns->offsets.boottime);";
    for (of, rules) in [("proc_timens_set_offset", vec!["sealed-address"]), ("seq_printf", vec![])] {
        let request = PatchRequest { patches: vec![seals(show, of)], arguments: Vec::new() };
        let report = bench.check(&request, &|_| ())?;
        let found: Vec<_> = report.findings.iter().map(|f| f.rule.as_str()).collect();
        assert_eq!(found, rules, "{of}: {:?}", report.findings);
    }
    Ok(())
}

/// A new function that only another unit of the livepatch takes the address of must keep its `endbr64`.
#[test]
fn objtool_sees_all_units_of_a_livepatch_at_once() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = newer_cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let put = |path, line: &str, added: &str| {
        replace_line(bench.tree().path(), path, line, &format!("{added}{line}"))
    };
    const NAMES: [&str; 2] = ["livepatch_handed_out", "livepatch_called"];
    let new = NAMES
        .map(|name| format!("noinline int {name}(int x)\n{{\n\treturn x + (int)jiffies;\n}}\n\n"))
        .concat();
    let declared = NAMES.map(|name| format!("extern int {name}(int x);\n")).concat();
    let used =
        format!("seq_printf(m, \"%d\", {}(1));\n\tWRITE_ONCE(m->private, {});\n\t", NAMES[1], NAMES[0]);
    let patches = vec![
        put("kernel/time/namespace.c", "static void show_offset(", &new),
        put("fs/proc/cmdline.c", "static int cmdline_proc_show(", &declared),
        put("fs/proc/cmdline.c", "seq_puts(m, saved_command_line);", &used),
    ];
    let request = PatchRequest { patches, arguments: Vec::new() };
    let built = bench.build(&request, &livepatch_request(), &SystemClock, &|_| ())?;
    let module = ShippedModule::parse("livepatch_1_1", &built.bundle.module)?;
    let sealed = module.sealed().ok_or("objtool made no table of sealed functions")?;
    let is_sealed = NAMES.map(|name| module.named(name).iter().any(|(place, _)| sealed.contains(place)));
    assert_eq!((is_sealed, NAMES.map(|name| module.named(name).len())), ([false, true], [1, 1]));
    Ok(())
}

/// A module's own static key is no variable that the kernel could lead a jump label of the livepatch to before the
/// module is there: the patched function reads it.
#[test]
fn static_keys_of_modules_are_read() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let branch = "if (static_branch_unlikely(&nft_counters_enabled))";
    let added = format!("if (!chain)\n\t\tpr_info(\"no chain\\n\");\n\t{branch}");
    let patch = replace_line(bench.tree().path(), "net/netfilter/nf_tables_core.c", branch, &added);
    let request = PatchRequest { patches: vec![patch], arguments: Vec::new() };
    let built = bench.build(&request, &livepatch_request(), &SystemClock, &|_| ())?;
    let unit = &built.report.units[0];
    assert_eq!(unit.changed_functions, ["nft_do_chain"]);
    assert!(unit.livepatch_symbols.iter().any(|s| s.starts_with(".klp.sym.nf_tables.nft_counters_enabled,")));

    let mut initramfs = Initramfs::new()?;
    initramfs.kernel_modules_unloaded(&kernel.tree, &["nf_tables"])?;
    initramfs.file("/livepatch.ko", 0o644, built.bundle.module)?;
    let spec = BootSpec { network: Network::None, ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build()) };
    let guest = Guest::boot(&spec)?;
    load(&guest)?;
    guest.check(&Command::new("modprobe").arg("nf_tables"), SHORT)?;
    let patched = "/sys/kernel/livepatch/livepatch_1_1/nf_tables/patched";
    guest.wait_for(&Command::new("cat").arg(patched), "1", SHORT)?;
    unload(&guest)?;
    load(&guest)?;
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}
