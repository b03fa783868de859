//! A kernel that is given file by file, as those that no distribution shipped are.

use std::error::Error;
use std::fs;

use livepatch_build::pipeline::{KernelRequest, PatchRequest, Workbench, identify};
use livepatch_kbuild::{KernelFiles, KernelOrigin};
use livepatch_tests::{carved_patch, cloud_kernel, kernel_request, livepatch_request};
use livepatch_types::SystemClock;

/// The module that a request leads to, for a fix in vmlinux and one in a module.
fn built(request: &KernelRequest, patches: &[String]) -> Result<Vec<u8>, Box<dyn Error>> {
    let patches = PatchRequest { patches: patches.to_vec(), arguments: Vec::new() };
    let bench = Workbench::open(request, &|_| ())?;
    Ok(bench.build(&patches, &livepatch_request(), &SystemClock, &|_| ())?.bundle.module)
}

#[test]
fn files_alone_lead_to_the_livepatch_that_packages_lead_to() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let packages = kernel_request(&kernel);
    let scratch = tempfile::tempdir()?;
    let files = KernelFiles::find(&packages.kernel, scratch.path())?;
    let vmlinux = scratch.path().join("vmlinux");
    let (image, identity) = identify(&files.image)?;
    fs::write(&vmlinux, image.vmlinux())?;
    assert_eq!(identify(&vmlinux)?.1, identity, "the release is read out of the kernel's banner");

    // Who builds a kernel calls the compiler gcc; on Debian 12 that is gcc-12.
    let config = scratch.path().join("config");
    let text = fs::read_to_string(&files.config)?;
    let renamed = text.replace("CONFIG_CC_VERSION_TEXT=\"gcc-12 ", "CONFIG_CC_VERSION_TEXT=\"gcc ");
    assert_ne!(text, renamed);
    fs::write(&config, renamed)?;

    let patches = ["CVE-2026-93146", "CVE-2026-74544"].map(|cve| carved_patch(&kernel, cve));
    let own = |modules| KernelRequest {
        kernel: KernelOrigin::Own {
            vmlinux: vmlinux.clone(),
            config: config.clone(),
            symvers: files.symvers.clone(),
            modules,
        },
        ..packages.clone()
    };
    assert!(
        built(&own(files.modules.clone()), &patches)? == built(&packages, &patches)?,
        "the two livepatches differ"
    );

    let error = built(&own(None), &patches).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("the patch concerns module cls_u32"), "{error}");
    Ok(())
}
