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
