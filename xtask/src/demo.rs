//! `cargo xtask demo`: the whole path, from a source patch to a fixed running kernel, with nothing faked.

mod host;
mod machine;
mod report;
mod session;
mod svg;

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use livepatch_vm::{KernelTree, testing};

use self::host::{Built, Host};
use self::machine::{Content, Machine};
use self::report::{FixReport, Report, Seconds, Verdict, rounded, write_whole};
use self::session::Session;
use crate::config::{Demo, Kernel};
use crate::error::{Error, Exit};
use crate::process::tool;
use crate::{fetch, setup, test};

/// Programs of the host that the demo runs.
const HOST_CRATES: [&str; 2] = ["livepatch-build", "livepatch-server"];

/// Runs the demo; `record` gets its session as a picture.
pub(crate) fn demo(record: Option<&Path>) -> Result<(), Error> {
    let (started, workspace) = (Instant::now(), testing::workspace());
    let demo = Demo::read(&workspace.join("demo.toml"))?;
    let kernel = demo.kernel.first().ok_or_else(|| Error::Config("it names no kernel".into()))?;
    let directory = workspace.join("target/demo");
    let lock =
        File::create(workspace.join("target/demo.lock")).map_err(|e| Error::io("make a lock file", e))?;
    lock.lock().map_err(|e| Error::io("wait for another demo", e))?;
    fetch::remove_directory(&directory)?;
    fetch::make_directory(&directory)?;

    let mut session = Session::begin();
    session.shown("install what is needed", setup::setup)?;
    let what = format!("fetch {}: image, headers and source {}", kernel.image.package, kernel.source.old);
    let kernels = testing::kernels_directory();
    let ((), fetched) = session.shown(&what, || fetch::fetch(&demo, &kernels))?;
    let (programs, _) = session.step("build our programs", |step| {
        let mut build = test::cargo(workspace);
        build.args(["build", "--target-dir"]).arg(workspace.join("target"));
        build.args(HOST_CRATES.iter().flat_map(|name| ["--package", name]));
        tool(&mut build, "cargo build", Exit::Failure, |line| step.note(line))?;
        let guest = test::guest_programs(workspace, |line| step.note(line))?;
        Ok((guest, test::checks(workspace)?))
    })?;

    let host = Host {
        programs: workspace.join("target/debug"),
        cache: test::cache(workspace),
        fetched: kernels.join(kernel.name.as_str()),
        directory: &directory,
    };
    let mut seconds = Seconds { fetch: rounded(fetched), ..Seconds::default() };
    let tree = KernelTree::open(&host.fetched.join("image"))?;
    let what = format!("build one livepatch for {} with {} fixes", tree.release(), kernel.fix.len());
    let (built, _) = session.step(&what, |step| host.build(kernel, |line| step.note(line)))?;
    describe(&built, kernel, &host.fetched.join("carve"), &mut session)?;
    let (proof, proving) = session
        .step("prove it in a VM: load, revert, load under load, load before the module", |step| {
            host.prove(kernel, &programs.1, |line| step.note(line))
        })?;
    let last = proof.steps.last().map_or("", |done| done.what.as_str());
    session.say(&format!("{} steps, the last: {last}", proof.steps.len()));
    let (signed, signing) = session.step("make a key for this demo and sign the module", |_| host.sign())?;
    let ((token, server), publishing) =
        session.step("publish to a server on loopback (TLS, SQLite) and start it", |_| {
            let token = host.publish()?;
            Ok((token, host.serve()?))
        })?;

    let what = format!("boot {} in QEMU as Debian ships it, with livepatchd", tree.release());
    let content =
        Content { programs: &programs.0, checks: &programs.1, files: &host.guest_files(&server, &token)? };
    let (machine, booting) =
        session.step(&what, |_| Machine::boot(&tree, &kernel.fix, &content, &directory.join("guest.log")))?;
    let story = story(&machine, &mut session).inspect_err(|_| machine.keep_log());
    let (verdicts, applying) = story?;
    machine.shutdown()?;
    drop(server);

    seconds.prepare = rounded(built.seconds.identify + built.seconds.prepare);
    (seconds.compile, seconds.diff) = (built.seconds.compile, built.seconds.diff);
    seconds.prove = rounded(proving);
    (seconds.link, seconds.sign) = (built.seconds.link, rounded(signing));
    (seconds.publish, seconds.boot, seconds.apply) =
        (rounded(publishing), rounded(booting), rounded(applying));
    seconds.total = rounded(started.elapsed().as_secs_f64());
    session.say(&format!("\nthe demo took {:.0} s; the report is target/demo/report.json", seconds.total));

    let [before, applied, reverted, reapplied] = verdicts;
    let fixes: Vec<FixReport> = kernel
        .fix
        .iter()
        .enumerate()
        .map(|(index, fix)| FixReport {
            cve: fix.cve,
            check_before: before[index],
            check_after_apply: applied[index],
            check_after_revert: reverted[index],
            check_after_reapply: reapplied[index],
        })
        .collect();
    let report = Report {
        schema: 1,
        kernel: built.kernel,
        patch_version: signed.version,
        module_sha256: signed.module.sha256,
        first: fixes.first().cloned(),
        fixes,
        seconds,
    };
    write_whole(&directory.join("session.txt"), session.text())?;
    if let Some(path) = record {
        write_whole(path, &svg::svg(session.text()))?;
    }
    write_whole(&directory.join("report.json"), &report.to_json()?)
}

/// What happens in the guest; gives what the checks said before, after applying, after reverting and after applying
/// again, and the seconds that applying took.
fn story(machine: &Machine, session: &mut Session) -> Result<([Vec<Verdict>; 4], f64), Error> {
    let before = machine.check(Verdict::Vulnerable, session)?;
    let applying = machine.livepatch("enable --token-file /root/token", "applied", session)?;
    let applied = machine.check(Verdict::Fixed, session)?;
    machine.is_well(session)?;
    machine.status(session)?;
    machine.livepatch("revert", "unapplied", session)?;
    let reverted = machine.check(Verdict::Vulnerable, session)?;
    machine.livepatch("apply", "applied", session)?;
    let reapplied = machine.check(Verdict::Fixed, session)?;
    machine.is_well(session)?;
    Ok(([before, applied, reverted, reapplied], applying))
}

/// Says what the livepatch changes, and what Debian says of each fix.
fn describe(built: &Built, kernel: &Kernel, carved: &Path, session: &mut Session) -> Result<(), Error> {
    for fix in &kernel.fix {
        let source = fix.file.as_str().trim_end_matches(".c");
        let of_fix = |unit: &&host::Unit| unit.unit.trim_end_matches(".o") == source;
        for unit in built.units.iter().filter(of_fix) {
            let functions = unit.changed_functions.join(", ");
            session.say(&format!("{} in {}: {functions} of {}", fix.cve, unit.object, fix.file.as_str()));
        }
        match fetch::changelog_item(fix, carved)? {
            Some(item) => session.say(&format!("  {} in {}", item.text, item.version)),
            None => session.say(&format!("  {} (the changelog does not name it)", fix.title)),
        }
    }
    Ok(())
}
