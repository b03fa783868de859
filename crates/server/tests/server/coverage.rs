//! Which kernels are covered: what hosts are told over HTTP, and the commands by which an operator says it.

use livepatch_manifest::envelope::assemble;
use livepatch_manifest::support::{MAX_SUPPORT_BYTES, PAYLOAD_TYPE};
use livepatch_manifest::{EnvelopeError, SupportError, SupportMatrix, VerifyingKey, sha256};
use livepatch_server::Exit;
use reqwest::{StatusCode, header};
use serde_json::Value;

use crate::cli::refused;
use crate::http::error;
use crate::support::*;

const MINE: &str = r#"
schema = 1
[[row]]
distribution = "debian"
release = "12"
name = "Debian 12"
architecture = "amd64"
series = "6.1"
line = "stable"
until = "2028-06-30"
flavour = [{ name = "cloud-amd64", package = "linux-image-cloud-amd64" }]
"#;

/// What a host gets, with its tag.
async fn asked(server: &Server) -> (Vec<u8>, String) {
    let response = server.get("/v1/support").await;
    assert_eq!(response.status(), StatusCode::OK);
    let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
    (response.bytes().await.unwrap().to_vec(), tag)
}

fn import(site: &Site, text: &str) -> String {
    let path = site.write("support.toml", text.as_bytes());
    site.good(&["support", "import", path.to_str().unwrap()])
}

#[tokio::test]
async fn hosts_get_it_signed_by_the_operator_alone() {
    let site = Site::new();
    let server = site.serve().await;
    let (envelope, tag) = asked(&server).await;
    assert!(envelope.len() <= MAX_SUPPORT_BYTES);
    assert_eq!(tag, format!("\"{}\"", sha256(&envelope)));
    let keys = [site.operator()];
    let shipped = SupportMatrix::open(&envelope, &keys, 0).unwrap();
    assert!(shipped.rows.len() > 1);
    // The same bytes, which need not be sent again.
    assert_eq!(asked(&server).await, (envelope.clone(), tag.clone()));
    let request = server.client.get(server.url("/v1/support")).header(header::IF_NONE_MATCH, &tag);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);

    // Nobody else's word, nor one without a signature, nor the operator's for something else.
    let stranger = VerifyingKey::from_bytes([9; 32]);
    let open = |bytes: &[u8]| SupportMatrix::open(bytes, &keys, 0);
    let by_stranger = SupportMatrix::open(&envelope, &[stranger], 0);
    assert!(matches!(by_stranger, Err(SupportError::Envelope(EnvelopeError::UntrustedSigner(_)))));
    let unsigned = assemble(PAYLOAD_TYPE, &shipped.to_payload(), &[]);
    assert!(matches!(open(&unsigned), Err(SupportError::Envelope(_))));
    let document = server.get("/v1/kernels/stable/00").await.bytes().await.unwrap();
    assert!(open(&document).is_err());

    // A running server reads what is given to it, and what is newer is newer for hosts too.
    let said = import(&site, MINE);
    assert_eq!(said, "1 row of systems and kernels said; hosts that are not covered learn it within a day\n");
    let (given, other_tag) = asked(&server).await;
    assert_ne!(other_tag, tag);
    let given = SupportMatrix::open(&given, &keys, shipped.version + 1).unwrap();
    assert_eq!((given.rows.len(), given.rows[0].name.as_str()), (1, "Debian 12"));

    // What was damaged on the disk is no answer, and hosts hear nothing of the disk.
    std::fs::write(site.data().join("support.json"), "{").unwrap();
    let response = server.get("/v1/support").await;
    assert_eq!(error(response, StatusCode::INTERNAL_SERVER_ERROR).await, "internal");
    refused(&site, &["support", "show"], Exit::Setup, "support.json");
    import(&site, MINE);
    assert!(!asked(&server).await.0.is_empty());
}

#[test]
fn what_is_shipped_can_be_given_back() {
    let site = Site::new();
    let shipped = site.good(&["support", "shipped"]);
    let before = site.good(&["support", "show", "--format", "json"]);
    let said = import(&site, &shipped);
    assert!(said.starts_with("8 rows of systems and kernels said; "), "{said}");
    assert_eq!(site.good(&["support", "show", "--format", "json"]), before);
    let table = site.good(&["support", "show"]);
    let row = table.lines().find(|line| line.contains("linux-image-cloud-amd64")).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        row,
        "Debian 12 6.1 stable cloud-amd64 linux-image-cloud-amd64 2028-06-30 0"
            .split(' ')
            .collect::<Vec<_>>()
    );
}

/// How many kernels of a row have livepatches here: an operator sees what to leave out.
#[test]
fn what_is_covered_is_counted() {
    let site = Site::new();
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"module"), &["--tier", "stable"]);
    import(&site, MINE);
    let shown: Value = serde_json::from_str(&site.good(&["support", "show", "--format", "json"])).unwrap();
    let rows = shown.as_array().or_else(|| shown.as_object()?.values().find_map(Value::as_array)).unwrap();
    assert_eq!((rows.len(), &rows[0]["flavour"], &rows[0]["kernels"]), (1, &"cloud-amd64".into(), &1.into()));
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_nothing_changes() {
    let site = Site::new();
    import(&site, MINE);
    let before = site.good(&["support", "show", "--format", "json"]);
    let long = format!("{MINE}{}", "#".repeat(MAX_SUPPORT_BYTES));
    let many = format!("schema = 1\n{}", MINE.trim_start().trim_start_matches("schema = 1\n").repeat(65));
    let cases: [(&str, &str); 15] = [
        // Members that there are not, and such that are missing.
        (&MINE.replace("until =", "untill ="), "untill"),
        (&MINE.replace("schema = 1", "schema = 1\nmore = 1"), "more"),
        (&MINE.replace("series = \"6.1\"\n", ""), "series"),
        (&MINE.replace(", package = \"linux-image-cloud-amd64\"", ""), "package"),
        ("schema = 1\n", "row"),
        ("", "schema"),
        // Wrong types and values.
        (&MINE.replace("series = \"6.1\"", "series = 6.1"), "string"),
        (&MINE.replace("until = \"2028-06-30\"", "until = \"soon\""), "line 10: "),
        (&MINE.replace("\"amd64\"", "\"vax\""), "vax"),
        (&MINE.replace("line =", "window-months = -1\nline ="), "-1"),
        (&MINE.replace("schema = 1", "schema = 2"), "its schema is 2"),
        (&MINE.replace("linux-image-cloud-amd64", "x; reboot"), "is not a name, version or package"),
        (&MINE.replace("Debian 12", "Debian\\u001b[2J"), "is not a short plain text"),
        (&many, "more than 64 rows"),
        (&long, "bytes"),
    ];
    for (text, words) in cases {
        let path = site.write("wrong.toml", text.as_bytes());
        let (_, said) = site.bad(&["support", "import", path.to_str().unwrap()]);
        let (line, hint) = said.split_once("\n\n").unwrap_or_else(|| panic!("no hint: {said}"));
        assert!(line.contains("wrong.toml") && line.contains(words), "{words}: {said}");
        assert!(hint.starts_with("hint: ") && !line.contains('\u{1b}'), "{said}");
        assert_eq!(site.good(&["support", "show", "--format", "json"]), before, "{words}");
    }
    let binary = site.write("wrong.toml", b"\xff\xfe");
    refused(&site, &["support", "import", binary.to_str().unwrap()], Exit::Refused, "it is not text");
    let (code, _) = site.bad(&["support", "import", "/nowhere.toml"]);
    assert_eq!(code, Exit::Refused as i32);
}
