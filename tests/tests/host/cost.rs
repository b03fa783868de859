//! What a host's network carries for a first contact and for a poll, counted between the daemon and a server with a vendor's
//! repository of 200 kernels. `livepatch-bench-trust` counts the same for the server's own answers and 3,000 kernels, with a client
//! of its own; here it is the daemon that asks.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use livepatch_manifest::sha256;
use livepatch_trust::{FileMeta, TargetName};
use livepatch_types::{Architecture, BuildId};

use crate::repository::{TARGETS_KEYS, sign};
use crate::support::*;
use crate::telemetry::told;
use crate::vendor::{module_of, with_vendor};

/// How many kernels a repository has, as in `livepatch-bench-trust`.
const KERNELS: u16 = 200;

/// What went over a server's wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traffic {
    /// Each has one request: the daemon keeps none open.
    connections: usize,
    ended: usize,
    /// Of TLS in both directions, handshakes included.
    bytes: u64,
}

/// In front of a site: hands on all that is said, and counts it.
struct Counter {
    url: String,
    traffic: Arc<(Mutex<Traffic>, Condvar)>,
}

impl Counter {
    fn of(site: &Site) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let inside = site.url.strip_prefix("https://").unwrap().to_owned();
        let traffic = Arc::new((Mutex::new(Traffic::default()), Condvar::new()));
        let counting = Arc::clone(&traffic);
        // They end with the process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                counting.0.lock().unwrap().connections += 1;
                let (client, server) = (client.unwrap(), TcpStream::connect(&inside).unwrap());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let counting = Arc::clone(&counting);
                std::thread::spawn(move || {
                    let up = std::thread::spawn(move || pipe(from, to));
                    let bytes = pipe(server, client) + up.join().unwrap();
                    let mut traffic = counting.0.lock().unwrap();
                    (traffic.ended, traffic.bytes) = (traffic.ended + 1, traffic.bytes + bytes);
                    counting.1.notify_all();
                });
            }
        });
        Self { url, traffic }
    }

    /// What went over since the last time, once all connections have ended.
    async fn take(&self) -> Traffic {
        let traffic = Arc::clone(&self.traffic);
        let taken = tokio::task::spawn_blocking(move || {
            let open = |now: &mut Traffic| now.connections == 0 || now.ended < now.connections;
            let (mut now, waited) =
                traffic.1.wait_timeout_while(traffic.0.lock().unwrap(), BOUND, open).unwrap();
            assert!(!waited.timed_out(), "{now:?}");
            std::mem::take(&mut *now)
        });
        taken.await.unwrap()
    }
}

/// How many bytes there were. Either side may go first.
fn pipe(mut from: TcpStream, mut to: TcpStream) -> u64 {
    let bytes = std::io::copy(&mut from, &mut to).unwrap_or_default();
    let _ = to.shutdown(Shutdown::Write);
    bytes
}

#[tokio::test]
async fn what_a_first_contact_and_a_poll_cost() {
    let (site, mut host, mut repository) = with_vendor().await;
    repository.allow("1.1", &module_of("1.1"));
    let mut targets = repository.targets();
    for number in 1..KERNELS {
        let build_id = BuildId::from_bytes(&sha256(&number.to_be_bytes()).as_bytes()[..20]).unwrap();
        let name = TargetName::of_kernel(Architecture::Amd64, &build_id);
        targets.targets.insert(name.to_string(), FileMeta::of(&number.to_be_bytes()));
    }
    assert_eq!(targets.targets.len(), usize::from(KERNELS));
    let files = repository.files_with(&sign(&targets, &TARGETS_KEYS));
    let mut document = document(&kernel(1), 1, Some(site.target("1.1", &kernel(1))));
    let mut named = repository.named();
    named.timestamp.sha256 = sha256(&files["metadata/timestamp.json"]);
    document.vendor = Some(named);
    site.publish(&document);
    site.shelf.lock().unwrap().vendor = files;

    let counter = Counter::of(&site);
    host.server(&counter.url);
    let daemons = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    // Enrolment, the module and the reports of its application are among it.
    told(&site, 4).await;
    let first = counter.take().await;
    site.asked();
    println!("first contact: {first:?}");
    assert!(first.bytes < 200_000, "{first:?}");

    // What the server told of the TLS session counts for the next connection, as between two polls of one daemon.
    for _ in 0..3 {
        assert_eq!(code(daemons.refresh().await), "ok");
        let poll = counter.take().await;
        println!("poll: {poll:?}");
        assert_eq!(site.asked().last().map(String::as_str), Some("304"), "nothing was new");
        assert_eq!(poll.connections, 1, "two requests at most, and it is one");
        assert!(poll.bytes < 1500, "{poll:?}");
    }
}
