use proptest::prelude::*;

use super::*;

/// As Debian's 6.1 logs it.
const WARNING: &str = "------------[ cut here ]------------
WARNING: CPU: 1 PID: 400 at fs/proc/cmdline.c:9 cmdline_proc_show+0x12/0x40 [livepatch_1_1]
Modules linked in: livepatch_1_1(OK) livepatch_3_1(OK) sch_ingress cls_u32
CPU: 1 PID: 400 Comm: cat Tainted: G           O  K    6.1.0-50-cloud-amd64 #1  Debian 6.1.176-1
RIP: 0010:cmdline_proc_show+0x12/0x40 [livepatch_1_1]
Code: 00 00 0f 1f
RSP: 0018:ffffc90000123d50 EFLAGS: 00010246
Call Trace:
 <TASK>
 ? __warn+0x7d/0xc0
 ? f+0x12/0x40 [livepatch_4_1]
 seq_read_iter+0x11f/0x450
 proc_reg_read_iter+0x4f/0x90
 </TASK>
---[ end trace 0000000000000000 ]---";

const OOPS: &str = "BUG: kernel NULL pointer dereference, address: 0000000000000000
#PF: supervisor read access in kernel mode
Oops: 0000 [#1] PREEMPT SMP NOPTI
CPU: 0 PID: 12 Comm: a+0x1/0x2 Tainted: G  K
RIP: 0010:memcpy+0x12/0x40
Call Trace:
 <TASK>
 u32_change+0x1f/0x450 [cls_u32]
 </TASK>
---[ end trace 0000000000000000 ]---";

fn module(name: &str) -> ModuleName {
    ModuleName::parse(name).unwrap()
}

fn known() -> Livepatches {
    let mut known = Livepatches::default();
    known.add(module("livepatch_2_1"), "cls_u32", "u32_change");
    known.add(module("livepatch_2_1"), "vmlinux", "do_wait");
    known
}

/// Livepatch, function and title of what lines say; each a tenth of a second after the one before.
fn said(text: &str) -> Vec<(String, String, String)> {
    let mut complaints = Complaints::default();
    let mut all = Vec::new();
    for (number, text) in (0..).zip(text.lines()) {
        let record = Record { of_kernel: true, sequence: number, at_us: number * 100_000, text };
        all.extend(complaints.push(record, known));
    }
    let texts = |c: Complaint| (c.livepatch.as_str().to_owned(), c.function, c.title);
    all.into_iter().map(texts).collect()
}

#[test]
fn a_warning_and_an_oops_are_told_once_each_with_whose_code_it_is() {
    let line = WARNING.lines().nth(1).unwrap();
    let expected = ("livepatch_1_1".to_owned(), "cmdline_proc_show".to_owned(), line.to_owned());
    assert_eq!(said(WARNING), [expected]);
    let line = OOPS.lines().next().unwrap();
    assert_eq!(said(OOPS), [("livepatch_2_1".into(), "u32_change".into(), line.into())]);
    // Through two livepatches.
    let two =
        format!("BUG: x\n do_wait+0x1/0x2\n f+0x1/0x2 [livepatch_1_1]\n g+0x1/0x2 [livepatch_1_1]\n{END}");
    let names: Vec<_> = said(&two).into_iter().map(|(livepatch, ..)| livepatch).collect();
    assert_eq!(names, ["livepatch_2_1", "livepatch_1_1"]);
}

#[test]
fn what_is_no_complaint_about_a_livepatch() {
    let place = "f+0x1/0x2 [livepatch_1_1]";
    let many = "x\n".repeat(300);
    for text in [
        WARNING.replace("cmdline_proc_show+0x12/0x40 [livepatch_1_1]", "memcpy+0x1/0x2"),
        format!(" {place}"),
        format!("livepatch: x {place}"),
        format!("BUG: x\nModules linked in: {place}"),
        format!("BUG: x\n ? {place}"),
        format!("BUG: scheduling while atomic: {place}"),
        format!("BUG: x\nCPU: 0 PID: 1 Comm: {place}"),
        format!("BUG: x\n{END}\n {place}"),
        format!("BUG: x\n{many} {place}"),
        "BUG: x\n f+0x1/0x2 [livepatch_x_1]\n do_wait+0x1/0x2 [ext4]".into(),
    ] {
        assert_eq!(said(&text), [], "{text}");
    }
}

#[test]
fn what_processes_write_into_the_log_is_not_believed() {
    let mut complaints = Complaints::default();
    for (number, text) in (0..).zip(WARNING.lines()) {
        let record = Record { of_kernel: false, sequence: number, at_us: 0, text };
        assert_eq!(complaints.push(record, known), []);
    }
}

#[test]
fn livepatches_are_looked_for_only_when_something_is_wrong_and_not_all_the_time() {
    let mut complaints = Complaints::default();
    let mut looks = 0;
    let mut push = |at_us, text| {
        let record = Record { of_kernel: true, sequence: 0, at_us, text };
        complaints.push(record, || {
            looks += 1;
            known()
        });
        looks
    };
    assert_eq!(push(0, "usb 1-1: new device"), 0);
    assert_eq!(push(1, "WARNING: x"), 1);
    assert_eq!(push(2, "WARNING: x"), 1);
    assert_eq!(push(2_000_000, "WARNING: x"), 2);
}

proptest! {
    #[test]
    fn any_lines_do_not_panic_and_the_caps_hold(lines in proptest::collection::vec(
        prop_oneof![
            Just("BUG: x".to_owned()),
            Just(" do_wait+0x1/0x2".to_owned()),
            Just(format!("{END}0 ]---")),
            "( |RIP: [0-9]{0,4}:|WARNING: CPU: )[a-z]{1,3}\\+0x[0-9]{0,2}/0x1 \\[livepatch_[0-9]{1,2}_1\\]",
            any::<String>(),
        ], 0..100)) {
        let mut complaints = Complaints::default();
        for text in &lines {
            let record = Record { of_kernel: true, sequence: 1, at_us: 1, text };
            for complaint in complaints.push(record, known) {
                prop_assert!(complaint.title.len() <= livepatch_observer_api::MAX_TEXT);
                prop_assert!(complaint.function.len() <= livepatch_observer_api::MAX_TEXT);
            }
        }
    }
}
