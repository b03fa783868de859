//! `cargo xtask bench`: figures of the builder, from a real kernel, of signed metadata, from a real server, and of the
//! client, from a machine that it is installed in.

use std::path::Path;

use livepatch_vm::testing;

use crate::config::{Demo, Kernel};
use crate::dist::{self, Profile, Recipe};
use crate::error::{Error, Exit};
use crate::fetch::{self, make_directory};
use crate::process::{command, tool};
use crate::progress::Step;
use crate::{corpus, setup, test};

/// Included by about a hundred units of Debian's cloud kernel.
const HEADER: &str = "include/linux/iversion.h";
/// The programs, and the package that has them.
const PACKAGE: &str = "livepatch-tests";
const PROGRAMS: [&str; 2] = ["livepatch-bench", "livepatch-differ"];
const TRUST_PROGRAMS: [&str; 2] = ["livepatch-bench-trust", "livepatch-server-for-tests"];

/// Measures the builder on the first kernel of demo.toml; writes target/bench/builder.json.
pub(crate) fn builder(kpatch: Option<&Path>) -> Result<(), Error> {
    setup::setup()?;
    let workspace = testing::workspace();
    let demo = Demo::read(&workspace.join("demo.toml"))?;
    let Some(kernel) = demo.kernel.first() else {
        return Err(Error::Config("it has no kernel".into()));
    };
    let kernels = testing::kernels_directory();
    fetch::fetch(&demo, &kernels)?;
    let newer =
        corpus::unpack(kernel, kernel.source.new.clone(), &kernels, &workspace.join("target/corpus"))?;

    let step = Step::begin("built the bench, optimised");
    let mut build = test::cargo(workspace);
    build
        .args(["build", "--release", "--no-default-features", "--package", PACKAGE])
        .args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    build.arg("--target-dir").arg(workspace.join("target"));
    tool(&mut build, "cargo build", Exit::Failure, |line| step.note(line))?;
    step.done();

    let programs = workspace.join("target/release");
    let out = workspace.join("target/bench");
    make_directory(&out)?;
    let cache = workspace.join("target/cache");
    make_directory(&cache)?;
    let mut bench = command(&programs.join("livepatch-bench").display().to_string());
    kernel_arguments(&mut bench, kernel, &kernels)?;
    bench.arg("--newer").arg(newer.join("source")).arg("--cache").arg(cache);
    bench.args(["--header", HEADER]).arg("--differ").arg(programs.join("livepatch-differ"));
    bench.arg("--out").arg(out.join("builder.json"));
    if let Some(kpatch) = kpatch {
        bench.arg("--kpatch").arg(kpatch);
    }
    run(&mut bench)
}

/// Measures signed metadata with a server on this machine; writes target/bench/trust.json.
pub(crate) fn trust() -> Result<(), Error> {
    let workspace = testing::workspace();
    let step = Step::begin("built the bench and the server, optimised");
    let mut build = test::cargo(workspace);
    build.args(["build", "--release", "--package", PACKAGE]);
    build.args(TRUST_PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    build.arg("--target-dir").arg(workspace.join("target"));
    tool(&mut build, "cargo build", Exit::Failure, |line| step.note(line))?;
    step.done();

    let programs = workspace.join("target/release");
    let out = workspace.join("target/bench");
    make_directory(&out)?;
    let mut bench = command(&programs.join(TRUST_PROGRAMS[0]).display().to_string());
    bench.arg("--server").arg(programs.join(TRUST_PROGRAMS[1])).arg("--out").arg(out.join("trust.json"));
    run(&mut bench)?;

    // The loader, which adds to the same file.
    let mut bench = test::cargo(workspace);
    bench.args(["bench", "--package", "livepatch-loader", "--bench", "peak_memory"]);
    run(bench.env("LIVEPATCH_BENCH_OUT", out.join("trust.json")))
}

/// Measures the installed client in a virtual machine; writes target/bench/client.json.
pub(crate) fn client() -> Result<(), Error> {
    setup::setup()?;
    let workspace = testing::workspace();
    fetch::fetch(&Demo::read(&workspace.join("demo.toml"))?, &testing::kernels_directory())?;
    let packages = workspace.join("target/dist/bench");
    dist::dist(&Recipe::for_tests(Profile::Release), &packages)?;
    let Some(disk) = test::system_disk(workspace, test::Length::Budget)? else {
        return Err(Error::Config("only root can make the disk of the machine that is measured".into()));
    };
    let out = workspace.join("target/bench");
    make_directory(&out)?;
    // What is measured is in the packages; what measures need not be optimised.
    let mut bench = test::cargo(workspace);
    bench.args(["test", "--package", PACKAGE, "--bench", "client"]);
    bench.env(testing::REQUIRE_VM, "1").env(test::PACKAGES, packages).env(test::SYSTEM_DISK, disk);
    bench.env("LIVEPATCH_BENCH_OUT", out.join("client.json"));
    run(&mut bench)
}

fn run(bench: &mut std::process::Command) -> Result<(), Error> {
    let status = bench.status().map_err(|e| Error::io("run the bench", e))?;
    if status.success() { Ok(()) } else { Err(Error::TestsFailed { what: "the bench".into() }) }
}

/// Where the kernel, its packages and its carved fixes are.
fn kernel_arguments(bench: &mut std::process::Command, kernel: &Kernel, kernels: &Path) -> Result<(), Error> {
    let fetched = kernels.join(kernel.name.as_str());
    let package = |name: &str, version: &str, architecture: &str| {
        fetched.join(format!("packages/{name}_{version}_{architecture}.deb"))
    };
    let image = package(kernel.image.package.as_str(), kernel.image.version.as_str(), "amd64");
    // The one of the flavour, not that of all flavours, has the configuration.
    let flavour = kernel.headers.iter().find(|headers| !headers.package.as_str().ends_with("-common"));
    let Some(headers) = flavour else {
        return Err(Error::Config(format!("{} has no headers of its flavour", kernel.name)));
    };
    let headers = package(headers.package.as_str(), headers.version.as_str(), "amd64");
    let source = package(kernel.source.package.as_str(), kernel.source.old.as_str(), "all");
    bench.arg("--kernel").arg(fetched.join("image")).arg("--headers").arg(fetched.join("headers"));
    bench.arg("--image-package").arg(image).arg("--headers-package").arg(headers);
    bench.arg("--source").arg(source);
    for fix in &kernel.fix {
        bench.arg("--patch").arg(fetched.join(format!("carve/{}.patch", fix.cve)));
    }
    Ok(())
}
