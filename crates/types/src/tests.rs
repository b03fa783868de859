use proptest::prelude::*;

use crate::*;

#[test]
fn texts_that_are_refused() {
    for text in
        ["", "CVE-2026", "CVE-26-12345", "CVE-2026-123", "CVE-2026-012345", "CVE-2026-1234x", "2026-12345"]
    {
        assert!(CveId::parse(text).is_err(), "{text:?}");
    }
    for text in ["", "../etc", "6.1/x", "six", "6.1 0", &"6".repeat(65), "6.1\n"] {
        assert!(KernelRelease::parse(text).is_err(), "{text:?}");
    }
    for text in ["", "a-b", "../x", "x.ko", &"m".repeat(56)] {
        assert!(ModuleName::parse(text).is_err(), "{text:?}");
    }
    for text in ["", "Stable", "-a", "a-", "a/b", &"t".repeat(33)] {
        assert!(Tier::parse(text).is_err(), "{text:?}");
    }
    for text in [
        "",
        "/1",
        "a/",
        "a/b",
        "a/01",
        "a/+1",
        "a/10000",
        "a/1/2",
        "A",
        "a b",
        "-a",
        "a.",
        "ä",
        "a\n",
        "../a",
        "a//1",
        &"a".repeat(49),
    ] {
        assert!(Cohort::parse(text).is_err(), "{text:?}");
    }
    for text in ["", "1", "0.1", "1.", ".1", "01.1", "1.01", "1.2.3", "4294967296.0", "+1.1"] {
        assert!(PatchVersion::parse(text).is_err(), "{text:?}");
    }
    for text in
        ["", "LSN", "LSN-0113", "LSN-0-1", "LSN-1-0", "LSN-+1-1", "LSN-1-99999999999", "0113-1", "LSN-1-1-1"]
    {
        assert!(NoticeId::parse(text).is_err(), "{text:?}");
    }
    for text in ["", "ab", "zz".repeat(20).as_str(), "AB".repeat(20).as_str(), "abc"] {
        assert!(BuildId::parse(text).is_err(), "{text:?}");
    }
    assert!(Sha256Digest::parse(&"A".repeat(64)).is_err());
}

#[test]
fn texts_that_are_taken() {
    assert_eq!(CveId::parse("cve-2026-93146").unwrap().to_string(), "CVE-2026-93146");
    assert_eq!(CveId::parse("CVE-1999-0001").unwrap().to_string(), "CVE-1999-0001");
    assert_eq!(PatchVersion::parse("113.1").unwrap().module_name().as_str(), "livepatch_113_1");
    assert!(PatchVersion::parse("9.9").unwrap() < PatchVersion::parse("10.1").unwrap());
    assert_eq!(NoticeId::parse("lsn-113-1").unwrap().to_string(), "LSN-0113-1");
    assert_eq!(NoticeId::of(PatchVersion::parse("12113.4").unwrap()).to_string(), "LSN-12113-1");
    let parts = |text: &str| Cohort::parse(text).map(|cohort| (cohort.name().to_owned(), cohort.ordinal()));
    assert_eq!(parts("site-berlin.2_a"), Ok(("site-berlin.2_a".to_owned(), None)));
    assert_eq!(parts("databases/0"), Ok(("databases".to_owned(), Some(0))));
    assert_eq!(parts(&format!("{}/9999", "a".repeat(48))), Ok(("a".repeat(48), Some(9999))));
    assert!(Rating::High.qualifies() && !Rating::Medium.qualifies());
}

#[test]
fn a_secret_does_not_show() {
    let secret = Redacted::new("hunter2".to_owned());
    assert_eq!(format!("{secret:?} {secret}"), "[redacted] [redacted]");
}

proptest! {
    #[test]
    fn text_values_round_trip(year in 1000u16..9999, number in 10000u64..u64::MAX / 2, major in 1u32.., minor: u32, id: [u8; 20]) {
        let cve = format!("CVE-{year}-{number}");
        prop_assert_eq!(CveId::parse(&cve).unwrap().to_string(), cve);
        let version = format!("{major}.{minor}");
        prop_assert_eq!(PatchVersion::parse(&version).unwrap().to_string(), version);
        let id = BuildId::from_bytes(&id).unwrap();
        prop_assert_eq!(BuildId::parse(&id.to_string()).unwrap(), id);
    }

    #[test]
    fn no_text_panics(text in ".{0,100}") {
        let _ = (CveId::parse(&text), NoticeId::parse(&text), KernelRelease::parse(&text), ModuleName::parse(&text));
        let _ = (Tier::parse(&text), PatchVersion::parse(&text), BuildId::parse(&text), Sha256Digest::parse(&text));
    }
}
