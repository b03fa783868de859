//! The last size, length and moment that is still taken, and the first that is not.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use livepatch_trust::{
    FileMeta, Header, KernelAllowance, Kind, MAX_ALLOWANCE_BYTES, MAX_SIGNATURES, MAX_TARGETS, PublicKey,
    Refusal, RepositoryName, Role, SignedFile, State, TargetName, Targets,
};
use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease, PatchVersion};

/// JSON with spaces behind it, of this length.
fn padded(text: &[u8], bytes: u64) -> Vec<u8> {
    let mut text = text.to_vec();
    text.resize(bytes as usize, b' ');
    text
}

fn kernel() -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
    }
}

fn is_too_long<T: std::fmt::Debug>(result: Result<T, Refusal>) {
    assert!(matches!(result, Err(Refusal::TooLong { .. })), "{result:?}");
}

#[test]
fn sizes() {
    let allowance = KernelAllowance::empty(kernel());
    let bytes = allowance.to_bytes();
    assert_eq!(KernelAllowance::parse(&padded(&bytes, MAX_ALLOWANCE_BYTES)), Ok(allowance));
    is_too_long(KernelAllowance::parse(&padded(&bytes, MAX_ALLOWANCE_BYTES + 1)));

    let file = SignedFile::unsigned(&"content").unwrap().to_bytes();
    assert!(SignedFile::parse(&padded(&file, 500), 500, "the file").is_ok());
    is_too_long(SignedFile::parse(&padded(&file, 501), 500, "the file"));

    // The root and its file in base64 or as text: some room more than a root has.
    let root = include_bytes!("golden/1.root.json");
    let state = State::pin(root.as_slice()).unwrap().to_bytes();
    let longest = (1_u64..=21).map(|exponent| 1 << exponent).filter(|bytes| *bytes > state.len() as u64);
    let taken: Vec<u64> = longest.filter(|bytes| State::parse(&padded(&state, *bytes)).is_ok()).collect();
    let last = *taken.last().unwrap();
    is_too_long(State::parse(&padded(&state, last + 1)));
}

#[test]
fn numbers() {
    let file = |signatures: usize| {
        let one = format!(r#"{{"keyid":"{}","sig":"00"}}"#, "0".repeat(64));
        let list = vec![one.as_str(); signatures].join(",");
        format!(r#"{{"signed":{{}},"signatures":[{list}]}}"#).into_bytes()
    };
    let parse = |signatures| SignedFile::parse(&file(signatures), 1 << 20, "the file");
    assert!(parse(MAX_SIGNATURES).is_ok());
    let refused = parse(MAX_SIGNATURES + 1).unwrap_err();
    assert_eq!(refused, Refusal::TooMany { what: "signatures", limit: MAX_SIGNATURES });

    let at = Timestamp::UNIX_EPOCH;
    let targets = |count: usize| Targets {
        header: Header::new(Role::Targets, 1, at, at),
        targets: (0..count)
            .map(|number| (format!("t{number}"), FileMeta::of(b"")))
            .collect::<BTreeMap<_, _>>(),
        delegations: None,
    };
    assert_eq!(targets(MAX_TARGETS).check(), Ok(()));
    let refused = Refusal::TooMany { what: "targets", limit: MAX_TARGETS };
    assert_eq!(targets(MAX_TARGETS + 1).check(), Err(refused));
}

#[test]
fn names() {
    assert!(TargetName::parse(&"a".repeat(256)).is_ok());
    for wrong in ["".to_owned(), "a".repeat(257), "a//b".into(), "../a".into(), "a/..".into(), "A".into()] {
        assert!(TargetName::parse(&wrong).is_err(), "{wrong:?}");
    }
    let name = RepositoryName::parse(&"a".repeat(64)).unwrap();
    assert_eq!((name.as_str(), name.to_string()), ("a".repeat(64).as_str(), "a".repeat(64)));
    for wrong in ["".to_owned(), "a".repeat(65), "a/b".into(), "..".into()] {
        assert!(RepositoryName::parse(&wrong).is_err(), "{wrong:?}");
    }
    let digest = FileMeta::of(b"").hashes.sha256;
    let path = |name: &str| TargetName::parse(name).unwrap().consistent_path(&digest);
    assert_eq!(path("kernels/amd64/1.json"), format!("kernels/amd64/{digest}.1.json"));
    assert_eq!(path("1.json"), format!("{digest}.1.json"));
}

#[test]
fn the_lowest_version_is_allowed_itself() {
    let version = |text| PatchVersion::parse(text).unwrap();
    let mut allowance = KernelAllowance::empty(kernel());
    allowance.lowest = Some(version("2.1"));
    assert_eq!(allowance.listed(&kernel(), version("2.1")), Err(Refusal::NotAllowed(version("2.1"))));
    let below = Refusal::BelowLowest { version: version("2.0"), lowest: version("2.1") };
    assert_eq!(allowance.listed(&kernel(), version("2.0")), Err(below));
}

#[test]
fn words() {
    let at = Timestamp::UNIX_EPOCH;
    for (refusal, hint) in [
        (Refusal::Format("2".into()), "update this program"),
        (Refusal::ClockBehind { issued: at, now: at }, "set the clock"),
        (Refusal::Threshold { role: Role::Root, valid: 0, threshold: 1 }, "livepatch-build trust sign"),
        (Refusal::WrongKind(Kind::Operator), "tell whoever publishes it"),
    ] {
        assert!(refusal.hint().contains(hint), "{refusal}: {}", refusal.hint());
    }
    assert_eq!([Kind::Vendor, Kind::Operator].map(|kind| kind.to_string()), ["a vendor", "an operator"]);
}

#[test]
fn keys_in_pem() {
    let point = PublicKey::EcdsaP256([4; 65]).to_pem();
    assert_eq!(PublicKey::from_pem(&point), Ok(PublicKey::EcdsaP256([4; 65])));
    // RFC 5480, 2.2: the first byte says how the point is written.
    assert!(PublicKey::from_pem(&PublicKey::EcdsaP256([5; 65]).to_pem()).is_err());
    let longest = (1..=16).map(|exponent| 1_usize << exponent).filter(|bytes| *bytes > point.len());
    let padded = |bytes: usize| format!("{point}{}", " ".repeat(bytes - point.len()));
    let taken: Vec<usize> = longest.filter(|bytes| PublicKey::from_pem(&padded(*bytes)).is_ok()).collect();
    let last = *taken.last().unwrap();
    is_too_long(PublicKey::from_pem(&padded(last + 1)));
}

/// The clock may be behind what was signed by so much, and not by a second more.
#[test]
fn the_clock() {
    let state = State::pin(include_bytes!("golden/1.root.json").as_slice()).unwrap();
    let issued = state.root().header.issued;
    let expires = state.root().header.expires;
    let behind =
        |seconds: i64| state.check_time(Timestamp::from_second(issued.as_second() - seconds).unwrap());
    let first = (0..=86400).find(|seconds| behind(*seconds).is_err()).unwrap();
    assert_eq!(first % 60, 1, "whole minutes are allowed");
    assert_eq!(state.check_time(expires), Err(Refusal::Expired { role: Role::Root, expires }));
    assert_eq!(state.check_time(Timestamp::from_second(expires.as_second() - 1).unwrap()), Ok(()));
}
