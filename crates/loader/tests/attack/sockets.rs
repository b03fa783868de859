//! Whoever is on the sockets, and whatever bytes come, in whatever order and number.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use livepatch_loader::Peers;
use livepatch_loader::server::{PEER_BOUND, THREADS};
use livepatch_loader_api::{AgentRequest, Request as _, RootRequest};

use crate::stage::*;

/// Who the kernel says is at the other end.
type Credentials = fn(&UnixStream) -> Option<u32>;

const AGENT: u32 = 998;
const STRANGER: u32 = 1000;

#[test]
fn attack_peers_that_may_not_speak() {
    unattacked();
    let mut stage = Stage::running();
    let (agents, next) = (&[AGENT, 0], good("1.2"));
    let mut refused = String::new();
    // Users, as the kernel would say: a stranger, the agent on root's socket, nobody to be known.
    let cases: [(Credentials, bool); 4] =
        [(|_| Some(STRANGER), false), (|_| None, false), (|_| Some(AGENT), true), (|_| Some(0), true)];
    for (credentials, speaks_to_agents_socket) in cases {
        stage.serve(
            &Peers::with_credentials(agents, credentials),
            &Peers::with_credentials(&[0], credentials),
        );
        let is_root = credentials(&UnixStream::pair().unwrap().0) == Some(0);
        let answer = agent(&stage.agents, AgentRequest::Status, &[]);
        let expected = |may| if may { "ok" } else { "not-permitted" };
        assert_eq!(code(&answer), expected(speaks_to_agents_socket));
        assert_eq!(answer.view.is_some(), speaks_to_agents_socket, "they learn nothing either");
        let answer = root(&stage.roots, RootRequest::Status);
        assert_eq!(code(&answer), expected(is_root));
        if !is_root {
            for command in
                [RootRequest::Revert, RootRequest::Clear, RootRequest::Disable, RootRequest::ResetTrust]
            {
                assert_eq!(code(&root(&stage.roots, command)), "not-permitted");
            }
        }
        if !speaks_to_agents_socket {
            refused = said(&agent(&stage.agents, AgentRequest::Status, &[]));
            stage.insist(&stage.document(2, "1.2", &next), &next);
        }
        stage.is_untouched();
    }
    insta::assert_snapshot!(refused, @"
    this socket is not for this user (not-permitted)
    hint: use sudo
    ");
}

#[test]
fn attack_requests_that_do_not_exist() {
    unattacked();
    let stage = Stage::running();
    for kind in 0..=255 {
        if AgentRequest::from_kind(kind).is_none() {
            // Root's among them.
            let answer = exchange(&stage.agents, &[kind, 0, 0, 0, 0]).unwrap();
            assert_eq!(code(&answer), "bad-request", "{kind}");
        }
        if RootRequest::from_kind(kind).is_none() {
            let answer = exchange(&stage.roots, &[kind, 0, 0, 0, 0]).unwrap();
            assert_eq!(code(&answer), "bad-request", "{kind}");
        }
    }
    stage.is_untouched();
}

/// All that can be asked of the one and of the other.
fn kinds() -> (Vec<AgentRequest>, Vec<RootRequest>) {
    (
        (0..=255).filter_map(AgentRequest::from_kind).collect(),
        (0..=255).filter_map(RootRequest::from_kind).collect(),
    )
}

#[test]
fn attack_bodies_that_are_too_long() {
    unattacked();
    let stage = Stage::running();
    let (agents, roots): (Vec<_>, Vec<_>) = kinds();
    assert_eq!((agents.len(), roots.len()), (10, 8), "a new one is attacked here, too");
    for (socket, kind, most) in agents
        .iter()
        .map(|asked| (&stage.agents, asked.kind(), asked.max_body_bytes()))
        .chain(roots.iter().map(|asked| (&stage.roots, asked.kind(), asked.max_body_bytes())))
    {
        // Refused by its length alone: nothing of it is waited for.
        for length in [most + 1, u32::MAX] {
            let head = [&[kind][..], &length.to_be_bytes()].concat();
            assert_eq!(code(&exchange(socket, &head).unwrap()), "bad-request", "{kind} {length}");
        }
        // As long as it may be, and it ends early.
        if most > 0 {
            let head = [&[kind][..], &most.to_be_bytes(), b"{"].concat();
            assert_ne!(code(&exchange(socket, &head).unwrap()), "ok", "{kind}");
        }
    }
    // As long as they may be, and whole: no more than a refusal comes of it.
    for asked in agents.iter().filter(|asked| (1..=4 << 20).contains(&asked.max_body_bytes())) {
        let long = vec![b'{'; asked.max_body_bytes() as usize];
        assert_ne!(code(&agent(&stage.agents, *asked, &long)), "ok", "{asked:?}");
    }
    let long = vec![b'{'; AgentRequest::Note.max_body_bytes() as usize];
    assert_eq!(stage.note(&long), "document-malformed");
    let head = [&[4u8][..], &AgentRequest::Apply.max_body_bytes().to_be_bytes()].concat();
    assert_eq!(code(&exchange(&stage.agents, &head).unwrap()), "module-not-wanted");
    stage.is_untouched();
}

#[test]
fn attack_any_bytes() {
    unattacked();
    let stage = Stage::running();
    // xorshift: the same bytes in every run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let highest = kinds().0.iter().map(|asked| asked.kind()).max().unwrap();
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..600 {
        let length = next() % 64;
        let mut bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        // Every other one comes past the head.
        if next() % 2 == 0 && bytes.len() > 5 {
            let body = bytes.len() as u8 - 5;
            // Every kind there is, and two that are none.
            bytes[..5].copy_from_slice(&[(next() % (u64::from(highest) + 2)) as u8, 0, 0, 0, body]);
            asked.insert(bytes[0]);
        }
        exchange(&stage.agents, &bytes);
    }
    assert!((0..=highest + 1).all(|kind| asked.contains(&kind)), "{asked:?}");
    assert_eq!(code(&agent(&stage.agents, AgentRequest::Status, &[])), "ok");
    stage.is_untouched();
}

#[test]
fn attack_slow_peers() {
    unattacked();
    let mut stage = Stage::running();
    let me = Peers::of(&[rustix::process::getuid().as_raw()]);
    stage.serve_within(PEER_BOUND, &me, &me);
    let next = good("1.2");
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    let mut held = Vec::new();
    for _ in 0..4 * THREADS {
        let mut stream = UnixStream::connect(&stage.agents).unwrap();
        // Half a head; or half a module.
        stream.write_all(if held.len() % 2 == 0 { &[3, 0] } else { &[4, 0, 0, 1, 0, 0] }).unwrap();
        held.push(stream);
    }
    let began = Instant::now();
    // Root is not kept waiting, and the agent's turn comes when the slow ones are hung up on.
    assert_eq!(code(&root(&stage.roots, RootRequest::Status)), "ok");
    assert!(began.elapsed() < PEER_BOUND, "{:?}", began.elapsed());
    stage.is_untouched();
    assert_eq!(stage.apply(&next), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

#[test]
fn attack_flood() {
    unattacked();
    let stage = Stage::running();
    let module = good("1.1");
    let newer = stage.document(2, "1.1", &module);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    stage.note(&newer);
                    stage.converge();
                    stage.apply(&module);
                }
            });
        }
        // Root says revert, in the middle of it; it is done, and stays so.
        let reverted = code(&root(&stage.roots, RootRequest::Revert));
        for _ in 0..20 {
            root(&stage.roots, RootRequest::Status);
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(reverted, "ok");
    });
    assert_eq!((stage.livepatches(), stage.kernel.loads().len()), (vec![], 1));
}
