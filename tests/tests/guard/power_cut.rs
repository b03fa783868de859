//! The loader stops at a system call, the machine loses its power, and boots again from the same disk.

use livepatch_vm::Command;

use crate::host::Host;
use crate::machine::{Machine, Start};
use crate::prepared::Prepared;
use crate::site::{Site, free_port};

/// A condition of `stop_at`: when, the call, how the path begins, what the file has in it.
pub(crate) type Condition = [&'static str; 4];

/// What has become of 2.1, on a host where 1.1 was healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing happened to it: it is applied when the daemon asks.
    Untouched,
    /// Never loaded again by itself; 1.1 is back.
    Blocked,
    /// It waits for the operator; 1.1 is back.
    Waits,
    /// What was not synced may be on the disk or not: the first or the second.
    Either(&'static Self, &'static Self),
}

impl After {
    fn locks(self) -> Vec<&'static str> {
        match self {
            Self::Blocked => vec!["blocked 2.1"],
            Self::Waits => vec!["waiting 2.1"],
            Self::Untouched | Self::Either(..) => vec![],
        }
    }
}

/// Whether a task holds up the transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleeper {
    Awake,
    InReplacedFunction,
}

/// Whether the test is always run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Always,
    /// With LIVEPATCH_LONG=1 alone: said loudly.
    Long,
}

fn prepared(run: Run) -> Option<&'static Prepared> {
    let long = std::env::var_os("LIVEPATCH_LONG").is_some_and(|value| value == "1");
    if run == Run::Long && !long {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test").to_owned();
        say(&format!("SKIPPED: {name}; run cargo xtask test --long\n"));
        return None;
    }
    Prepared::get()
}

/// Past the test harness, which would hide it.
pub(crate) fn say(text: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
}

/// A host that is up with 1.1, and whose loader is about to stop.
fn armed(machine: &Machine<'_>, site: &Site, conditions: &[Condition]) -> Host {
    let host = machine.boot_without_daemon(site, Start::Usual);
    host.wait_for("cat /sys/kernel/livepatch/livepatch_1_1/transition", "0");
    // The loader listens when the livepatch is back and that is noted.
    host.wait_for("livepatch locks list >/dev/null 2>&1; grep -c '\"in_progress\": null' /var/lib/livepatch-loader/state.json", "1");
    assert_eq!(machine.in_force(&host), "1.1");
    machine.arm(&host, conditions);
    host
}

/// 2.1 is offered and applied as far as to the last condition.
pub(crate) fn install(run: Run, conditions: &[Condition], sleeper: Sleeper, after: After) {
    let Some(prepared) = prepared(run) else { return };
    let (site, port) = (prepared.operator_of_second(), free_port());
    let _server = site.serve(port);
    let machine = Machine::new(prepared, port);
    let host = armed(&machine, &site, conditions);
    if sleeper == Sleeper::InReplacedFunction {
        machine.sleep_in_vfs_utimes(&host);
    }
    host.start_daemon();
    host.guest.spawn("refresh", &Command::new("livepatch").arg("refresh")).unwrap();
    machine.wait_for_stop(&host);
    if sleeper == Sleeper::InReplacedFunction {
        host.wait_for("cat /sys/kernel/livepatch/livepatch_2_1/transition", "1");
    }
    host.guest.power_cut();

    let host = machine.boot(&site, Start::Usual);
    host.run_refresh();
    let after = match after {
        After::Either(one, _) if machine.locks(&host) == one.locks() => *one,
        After::Either(_, other) => *other,
        only => only,
    };
    assert_eq!(machine.locks(&host), after.locks());
    if after == After::Untouched {
        host.expect(&["refresh"], 0);
        assert_eq!((machine.in_force(&host).as_str(), host.problem()), ("2.1", None));
        return host.finish();
    }
    // Never loaded again by itself, however often the daemon asks and the loader starts, and the status says why.
    host.stop("TERM");
    host.start();
    host.run_refresh();
    assert_eq!((machine.in_force(&host).as_str(), host.applications("livepatch_2_1")), ("1.1", 0));
    assert_eq!(machine.locks(&host), after.locks());
    let problem = host.status().problem.unwrap();
    let code = if after == After::Blocked { "crash-guard" } else { "crash-guard-waits" };
    assert_eq!(problem.code, code);
    assert!(problem.message.starts_with("this host went down while livepatch 2.1 "), "{problem:?}");
    // Everything else works.
    prepared.publish_third(&site);
    host.expect(&["refresh"], 0);
    assert_eq!((machine.in_force(&host).as_str(), host.problem()), ("3.1", None));
    assert_eq!(machine.locks(&host), after.locks(), "it stays known");
    // Root forgets it, and the operator goes back to it.
    host.expect(&["locks", "clear"], 0);
    assert_eq!(machine.locks(&host), [""; 0]);
    site.run(&["patch", "withdraw", "3.1"]);
    host.expect(&["refresh"], 0);
    assert_eq!((machine.in_force(&host).as_str(), host.problem()), ("2.1", None));
    host.finish();
}

/// Root reverts 1.1, as far as to the last condition: it never comes back by itself.
pub(crate) fn revert(run: Run, conditions: &[Condition]) {
    let Some(prepared) = prepared(run) else { return };
    let (site, port) = (prepared.operator(), free_port());
    let _server = site.serve(port);
    let machine = Machine::new(prepared, port);
    let host = armed(&machine, &site, conditions);
    host.start_daemon();
    host.guest.spawn("revert", &Command::new("livepatch").arg("revert")).unwrap();
    machine.wait_for_stop(&host);
    host.guest.power_cut();

    let host = machine.boot(&site, Start::Usual);
    host.run_refresh();
    assert_eq!((machine.in_force(&host).as_str(), host.applications("livepatch_1_1")), ("none", 0));
    assert!(machine.locks(&host).contains(&"held 1.1".to_owned()), "{:?}", machine.locks(&host));
    // Root wants it back.
    host.expect(&["locks", "clear"], 0);
    host.expect(&["apply"], 0);
    assert_eq!((machine.in_force(&host).as_str(), host.problem()), ("1.1", None));
    assert_eq!(machine.locks(&host), [""; 0]);
    host.finish();
}
