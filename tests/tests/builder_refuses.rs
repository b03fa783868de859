//! What `livepatch-build build` says to bad input: what and why in one line, a hint, an exit code by kind, and no file.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use livepatch_build::error::BuildError;
use livepatch_build::pipeline::{LivepatchRequest, Omissions, PatchRequest, Workbench};
use livepatch_build::report::{Touch, Verdict};
use livepatch_tests::{
    cache, carved_patch, cloud_kernel, kernel_request, livepatch_request, newer_source_package, replace_line,
    source_package,
};
use livepatch_types::{CveCoverage, SystemClock};
use livepatch_vm::testing::FetchedKernel;

/// One bad input, and what must be said to it.
struct Case<'c> {
    name: &'c str,
    patch: String,
    exit: i32,
    says: &'c [&'c str],
}

/// Options of the program, and their values.
type Options = Vec<(String, String)>;

/// The program as cargo built it for this test run.
fn builder() -> Command {
    Command::new(env!("CARGO_BIN_EXE_livepatch-build-for-tests"))
}

struct Bench {
    kernel: FetchedKernel,
    directory: tempfile::TempDir,
    /// The unpacked source of the kernel: any prepared tree.
    source: PathBuf,
}

impl Bench {
    fn new() -> Option<Self> {
        let kernel = cloud_kernel()?;
        // A build that works prepares the tree, and shows that the refusals below are not for another reason.
        let fix = carved_patch(&kernel, "CVE-2026-93146");
        livepatch_tests::build_patches(&kernel, &[fix]).unwrap();
        let trees = std::fs::read_dir(cache().join("trees")).unwrap().map(|entry| entry.unwrap().path());
        let source = trees.filter(|path| path.join("kernel/time/namespace.c").is_file()).find(|path| {
            // Of several kernels' trees the one of this kernel.
            let config = std::fs::read_to_string(path.join(".config")).unwrap_or_default();
            config.contains("Linux/x86 6.1.")
        });
        Some(Self { kernel, directory: tempfile::tempdir().unwrap(), source: source.unwrap() })
    }

    /// Headers of the kernel with a line of the configuration changed.
    fn headers_with(&self, old: &str, new: &str) -> PathBuf {
        let from = self.kernel.directory.join("headers/usr/src");
        let root = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
            let to = root.join("usr/src").join(entry.file_name());
            std::fs::create_dir_all(&to).unwrap();
            for name in [".config", "Module.symvers"] {
                if let Ok(text) = std::fs::read_to_string(entry.path().join(name)) {
                    let text = if name == ".config" { text.replace(old, new) } else { text };
                    std::fs::write(to.join(name), text).unwrap();
                }
            }
        }
        root
    }

    fn run(&self, change: &dyn Fn(&mut Options), patch: &str) -> (i32, String, bool) {
        let patch_file = self.directory.path().join("fix.patch");
        std::fs::write(&patch_file, patch).unwrap();
        let out = self.directory.path().join("out.lpb");
        let path = |p: PathBuf| p.display().to_string();
        let mut options = vec![
            ("--kernel".to_owned(), path(self.kernel.directory.join("image"))),
            ("--headers".to_owned(), path(self.kernel.directory.join("headers"))),
            ("--source".to_owned(), path(source_package(&self.kernel))),
            ("--patch".to_owned(), path(patch_file)),
            ("--cve".to_owned(), "CVE-2026-93146".to_owned()),
            ("--out".to_owned(), path(out.clone())),
            ("--cache".to_owned(), path(cache())),
        ];
        change(&mut options);
        let output =
            builder().arg("build").args(options.into_iter().flat_map(|(name, value)| [name, value])).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), text, out.exists())
    }
}

#[test]
fn bad_patches_are_refused_by_name() {
    let Some(bench) = Bench::new() else { return };
    let replace = |path: &str, old: &str, new: &str| replace_line(&bench.source, path, old, new);
    let cases = [
        Case { name: "not a patch", patch: "hello\n".into(), exit: 3, says: &["the patch holds no changes"] },
        Case {
            name: "does not apply",
            patch: carved_patch(&bench.kernel, "CVE-2026-93146").replace("KTIME_SEC_MAX", "ANOTHER_NAME"),
            exit: 3,
            says: &["does not apply to kernel/time/namespace.c", "hint: make the patch against exactly"],
        },
        Case {
            name: "leaves the tree",
            patch: "--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1 @@\n-x\n+y\n".into(),
            exit: 3,
            says: &["which is not inside the source tree"],
        },
        Case {
            name: "nothing compiled",
            patch: replace("Documentation/process/howto.rst", "HOWTO", "Howto"),
            exit: 3,
            says: &["changes nothing that is compiled into the kernel"],
        },
        Case {
            name: "does not compile",
            patch: replace(
                "kernel/time/namespace.c",
                "struct time_namespace *ns;",
                "struct no_such_type ns;",
            ),
            exit: 1,
            says: &["compiling kernel/time/namespace.c with the patch failed", "no_such_type"],
        },
        Case {
            name: "comment only",
            patch: replace("kernel/time/namespace.c", "Author: Andrei Vagin", "Author: Andrei  Vagin"),
            exit: 6,
            says: &["every unit compiles to the same code", "not affecting this kernel"],
        },
        Case {
            name: "init code",
            patch: replace("net/sched/cls_u32.c", "Performance counters on", "Performance counters are on"),
            exit: 5,
            says: &["nothing of the patch can be", "init_module in net/sched/cls_u32.o (rule init-changed)"],
        },
        Case {
            name: "init code and more",
            patch: replace("net/sched/cls_u32.c", "Performance counters on", "Performance counters are on")
                + &carved_patch(&bench.kernel, "CVE-2026-93146"),
            exit: 8,
            says: &["init_module in net/sched/cls_u32.o (rule init-changed)", "hint: say for each place"],
        },
        Case {
            name: "layout of objects that exist",
            patch: replace("fs/eventfd.c", "__u64 count;", "__u64 count;\n\tunsigned long seen;"),
            exit: 8,
            says: &[
                "struct eventfd_ctx.seen in fs/eventfd.o (rule layout-changed)",
                "hint: say for each place",
            ],
        },
        Case {
            name: "data",
            patch: replace("kernel/time/namespace.c", ".name\t\t= \"time\"", ".name\t\t= \"tyme\""),
            exit: 5,
            says: &["timens_operations", "rule data-changed"],
        },
        Case {
            name: "not configured",
            patch: replace("sound/core/control.c", "return -ENOMEM;", "return -EINVAL;"),
            exit: 6,
            says: &["it does not compile any of these files"],
        },
    ];
    let mut wrong = Vec::new();
    for case in &cases {
        let (exit, text, written) = bench.run(&|_| (), &case.patch);
        let says = case.says.iter().all(|words| text.contains(words)) && text.contains("\nhint: ");
        if exit != case.exit || !says || written || text.contains("panicked") {
            wrong.push(format!(
                "{}: exit {exit}, expected {} and {:?}, but it said:\n{text}",
                case.name, case.exit, case.says
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_changed_layout_is_for_a_person() {
    let Some(bench) = Bench::new() else { return };
    let workbench = Workbench::open(&kernel_request(&bench.kernel), &|_| ()).unwrap();
    let patch =
        replace_line(&bench.source, "fs/eventfd.c", "__u64 count;", "__u64 count;\n\tunsigned long seen;");
    let place = "struct eventfd_ctx.seen";
    let request = |arguments: &[(&str, &str)]| PatchRequest {
        patches: vec![patch.clone()],
        arguments: arguments.iter().map(|(place, why)| (place.to_string(), why.to_string())).collect(),
    };
    let report = workbench.check(&request(&[]), &|_| ()).unwrap();
    assert_eq!(report.verdict, Verdict::NeedsPerson);
    let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((finding.rule.as_str(), finding.place.as_str()), ("layout-changed", place));
    assert!(
        finding.why.starts_with("the patch adds it: long unsigned int (8 bytes) at byte "),
        "{}",
        finding.why
    );
    assert!(finding.why.contains("2 other members move; the size goes from "), "{}", finding.why);
    let [change] = report.layout_changes.as_slice() else { panic!("{:?}", report.layout_changes) };
    assert_eq!((change.name.as_str(), change.new_size - change.old_size), ("struct eventfd_ctx", 8));
    assert_eq!(change.units, ["fs/eventfd.o"]);
    let functions = &report.units[0].functions;
    assert!(functions.iter().any(|f| f.name == "do_eventfd" && f.fentry == Some(true)), "{functions:?}");

    // Nothing is left out that could make it partial: it is built when somebody says why it is right.
    let build = |request: &PatchRequest, omissions| {
        let livepatch = LivepatchRequest { omissions, ..livepatch_request() };
        workbench.build(request, &livepatch, &SystemClock, &|_| ())
    };
    let partial = build(&request(&[]), Omissions::MakePartial);
    assert!(matches!(partial, Err(BuildError::NeedsPerson { .. })), "{partial:?}");
    let built = build(&request(&[(place, "no eventfd is open")]), Omissions::MustBeArgued).unwrap();
    assert_eq!(built.report.findings[0].argument.as_deref(), Some("no eventfd is open"));
    assert!(built.bundle.manifest.cves.iter().all(|cve| cve.coverage == CveCoverage::Whole));

    // A function that is there only as copies is named with those that hold it; no layout changes by that.
    let patch = replace_line(&bench.source, "kernel/time/namespace.c", "= \"boottime\";", "= \"boot\";");
    let report =
        workbench.check(&PatchRequest { patches: vec![patch], ..Default::default() }, &|_| ()).unwrap();
    assert_eq!(report.verdict, Verdict::Ok);
    assert!(report.layout_changes.is_empty() && report.constant_changes.is_empty(), "{report:?}");
    let functions = &report.units[0].functions;
    let found = |name: &str| functions.iter().find(|f| f.name == name).unwrap();
    assert_eq!(found("proc_timens_show_offsets").touch, Touch::Changed);
    assert_eq!(found("show_offset").touch, Touch::InlinedOnly);
    assert_eq!(found("show_offset").inlined_into, ["proc_timens_show_offsets"]);
}

#[test]
fn wrong_kernels_and_sources_are_refused_by_name() {
    let Some(bench) = Bench::new() else { return };
    let fix = carved_patch(&bench.kernel, "CVE-2026-93146");
    let set = |options: &mut Options, name: &str, value: &Path| {
        for option in options.iter_mut().filter(|option| option.0 == name) {
            option.1 = value.display().to_string();
        }
    };
    let headers_with = |old: &str, new: &str| bench.headers_with(old, new);
    let without_livepatch = headers_with("CONFIG_LIVEPATCH=y", "# CONFIG_LIVEPATCH is not set");
    let other_compiler = headers_with("(Debian 12.2.0-14+deb12u1) 12.2.0", "(Debian 12.2.0-13) 12.2.0");
    let empty = bench.directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let garbage = bench.directory.path().join("garbage.deb");
    std::fs::write(&garbage, b"not a package").unwrap();
    let missing = bench.directory.path().join("no-such-file.deb");

    type Table<'t> = [(&'t str, &'t str, &'t Path, i32, &'t str); 7];
    let table: Table<'_> = [
        (
            "no CONFIG_LIVEPATCH",
            "--headers",
            &without_livepatch,
            4,
            "this kernel is built without CONFIG_LIVEPATCH",
        ),
        ("another compiler", "--headers", &other_compiler, 4, "but its modules say"),
        ("no kernel inside", "--kernel", &empty, 1, "does not hold boot/vmlinuz-*"),
        ("garbage for a package", "--kernel", &garbage, 1, "unpacking"),
        ("no such package", "--kernel", &missing, 1, "cannot read"),
        ("no source inside", "--source", &empty, 1, "does not hold a linux source tree"),
        ("no patch file", "--patch", &missing, 1, "cannot read"),
    ];
    let mut wrong = Vec::new();
    for (name, option, value, exit, says) in table {
        let (actual, text, written) = bench.run(&|options| set(options, option, value), &fix);
        if actual != exit || !text.contains(says) || !text.contains("\nhint: ") || written {
            wrong.push(format!("{name}: exit {actual}, expected {exit} and {says:?}, but it said:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The compiler is right, and the code that it makes is not that of the kernel: nothing may be built on it.
#[test]
fn what_does_not_reproduce_the_kernel_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let option = "CONFIG_STACKPROTECTOR_STRONG";
    let flipped = bench.headers_with(&format!("{option}=y"), &format!("# {option} is not set"));
    let newer = newer_source_package(&bench.kernel);
    // In the newer source the fix of this file is there, so that one function of it is another.
    let line = "struct ucounts *ucounts;";
    let patch =
        replace_line(&bench.source, "kernel/time/namespace.c", line, &format!("{line}\n\tpr_debug(\"\");"));
    for (name, option, value) in
        [("flipped option", "--headers", &flipped), ("another source version", "--source", &newer)]
    {
        // A cache of its own, because each makes a tree that nothing else needs.
        let cache = tempfile::tempdir_in(bench.directory.path()).unwrap();
        let (exit, text, written) = bench.run(
            &|options| {
                for given in options.iter_mut() {
                    match given.0.as_str() {
                        "--cache" => given.1 = cache.path().display().to_string(),
                        other if other == option => given.1 = value.display().to_string(),
                        _ => {}
                    }
                }
            },
            &patch,
        );
        assert_eq!(exit, 5, "{name}: {text}");
        assert!(text.contains("(rule fidelity)") && text.contains("differs from vmlinux"), "{name}: {text}");
        assert!(
            text.contains("hint: check that source version, configuration and compiler"),
            "{name}: {text}"
        );
        assert!(!written, "{name}");
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let fix = carved_patch(&bench.kernel, "CVE-2026-93146");
    let small = bench.directory.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("SKIPPED: a full disk needs a tmpfs, and only root may mount one");
        return;
    }
    let small_cache = small.join("cache");
    let (exit, text, written) = bench.run(
        &|options| {
            for option in options.iter_mut().filter(|option| option.0 == "--cache") {
                option.1 = small_cache.display().to_string();
            }
        },
        &fix,
    );
    let unmounted = Command::new("umount").arg(&small).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("No space left on device") && text.contains("hint: free some space"), "{text}");
    assert!(!written);
}
