//! What authors of patches write beside the fix: callbacks, shadow variables, states, what is left out. The examples are
//! those of docs/patch-authors.md.

use std::error::Error;
use std::path::Path;

use livepatch_build::pipeline::{Built, LivepatchRequest, PatchRequest, Workbench};
use livepatch_build::report::Verdict;
use livepatch_tests::guest::{SHORT, load, load_module, remove_module, unload, unload_module};
use livepatch_tests::{cloud_kernel, kernel_request, livepatch_request, newer_cloud_kernel, replace_line};
use livepatch_types::{PatchVersion, SystemClock};
use livepatch_vm::testing::{FetchedKernel, workspace};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network};

/// Verdict, findings, redirected functions.
type Reported = (Verdict, Vec<String>, Vec<String>);
type TestResult = Result<(), Box<dyn Error>>;

const CALLBACKS: &str = include_str!("examples/callbacks.c");
const SHADOW: &str = include_str!("examples/shadow.c");
const STATE: &str = include_str!("examples/state.c");
const LEAVE_OUT: &str = include_str!("examples/leave_out.c");

const CMDLINE: &str = "fs/proc/cmdline.c";
/// Where code can be put in, and the lines of `/proc/cmdline` that a patch may change.
const SHOW: &str = "static int cmdline_proc_show(";
const LINE_END: &str = "seq_putc(m, '\\n');";

/// A patch that puts text before a line.
fn before(source: &Path, path: &str, line: &str, text: &str) -> String {
    replace_line(source, path, line, &format!("{text}{line}"))
}

fn build(bench: &Workbench, patches: Vec<String>, version: &str) -> Result<Built, Box<dyn Error>> {
    let request = PatchRequest { patches, arguments: Vec::new() };
    let livepatch = LivepatchRequest { version: PatchVersion::parse(version)?, ..livepatch_request() };
    Ok(bench.build(&request, &livepatch, &SystemClock, &|_| ())?)
}

fn boot(kernel: &FetchedKernel, initramfs: &Initramfs) -> Result<Guest, Box<dyn Error>> {
    let spec = BootSpec { network: Network::None, ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build()) };
    Ok(Guest::boot(&spec)?)
}

/// What callbacks have said while something was done.
fn said(guest: &Guest, action: impl FnOnce() -> TestResult) -> Result<Vec<String>, Box<dyn Error>> {
    let mark = guest.mark()?;
    action()?;
    let text = guest.console_since(mark)?;
    let words = text.lines().filter_map(|line| line.split_once("livepatch: "));
    // The kernel's own words begin otherwise.
    let ours = words.map(|(_, words)| words.trim().to_owned());
    Ok(ours
        .filter(|words| ["pre-", "post-"].iter().any(|hook| words.contains(&format!(": {hook}"))))
        .collect())
}

/// For the kernel and for a module that is there, comes later, or leaves.
fn callbacks_run(kernel: &FetchedKernel) -> TestResult {
    let bench = Workbench::open(&kernel_request(kernel), &|_| ())?;
    let source = bench.tree().path();
    let patches = vec![
        before(source, CMDLINE, SHOW, CALLBACKS),
        before(source, CMDLINE, LINE_END, "seq_puts(m, \" livepatched\");\n\t"),
        before(source, "net/sched/cls_u32.c", "static int u32_init(struct tcf_proto *tp)", CALLBACKS),
    ];
    let built = build(&bench, patches, "1.1")?;
    let hooks = |unit: &str| -> Vec<String> {
        let unit = built.report.units.iter().find(|u| u.unit == unit);
        unit.into_iter().flat_map(|u| &u.callbacks).map(|c| format!("{} {}", c.hook, c.function)).collect()
    };
    let expected = [
        "pre_patch before_patching",
        "post_patch after_patching",
        "pre_unpatch before_unpatching",
        "post_unpatch after_unpatching",
    ];
    assert_eq!(hooks("fs/proc/cmdline.o"), expected);
    assert_eq!(hooks("net/sched/cls_u32.o"), expected);

    let mut initramfs = Initramfs::new()?;
    initramfs.file("/livepatch.ko", 0o644, built.bundle.module)?;
    initramfs.kernel_modules_unloaded(&kernel.tree, &["cls_u32"])?;
    let guest = boot(kernel, &initramfs)?;
    let modprobe = |arguments: &[&str]| -> TestResult {
        guest.check(&Command::new("modprobe").args(arguments), SHORT)?;
        Ok(())
    };
    assert_eq!(said(&guest, || load(&guest))?, ["vmlinux: pre-patch", "vmlinux: post-patch"]);
    let cmdline = guest.check(&Command::new("cat").arg("/proc/cmdline"), SHORT)?;
    assert!(cmdline.ends_with(" livepatched"), "{cmdline}");
    let comes = said(&guest, || modprobe(&["cls_u32"]))?;
    assert_eq!(comes, ["cls_u32: pre-patch", "cls_u32: post-patch"], "a module that comes later");
    let all = |first, second| {
        [
            format!("vmlinux: {first}"),
            format!("cls_u32: {first}"),
            format!("vmlinux: {second}"),
            format!("cls_u32: {second}"),
        ]
    };
    assert_eq!(said(&guest, || unload(&guest))?, all("pre-unpatch", "post-unpatch"));
    assert_eq!(said(&guest, || load(&guest))?, all("pre-patch", "post-patch"));
    let goes = said(&guest, || modprobe(&["-r", "cls_u32"]))?;
    assert_eq!(goes, ["cls_u32: pre-unpatch", "cls_u32: post-unpatch"], "a module that goes");
    unload(&guest)?;
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}

#[test]
fn callbacks_run_in_order_for_the_kernel_and_for_modules() -> TestResult {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    callbacks_run(&kernel)
}

/// There nothing in the livepatch's own code takes a callback's address, and the kernel overwrites the `endbr64` of such
/// functions: that the callbacks run does not tell, because QEMU's TCG has no IBT, so the table is looked at.
#[test]
fn callbacks_run_where_functions_are_sealed() -> TestResult {
    use livepatch_klp::shipped::{Shipped as _, ShippedModule};
    let Some(kernel) = newer_cloud_kernel() else { return Ok(()) };
    callbacks_run(&kernel)?;
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let source = bench.tree().path();
    let patches = vec![
        before(
            source,
            CMDLINE,
            SHOW,
            &format!(
                "noinline int livepatch_called(int x)\n{{\n\treturn x + (int)jiffies;\n}}\n\n{CALLBACKS}"
            ),
        ),
        before(source, CMDLINE, LINE_END, "seq_put_decimal_ull(m, \" \", livepatch_called(1));\n\t"),
    ];
    let built = build(&bench, patches, "1.1")?;
    let module = ShippedModule::parse("livepatch_1_1", &built.bundle.module)?;
    let sealed = module.sealed().ok_or("objtool made no table of sealed functions")?;
    let is_sealed = |name: &str| module.named(name).iter().any(|(place, _)| sealed.contains(place));
    let functions =
        ["livepatch_called", "before_patching", "after_patching", "before_unpatching", "after_unpatching"];
    assert_eq!(functions.map(|name| module.named(name).len()), [1; 5]);
    assert_eq!(functions.map(is_sealed), [true, false, false, false, false]);
    Ok(())
}

#[test]
fn callbacks_of_several_units_are_all_or_nothing() -> TestResult {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let source = bench.tree().path();
    let version = |text| before(source, "fs/proc/version.c", "static int version_proc_show(", text);
    let first = || before(source, CMDLINE, SHOW, CALLBACKS);
    let both = build(&bench, vec![first(), version(CALLBACKS)], "1.1")?;
    let refusing = build(&bench, vec![first(), version(include_str!("refuses.c"))], "1.1")?;

    let mut initramfs = Initramfs::new()?;
    initramfs.file("/livepatch.ko", 0o644, both.bundle.module)?;
    initramfs.file("/refusing.ko", 0o644, refusing.bundle.module)?;
    let guest = boot(&kernel, &initramfs)?;
    let twice =
        |first: &str, second: &str| [first, first, second, second].map(|hook| format!("vmlinux: {hook}"));
    assert_eq!(said(&guest, || load(&guest))?, twice("pre-patch", "post-patch"));
    assert_eq!(said(&guest, || unload(&guest))?, twice("pre-unpatch", "post-unpatch"));
    let refused = said(&guest, || {
        let output = guest.run(&Command::new("insmod").arg("/refusing.ko"), SHORT)?;
        assert!(output.error_text().contains("busy"), "{}", output.error_text());
        Ok(())
    })?;
    let expected = ["vmlinux: pre-patch", "the second unit: pre-patch", "vmlinux: post-unpatch"];
    // busybox tries again with the older system call.
    assert!(!refused.is_empty() && refused.chunks(3).all(|once| once == expected), "{refused:?}");
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}

#[test]
fn shadow_variables_are_fields_that_a_structure_lacks() -> TestResult {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let source = bench.tree().path();
    let patches = vec![
        before(source, CMDLINE, SHOW, SHADOW),
        before(
            source,
            CMDLINE,
            LINE_END,
            "seq_printf(m, \" readers=%d\", count_reader(saved_command_line));\n\t",
        ),
    ];
    let mut initramfs = Initramfs::new()?;
    initramfs.file("/livepatch.ko", 0o644, build(&bench, patches, "1.1")?.bundle.module)?;
    let guest = boot(&kernel, &initramfs)?;
    let readers = || -> Result<Option<String>, Box<dyn Error>> {
        let text = guest.check(&Command::new("cat").arg("/proc/cmdline"), SHORT)?;
        Ok(text.split_once(" readers=").map(|(_, count)| count.trim().to_owned()))
    };
    for _ in 0..2 {
        assert_eq!(readers()?, None);
        load(&guest)?;
        for count in ["1", "2", "3"] {
            assert_eq!(readers()?.as_deref(), Some(count), "it begins anew each time");
        }
        unload(&guest)?;
    }
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}

#[test]
fn states_go_over_to_the_next_livepatch_and_never_back() -> TestResult {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let source = bench.tree().path();
    let next = STATE
        .replace("#define REBOOT_SECONDS 10\n", "#define REBOOT_SECONDS 20\n")
        .replace("LIVEPATCH_STATE(PANIC_TIMEOUT, 1);", "LIVEPATCH_STATE(PANIC_TIMEOUT, 2);");
    let version = |text: &str, version| build(&bench, vec![before(source, CMDLINE, SHOW, text)], version);
    let (first, second) = (version(STATE, "1.1")?, version(&next, "1.2")?);
    let states: Vec<_> = second.report.states.iter().map(|state| (state.id, state.version)).collect();
    assert_eq!(states, [(74108, 2)]);
    let without =
        build(&bench, vec![before(source, CMDLINE, LINE_END, "seq_puts(m, \" third\");\n\t")], "1.3")?;

    let mut initramfs = Initramfs::new()?;
    initramfs.file("/livepatch.ko", 0o644, first.bundle.module)?;
    initramfs.file("/second.ko", 0o644, second.bundle.module)?;
    initramfs.file("/third.ko", 0o644, without.bundle.module)?;
    let guest = boot(&kernel, &initramfs)?;
    let set = guest.check(&Command::shell("echo 33 > /proc/sys/kernel/panic"), SHORT);
    set?;
    let timeout = || guest.check(&Command::new("cat").arg("/proc/sys/kernel/panic"), SHORT);
    let refused = |file: &str| -> TestResult {
        let output = guest.run(&Command::new("insmod").arg(file), SHORT)?;
        assert!(output.error_text().contains("Invalid argument"), "{file}: {}", output.error_text());
        Ok(())
    };

    load(&guest)?;
    assert_eq!(timeout()?, "10");
    refused("/third.ko")?;
    load_module(&guest, "/second.ko", "livepatch_1_2")?;
    remove_module(&guest, "livepatch_1_1")?;
    assert_eq!(timeout()?, "20", "the second replaces the first");
    refused("/livepatch.ko")?;
    unload_module(&guest, "livepatch_1_2")?;
    assert_eq!(timeout()?, "33", "what the first found has gone over to the second");
    load(&guest)?;
    unload(&guest)?;
    assert_eq!(timeout()?, "33");
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}

#[test]
fn what_is_left_out_is_in_the_report_with_its_reason() -> TestResult {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ())?;
    let source = bench.tree().path();
    // Code of boot time, and a function that a livepatch could carry.
    let changes = |marks: &str| {
        vec![
            before(source, CMDLINE, SHOW, marks),
            before(source, CMDLINE, LINE_END, "seq_puts(m, \" livepatched\");\n\t"),
            replace_line(
                source,
                CMDLINE,
                "proc_create_single(\"cmdline\", 0,",
                "proc_create_single(\"cmdline\", 0444,",
            ),
            before(
                source,
                "fs/proc/version.c",
                "seq_printf(m, linux_proc_banner,",
                "seq_puts(m, \"livepatched \");\n\t",
            ),
        ]
    };
    let reported = |marks: &str| -> Result<Reported, Box<dyn Error>> {
        let request = PatchRequest { patches: changes(marks), arguments: Vec::new() };
        let report = bench.check(&request, &|_| ())?;
        let findings = report.findings.iter();
        let words =
            findings.map(|f| format!("{} {}: {}", f.rule, f.place, f.argument.as_deref().unwrap_or("-")));
        let changed = report.units.iter().flat_map(|u| u.changed_functions.clone()).collect();
        Ok((report.verdict, words.collect(), changed))
    };
    let both = ["cmdline_proc_show", "version_proc_show"].map(str::to_owned).to_vec();
    let init = |argument: &str| format!("init-changed proc_cmdline_init: {argument}");

    assert_eq!(reported("")?, (Verdict::NeedsPerson, vec![init("-")], both.clone()));
    let reason = "ran at boot; the file it made is as it should be";
    assert_eq!(reported(LEAVE_OUT)?, (Verdict::Ok, vec![init(reason)], both.clone()));
    let two = format!("{LEAVE_OUT}LIVEPATCH_LEAVE_OUT(cmdline_proc_show, \"only for show\");\n");
    let left_out = "left-out cmdline_proc_show: only for show".to_owned();
    let found = reported(&two)?;
    assert_eq!(found, (Verdict::Ok, vec![init(reason), left_out], both[1..].to_vec()));
    // A name that nothing has is a person's business, and so is a mark without a reason.
    let (verdict, findings, _) = reported(&LEAVE_OUT.replace("proc_cmdline_init", "proc_cmdlin_init"))?;
    assert_eq!(
        (verdict, findings),
        (Verdict::NeedsPerson, vec![init("-"), "author-mark proc_cmdlin_init: -".into()])
    );
    let (verdict, findings, changed) = reported(include_str!("kpatch.c"))?;
    let left_out = "left-out cmdline_proc_show: -".to_owned();
    assert_eq!(
        (verdict, findings, changed),
        (Verdict::NeedsPerson, vec![init("-"), left_out], both[1..].to_vec())
    );
    Ok(())
}

#[test]
fn the_guide_shows_the_examples_that_are_built_here() -> TestResult {
    let guide = std::fs::read_to_string(workspace().join("docs/patch-authors.md"))?;
    for (name, example) in
        [("callbacks.c", CALLBACKS), ("shadow.c", SHADOW), ("state.c", STATE), ("leave_out.c", LEAVE_OUT)]
    {
        assert!(guide.contains(example.trim_end()), "docs/patch-authors.md does not show {name} as it is");
    }
    Ok(())
}
