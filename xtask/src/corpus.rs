//! `cargo xtask corpus`: judges the real changes between two versions of a kernel's source.

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_vm::testing;

use crate::config::{Demo, Kernel, Package, Word};
use crate::error::{Error, Exit};
use crate::fetch::{self, make_directory, remove_directory};
use crate::process::{command, extract, output, tool};
use crate::progress::Step;
use crate::{setup, test};

/// Judges the changes from the source of a kernel in demo.toml to a later version of the same source.
pub(crate) fn corpus(
    from: &str,
    to: Word,
    limit: Option<usize>,
    only: &[String],
    kpatch: Option<&Path>,
) -> Result<(), Error> {
    setup::setup()?;
    let workspace = testing::workspace();
    let mut demo = Demo::read(&workspace.join("demo.toml"))?;
    demo.kernel.retain(|kernel| kernel.source.old.as_str() == from);
    let Some(kernel) = demo.kernel.first() else {
        return Err(Error::Config(format!("it has no kernel whose source.old is {from}; add one")));
    };
    let kernels = testing::kernels_directory();
    fetch::fetch(&demo, &kernels)?;
    let newer = unpack(kernel, to, &kernels, &workspace.join("target/corpus"))?;

    let step = Step::begin("built the judge");
    let mut build = test::cargo(workspace);
    build.args(["build", "--package", "livepatch-tests", "--bin", "livepatch-corpus", "--target-dir"]);
    tool(build.arg(workspace.join("target")), "cargo build", Exit::Failure, |line| step.note(line))?;
    step.done();
    let fetched = kernels.join(kernel.name.as_str());
    let source = &kernel.source;
    let mut judge = command(&workspace.join("target/debug/livepatch-corpus").display().to_string());
    judge.arg("--kernel").arg(fetched.join("image")).arg("--headers").arg(fetched.join("headers"));
    judge.arg("--source").arg(fetched.join(format!("packages/{}_{from}_all.deb", source.package)));
    judge.arg("--newer").arg(newer.join("source")).arg("--changelog").arg(newer.join("changelog"));
    judge.args(["--from", from]).arg("--cache").arg(workspace.join("target/cache"));
    judge.arg("--out").arg(workspace.join("target/corpus"));
    if let Some(limit) = limit {
        judge.args(["--limit", &limit.to_string()]);
    }
    judge.args(only.iter().flat_map(|text| ["--only", text]));
    if let Some(kpatch) = kpatch {
        judge.arg("--kpatch").arg(kpatch);
    }
    let status = judge.status().map_err(|e| Error::io("run the judge", e))?;
    if status.success() { Ok(()) } else { Err(Error::TestsFailed { what: "the corpus".into() }) }
}

/// The newer source and its changelog, unpacked once.
pub(crate) fn unpack(kernel: &Kernel, to: Word, kernels: &Path, into: &Path) -> Result<PathBuf, Error> {
    let directory = into.join(format!("{}_{to}", kernel.source.package));
    if directory.is_dir() {
        return Ok(directory);
    }
    let name = kernel.source.package.clone();
    let package =
        fetch::download(&Package { package: name.clone(), version: to }, &kernels.join("packages"))?;
    let part = into.join("part");
    remove_directory(&part)?;
    make_directory(&part.join("source"))?;
    let step = Step::begin(format!("unpacked {}", package.display()));
    let archive = format!("./usr/src/{name}.tar.xz");
    let changelog = format!("./usr/share/doc/{name}/changelog.Debian.gz");
    extract(&package, &part, &[&archive, &changelog])?;
    let tar = ["--extract", "--xz", "--no-same-owner", "--strip-components=1", "--file"];
    output(command("tar").args(tar).arg(part.join(&archive)).arg("--directory").arg(part.join("source")))?;
    let text = output(command("gzip").args(["-dc", "--"]).arg(part.join(&changelog)))?;
    fs::write(part.join("changelog"), text).map_err(|e| Error::io("write the changelog", e))?;
    remove_directory(&part.join("usr"))?;
    fs::rename(&part, &directory).map_err(|e| Error::io(format!("make {}", directory.display()), e))?;
    step.done();
    Ok(directory)
}
