//! A host for a long time: livepatches come and go, the daemon asks all the while, and nothing piles up. A few rounds
//! always, so that it cannot rot; a quarter of an hour of them with `cargo xtask test --long`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

#[path = "../client/host.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod host;
#[path = "../client/patches.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod patches;
#[path = "../client/site.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod site;

use std::time::{Duration, Instant};

use livepatch_tests::cloud_kernel;

use crate::host::Host;
use crate::patches::patches;
use crate::site::{ADDRESS, Site, free_port};

/// Rounds after which whatever is allocated once has been.
const WARM_UP_ROUNDS: usize = 3;
/// Memory grows by a step of about 1.2 MiB now and then, and in 175 rounds by one in all: as if each of the loader's four
/// threads that may read a module kept room for the next one. Beyond that it must not grow, however many rounds there are.
const KEPT_BY_THREADS_KIB: u64 = 4 * 1280;
/// Rounds that are always made after that.
const ROUNDS: usize = 3;
/// How long rounds go on with LIVEPATCH_LONG=1.
const LONG: Duration = Duration::from_secs(15 * 60);

/// What must not pile up.
#[derive(Debug, Clone, Copy)]
struct Amounts {
    /// Memory of daemon and loader.
    resident_kib: u64,
    /// Memory that the kernel will not give back by itself, slabs and vmalloc, where modules are.
    kernel_kib: u64,
    /// Open files of both.
    open: u64,
    /// Files of their state and cache.
    files: u64,
}

impl Amounts {
    fn of(host: &Host) -> Self {
        let number = |script: &str| host.shell(script).parse::<u64>().unwrap();
        // What can be freed is not piled up.
        host.shell("echo 3 >/proc/sys/vm/drop_caches");
        Self {
            resident_kib: number(
                "cat /proc/$(pidof livepatchd)/status /proc/$(pidof livepatch-loader)/status | \
                 awk '/^VmRSS:/ { n += $2 } END { print n }'",
            ),
            kernel_kib: number(
                "awk '/^(SUnreclaim|VmallocUsed|PageTables|KernelStack):/ { n += $2 } END { print n }' /proc/meminfo",
            ),
            open: number(
                "ls /proc/$(pidof livepatchd)/fd /proc/$(pidof livepatch-loader)/fd | grep -c '^[0-9]'",
            ),
            files: number("find /var/lib/livepatch /var/lib/livepatch-loader -type f | wc -l"),
        }
    }
}

/// Asks, takes the livepatch out and puts it in again.
fn round(host: &Host) {
    host.expect(&["refresh"], 0);
    host.expect(&["revert"], 0);
    assert_eq!(host.checks(), [1, 1]);
    host.expect(&["apply"], 0);
    assert_eq!((host.checks(), host.problem()), ([0, 0], None));
}

#[test]
fn nothing_piles_up() {
    let Some(kernel) = cloud_kernel() else { return };
    let long = std::env::var_os("LIVEPATCH_LONG").is_some_and(|value| value == "1");
    let patches = patches(&kernel);
    let site = Site::new(&patches.vendor);
    site.publish(&patches.vendor.sign(patches.first.clone()));
    let port = free_port();
    let _server = site.serve(port);
    let host = Host::boot(&kernel, patches, &site, port);
    let config = format!(
        "server = \"https://{ADDRESS}:{port}\"\nca-file = \"/etc/livepatch/ca.pem\"\ncheck-interval = \"2s\"\n"
    );
    host.guest.write_file("/etc/livepatch/livepatch.toml", 0o644, config.as_bytes()).unwrap();
    host.start();
    assert_eq!(host.enable(&site.token("t", &[])).status, 0);

    let mut rounds = 0;
    for _ in 0..WARM_UP_ROUNDS {
        round(&host);
        rounds += 1;
    }
    let before = Amounts::of(&host);
    let start = Instant::now();
    while rounds < WARM_UP_ROUNDS + ROUNDS || (long && start.elapsed() < LONG) {
        round(&host);
        rounds += 1;
        if rounds.is_multiple_of(20) {
            say(&format!("{rounds} rounds: {:?}\n", Amounts::of(&host)));
        }
    }
    let after = Amounts::of(&host);
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    say(&format!("{rounds} rounds in {minutes:.1} minutes: {before:?}, then {after:?}\n"));
    assert!(
        after.resident_kib <= before.resident_kib + KEPT_BY_THREADS_KIB,
        "the daemon grows: {before:?}, {after:?}"
    );
    assert!(after.kernel_kib <= before.kernel_kib + 4096, "the kernel grows: {before:?}, {after:?}");
    assert!(after.open <= before.open + 2, "files stay open: {before:?}, {after:?}");
    assert!(after.files <= before.files + 2, "files stay: {before:?}, {after:?}");
    host.finish();
}

/// Past the test harness, which would hide it.
fn say(text: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
}
