use livepatch_api::daemon::Failure;
use livepatch_loader_api::{LogView, OperatorView, RoleSeen, VendorView, View, WantedFile};
use livepatch_types::PatchVersion;

use crate::support::*;

fn vendor() -> VendorView {
    let seen = |role, version| RoleSeen { role, version, expires: "2027-11-23T00:00:00Z".parse().unwrap() };
    VendorView {
        repository: "debian-12-6.1".parse().unwrap(),
        seen: vec![
            seen(serde_json::from_str("\"root\"").unwrap(), 2),
            seen(serde_json::from_str("\"timestamp\"").unwrap(), 41),
        ],
        knows_this_kernel: true,
        allowed: vec![PatchVersion::parse("1.1").unwrap(), PatchVersion::parse("1.2").unwrap()],
        withdrawn: vec![],
        behind: false,
        wants: None,
    }
}

#[test]
fn trust_is_shown_as_the_loader_sees_it() {
    let problem = Failure {
        code: "vendor-expired".into(),
        message: "expired".into(),
        hints: vec!["the publisher must renew it".into()],
    };
    let rows = "repository  debian-12-6.1\n\
        root        version 2, expires 2027-11-23 00:00:00 UTC\n\
        timestamp   version 41, expires 2027-11-23 00:00:00 UTC\n\
        allowed     1.1, 1.2\n\
        withdrawn   none\n";
    let wanted = WantedFile { path: "metadata/2.root.json".into(), limit_bytes: 65536, may_be_absent: true };
    let wants =
        VendorView { wants: Some(wanted), withdrawn: vec![PatchVersion::parse("1.0").unwrap()], ..vendor() };
    let operator = "operator    example-fleet, root version 2, expires 2027-11-23 00:00:00 UTC\n\
        log         log.example/fleet, 1 entry seen\n";
    let one_key = "operator    no operator-root.json is pinned, the key in operator.pub alone counts\n\
        log         no log.vkey is pinned, nobody asks here what is in a log\n";
    let cases = [
        (Some(wants), None, 0, format!("{}{operator}", rows.replace("none", "1.0"))),
        (
            None,
            None,
            0,
            "repository  none: no vendor-root.json is pinned, the vendor's certificate alone counts\n"
                .to_owned()
                + one_key,
        ),
        (Some(vendor()), None, 0, format!("{rows}{operator}")),
        (
            Some(vendor()),
            Some(problem),
            1,
            format!(
                "{rows}{operator}\nproblem: expired (vendor-expired)\nhint: the publisher must renew it\n"
            ),
        ),
    ];
    for (vendor, vendor_problem, exit, expected) in cases {
        for arguments in [&["trust"][..], &["trust", "reset"]] {
            let directory = tempfile::tempdir().unwrap();
            let operator = vendor.as_ref().map(|_| OperatorView {
                repository: "example-fleet".parse().unwrap(),
                root: 2,
                expires: "2027-11-23T00:00:00Z".parse().unwrap(),
            });
            let (seen, vendor_problem) = (vendor.clone(), vendor_problem.clone());
            let log = vendor.as_ref().map(|_| LogView {
                name: "log.example/fleet".into(),
                keys: vec![],
                size: 1,
                wants: None,
            });
            let view = View { vendor: seen, vendor_problem, operator, log, ..View::default() };
            loader_with(directory.path(), None, Some(view));
            let output = livepatch(directory.path(), arguments, "");
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(exit), expected.as_str()));
            let arguments = [arguments, &["--format", "json"]].concat();
            let output = livepatch(directory.path(), &arguments, "");
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            fits("trust", &output.stdout);
            assert_eq!((json["schema"].as_u64(), json["vendor"].is_null()), (Some(1), vendor.is_none()));
            assert_eq!(json["operator"].is_null(), vendor.is_none());
        }
    }
}

/// Every role that there is has its word in the schema.
#[test]
fn roles_are_those_of_the_schema() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../../docs/schema/trust.schema.json")).unwrap();
    let words = &schema["properties"]["vendor"]["properties"]["seen"]["items"]["properties"]["role"]["enum"];
    let words: Vec<&str> = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words, ["root", "targets", "snapshot", "timestamp", "documents", "assignments"]);
    for word in words {
        let seen = serde_json::json!({ "role": word, "version": 1, "expires": "2027-11-23T00:00:00Z" });
        assert!(serde_json::from_value::<RoleSeen>(seen).is_ok(), "{word}");
    }
}

/// What is not as usual, in words.
#[test]
fn the_words_for_what_is_not_there_yet() {
    let shown = |view: View| {
        let directory = tempfile::tempdir().unwrap();
        loader_with(directory.path(), None, Some(view));
        text(&livepatch(directory.path(), &["trust"], "").stdout).to_owned()
    };
    let new = VendorView { seen: vec![], knows_this_kernel: false, ..vendor() };
    let expires = "2027-11-23T00:00:00Z".parse().unwrap();
    let operator = OperatorView { repository: "example-fleet".parse().unwrap(), root: 1, expires };
    let log = LogView { name: "log.example/fleet".into(), keys: vec![], size: 0, wants: None };
    let pinned = View { vendor: Some(new), operator: Some(operator), log: Some(log), ..View::default() };
    let log = LogView { name: "log.example/fleet".into(), keys: vec![], size: 2, wants: None };
    let seen = View { vendor: Some(vendor()), log: Some(log), ..View::default() };
    let problem =
        Failure { code: "trust-missing".into(), message: "it is so".into(), hints: vec!["do this".into()] };
    let lost = View { vendor_problem: Some(problem), ..View::default() };
    insta::assert_snapshot!([pinned, seen, View::default(), lost].map(shown).join("---\n"), @"
    repository  debian-12-6.1
    allowed     not asked yet for this kernel
    withdrawn   none
    operator    example-fleet, root version 1, expires 2027-11-23 00:00:00 UTC
    log         log.example/fleet, nothing of it was seen yet
    ---
    repository  debian-12-6.1
    root        version 2, expires 2027-11-23 00:00:00 UTC
    timestamp   version 41, expires 2027-11-23 00:00:00 UTC
    allowed     1.1, 1.2
    withdrawn   none
    operator    no operator-root.json is pinned, the key in operator.pub alone counts
    log         log.example/fleet, 2 entries seen
    ---
    repository  none: no vendor-root.json is pinned, the vendor's certificate alone counts
    operator    no operator-root.json is pinned, the key in operator.pub alone counts
    log         no log.vkey is pinned, nobody asks here what is in a log
    ---
    repository  not known
    operator    no operator-root.json is pinned, the key in operator.pub alone counts
    log         no log.vkey is pinned, nobody asks here what is in a log

    problem: it is so (trust-missing)
    hint: do this
    ");
}
