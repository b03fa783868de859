//! What the client costs a host: `cargo xtask bench client` calls it. The packages, optimised, in a Debian with systemd, on
//! the kernel exactly as Debian ships it; every figure is measured inside that machine.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot measure ends")]

#[path = "../tests/system/fleet.rs"]
#[expect(dead_code, reason = "shared with the suite of the installed system")]
mod fleet;
#[path = "../tests/system/machine.rs"]
#[expect(dead_code, reason = "shared with the suite of the installed system")]
mod machine;
#[path = "../tests/client/patches.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod patches;
#[path = "../tests/client/site.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod site;

use std::collections::BTreeMap;
use std::path::PathBuf;

use livepatch_tests::cloud_kernel;
use serde_json::{Map, Value, json};

use crate::fleet::{configure, do_not_soak, give_client, install};
use crate::machine::{Bench, Machine, Running};
use crate::patches::{Vendor, version};
use crate::site::{Site, free_port};

/// Names the JSON file to write.
const OUT: &str = "LIVEPATCH_BENCH_OUT";
/// What runs all the time, as the package installs it.
const DAEMONS: [&str; 3] = ["livepatchd", "livepatch-loader", "livepatch-observer"];
/// What a figure may be at most.
const TARGETS: [(&str, f64); 6] = [
    ("agent_rss_idle_kib", 10_240.0),
    ("agent_rss_apply_kib", 24_576.0),
    ("wakeups_per_minute_idle", 0.0),
    ("status_ms_p50", 5.0),
    ("status_ms_daemon_stopped", 1000.0),
    ("binary_kib", 10_240.0),
];
/// When the server was told the last time how the livepatch fares that came back with the boot: 15 minutes after that.
const SETTLED_MINUTES: u32 = 16;
/// How long nobody asks anything.
const IDLE_MINUTES: u32 = 2;

/// Runs a command so often and says the median in milliseconds, from fork to the end. perl-base is in every Debian.
const TIMER: &str = r#"use Time::HiRes qw(time);
my ($rounds, @command) = @ARGV;
my @took;
for (1 .. $rounds) {
    my $start = time;
    my $child = fork;
    if ($child == 0) { open STDOUT, '>', '/dev/null'; open STDERR, '>', '/dev/null'; exec @command or die }
    waitpid $child, 0;
    push @took, (time - $start) * 1000;
}
@took = sort { $a <=> $b } @took;
printf "%.3f\n", $took[@took / 2];
"#;

/// Asks the daemon's socket so often for the status, on a new connection each time; the median in milliseconds.
const ASKER: &str = r#"use Time::HiRes qw(time);
use Socket;
my ($rounds, $path) = @ARGV;
my @took;
for (1 .. $rounds) {
    my $start = time;
    socket my $daemon, PF_UNIX, SOCK_STREAM, 0 or die $!;
    connect $daemon, sockaddr_un($path) or die "$path: $!";
    syswrite $daemon, "GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    my ($answer, $part) = ('', '');
    $answer .= $part while sysread $daemon, $part, 65536;
    $answer =~ m{^HTTP/1.1 200} or die $answer;
    push @took, (time - $start) * 1000;
}
@took = sort { $a <=> $b } @took;
printf "%.3f\n", $took[@took / 2];
"#;

fn main() {
    let (Some(bench), Some(kernel)) = (Bench::find(), cloud_kernel()) else {
        panic!("run this by cargo xtask bench client")
    };
    let out = PathBuf::from(std::env::var_os(OUT).unwrap());
    let vendor = Vendor::new("vendor");
    let site = Site::new(&vendor);
    site.publish(&vendor.sign(version(&kernel, "1.1")));
    let port = free_port();
    let _server = site.serve(port);
    let mut machine = Machine::new(&bench, &kernel);
    give_client(&mut machine, &bench.package("livepatch"), &site, port, &vendor);
    machine.give("timer.pl", 0o644, TIMER);
    machine.give("asker.pl", 0o644, ASKER);
    let host = machine.start();
    host.shell("modprobe -a cls_u32 sch_ingress");
    install(&host);
    do_not_soak(&host);
    configure(&host);
    host.wait_for("systemctl is-active livepatchd", "active");

    let mut figures = Map::new();
    let mut note = |name: &str, value: Value| {
        eprintln!("{name}: {value}");
        figures.insert(name.into(), value);
    };
    note("kernel", json!(host.shell("uname -r")));
    let sizes = host.shell("stat --format='%n %s' /usr/bin/livepatch /usr/sbin/livepatch*");
    let sizes = sizes.lines().map(|line| line.rsplit_once(' ').unwrap());
    let sizes: Map<String, Value> = sizes
        .map(|(path, bytes)| {
            (path.rsplit('/').next().unwrap().to_owned(), json!(bytes.parse::<u64>().unwrap().div_ceil(1024)))
        })
        .collect();
    note("binary_kib", json!(sizes.values().filter_map(Value::as_u64).max()));
    note("binaries_kib", sizes.into());

    // Enabled: a document, a module, a transition.
    DAEMONS.iter().for_each(|daemon| {
        host.shell(&format!("echo 5 >/proc/$(pidof {daemon})/clear_refs"));
    });
    host.shell("livepatch enable --token-file /run/payload/token");
    host.expect("livepatch status", 0);
    note("agent_rss_apply_kib", memory(&host, "livepatchd", "VmHWM"));
    note("loader_rss_apply_kib", memory(&host, "livepatch-loader", "VmHWM"));
    note("observer_rss_apply_kib", memory(&host, "livepatch-observer", "VmHWM"));

    // As it is for most of its life: started at boot, the livepatch brought back, nothing new.
    host.reboot();
    let host = machine.boot();
    host.wait_for("livepatch status >/dev/null; echo $?", "0");
    host.shell("livepatch refresh");
    for minute in 1..=SETTLED_MINUTES {
        eprintln!("waiting for the last word on the application: minute {minute} of {SETTLED_MINUTES}");
        host.shell("sleep 60");
    }
    note("agent_rss_idle_kib", memory(&host, "livepatchd", "VmRSS"));
    note("loader_rss_idle_kib", memory(&host, "livepatch-loader", "VmRSS"));
    note("observer_rss_idle_kib", memory(&host, "livepatch-observer", "VmRSS"));
    let before = switches(&host);
    host.shell(&format!("sleep {}", IDLE_MINUTES * 60 - 1));
    let after = switches(&host);
    // A thread that ended was woken for it.
    let ended = before.keys().filter(|thread| !after.contains_key(*thread)).map(|thread| (thread, 1));
    let woken = after.iter().map(|(thread, now)| (thread, now - before.get(thread).unwrap_or(&0)));
    let woken: Vec<(&String, u64)> = ended.chain(woken).filter(|(_, times)| *times > 0).collect();
    woken.iter().for_each(|(thread, times)| eprintln!("  {thread} was woken {times} times"));
    let woken: u64 = woken.iter().map(|(_, times)| times).sum();
    note("wakeups_per_minute_idle", json!(woken as f64 / f64::from(IDLE_MINUTES)));

    let timed = |rounds: u32, command: &str| {
        let median = host.shell(&format!("perl /run/payload/timer.pl {rounds} {command}"));
        json!(median.parse::<f64>().unwrap())
    };
    let answer = host.shell("perl /run/payload/asker.pl 51 /run/livepatch/livepatchd.sock");
    note("status_ms_p50", json!(answer.parse::<f64>().unwrap()));
    note("status_command_ms_p50", timed(51, "livepatch status"));
    host.shell("ln -s /usr/bin/livepatch /run/canonical-livepatch");
    note("canonical_livepatch_status_ms_p50", timed(51, "/run/canonical-livepatch status"));
    note("true_ms_p50", timed(51, "/bin/true"));
    host.shell("kill -STOP $(pidof livepatchd)");
    note("status_ms_daemon_stopped", timed(11, "livepatch status"));
    host.shell("kill -STOP $(pidof livepatch-loader)");
    note("status_ms_both_stopped", timed(11, "livepatch status"));
    host.shell("kill -CONT $(pidof livepatchd) $(pidof livepatch-loader)");
    host.finish();

    std::fs::write(&out, format!("{:#}\n", Value::Object(figures.clone()))).unwrap();
    println!("\n{:<36} {:>10} {:>10}", "figure", "measured", "at most");
    for (name, value) in figures.iter().filter(|(_, value)| value.is_number()) {
        let target = TARGETS.iter().find(|(of, _)| of == name).map(|(_, target)| *target);
        let missed = target.is_some_and(|target| value.as_f64().unwrap() > target);
        let target = target.map_or_else(String::new, |target| target.to_string());
        println!("{name:<36} {value:>10} {target:>10}{}", if missed { "  missed" } else { "" });
    }
}

/// A line of `/proc/PID/status` in KiB.
fn memory(host: &Running, daemon: &str, line: &str) -> Value {
    let value = host.shell(&format!("awk '/^{line}:/ {{ print $2 }}' /proc/$(pidof {daemon})/status"));
    json!(value.parse::<u64>().unwrap())
}

/// How often each thread of the daemons has gone to sleep: once for each time that it was woken.
fn switches(host: &Running) -> BTreeMap<String, u64> {
    let files = DAEMONS.map(|daemon| format!("/proc/$(pidof {daemon})/task/*/status")).join(" ");
    let lines = host.shell(&format!("awk '/^voluntary_ctxt_switches:/ {{ print FILENAME, $2 }}' {files}"));
    let line = |line: &str| line.rsplit_once(' ').map(|(file, n)| (file.to_owned(), n.parse().unwrap()));
    lines.lines().map(|text| line(text).unwrap()).collect()
}
