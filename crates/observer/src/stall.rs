//! Which tasks hold up a transition (Documentation/livepatch/livepatch.rst, "Consistency model"): those whose
//! `/proc/PID/task/TID/patch_state` is not where it goes to.

use std::io::Read as _;
use std::path::Path;

use livepatch_observer_api::{Holder, MAX_FRAMES, MAX_HOLDERS, Stall, plain};
use livepatch_types::ModuleName;

use crate::Frame;

/// More tasks than that are not looked at.
const MOST_TASKS: usize = 1 << 17;
/// No file that is read here is longer, a stack of 64 functions least of all.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Looks below a root. The tasks that the kernel keeps for idle processors are in no directory and cannot be named.
pub fn stall(root: &Path) -> Stall {
    let mut stall = Stall::default();
    let mut goal = None;
    let patches = root.join("sys/kernel/livepatch");
    for name in names(&patches).iter().filter_map(|name| ModuleName::parse(name).ok()) {
        let file = |file: &str| read(&patches.join(name.as_str()).join(file));
        if file("transition").as_deref() == Some("1") {
            // To the new code (1) if it is being enabled, else back to the old (0). There is one transition at a time.
            goal = file("enabled");
            stall.livepatches.push(name);
        }
    }
    let Some(goal) = goal else { return stall };
    let processes = numbers(&root.join("proc"));
    let threads = processes.into_iter().flat_map(|process| {
        let directory = root.join(format!("proc/{process}/task"));
        numbers(&directory).into_iter().map(move |thread| (process, thread))
    });
    for (process, thread) in threads.take(MOST_TASKS) {
        let directory = root.join(format!("proc/{process}/task/{thread}"));
        let moved = |state: String| state == goal || state == "-1";
        // One that has ended meanwhile holds up nothing.
        if read(&directory.join("patch_state")).is_none_or(moved) {
            continue;
        }
        if stall.holders.len() >= MAX_HOLDERS {
            stall.more += 1;
            continue;
        }
        let stack = read(&directory.join("stack")).unwrap_or_default();
        let name = plain(&read(&directory.join("comm")).unwrap_or_default());
        stall.holders.push(Holder { process, thread, name, stack: functions(&stack) });
    }
    stall
}

/// `[<0>] do_wait+0x1/0x2 [module]`, the innermost first.
fn functions(stack: &str) -> Vec<String> {
    let places = stack.lines().filter_map(|line| Frame::at_start(line.strip_prefix("[<0>] ")?));
    let named = places.map(|place| match place.module {
        Some(module) => plain(&format!("{} [{module}]", place.function)),
        None => plain(place.function),
    });
    named.take(MAX_FRAMES).collect()
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(MOST_TASKS);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn numbers(directory: &Path) -> Vec<u32> {
    let mut numbers: Vec<u32> = names(directory).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn task(root: &Path, process: u32, thread: u32, state: &str, stack: &str) {
        let directory = format!("proc/{process}/task/{thread}");
        write(root, &format!("{directory}/patch_state"), &format!("{state}\n"));
        write(root, &format!("{directory}/comm"), &format!("task\u{7}{thread}\n"));
        write(root, &format!("{directory}/stack"), stack);
    }

    fn patch(root: &Path, enabled: &str, transition: &str) {
        write(root, "sys/kernel/livepatch/livepatch_1_1/enabled", &format!("{enabled}\n"));
        write(root, "sys/kernel/livepatch/livepatch_1_1/transition", &format!("{transition}\n"));
    }

    #[test]
    fn tasks_that_have_not_moved_are_named_with_their_stacks() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let stack = "[<0>] hrtimer_nanosleep+0xc3/0x190\n[<0>] show+0x1/0x2 [livepatch_1_1]\nnonsense\n";
        task(root, 1, 1, "1", "");
        task(root, 20, 20, "0", stack);
        task(root, 20, 21, "1", "");
        task(root, 3, 3, "-1", "");
        write(root, "proc/cmdline", "x");
        write(root, "proc/99/task/99/comm", "gone\n");

        patch(root, "1", "0");
        assert_eq!(stall(root), Stall::default(), "nothing is in transition");

        patch(root, "1", "1");
        let found = stall(root);
        assert_eq!(found.livepatches, [ModuleName::parse("livepatch_1_1").unwrap()]);
        let functions = ["hrtimer_nanosleep", "show [livepatch_1_1]"].map(String::from);
        let holder = Holder { process: 20, thread: 20, name: "task?20".into(), stack: functions.into() };
        assert_eq!((found.holders, found.more), (vec![holder], 0));

        // Being disabled, the others hold it up.
        patch(root, "0", "1");
        let threads: Vec<u32> = stall(root).holders.iter().map(|holder| holder.thread).collect();
        assert_eq!(threads, [1, 21]);

        patch(root, "1", "1");
        for thread in 100..150 {
            task(root, 100, thread, "0", &stack.repeat(100));
        }
        let found = stall(root);
        assert_eq!((found.holders.len(), found.more), (MAX_HOLDERS, 51 - MAX_HOLDERS as u64));
        assert_eq!(found.holders[1].stack.len(), MAX_FRAMES);
    }
}
