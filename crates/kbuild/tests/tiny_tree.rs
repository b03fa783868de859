//! Prepared trees of a kernel so small that making one takes a moment: what a hostile one may not do, what a build that
//! was killed leaves, and when a tree is made anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io::BufRead as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use livepatch_kbuild::{
    Environment, Isolation, KbuildError, Limits, PackagedPatches, PreparedTree, SourceOrigin, SourcePatch,
    TreeInputs,
};
use livepatch_types::KernelRelease;

/// A Makefile that behaves like a kernel's, as far as a prepared tree asks it to. Each step says that it began, and takes
/// a moment, so that it can be killed there.
const MAKEFILE: &str = r#"
ifdef M
%.o:
	@sleep 0.2
	@$(CC) -I$(CURDIR)/include -c -o $(M)/$@ $(M)/$(basename $@).c
	@echo 'savedcmd_$@ := $(CC) -c $@ ; ./tools/objtool/objtool --orc $@' > $(M)/.$@.cmd
else
olddefconfig:
	@touch began-olddefconfig; sleep 0.2
	@grep -q CONFIG_LIVEPATCH .config
modules_prepare:
	@touch began-modules_prepare; sleep 0.2
	@mkdir -p generated; for i in 1 2 3 4 5 6 7 8; do echo $$i >> generated/list; sleep 0.02; done
# A dry run runs none of its steps, but this.
ifneq ($(findstring n,$(firstword -$(MAKEFLAGS))),)
ignored := $(shell touch began-list; sleep 0.2)
endif
vmlinux modules:
	$(CC) -Wp,-MMD,a.d -D__KERNEL__ -Iinclude -c -o kernel/a.o kernel/a.c
endif
"#;

const MOST_LIMITS: Limits = Limits {
    time: Duration::from_secs(20),
    process_seconds: 5,
    process_bytes: 4 << 30,
    file_bytes: 4 << 20,
    memory_bytes: 512 << 20,
    processes: 100,
    disk_bytes: 64 << 20,
    disk_files: 10_000,
};

/// Source, configuration and cache of one tiny kernel.
struct Tiny {
    directory: PathBuf,
    _own: Option<tempfile::TempDir>,
}

impl Tiny {
    fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        let tiny = Self { directory: own.path().to_owned(), _own: Some(own) };
        for directory in ["source/include/linux", "source/include/asm", "source/kernel"] {
            fs::create_dir_all(tiny.at(directory)).unwrap();
        }
        let headers = [
            ("linux/types.h", ""),
            ("linux/module.h", ""),
            ("linux/bug.h", "struct bug_entry { char x[12]; };\n"),
            ("linux/jump_label.h", "struct jump_entry { char x[16]; };\n"),
            ("asm/processor.h", ""),
            ("asm/extable.h", "struct exception_table_entry { char x[12]; };\n"),
            ("asm/alternative.h", "struct alt_instr { char x[14]; };\n"),
            ("asm/paravirt_types.h", ""),
        ];
        for (name, text) in headers {
            tiny.write(&format!("source/include/{name}"), text);
        }
        tiny.write("source/Kbuild", "");
        tiny.write("source/kernel/a.c", "int a;\nint b;\nint c;\n");
        tiny.write("source/Makefile", MAKEFILE);
        let version = Command::new("gcc").arg("--version").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap().lines().next().unwrap().to_owned();
        tiny.write(
            "config",
            &format!(
                "CONFIG_LIVEPATCH=y\nCONFIG_MODULES=y\nCONFIG_KALLSYMS_ALL=y\nCONFIG_X86_64=y\nCONFIG_CC_VERSION_TEXT=\"{version}\"\n"
            ),
        );
        tiny.write("symvers", "");
        tiny
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    /// Adds a command to what `make modules_prepare` runs first.
    fn does(&self, command: &str) {
        let steps = format!("modules_prepare:\n\t-@{}\n", command.replace('\n', "; "));
        self.write("source/Makefile", &MAKEFILE.replace("modules_prepare:\n", &steps));
    }

    fn open(&self) -> Result<PreparedTree, KbuildError> {
        self.open_by(Isolation::Bubblewrap)
    }

    fn open_by(&self, isolation: Isolation) -> Result<PreparedTree, KbuildError> {
        self.open_with(isolation, None)
    }

    /// Packaging with these patches, in this order.
    fn packaging(&self, patches: &[(&str, &str)]) -> PackagedPatches {
        fs::create_dir_all(self.at("packaging/debian/patches-rt")).unwrap();
        let mut series = String::new();
        for (name, text) in patches {
            series.push_str(&format!("{name}\n"));
            self.write(&format!("packaging/debian/patches-rt/{name}"), text);
        }
        self.write("packaging/debian/patches-rt/series", &series);
        let archive = self.at("tiny.debian.tar.xz");
        let mut tar = Command::new("tar");
        tar.arg("-cJf").arg(&archive).arg("-C").arg(self.at("packaging")).arg("debian");
        assert!(tar.status().unwrap().success());
        PackagedPatches { archive, directory: "patches-rt".into() }
    }

    fn open_with(
        &self,
        isolation: Isolation,
        source_patches: Option<PackagedPatches>,
    ) -> Result<PreparedTree, KbuildError> {
        let inputs = TreeInputs {
            release: KernelRelease::parse("6.1.0-tiny").unwrap(),
            source: SourceOrigin::new(&self.at("source"))?,
            source_patches,
            config: self.at("config"),
            symvers: self.at("symvers"),
            package_id: None,
            compiler_comment: None,
        };
        let environment = Environment { isolation, ..Environment::new(&self.at("cache")) };
        PreparedTree::open_limited(&inputs, &self.at("cache"), &environment, MOST_LIMITS, &|_| ())
    }

    /// The one tree that is being made or was made.
    fn tree(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.at("cache/trees")).ok()?;
        entries.map(|entry| entry.unwrap().path()).find(|path| path.is_dir() && path.extension().is_none())
    }
}

/// Whether programs can be isolated here; a word about it if not.
fn works_here() -> bool {
    match Tiny::new().open() {
        Err(error @ KbuildError::Sandbox(_)) => {
            println!("SKIPPED: {error}");
            false
        }
        Err(error) => panic!("{error}"),
        Ok(_) => true,
    }
}

#[test]
fn a_hostile_makefile_changes_nothing_outside() {
    if !works_here() {
        return;
    }
    let tiny = Tiny::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let (out, cache, own) = (outside.path().display(), tiny.at("cache"), std::process::id());
    tiny.does(&format!(
        "echo x >{out}/written; rm -rf {out}/secret; cat {out}/secret /etc/shadow >stolen; \
         echo x >{cache}/written; echo x >$$PWD.ready; echo x >$(CURDIR).units; touch /usr/bin/x /etc/x; \
         perl -e 'use IO::Socket; IO::Socket::INET->new(\"127.0.0.1:{port}\")'; kill -9 {own}; true\n\
         ln -sf {out}/secret .config.old; ln -sfn {out} generated-link; true",
        cache = cache.display()
    ));
    // Before anything ran: what is written into the tree must not go through the source's links.
    symlink(outside.path().join("secret"), tiny.at("source/Module.symvers")).unwrap();
    symlink(outside.path().join("secret"), tiny.at("source/kernel/link.c")).unwrap();
    symlink(outside.path(), tiny.at("source/out")).unwrap();
    let tree = tiny.open().unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(
        !cache.join("written").exists() && !Path::new("/usr/bin/x").exists() && !Path::new("/etc/x").exists()
    );
    assert_eq!(fs::read(tree.path().join("stolen")).unwrap(), b"");
    assert!(listener.accept().is_err(), "somebody called");
    assert_eq!(tree.entry_sizes().alt_instr, 14, "what was written beside the tree was not believed");

    // Neither is a patch applied to what lies outside.
    for path in ["kernel/link.c", "out/secret", "generated-link/secret"] {
        let text = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-secret\n+known\n");
        let error = SourcePatch::parse(&text).unwrap().apply(tree.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no plain file of the source"), "{path}: {error}");
    }
    for path in ["../../etc/passwd", "/etc/passwd", "kernel/../../x.c"] {
        let text = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-secret\n+known\n");
        assert!(SourcePatch::parse(&text).is_err(), "{path}");
    }
}

#[test]
fn patches_of_the_packaging_are_part_of_the_source() {
    if !works_here() {
        return;
    }
    let change = |from: &str, to: &str| {
        format!(
            "--- a/kernel/a.c\n+++ b/kernel/a.c\n@@ -1,3 +1,3 @@\n int a;\n-int {from};\n+int {to};\n int c;\n"
        )
    };
    let tiny = Tiny::new();
    let plain = tiny.open().unwrap().path().to_owned();
    let patches = tiny.packaging(&[("1.patch", &change("b", "rt")), ("2.patch", &change("rt", "rt2"))]);
    let tree = tiny.open_with(Isolation::Bubblewrap, Some(patches)).unwrap();
    assert_eq!(fs::read_to_string(tree.path().join("kernel/a.c")).unwrap(), "int a;\nint rt2;\nint c;\n");
    assert_ne!(tree.path(), plain, "another source is another tree");

    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "int b;\n").unwrap();
    let escape = format!("--- a/../../x\n+++ b/{}/made\n@@ -0,0 +1 @@\n+x\n", outside.path().display());
    let link = "--- a/link/secret\n+++ b/link/secret\n@@ -1 +1 @@\n-int b;\n+int x;\n";
    let cases = [
        ("does not fit", change("other", "x")),
        ("leaves the tree", escape),
        ("goes through a link", link.to_owned()),
        ("is no patch", "nothing\n".to_owned()),
    ];
    for (what, patch) in cases {
        let tiny = Tiny::new();
        symlink(outside.path(), tiny.at("source/link")).unwrap();
        let patches = tiny.packaging(&[("1.patch", &patch)]);
        let error = tiny.open_with(Isolation::Bubblewrap, Some(patches)).unwrap_err();
        assert!(error.to_string().contains("applying 1.patch"), "{what}: {error}");
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "int b;\n", "{what}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{what}");
    }
}

#[test]
fn a_makefile_that_runs_wild_is_ended() {
    if !works_here() {
        return;
    }
    let cases = [
        ("sleep 600", "more than 20 seconds"),
        ("for i in $$(seq 100); do head -c 2M /dev/zero >big$$i; done; sleep 600", "wrote more than 64 MiB"),
        ("for i in $$(seq 300); do sleep 600 & done; wait", "more than 100 processes"),
        (
            "for i in 1 2 3 4 5 6; do perl -e '$$x = \"x\" x 1e8; sleep 600' & done; wait",
            "more than 512 MiB of memory",
        ),
    ];
    for (command, expected) in cases {
        let tiny = Tiny::new();
        tiny.does(command);
        let begin = Instant::now();
        let error = tiny.open().err().unwrap();
        // A user's forks fail by their own limit, and the shell says so.
        let said = error.to_string();
        let no_forks = expected.contains("processes") && said.contains("Cannot fork");
        assert!(
            no_forks || (matches!(error, KbuildError::Limit { .. }) && said.contains(expected)),
            "{said}"
        );
        assert!(begin.elapsed() < Duration::from_secs(60), "{command}");
        // It is not taken for a tree that is ready.
        assert!(!tiny.tree().unwrap().with_extension("ready").exists(), "{command}");
    }
}

/// Run by [`a_killed_build_leaves_nothing_that_is_trusted`] in a process of its own.
#[test]
#[ignore = "part of another test"]
fn build_until_killed() {
    let directory = PathBuf::from(std::env::var_os("TINY_TREE").unwrap());
    let tree = Tiny { directory, _own: None }.open_by(Isolation::Bubblewrap);
    println!("\nended: {:?}", tree.map(|_| ()));
}

/// What a build leaves that was killed at a point; none if it ended before.
fn killed_at(point: &str) -> Option<Tiny> {
    let tiny = Tiny::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "build_until_killed", "--ignored", "--nocapture"])
        .env("TINY_TREE", &tiny.directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let place = |tree: PathBuf| match point {
        ".units" => tree.with_extension("units"),
        inside => tree.join(inside),
    };
    while !tiny.tree().is_some_and(|tree| place(tree).exists()) && child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{point} was not reached");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (!said.any(|line| line.starts_with("ended:"))).then_some(tiny)
}

#[test]
fn a_killed_build_leaves_nothing_that_is_trusted() {
    if !works_here() {
        return;
    }
    let steps = ["Makefile", "began-olddefconfig", "began-modules_prepare", "generated/list", "began-list"];
    // The last one is when all units are listed, and the probe is being compiled.
    for point in steps.into_iter().chain([".units"]) {
        // On a machine that is busy a build may end before it is killed.
        let tiny =
            (0..10).find_map(|_| killed_at(point)).unwrap_or_else(|| panic!("{point}: it was too fast"));
        let ready = tiny.tree().unwrap().with_extension("ready");
        assert!(!ready.exists(), "{point}");

        let tree = tiny.open().unwrap();
        let list = fs::read_to_string(tree.path().join("generated/list")).unwrap();
        assert_eq!(list, "1\n2\n3\n4\n5\n6\n7\n8\n", "{point}");
        assert_eq!(tree.units().names().collect::<Vec<_>>(), ["kernel/a.o"], "{point}");
        assert!(ready.exists());
    }
}

#[test]
fn a_tree_is_made_anew_when_it_must_be() {
    if !works_here() {
        return;
    }
    let tiny = Tiny::new();
    let path = tiny.open().unwrap().path().to_owned();
    let made = |path: &Path| fs::metadata(path.join("generated/list")).unwrap().modified().unwrap();
    let first = made(&path);
    assert_eq!(tiny.open().unwrap().path(), path);
    assert_eq!(made(&path), first, "it was made again for nothing");

    // A make that changed the tree did not end.
    fs::write(path.with_extension("changing"), "").unwrap();
    tiny.open().unwrap();
    assert_ne!(made(&path), first, "half a change was trusted");

    // Content decides, not path, size or time.
    let source = tiny.at("source/kernel/a.c");
    let time = fs::metadata(&source).unwrap().modified().unwrap();
    fs::write(&source, "int a;\nint b;\nint d;\n").unwrap();
    fs::File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
    let changed = tiny.open().unwrap();
    assert_ne!(changed.path(), path);
    assert_eq!(fs::read_to_string(changed.path().join("kernel/a.c")).unwrap(), "int a;\nint b;\nint d;\n");
    drop(changed);
    fs::write(&source, "int a;\nint b;\nint c;\n").unwrap();
    assert_eq!(tiny.open().unwrap().path(), path, "the same content is the same tree");
}

#[test]
fn a_wrong_compiler_is_refused_before_anything_runs() {
    let tiny = Tiny::new();
    let config = fs::read_to_string(tiny.at("config")).unwrap();
    let (before, _) = config.split_once("CONFIG_CC_VERSION_TEXT").unwrap();
    tiny.write("config", &format!("{before}CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian 12.1.0-8) 12.1.0\"\n"));
    let error = tiny.open_by(Isolation::None).err().unwrap();
    assert!(error.to_string().contains("no toolchain root has it"), "{error}");
    let toolchains = tiny.at("cache/toolchains");
    let expected = format!(
        "livepatch-build toolchain make --toolchains {} --suite bookworm --compiler gcc-12=12.1.0-8",
        toolchains.display()
    );
    assert_eq!(error.hint(), expected);
    assert_eq!(tiny.tree(), None);
}
