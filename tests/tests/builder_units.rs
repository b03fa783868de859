//! Livepatches of several units, built for the real kernel.

use livepatch_build::pipeline::{PatchRequest, Workbench};
use livepatch_tests::{cloud_kernel, kernel_request, livepatch_request, replace_line};
use livepatch_types::SystemClock;

#[test]
fn units_that_mean_different_things_of_one_name_go_together() {
    let Some(kernel) = cloud_kernel() else { return };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ()).unwrap();
    let source = bench.tree().path();
    // Both print the name of their unit, which each has under the name `_acpi_module_name`.
    let patches = vec![
        replace_line(source, "drivers/acpi/acpica/nsobject.c", "Null NamedObj handle", "No NamedObj"),
        replace_line(source, "drivers/acpi/acpica/nsutils.c", "Invalid internal name", "Invalid name"),
    ];
    let patches = PatchRequest { patches, arguments: Vec::new() };
    let built = bench.build(&patches, &livepatch_request(), &SystemClock, &|_| ()).unwrap();
    let names: Vec<Vec<&String>> = built
        .report
        .units
        .iter()
        .map(|u| u.livepatch_symbols.iter().filter(|s| s.contains("._acpi_module_name,")).collect())
        .collect();
    assert!(matches!(names.as_slice(), [a, b] if a.len() == 1 && b.len() == 1 && a != b), "{names:?}");
    let module = String::from_utf8_lossy(&built.bundle.module).into_owned();
    assert!(names.iter().flatten().all(|name| module.contains(name.as_str())), "{names:?}");
}

#[test]
fn files_that_units_reach_through_parent_directories_are_patched() {
    let Some(kernel) = cloud_kernel() else { return };
    let bench = Workbench::open(&kernel_request(&kernel), &|_| ()).unwrap();
    let source = bench.tree().path();
    let request = |patch| PatchRequest { patches: vec![patch], arguments: Vec::new() };

    // Compiled as arch/x86/kvm/../../../virt/kvm/eventfd.c.
    let signal = "eventfd_signal(p->eventfd, ";
    let patch = replace_line(source, "virt/kvm/eventfd.c", &format!("{signal}1)"), &format!("{signal}2)"));
    let built = bench.build(&request(patch), &livepatch_request(), &SystemClock, &|_| ()).unwrap();
    let changed: Vec<&String> = built.report.units.iter().flat_map(|u| &u.changed_functions).collect();
    assert_eq!(changed, ["ioeventfd_write"]);

    // Included as ../../mount.h, ../mount.h and mount.h.
    let patch = replace_line(source, "fs/mount.h", "ns->seq == 0;", "!ns->seq;");
    let units = bench.concerned(&request(patch), &|_| ()).unwrap();
    for unit in ["fs/notify/fanotify/fanotify_user.o", "fs/proc/fd.o", "fs/namespace.o"] {
        assert!(units.iter().any(|(name, _)| name == unit), "{unit} is not among {}", units.len());
    }
}
