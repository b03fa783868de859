//! A stream of requests to a loader, as a hostile agent sends them: heads are read as written, and whatever is asked in
//! whatever order, signed documents and metadata among it, no module that the vendor did not sign is loaded. Everything is
//! pinned that a host can pin: the vendor's root, the operator's, and the key of a transparency log.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use livepatch_fuzz::{assign, kernel, log_key, operator_root, sign_envelope, sign_metadata, vendor_root};
use livepatch_kernel::{FakeKernel, ThreadPause};
use livepatch_loader::{Loader, Parts, TrustDirectories, answer_agent};
use livepatch_loader_api::{AgentRequest, HEAD_BYTES, Head, Request, RootRequest, View};
use livepatch_settings::Policy;
use livepatch_types::SystemClock;

struct Host {
    kernel: Arc<FakeKernel>,
    loader: Arc<Loader>,
    /// How it looked at first.
    fresh: View,
    _directory: tempfile::TempDir,
}

fn host() -> Host {
    let directory = tempfile::tempdir().expect("a directory");
    let log = log_key().to_text();
    let files: [(&str, &[u8]); 4] = [
        ("operator-root.json", &operator_root()),
        ("vendor-root.json", &vendor_root()),
        ("log.vkey", log.as_bytes()),
        ("vendor.pem", include_bytes!("../seeds/module_signature/certificate.pem")),
    ];
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).expect("a file");
    }
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
    let fresh = loader.view();
    assert!(fresh.vendor.is_some() && fresh.operator.is_some() && fresh.log.is_some(), "all are pinned");
    Host { kernel, loader, fresh, _directory: directory }
}

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

fn read_as_written<R: Request + PartialEq>(bytes: [u8; HEAD_BYTES]) {
    if let Ok(head) = Head::<R>::parse(bytes) {
        assert!(head.body_bytes <= head.request.max_body_bytes());
        assert_eq!(head.to_bytes(), bytes);
    }
}

/// What only somebody with a key can say: the same body behind the signature, if there is such a form of it.
fn signed(request: AgentRequest, body: &[u8]) -> Option<Vec<u8>> {
    let content = || serde_json::from_slice::<serde_json::Value>(body).ok();
    match request {
        AgentRequest::Note if body.first() == Some(&b'{') => Some(sign_envelope(body)),
        AgentRequest::Metadata | AgentRequest::OperatorRoot => sign_metadata(&content()?),
        _ => None,
    }
}

fn ask(host: &Host, data: &[u8]) {
    let mut rest = data;
    while let Some((head, body)) = rest.split_first_chunk::<HEAD_BYTES>() {
        read_as_written::<AgentRequest>(*head);
        read_as_written::<RootRequest>(*head);
        let Ok(head) = Head::<AgentRequest>::parse(*head) else { break };
        let (mut body, after) = body.split_at(body.len().min(head.body_bytes as usize));
        if let Some(signed) = signed(head.request, body) {
            let head = Head { body_bytes: signed.len() as u32, ..head };
            answer_agent(&host.loader, head, &mut signed.as_slice());
        }
        answer_agent(&host.loader, head, &mut body);
        rest = after;
    }
    assert!(host.kernel.loads().is_empty());
}

fuzz_target!(|data: &[u8]| {
    HOST.with_borrow_mut(|slot| {
        let current = slot.get_or_insert_with(host);
        ask(current, data);
        // A high version would shut the door for every later input.
        if current.loader.view() != current.fresh {
            *slot = None;
        }
    });
});
