//! The debug information beside a livepatch: what debuggers find by the module's build-id is of exactly that module.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use livepatch_build::pipeline::{LivepatchRequest, PatchRequest, Workbench};
use livepatch_kimage::gnu_build_id;
use livepatch_klp::elf::Object;
use livepatch_tests::{carved_patch, cloud_kernel, kernel_request, livepatch_request, newer_cloud_kernel};
use livepatch_types::SystemClock;
use livepatch_vm::testing::FetchedKernel;

/// Function and file of fixes in the kernel itself and in a module.
const FIXES: [(&str, &str, &str); 2] = [
    ("CVE-2026-93146", "proc_timens_set_offset", "kernel/time/namespace.c"),
    ("CVE-2026-74544", "u32_change", "net/sched/cls_u32.c"),
];

fn is_of_the_module(kernel: &FetchedKernel) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let patches = FIXES.map(|(cve, ..)| carved_patch(kernel, cve)).into();
    let request = PatchRequest { patches, ..PatchRequest::default() };
    let bench = Workbench::open(&kernel_request(kernel), &|_| ())?;
    let build = |keep_debug| {
        let livepatch = LivepatchRequest { keep_debug, ..livepatch_request() };
        bench.build(&request, &livepatch, &SystemClock, &|_| ())
    };
    let (with, without) = (build(true)?, build(false)?);
    assert!(with.bundle.module == without.bundle.module, "the module depends on its debug information");
    assert!(without.debug.is_none());

    let debug = with.debug.ok_or("no debug information")??;
    let module = Object::parse(&with.bundle.module)?;
    let note = module.sections.iter().find(|s| s.name == ".note.gnu.build-id").ok_or("no build-id")?;
    assert_eq!(gnu_build_id(&note.data)?.as_ref(), Some(debug.build_id()));
    let path = debug.write(directory.path())?;
    let id = debug.build_id().to_string();
    assert_eq!(path, directory.path().join(format!(".build-id/{}/{}.debug", &id[..2], &id[2..])));

    let read = |arguments: &[&str]| program("readelf", arguments, &path);
    assert!(read(&["--notes"])?.contains(&format!("Build ID: {id}")));
    assert!(read(&["--sections", "--wide"])?.contains(" .debug_info "));
    let kept = Object::parse(&std::fs::read(&path)?)?;
    for (_, function, file) in FIXES {
        let symbol = kept.symbols.iter().find(|symbol| symbol.name == function).ok_or(function)?;
        let (section, offset) = (format!(".text.{function}"), format!("{:#x}", symbol.value));
        let place = program("addr2line", &["-f", "-j", &section, &offset, "-e"], &path)?;
        assert!(place.starts_with(&format!("{function}\n./{file}:")), "{place}");
    }
    Ok(())
}

fn program(name: &str, arguments: &[&str], path: &Path) -> Result<String, Box<dyn Error>> {
    let output = Command::new(name).args(arguments).arg(path).output()?;
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn of_a_livepatch_for_6_1() -> Result<(), Box<dyn Error>> {
    cloud_kernel().map_or(Ok(()), |kernel| is_of_the_module(&kernel))
}

/// objtool works on all functions at once there.
#[test]
fn of_a_livepatch_for_6_12() -> Result<(), Box<dyn Error>> {
    newer_cloud_kernel().map_or(Ok(()), |kernel| is_of_the_module(&kernel))
}
