//! A stream of requests to a loader, as a hostile agent sends them: heads are read as written, and whatever is asked in
//! whatever order, signed documents among it, no module that the vendor did not sign is loaded.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use livepatch_fuzz::{assign, kernel, sign_envelope, verifying_key};
use livepatch_kernel::{FakeKernel, ThreadPause};
use livepatch_loader::{Loader, Parts, TrustDirectories, answer_agent};
use livepatch_loader_api::{AgentRequest, HEAD_BYTES, Head, Request, RootRequest};
use livepatch_settings::Policy;
use livepatch_types::SystemClock;

struct Host {
    kernel: Arc<FakeKernel>,
    loader: Arc<Loader>,
    _directory: tempfile::TempDir,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("operator.pub"), verifying_key().to_text()).expect("a file");
    std::fs::write(directory.path().join("vendor.pem"), include_bytes!("../seeds/module_signature/certificate.pem")).expect("a file");
    let kernel = Arc::new(FakeKernel::new(kernel()));
    let loader = Loader::new(Parts {
        kernel: Arc::clone(&kernel) as _,
        pause: Arc::new(ThreadPause),
        clock: Arc::new(SystemClock),
        trust: TrustDirectories {
            administrator: directory.path().to_owned(),
            package: directory.path().to_owned(),
        },
        machine: None,
        state_directory: directory.path().join("state"),
        policy: Policy::default(),
        transition_timeout: Duration::from_secs(1),
        soak: Duration::ZERO,
        panic_directories: Vec::new(),
        steps: Arc::new(livepatch_loader::step::Unwatched),
        observer: Arc::new(livepatch_loader::observer::Unobserved),
    });
    loader.enable().expect("a loader");
    let host = loader.view().host.expect("an id");
    loader.take_assignment(&assign(host)).expect("an assignment");
    Host { kernel, loader, _directory: directory }
});

fn read_as_written<R: Request + PartialEq>(bytes: [u8; HEAD_BYTES]) {
    if let Ok(head) = Head::<R>::parse(bytes) {
        assert!(head.body_bytes <= head.request.max_body_bytes());
        assert_eq!(head.to_bytes(), bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Some((head, body)) = rest.split_first_chunk::<HEAD_BYTES>() {
        read_as_written::<AgentRequest>(*head);
        read_as_written::<RootRequest>(*head);
        let Ok(head) = Head::<AgentRequest>::parse(*head) else { break };
        let (mut body, after) = body.split_at(body.len().min(head.body_bytes as usize));
        if head.request == AgentRequest::Note && body.first().is_some_and(|byte| *byte == b'{') {
            // What the operator may say: behind the signature.
            let signed = sign_envelope(body);
            let head = Head { body_bytes: signed.len() as u32, ..head };
            answer_agent(&HOST.loader, head, &mut signed.as_slice());
        }
        answer_agent(&HOST.loader, head, &mut body);
        rest = after;
    }
    assert!(HOST.kernel.loads().is_empty());
});
