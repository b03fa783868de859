//! A module that was built out of tree has the name of a patched one: its code is never touched, and the host says why, whichever
//! of the two comes first.

use livepatch_modsig::{module_info, split};
use livepatch_tests::cloud_kernel;
use livepatch_types::PatchState;
use livepatch_vm::testing::FetchedKernel;

use crate::host::Host;
use crate::patches::{patches, replaced};
use crate::site::{Site, free_port};

const BUILD_ID: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// The distribution's module as somebody else would have built it: not signed, without the word by which the kernel takes
/// a module for its own (`check_modinfo`, kernel/module/main.c), and with another build-id.
fn namesake(kernel: &FetchedKernel, livepatch: &[u8]) -> Vec<u8> {
    let module = std::fs::read(kernel.tree.module_path("cls_u32").unwrap()).unwrap();
    let module = replaced(split(&module).unwrap().content, "intree=Y", "xntree=Y");
    let info = module_info(livepatch).unwrap();
    let build_id = info.all("livepatch_object").find_map(|text| text.strip_prefix("cls_u32 ")).unwrap();
    replaced(&module, bytes(build_id), bytes(BUILD_ID))
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pairs = (0..hexadecimal.len()).step_by(2).map(|at| &hexadecimal[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The host refuses the livepatch with these words, to a user who asks for the status, too.
fn refused(host: &Host, words: &str) {
    let before = host.kernel();
    host.run_refresh();
    let status = host.status();
    let problem = status.problem.unwrap();
    assert_eq!((problem.code.as_str(), status.patch.state), ("foreign-module", PatchState::ApplyFailed));
    assert_eq!(problem.message, format!("the livepatch is for module cls_u32, but {words}"));
    assert!(problem.hints[0].contains("not the one of the kernel's package"), "{problem:?}");
    assert!(host.livepatch(&["status"]).text().contains(words));
    assert_eq!((host.kernel(), host.checks()), (before, [1, 1]), "nothing was tried");
}

#[test]
fn a_namesake_of_a_patched_module_is_never_patched() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let site = Site::new(&patches.vendor);
    site.publish(&patches.vendor.sign(patches.first.clone()));
    let port = free_port();
    let _server = site.serve(port);
    let host = Host::boot_with(&kernel, patches, &site, port, |initramfs| {
        initramfs.file("/namesake.ko", 0o644, namesake(&kernel, &patches.first.module)).unwrap();
    });
    host.start();

    // It is loaded before the livepatch comes.
    host.shell("rmmod cls_u32; insmod /namesake.ko");
    assert_eq!(host.enable(&site.token("t", &[])).status, 0, "enrolled, though the livepatch is not applied");
    refused(&host, &format!("another one is loaded (build-id {BUILD_ID})"));

    // It would be loaded by whoever asks for the module.
    host.shell(
        "rmmod cls_u32; cd /lib/modules/$(uname -r); mkdir updates; cp /namesake.ko updates/cls_u32.ko
        cp modules.dep shipped; sed -i 's:^kernel/.*/cls_u32.ko:updates/cls_u32.ko:' modules.dep",
    );
    refused(&host, "modprobe would load updates/cls_u32.ko");

    // It comes when the livepatch is there, which does not let it in.
    host.shell("cd /lib/modules/$(uname -r); rm -r updates; mv shipped modules.dep; rmmod cls_u32 || true");
    host.expect(&["refresh"], 0);
    host.shell("! insmod /namesake.ko");
    let says = "module cls_u32 was built out of tree and is not the one that this livepatch is for";
    assert_eq!(host.shell(&format!("dmesg | grep -c '{says}'")), "1");
    assert_eq!(host.shell("grep -c '^cls_u32 ' /proc/modules || true"), "0");
    host.wait_for("livepatch refresh >/dev/null; livepatch status | grep -c 'note: .*(module-refused)'", "1");
    let status = host.status();
    assert_eq!(
        (status.problem, status.patch.state),
        (None, PatchState::Applied),
        "it is no fault of the livepatch"
    );
    let notes: Vec<_> = status.notes.iter().map(|note| (note.code.as_str(), note.message.as_str())).collect();
    let says = "the kernel keeps out module cls_u32: livepatch 1.1 is for the module of that name and did not go onto this one";
    assert_eq!(notes, [("module-refused", says)]);
    assert_eq!(
        host.shell("livepatch locks list --format json | grep -c kind || true"),
        "0",
        "nothing is held against it"
    );

    // The distribution's own. Before Linux 6.3 a livepatch goes to no module a second time (docs/building.md).
    host.expect(&["revert"], 0);
    host.expect(&["apply"], 0);
    host.shell("modprobe cls_u32");
    assert_eq!((host.problem(), host.checks()), (None, [0, 0]));
    host.expect(&["refresh"], 0);
    assert_eq!(host.status().notes, [], "the module of that name is loaded");
    host.finish();
}
