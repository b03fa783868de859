//! What a host refuses: each with its own words, and with a kernel that is left as it was.

use livepatch_manifest::Bundle;
use livepatch_modsig::split;
use livepatch_tests::cloud_kernel;
use livepatch_types::BuildId;
use livepatch_vm::testing::FetchedKernel;

use crate::host::Host;
use crate::middlebox::{Change, Middlebox};
use crate::patches::{Patches, Vendor, for_build_id, patches, replaced, with_module};
use crate::site::{Server, Site, free_port};

/// Another kernel.
const OTHER: &str = "00112233445566778899aabbccddeeff00112233";

/// What stands between the host and what it is offered.
struct Scene {
    _server: Option<Server>,
    _middlebox: Option<Middlebox>,
    _site: Option<Site>,
}

struct Stage<'s> {
    patches: &'static Patches,
    /// Where the host begins: copies of it offer something wrong.
    base: &'s Site,
    port: u16,
}

type Setting = fn(&Stage<'_>, &Bundle) -> Scene;

/// Code in the status, exit code of `livepatch refresh`, how it comes about.
const CASES: &[(&str, i32, Setting)] = &[
    ("kernel-not-covered", 0, |stage, _| stage.serve(stage.empty())),
    ("server-unreachable", 1, |_, _| Scene { _server: None, _middlebox: None, _site: None }),
    ("document-wrong-signer", 1, |stage, offer| {
        let site = stage.base.usurper(&stage.patches.vendor);
        site.publish(&stage.patches.vendor.sign(offer.clone()));
        stage.serve(site)
    }),
    ("document-tampered", 1, |stage, offer| {
        stage.through(stage.offering(offer), "/v1/kernels/", Change::FlipBit)
    }),
    ("document-wrong-kernel", 1, |stage, offer| {
        let other = BuildId::parse(OTHER).unwrap();
        let site = stage.offering(&for_build_id(offer, &other));
        let path = format!("/v1/kernels/stable/{OTHER}");
        stage.through(site, "/v1/kernels/", Change::Ask(path))
    }),
    ("wrong-kernel", 1, |stage, offer| {
        let ours = offer.manifest.kernel.build_id.to_string();
        let other = with_module(offer, replaced(&offer.module, ours, OTHER));
        stage.serve(stage.offering(&other))
    }),
    ("wrong-signer", 1, |stage, offer| {
        let stranger = Vendor::new("stranger");
        let site = stage.base.copy();
        site.trust(&stranger);
        site.publish(&stranger.sign(offer.clone()));
        stage.serve(site)
    }),
    ("tampered-module", 1, |stage, offer| {
        stage.through(stage.offering(offer), "/v1/objects/", Change::FlipBit)
    }),
    ("truncated-module", 1, |stage, offer| {
        stage.through(stage.offering(offer), "/v1/objects/", Change::Halve)
    }),
    ("server-failed", 1, |stage, offer| stage.damaged(offer, |bytes| bytes[9_000] ^= 1)),
    ("server-failed", 1, |stage, offer| stage.damaged(offer, |bytes| bytes.truncate(9_000))),
];

impl Stage<'_> {
    /// The operator's state with this offer besides.
    fn offering(&self, offer: &Bundle) -> Site {
        let site = self.base.copy();
        site.publish(&self.patches.vendor.sign(offer.clone()));
        site
    }

    /// The operator with nothing published.
    fn empty(&self) -> Site {
        let site = self.base.copy();
        // A server that was killed leaves more than the one file, which is of no other database.
        for of_another in ["server.sqlite-wal", "server.sqlite-shm"] {
            let _ = std::fs::remove_file(site.file(of_another));
        }
        let other = Site::new(&self.patches.vendor);
        assert!(!other.file("server.sqlite-wal").exists(), "every command closes the database");
        std::fs::copy(other.file("server.sqlite"), site.file("server.sqlite")).unwrap();
        site
    }

    fn serve(&self, site: Site) -> Scene {
        Scene { _server: Some(site.serve(self.port)), _middlebox: None, _site: Some(site) }
    }

    fn through(&self, site: Site, path: &'static str, change: Change) -> Scene {
        let port = free_port();
        let server = site.serve(port);
        let middlebox = Middlebox::start(&site, self.port, port, path, change);
        Scene { _server: Some(server), _middlebox: Some(middlebox), _site: Some(site) }
    }

    /// The module's file on the server's disk is damaged after it was published.
    fn damaged(&self, offer: &Bundle, damage: fn(&mut Vec<u8>)) -> Scene {
        let site = self.offering(offer);
        let module = self.patches.vendor.sign(offer.clone()).manifest.module;
        let path = site.file("objects").join(module.sha256.to_string());
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        self.serve(site)
    }

    /// Asks the server; what must come of it, or why not.
    fn refused(&self, host: &Host, code: &str, exit: i32) {
        let before = host.kernel();
        let output = host.livepatch(&["refresh"]);
        let status = host.status();
        let problem = status.problem.clone().unwrap_or_else(|| panic!("{code}: {status:?}"));
        assert_eq!(
            (problem.code.as_str(), output.status),
            (code, exit),
            "{problem:?} {}",
            output.error_text()
        );
        assert!(!problem.message.is_empty() && !problem.hints.is_empty(), "{problem:?}");
        if exit != 0 {
            // The daemon may have looked again by itself since, when its clock was set: by a later second of it.
            let lasting = problem.message.split("the clock here says").next().unwrap();
            let said = output.error_text();
            assert!(said.starts_with(&format!("error: {lasting}")), "{problem:?} {said:?}");
            assert!(said.contains(&format!("\n\nhint: {}", problem.hints[0])), "{problem:?} {said:?}");
        }
        assert_eq!(host.kernel(), before, "{code}: nothing changed");
    }

    /// Every case, and the host's clock: all with this offer.
    fn play(&self, host: &Host, offer: &Bundle) {
        for (code, exit, setting) in CASES {
            let _scene = setting(self, offer);
            self.refused(host, code, *exit);
        }
        let day = 24 * 60 * 60;
        for (code, seconds) in [("document-expired", 8 * day), ("document-not-yet-valid", -day / 2)] {
            // Nobody offers it while the clock is right: the daemon would take it when it asks by itself.
            host.shell(&format!("date -s @$(($(date +%s) + {seconds}))"));
            let scene = self.serve(self.offering(offer));
            self.refused(host, code, 1);
            drop(scene);
            host.shell(&format!("date -s @$(($(date +%s) - {seconds}))"));
        }
    }

    /// Somebody else's livepatch, loaded by hand.
    fn foreign(&self) -> Vec<u8> {
        replaced(&self.patches.first.module, "livepatch_1_1", "livepatch_9_9")
    }
}

/// A module of the distribution that does nothing, by the name of KernelCare's: what counts is who it seems to be.
fn named_as_of_kernelcare(kernel: &FetchedKernel) -> Vec<u8> {
    let module = std::fs::read(kernel.tree.module_path("dummy").unwrap()).unwrap();
    replaced(split(&module).unwrap().content, "dummy", "kcare")
}

/// An enrolment that must fail with these words.
fn not_enrolled(host: &Host, token: &str, words: &str) {
    let output = host.enable(token);
    let said = output.error_text();
    assert!(output.status == 1 && said.contains(words) && said.contains("\n\nhint: "), "{words}: {said}");
    host.expect(&["status"], 3);
}

const LOAD_FOREIGN: &str =
    "insmod /foreign.ko && while grep -q 1 /sys/kernel/livepatch/*/transition; do usleep 50000; done";
const UNLOAD_FOREIGN: &str = "echo 0 >/sys/kernel/livepatch/livepatch_9_9/enabled
    while [ -e /sys/kernel/livepatch/livepatch_9_9 ]; do usleep 50000; done; rmmod livepatch_9_9";

#[test]
fn an_unpatched_kernel_stays_as_shipped() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let base = Site::new(&patches.vendor);
    let good = base.token("good", &[]);
    let limited = base.token("limited", &["--limit", "1"]);
    let expired = base.token("short", &["--expires", "1s"]);
    let unknown = Site::new(&patches.vendor).token("elsewhere", &[]);
    let stage = Stage { patches, base: &base, port: free_port() };
    let host = Host::boot_with(&kernel, patches, &base, stage.port, |initramfs| {
        initramfs.file("/kcare.ko", 0o644, named_as_of_kernelcare(&kernel)).unwrap();
        initramfs.file("/foreign.ko", 0o644, stage.foreign()).unwrap();
    });
    let shipped = host.kernel();
    host.shell("echo first >/etc/machine-id");
    host.start();
    not_enrolled(&host, &good, "the server cannot be reached");
    let server = base.serve(stage.port);
    not_enrolled(&host, &unknown, "the server does not know the token");
    not_enrolled(&host, &expired, "the token has expired");
    assert_eq!(host.enable(&limited).status, 0);
    host.expect(&["disable"], 0);
    host.stop("TERM");
    host.shell("echo second >/etc/machine-id");
    host.start();
    not_enrolled(&host, &limited, "the token has enrolled as many machines as it may");
    assert_eq!(host.enable(&good).status, 0);
    assert_eq!(host.problem().unwrap(), "kernel-not-covered");
    drop(server);

    stage.play(&host, &patches.first);
    assert_eq!((host.kernel(), host.checks()), (shipped, [1, 1]));

    // Functions are redirected through ftrace.
    host.shell("echo 0 >/proc/sys/kernel/ftrace_enabled");
    let _scene = stage.serve(stage.offering(&patches.first));
    stage.refused(&host, "ftrace-off", 1);
    host.shell("echo 1 >/proc/sys/kernel/ftrace_enabled");

    // A product that goes past the kernel's livepatches has patched this kernel.
    host.shell("insmod /kcare.ko");
    stage.refused(&host, "foreign-livepatch", 1);
    host.shell("rmmod kcare");

    // Somebody else's livepatch is not replaced; when it is gone, the good offer is taken after all.
    host.shell(LOAD_FOREIGN);
    stage.refused(&host, "foreign-livepatch", 1);
    host.shell(UNLOAD_FOREIGN);
    host.expect(&["refresh"], 0);
    assert_eq!((host.problem(), host.checks()), (None, [0, 0]));
    host.finish();
}

#[test]
fn what_runs_goes_on_running() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let base = Site::new(&patches.vendor);
    base.publish(&patches.vendor.sign(patches.first.clone()));
    let token = base.token("t", &[]);
    let stage = Stage { patches, base: &base, port: free_port() };
    let host = Host::boot_with(&kernel, patches, &base, stage.port, |initramfs| {
        initramfs.file("/foreign.ko", 0o644, stage.foreign()).unwrap();
    });
    host.start();
    // A copy: the document of the base is not signed yet, so that every copy signs it as its first.
    let site = base.copy();
    let server = site.serve(stage.port);
    assert_eq!(host.enable(&token).status, 0);
    drop(server);
    let applied = host.kernel();

    stage.play(&host, &patches.second);
    assert_eq!((host.kernel(), host.checks()), (applied, [0, 0]));
    assert_eq!(host.status().patch.version.unwrap().to_string(), "1.1");

    // Somebody else's livepatch replaced ours: it is not replaced in turn.
    host.shell(LOAD_FOREIGN);
    let _scene = stage.serve(stage.offering(&patches.second));
    host.expect(&["refresh"], 1);
    assert_eq!(host.problem().unwrap(), "foreign-livepatch");
    assert_eq!(host.shell("ls /sys/kernel/livepatch"), "livepatch_9_9");
    host.shell(UNLOAD_FOREIGN);
    host.expect(&["refresh"], 0);
    assert_eq!((host.problem(), host.checks()), (None, [0, 0]));
    assert_eq!(host.status().patch.version.unwrap().to_string(), "2.1");
    host.finish();
}
