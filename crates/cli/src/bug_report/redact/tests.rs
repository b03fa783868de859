use proptest::prelude::*;

use super::*;

fn private() -> Private {
    Private { hosts: vec!["vault7".into(), "vault7.example.org".into()], users: vec!["alice".into()] }
}

#[test]
fn what_goes() {
    for (text, expected) in [
        ("from 192.168.1.17.", "from [ip]."),
        ("to 10.0.0.1:8443", "to [ip]:8443"),
        ("fe80::1ff:fe23:4567:890a%eth0 and ::1", "[ip]%eth0 and [ip]"),
        ("[2001:db8::7]:443", "[[ip]]:443"),
        ("link 52:54:00:12:34:56 up", "link [mac] up"),
        ("link 52-54-00-12-34-56 up", "link [mac] up"),
        ("mail to bob.b@example.org now", "mail to [email] now"),
        ("on Vault7: vault7.example.org,", "on [host]: [host],"),
        ("its db.vault7.example.org too", "its [host] too"),
        (
            "dns error: failed to lookup address of other.lan: not known",
            "dns error: failed to lookup address of [host]: not known",
        ),
        ("cannot resolve a-b.c3.example", "cannot resolve [host]"),
        (
            "certificate not valid for name \"a.lan\"; certificate is only valid for DnsName(\"b.lan\")",
            "certificate not valid for name \"[host]\"; certificate is only valid for DnsName(\"[host]\")",
        ),
        ("alice ran it in /home/carol/x", "[user] ran it in /home/[user]/x"),
        ("https://user:pw@server.lan:8443/v1/x?q=1", "https://[host]/v1/x?q=1"),
        ("from http://u:pa)s!t@proxy, it says", "from http://[host] it says"),
        ("(http://u:'<a>?b#c/d@e@proxy:3128/x)", "(http://[host]/x)"),
        ("server = \"https://server.lan\"", "server = \"https://[host]\""),
        ("root=UUID=0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f ro", "root=UUID=[id] ro"),
        ("machine 0123456789abcdef0123456789abcdef", "machine [secret]"),
        ("token: abc", "token: [secret]"),
        ("\"password\": \"abc\", x", "\"password\": \"[secret]\", x"),
        ("Authorization: Bearer abc", "Authorization: Bearer [secret]"),
        ("key AbCdEfGhIjKlMnOpQrS7", "key [secret]"),
        ("\u{1b}[31mred", " [31mred"),
    ] {
        assert_eq!(private().redact(text), expected, "{text}");
    }
    let token = format!("got {}.{} from", "01".repeat(8), "ab".repeat(32));
    assert_eq!(private().redact(&token), "got [secret] from");
}

#[test]
fn what_stays() {
    for text in [
        "6.1.0-50-cloud-amd64 (amd64)",
        "other.lan is not known to it",
        "livepatchd.service: cannot resolve, see livepatch.toml of 6.1.0-50-cloud-amd64",
        "build-id abababababababababababababababababababab",
        "2026-11-24T12:00:00Z 12:34:56",
        "Linux version 6.12.9+bpo-amd64 gcc-12 (Debian 12.2.0-14)",
        "livepatch_113_1 applied, CVE-2026-123456",
        "the token has expired",
        "[none] integrity confidentiality",
        "livepatchd[123]: malice and vault70 are other words",
        "crate::agent: Abc::new",
        "/usr/share/livepatch/keys/vendor.pem",
    ] {
        assert_eq!(private().redact(text), text);
    }
}

/// A line that looks like the beginning of everything, again and again.
#[test]
fn long_lines_take_no_time() {
    // Of this thread: other tests may keep the machine busy.
    let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec;
    let start = spent();
    for part in ["a-", "1.", "a:", "token=", "://"] {
        private().redact(&part.repeat((1 << 17) / part.len()));
    }
    assert!(spent() - start < 20, "{} s", spent() - start);
    let long = "aB3-".repeat(1 << 15);
    assert_eq!(private().redact(&long), "[secret]");
}

/// Text around what is private: anything that does not go on with the word.
fn around() -> impl Strategy<Value = String> {
    "(\\PC{0,20}[ \"'(,;=\\[<]|)"
}

fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Ipv4Addr::from(ip).to_string()),
        // An address of letters and colons alone is still one; the shortest ones are in every text.
        any::<[u8; 16]>().prop_map(|ip| Ipv6Addr::from(ip).to_string()),
        any::<[u8; 6]>().prop_map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
        any::<[u8; 16]>().prop_map(hex_text),
        any::<[u8; 32]>().prop_map(hex_text),
        (any::<[u8; 8]>(), any::<[u8; 32]>()).prop_map(|(id, key)| format!(
            "{}.{}",
            hex_text(id),
            hex_text(key)
        )),
        "[a-z]{3,8}[.][a-z]{3,8}@[a-z]{3,8}[.]org",
        Just("vault7".to_owned()),
        Just("ALICE".to_owned()),
    ]
}

fn hex_text(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn nothing_private_is_left(before in around(), secret in secret(), after in "([ \"'),;\\]>]\\PC{0,20}|)") {
        let redacted = private().redact(&format!("{before}{secret}{after}"));
        // The same text may stand beside it by chance, as a part of a longer word.
        prop_assume!(!before.contains(&secret) && !after.contains(&secret));
        prop_assert!(!redacted.contains(&secret), "{}", redacted);
    }

    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        let once = private().redact(&text);
        prop_assert!(once.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        prop_assert_eq!(once.lines().count(), text.lines().count());
    }

    #[test]
    fn words_and_numbers_stay(text in "([a-z]{1,15}|[0-9]{1,10})( ([a-z]{1,15}|[0-9]{1,10})){0,10}") {
        prop_assume!(!text.contains("alice") && !text.contains("bearer"));
        prop_assert_eq!(private().redact(&text), text);
    }
}
