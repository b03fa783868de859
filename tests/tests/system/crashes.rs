//! Livepatches that take the kernel down with them: after the reboot the host is as healthy as it was before. Three minutes
//! of `cargo xtask test --long`; `crates/loader/tests/power_cut` has the same rules with the kernel in memory, step by step.

use livepatch_build::pipeline::{LivepatchRequest, PatchRequest, Workbench};
use livepatch_tests::{cloud_kernel, kernel_request, livepatch_request, replace_line};
use livepatch_types::{PatchVersion, SystemClock};
use livepatch_vm::Command;

use crate::fleet::{configure, do_not_soak, give_client, install, soak};
use crate::installed::{is_long, say};
use crate::machine::{BOUND, Bench, Machine, Running};
use crate::patches::Vendor;
use crate::site::{Site, free_port};

const CMDLINE: &str = "fs/proc/cmdline.c";

/// Before the kernel is asked to redirect anything.
const PANICS_AT_ONCE: &str = "#include <livepatch/author.h>

static int before_patching(struct klp_object *object)
{
	panic(\"a test livepatch\");
	return 0;
}
LIVEPATCH_PRE_PATCH(before_patching);

";
/// When it has been in force for a while.
const PANICS_LATER: &str = "#include <livepatch/author.h>
#include <linux/workqueue.h>

static void now(struct work_struct *work)
{
	panic(\"a test livepatch\");
}
static DECLARE_DELAYED_WORK(later, now);

static void after_patching(struct klp_object *object)
{
	schedule_delayed_work(&later, 3 * HZ);
}
LIVEPATCH_POST_PATCH(after_patching);

";

/// What is in force is seen in `/proc/cmdline`.
fn in_force(host: &Running) -> String {
    let line = host.shell("cat /proc/cmdline");
    line.rsplit_once(" livepatch-").map_or_else(|| "none".into(), |(_, version)| version.trim().to_owned())
}

/// Kind and version of all that `livepatch locks list` has.
fn locks(host: &Running) -> Vec<String> {
    let listed: serde_json::Value =
        serde_json::from_str(&host.shell("livepatch locks list --format json")).unwrap();
    let lock = |lock: &serde_json::Value| format!("{} {}", lock["kind"], lock["version"]).replace('"', "");
    listed["locks"].as_array().unwrap().iter().map(lock).collect()
}

#[test]
fn a_livepatch_that_panics_is_not_loaded_again() {
    let (Some(bench), Some(kernel)) = (Bench::find(), cloud_kernel()) else { return };
    if !is_long() {
        say("SKIPPED: livepatches that panic; run cargo xtask test --long\n");
        return;
    }
    let vendor = Vendor::new("vendor");
    let site = Site::new(&vendor);
    let workbench = Workbench::open(&kernel_request(&kernel), &|_| ()).unwrap();
    let source = workbench.tree().path();
    let publish = |version: &str, callback: &str| {
        let show = "static int cmdline_proc_show(";
        let end = "seq_putc(m, '\\n');";
        let says = format!("seq_puts(m, \" livepatch-{version}\");\n\t{end}");
        let mut patches = vec![replace_line(source, CMDLINE, end, &says)];
        if !callback.is_empty() {
            patches.insert(0, replace_line(source, CMDLINE, show, &format!("{callback}{show}")));
        }
        let request = PatchRequest { patches, arguments: Vec::new() };
        let livepatch =
            LivepatchRequest { version: PatchVersion::parse(version).unwrap(), ..livepatch_request() };
        let built = workbench.build(&request, &livepatch, &SystemClock, &|_| ()).unwrap();
        site.publish(&vendor.sign(built.bundle));
    };
    publish("1.1", "");
    let port = free_port();
    let _server = site.serve(port);

    let mut machine = Machine::new(&bench, &kernel);
    give_client(&mut machine, &bench.package("livepatch"), &site, port, &vendor);
    let host = machine.start();
    install(&host);
    // The first one is healthy at once, the others soak.
    do_not_soak(&host);
    configure(&host);
    host.shell("livepatch enable --token-file /run/payload/token");
    assert_eq!(in_force(&host), "1.1");
    soak(&host);
    host.shell("systemctl restart livepatchd");
    host.wait_for("livepatch status >/dev/null; echo $?", "0");

    // It dies while one is inserted.
    publish("2.1", PANICS_AT_ONCE);
    host.end_by(&Command::new("livepatch").arg("refresh"), BOUND);
    let host = machine.boot();
    assert_eq!((in_force(&host).as_str(), locks(&host)), ("1.1", vec!["blocked 2.1".to_owned()]));
    let said = host.run("livepatch refresh; livepatch status");
    assert!(said.text().contains("crash-guard"), "{}{}", said.text(), said.error_text());
    assert_eq!((in_force(&host).as_str(), locks(&host)), ("1.1", vec!["blocked 2.1".to_owned()]));

    // It dies when one has been in force for three seconds.
    publish("3.1", PANICS_LATER);
    host.end_by(&Command::shell("livepatch refresh; sleep 100"), BOUND);
    let host = machine.boot();
    let known = ["blocked 2.1", "waiting 3.1"].map(str::to_owned);
    assert_eq!((in_force(&host).as_str(), locks(&host)), ("1.1", known.to_vec()));
    host.run("livepatch refresh");
    assert_eq!((in_force(&host).as_str(), locks(&host)), ("1.1", known.to_vec()));

    // A mended one is applied all the same.
    publish("4.1", "");
    host.expect("livepatch refresh", 0);
    assert_eq!(in_force(&host), "4.1");
    host.finish();
}
