//! `livepatch config import`: the settings of the original client, once. Everything is looked at before anything is
//! written; what is not taken is said, with the reason.

mod original;

use std::io::{Read as _, Write};
use std::path::Path;

use jiff::Timestamp;
use livepatch_settings::ConfigError;
use livepatch_types::plural;
use serde_json::json;
use toml_edit::DocumentMut;

use crate::command::Format;
use crate::legacy::{Certificates, change, meaning};
use crate::settings::{self, Told};
use crate::{CliError, Exit};

/// What the rows of the original's table become; a key that is not here is refused.
const RULES: [(&str, Rule); 11] = [
    ("http-proxy", Rule::Taken("kept, and not used: nothing is asked over plain http")),
    ("https-proxy", Rule::Taken("")),
    ("no-proxy", Rule::Taken("")),
    ("remote-server", Rule::Server),
    ("ca-certs", Rule::Taken("")),
    ("dial-timeout", Rule::Taken("")),
    ("check-interval", Rule::Taken("")),
    ("log-level", Rule::Taken("")),
    ("tls-patch-download", Rule::Left("livepatches are always downloaded over TLS here")),
    ("cutoff-date", Rule::Taken("")),
    ("patch-delay", Rule::Taken("")),
];

/// The hosted service of the original (<https://wiki.ubuntu.com/Kernel/Livepatch>, "System Requirements").
const HOSTED: &str = "livepatch.canonical.com";

/// What is made of a key of the original.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// What `canonical-livepatch config KEY=VALUE` makes of it, and a remark.
    Taken(&'static str),
    /// The same, if it is not the server of the original.
    Server,
    /// Nothing, and why.
    Left(&'static str),
}

/// What becomes of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It stands so in our configuration, and a remark.
    Taken(String, &'static str),
    /// It is left out, and why.
    Left(&'static str),
    /// It cannot be taken, and why.
    Refused(String),
}

/// What an import comes to.
#[derive(Debug)]
struct Import {
    rows: Vec<(String, Outcome)>,
    document: DocumentMut,
    certificates: Option<Certificates>,
}

impl Import {
    /// What becomes of these settings over a configuration that the daemons take.
    fn plan(settings: &[(String, String)], before: DocumentMut, path: &Path, now: Timestamp) -> Self {
        let mut import = Self { rows: Vec::new(), document: before, certificates: None };
        for (key, value) in settings {
            let outcome = import.take(key, value.trim(), path, now).unwrap_or_else(Outcome::Refused);
            import.rows.push((key.clone(), outcome));
        }
        import
    }

    fn take(&mut self, key: &str, value: &str, path: &Path, now: Timestamp) -> Result<Outcome, String> {
        // Its error says which keys there are.
        meaning(key)?;
        let rule = RULES.iter().find(|(known, _)| *known == key).map_or(Rule::Taken(""), |(_, rule)| *rule);
        let remark = match rule {
            Rule::Left(why) => return Ok(Outcome::Left(why)),
            _ if value.is_empty() => return Ok(Outcome::Left("nothing is set there")),
            Rule::Server if is_hosted(value) => {
                return Ok(Outcome::Left(
                    "that service does not speak to this client: `server` is yours to set",
                ));
            }
            Rule::Server => "a server of this project has to answer there",
            Rule::Taken(remark) => remark,
        };
        if key != "ca-certs" && value.contains('\n') {
            return Err("it has more than one line".into());
        }
        let mut document = self.document.clone();
        let certificates = change(&mut document, key, value, path, now)?;
        settings::check(&document.to_string()).map_err(|error| match error {
            ConfigError::Setting { why, .. } => why,
            ConfigError::Value { why, .. } => why.to_owned(),
            other => other.to_string(),
        })?;
        let line = changed_line(&self.document, &document);
        self.document = document;
        self.certificates = certificates.or(self.certificates.take());
        Ok(Outcome::Taken(line.unwrap_or_else(|| "as it is here already".into()), remark))
    }

    fn refused(&self) -> usize {
        self.rows.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Refused(_))).count()
    }

    /// A line for each setting.
    fn text(&self) -> String {
        let width = self.rows.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
        let row = |(key, outcome): &(String, Outcome)| {
            let said = match outcome {
                Outcome::Taken(line, "") => line.clone(),
                Outcome::Taken(line, remark) => format!("{line}  ({remark})"),
                Outcome::Left(why) => format!("left out: {why}"),
                Outcome::Refused(why) => format!("refused: {why}"),
            };
            format!("{key:<width$}  {said}\n")
        };
        self.rows.iter().map(row).collect()
    }

    /// The same for programs, as in `docs/schema/config-import.schema.json`.
    fn json(&self, dry_run: bool) -> serde_json::Value {
        let row = |(key, outcome): &(String, Outcome)| {
            let (outcome, setting, remark) = match outcome {
                Outcome::Taken(line, remark) => ("taken", Some(line), *remark),
                Outcome::Left(why) => ("left-out", None, *why),
                Outcome::Refused(why) => ("refused", None, why.as_str()),
            };
            json!({ "key": key, "outcome": outcome, "setting": setting, "remark": remark })
        };
        json!({ "schema": 1, "dry_run": dry_run, "settings": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

/// How to import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Only say what would be done.
    pub(crate) dry_run: bool,
    /// For whom it is said.
    pub(crate) format: Format,
}

/// Whether a URL is that of the original's hosted service.
fn is_hosted(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    host.eq_ignore_ascii_case(HOSTED)
}

/// The setting that is another now, as it stands in the file; name and password of a proxy are not shown.
fn changed_line(before: &DocumentMut, after: &DocumentMut) -> Option<String> {
    let text =
        |document: &DocumentMut, key: &str| document.get(key).map(|item| item.to_string().trim().to_owned());
    let (key, value) = after.iter().find_map(|(key, item)| {
        let now = item.to_string().trim().to_owned();
        (text(before, key).as_ref() != Some(&now)).then_some((key, now))
    })?;
    let shown = match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => value,
    };
    Some(format!("{key} = {shown}"))
}

/// Imports a file, `-` for standard input, into the configuration.
pub(crate) fn run(
    file: &Path,
    path: &Path,
    asked: Asked,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<Exit, CliError> {
    let failed = |why: String| CliError::Config { path: path.to_owned(), why };
    let unreadable = |why: String| CliError::Import { path: file.to_owned(), why };
    let settings = original::parse(&read(file).map_err(unreadable)?).map_err(unreadable)?;
    let text = settings::read(path)?;
    settings::check(&text).map_err(|error| failed(error.to_string()))?;
    let before = text.parse().map_err(|error: toml_edit::TomlError| failed(error.message().to_owned()))?;
    let import = Import::plan(&settings, before, path, now);
    match asked.format {
        Format::Text => out.write_all(import.text().as_bytes())?,
        Format::Json => writeln!(out, "{}", import.json(asked.dry_run))?,
    }
    match import.refused() {
        0 => {}
        count => {
            let why =
                format!("{} cannot be taken, so nothing is written", plural(count, "setting", "settings"));
            return Err(unreadable(why));
        }
    }
    if asked.dry_run {
        if asked.format == Format::Text {
            writeln!(out, "\nNothing is written.")?;
        }
        return Ok(Exit::Ok);
    }
    let changed = import.document.to_string();
    let certificates = import.certificates.filter(|certificates| !certificates.are_there());
    if let Some(certificates) = &certificates {
        certificates.write()?;
    }
    if changed != text {
        settings::write(path, &changed)?;
    }
    let is_changed = changed != text || certificates.is_some();
    if is_changed && settings::tell(path)? == Told::No && asked.format == Format::Text {
        out.write_all(settings::RESTART_HINT.as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// The text of a file that is not too long.
fn read(file: &Path) -> Result<String, String> {
    let most = original::MAX_BYTES as u64 + 1;
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map(|_| text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::all_keys;

    fn now() -> Timestamp {
        "2026-11-29T00:00:00Z".parse().unwrap()
    }

    fn planned(original: &str, ours: &str) -> Import {
        let settings = original::parse(original).unwrap();
        Import::plan(&settings, ours.parse().unwrap(), Path::new("/etc/livepatch/livepatch.toml"), now())
    }

    #[test]
    fn every_key_of_the_original_has_a_rule() {
        assert!(RULES.iter().map(|(key, _)| *key).eq(all_keys()));
    }

    #[test]
    fn the_settings_of_a_host_of_the_hosted_service() {
        let certificate = include_str!("../tests/cli/ca.pem");
        let block: String = certificate.lines().map(|line| format!("  {line}\n")).collect();
        let original = format!(
            "http-proxy: http://proxy:3128\nhttps-proxy: http://me:secret@proxy:3128\nno-proxy: localhost\n\
            remote-server: https://livepatch.canonical.com:443\nca-certs: |-\n{block}dial-timeout: 12s\n\
            check-interval: 120\nlog-level: warning\ntls-patch-download: false\ncutoff-date: 2026-01-31T00:00:00Z\npatch-delay: 3d\n"
        );
        let ours = "# ours\nserver = \"https://a.example\" # here\nlog-level = \"warning\"\n";
        let import = planned(&original, ours);
        assert_eq!(import.refused(), 0);
        insta::assert_snapshot!(import.text(), @r#"
        http-proxy          http-proxy = "http://proxy:3128"  (kept, and not used: nothing is asked over plain http)
        https-proxy         https-proxy = "http://…@proxy:3128"
        no-proxy            no-proxy = "localhost"
        remote-server       left out: that service does not speak to this client: `server` is yours to set
        ca-certs            ca-file = "/etc/livepatch/ca-certs.pem"
        dial-timeout        dial-timeout = "12s"
        check-interval      check-interval = "120m"
        log-level           as it is here already
        tls-patch-download  left out: livepatches are always downloaded over TLS here
        cutoff-date         cutoff-date = "2026-01-31T00:00:00Z"
        patch-delay         patch-delay = "3d"
        "#);
        insta::assert_snapshot!(import.document.to_string(), @r#"
        # ours
        server = "https://a.example" # here
        log-level = "warning"
        http-proxy = "http://proxy:3128"
        https-proxy = "http://me:secret@proxy:3128"
        no-proxy = "localhost"
        ca-file = "/etc/livepatch/ca-certs.pem"
        dial-timeout = "12s"
        check-interval = "120m"
        cutoff-date = "2026-01-31T00:00:00Z"
        patch-delay = "3d"
        "#);
        assert!(import.certificates.is_some());
        settings::check(&import.document.to_string()).unwrap();
    }

    #[test]
    fn a_host_that_was_left_as_it_came_goes_by_the_same_settings() {
        let original = "http-proxy: \"\"\nhttps-proxy: \"\"\nno-proxy: \"\"\nca-certs: \"\"\ncutoff-date: \"\"\npatch-delay: 0\n\
            tls-patch-download: false\nremote-server: HTTPS://Livepatch.Canonical.Com\ncheck-interval: 60\ndial-timeout: 12s\n";
        let import = planned(original, "");
        insta::assert_snapshot!(import.text(), @r#"
        http-proxy          left out: nothing is set there
        https-proxy         left out: nothing is set there
        no-proxy            left out: nothing is set there
        ca-certs            left out: nothing is set there
        cutoff-date         left out: nothing is set there
        patch-delay         as it is here already
        tls-patch-download  left out: livepatches are always downloaded over TLS here
        remote-server       left out: that service does not speak to this client: `server` is yours to set
        check-interval      check-interval = "60m"
        dial-timeout        dial-timeout = "12s"
        "#);
        let config = livepatch_settings::Config::parse(&import.document.to_string()).unwrap();
        assert_eq!(config, livepatch_settings::Config::parse("").unwrap());
        assert_eq!(import.refused(), 0);
    }

    #[test]
    fn what_cannot_be_taken_says_why() {
        let original = "remote-server: http://livepatch.example.org\nhttps-proxy: ftp://me:secret@proxy\ncheck-interval: 5\n\
            dial-timeout: soon\nlog-level: loud\nca-certs: none\ncutoff-date: 2027-01-01T00:00:00Z\npatch-delay: 3y\n\
            no-proxy: \"a\\nmode = 1\"\nauto-reboot: true\n";
        let import = planned(original, "");
        insta::assert_snapshot!(import.text(), @"
        remote-server   refused: it is not an https URL; plain http is not spoken
        https-proxy     refused: it is not a URL that begins with http://, https://, socks5:// or socks5h://
        check-interval  refused: it is neither 0 nor a number of minutes from 60 to a year
        dial-timeout    refused: it is not a time of a second or more, such as 12s, 5m or 1h
        log-level       refused: it is neither debug, info, notice, warning nor error
        ca-certs        refused: not a usable certificate: there is no PEM certificate in the file
        cutoff-date     refused: it is still to come: a cutoff date is in the past
        patch-delay     refused: it is neither 0 nor a time such as 30m, 12h, 3d or 2w, at most a year
        no-proxy        refused: it has more than one line
        auto-reboot     refused: there is no such key; there are http-proxy, https-proxy, no-proxy, remote-server, ca-certs, dial-timeout, check-interval, log-level, tls-patch-download, cutoff-date, patch-delay
        ");
        assert_eq!((import.refused(), import.document.to_string().as_str()), (10, ""));
    }

    #[test]
    fn the_settings_of_a_host_with_its_own_server() {
        let import = planned("remote-server: https://livepatch.example.org/\n", "");
        insta::assert_snapshot!(import.text(), @r#"
        remote-server  server = "https://livepatch.example.org/"  (a server of this project has to answer there)
        "#);
    }

    #[test]
    fn hosted_is_one_host() {
        for (url, expected) in [
            ("https://livepatch.canonical.com", true),
            ("https://livepatch.canonical.com:443/x", true),
            ("livepatch.canonical.com", true),
            ("https://livepatch.canonical.com.example.org", false),
            ("https://example.org/livepatch.canonical.com", false),
        ] {
            assert_eq!(is_hosted(url), expected, "{url}");
        }
    }
}
