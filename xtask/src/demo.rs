//! `cargo xtask demo`: the whole path, from a source patch to a fixed running kernel, with nothing faked.

mod host;
mod machine;
mod report;
mod repositories;
mod secure_boot;
mod session;
mod story;
mod svg;

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use livepatch_types::CveId;
use livepatch_vm::{Firmware, KernelTree, testing};

use self::host::{BuildSeconds, Host, Inspected};
use self::machine::{Content, Machine};
use self::report::{FixReport, Livepatch, Report, Seconds, write_whole};
use self::repositories::{Operator, Vendor};
use self::secure_boot::SecureBoot;
use self::session::Session;
use self::story::{Site, Story};
use crate::config::{Demo, Fix, Kernel};
use crate::error::{Error, Exit};
use crate::process::tool;
use crate::series::Series;
use crate::signer::Signer;
use crate::{fetch, setup, test};

/// Crates whose programs the demo runs, here and in the VM.
const CRATES: [&str; 6] = [
    "livepatch-build",
    "livepatch-server",
    "livepatch-agent",
    "livepatch-loader",
    "livepatch-observer",
    "livepatch-cli",
];
const SERIES: &str = "series/debian-12";
/// The livepatch that the host gets first, and the one that takes its place.
const VERSIONS: [&str; 2] = ["1.1", "1.2"];

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

    let packages = testing::kernels_directory().join("packages");
    let (series, name, last) = series(kernel)?;

    let mut session = Session::begin();
    session.shown("install what is needed", setup::setup)?;
    let what = format!("fetch {}: image, headers and source {}", kernel.image.package, kernel.source.old);
    let kernels = testing::kernels_directory();
    let ((), fetched) = session.shown(&what, || {
        fetch::fetch(&demo, &kernels)?;
        series.download(std::slice::from_ref(&name), &packages)
    })?;
    let (programs, _) = session.step("build our programs", |step| {
        let mut build = test::cargo(workspace);
        build.args(["build", "--target-dir"]).arg(workspace.join("target"));
        build.args(CRATES.iter().flat_map(|name| ["--package", name]));
        tool(&mut build, "cargo build", Exit::Failure, |line| step.note(line))?;
        Ok((testing::take_guest_programs()?, test::checks(workspace)?))
    })?;

    let host = Host {
        programs: workspace.join("target/debug"),
        cache: test::cache(workspace),
        packages,
        kernel: &name,
        directory: &directory,
    };
    let mut seconds = Seconds { fetch: fetched, ..Seconds::default() };
    let fetched = kernels.join(kernel.name.as_str());
    let tree = KernelTree::open(&fetched.join("image"))?;
    let [before, after] = [
        series.write(&directory.join("series-before"), VERSIONS[0], 1)?,
        series.write(&directory.join("series"), VERSIONS[1], 0)?,
    ];
    let what =
        format!("build livepatch {} for {} from {SERIES}, without {}", VERSIONS[0], tree.release(), last.cve);
    let (built, _) = session.step(&what, |step| host.build(&before, VERSIONS[0], |line| step.note(line)))?;
    describe(&built, None, &mut session);
    let what = format!("build livepatch {}: all of that, and {} too", VERSIONS[1], last.cve);
    let (next, _) = session.step(&what, |step| host.build(&after, VERSIONS[1], |line| step.note(line)))?;
    describe(&next, Some(&built), &mut session);
    for fix in &kernel.fix {
        say_changelog(fix, &fetched.join("carve"), &mut session)?;
    }
    for (version, series) in VERSIONS.iter().zip([&before, &after]) {
        let what = format!("prove {version} in a VM: load, revert, load under load, load before the modules");
        let (proof, proving) = session.step(&what, |step| host.prove(series, |line| step.note(line)))?;
        let exchange = proof.previous.map(|v| format!(", exchanged with {v} and back")).unwrap_or_default();
        session.say(&format!("{} steps passed{exchange}", proof.steps));
        seconds.prove += proving;
    }
    let elsewhere = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
    let elsewhere = elsewhere.map_err(|e| Error::io("make a directory for the signer", e))?;
    let is_root = setup::is_root()?;
    let who = match is_root {
        true => "another user, who reads nothing of ours and has the only key",
        false => "this user (only root can be another)",
    };
    let ((signer, signed), signing) = session.step(&format!("sign both as {who}"), |_| {
        let make = if is_root { Signer::another_user } else { Signer::this_user };
        let signer = make(&host.builder(), &elsewhere.path().join("signer"), "demo")?;
        let signed = [host.sign(&signer, VERSIONS[0])?, host.sign(&signer, VERSIONS[1])?];
        Ok((signer, signed))
    })?;
    let what = format!("publish {} to a server on loopback (TLS, SQLite) and start it", VERSIONS[0]);
    let ((mut site, token), publishing) = session.step(&what, |_| {
        let vendor = Vendor::new(host.builder(), directory.join("vendor"))?;
        let token = host.make_server(&signer)?;
        let operator = Operator::new(host.builder(), directory.join("operator"), &host.operator_key())?;
        host.import_operator(&operator)?;
        host.allow(VERSIONS[0], &vendor)?;
        host.publish(VERSIONS[0])?;
        Ok((Site { host: &host, vendor, operator, server: host.serve(0)? }, token))
    })?;
    session.say("the vendor's repository allows it, the operator's server offers it, its log has it: hosts want all three");

    let what = format!("boot {} in QEMU as Debian ships it, with livepatchd", tree.release());
    let content = Content { programs: &programs.0, checks: &programs.1, files: &site.guest_files(&token)? };
    let (machine, booting) = session.step(&what, |_| {
        Machine::boot(&tree, &kernel.fix, &content, Firmware::Bios, &directory.join("guest.log"))
    })?;
    let story = site.story(&machine, last, &mut session).inspect_err(|_| machine.keep_log());
    let Story { verdicts, carried, applying, republishing, upgrading } = story?;
    machine.shutdown()?;
    // The server's key, by which it signs its log too, is another one now; no server tells the next machine so.
    let files = site.guest_files(&token)?;
    drop(site);
    let secure_boot = SecureBoot {
        tree: &tree,
        fixes: &kernel.fix,
        content: &Content { files: &files, ..content },
        owner: &Signer::this_user(&host.builder(), &elsewhere.path().join("owner"), "owner")?,
        vendor: &signer,
        carried: &carried,
        version: VERSIONS[1],
        directory: &directory,
    };
    let [unknown_key, enrolled_key] = secure_boot.story(&mut session)?;

    for BuildSeconds { identify, prepare, compile, diff, link } in signed.iter().map(|l| &l.report.seconds) {
        seconds.prepare += identify + prepare;
        seconds.compile += compile;
        seconds.diff += diff;
        seconds.link += link;
    }
    (seconds.sign, seconds.publish) = (signing, publishing + republishing);
    (seconds.boot, seconds.apply, seconds.upgrade) = (booting, applying, upgrading);
    seconds.total = started.elapsed().as_secs_f64();
    let seconds = seconds.rounded();
    session.say(&format!("\nthe demo took {:.0} s; the report is target/demo/report.json", seconds.total));

    let [before, first, refused, applied, reverted, reapplied, left, carried] = verdicts;
    let fixes: Vec<FixReport> = kernel
        .fix
        .iter()
        .enumerate()
        .map(|(index, fix)| FixReport {
            cve: fix.cve,
            check_before: before[index],
            check_before_upgrade: first[index],
            check_while_vendor_refuses: refused[index],
            check_after_apply: applied[index],
            check_after_revert: reverted[index],
            check_after_reapply: reapplied[index],
            check_after_disable: left[index],
            check_after_bundle: carried[index],
            check_with_secure_boot_and_unknown_key: unknown_key[index],
            check_with_secure_boot_and_enrolled_key: enrolled_key[index],
        })
        .collect();
    let [first, signed] = signed;
    let cves = signed.fixed();
    let report = Report {
        schema: 1,
        kernel: signed.kernel,
        patch_version: signed.version,
        module_sha256: signed.module.sha256,
        upgraded_from: Livepatch { patch_version: first.version, module_sha256: first.module.sha256 },
        cves,
        signed_by_another_user: signer.user().is_some(),
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

/// The series, its name for this kernel, and the fix that the first livepatch is without: the last one that demo.toml has
/// a check for.
fn series(kernel: &Kernel) -> Result<(Series, String, &Fix), Error> {
    let series = Series::read(&testing::workspace().join(SERIES))?;
    let missing = |what: &str| Error::Config(format!("{SERIES}/series.toml has no {what}"));
    let last = kernel.fix.last().ok_or_else(|| Error::Config(format!("{} has no fix", kernel.name)))?;
    for fix in &kernel.fix {
        if !series.has_fix(fix.cve) {
            return Err(missing(&format!("fix of {}", fix.cve)));
        }
    }
    let name =
        series.kernel_of(&kernel.image).ok_or_else(|| missing(kernel.image.package.as_str()))?.to_owned();
    Ok((series.with_last(last.cve), name, last))
}

/// Says what a livepatch fixes and changes; beside another one, only what is new.
fn describe(built: &Inspected, before: Option<&Inspected>, session: &mut Session) {
    let new = |cve: &CveId| before.is_none_or(|before| before.cves.iter().all(|known| known.id != *cve));
    let fixed = built.fixed();
    let cves: Vec<String> = fixed.iter().copied().filter(new).map(|id| id.to_string()).collect();
    session.say(&format!("it fixes {} CVEs; new: {}", fixed.len(), cves.join(" ")));
    for object in &built.objects {
        let known = before.is_some_and(|before| before.objects.iter().any(|known| known.name == object.name));
        if !known {
            let functions: Vec<&str> =
                object.functions.iter().map(|function| function.name.as_str()).collect();
            session.say(&format!("  in {}: {}", object.name, functions.join(", ")));
        }
    }
}

/// What Debian says of a fix.
fn say_changelog(fix: &Fix, carved: &Path, session: &mut Session) -> Result<(), Error> {
    match fetch::changelog_item(fix, carved)? {
        Some(item) => session.say(&format!("  {} in {}", item.text, item.version)),
        None => session.say(&format!("  {} (the changelog does not name it)", fix.title)),
    }
    Ok(())
}
