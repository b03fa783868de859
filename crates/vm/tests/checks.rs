//! The check programs of the demo's fixes: the stock kernel must be vulnerable, or the demo proves nothing.

use std::time::Duration;

use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network, compile_static, testing};

const SHORT: Duration = Duration::from_secs(300);

#[test]
fn the_stock_kernel_is_vulnerable() -> Result<(), Box<dyn std::error::Error>> {
    let Some(kernel) = testing::kernel("debian-12-cloud-6.1")? else { return Ok(()) };
    let mut initramfs = Initramfs::new()?;
    initramfs.kernel_modules(&kernel.tree, &["sch_ingress", "cls_u32"])?;
    let directory = tempfile::tempdir()?;
    let cves = ["CVE-2026-93146", "CVE-2026-74544"];
    for cve in cves {
        let program = directory.path().join(cve);
        compile_static(&testing::workspace().join(format!("checks/{cve}.c")), &program)?;
        initramfs.file_from(&format!("/usr/bin/{cve}"), 0o755, &program)?;
    }
    let spec = BootSpec::new(kernel.tree.vmlinuz(), initramfs.build());
    let guest = Guest::boot(&BootSpec { network: Network::None, ..spec })?;
    for cve in cves {
        for command in [Command::new(cve).as_user(), Command::new(cve)] {
            let output = guest.run(&command, SHORT)?;
            assert_eq!(output.error_text(), "", "{cve}");
            assert_eq!(output.status, 1, "{cve}");
            assert!(output.text().starts_with("vulnerable: "), "{}", output.text());
            println!("{}", output.text());
        }
    }
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}
