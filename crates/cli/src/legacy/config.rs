//! Settings by the names of the original. They are the daemon's own file; what this client does not have has one value.

use std::io::{Read as _, Write};
use std::path::Path;

use jiff::Timestamp;
use livepatch_api::legacy::scalar;
use toml_edit::{DocumentMut, value};

use super::arguments::ConfigFormat;
use crate::CliError;
use crate::file::replace_configuration;

/// The shipped file is the default.
const SHIPPED: &str = include_str!("../../../settings/livepatch.toml");
const MAX_VALUE_BYTES: u64 = 1 << 20;
const YEAR_SECONDS: u64 = 366 * 86400;
const RESTART_HINT: &str = "hint: `systemctl restart livepatchd` makes the daemon read its configuration";

/// How a key of the original stands in the daemon's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The same text under another name.
    Text(&'static str),
    /// A URL of a proxy.
    Proxy(&'static str),
    /// Words with commas between.
    List(&'static str),
    /// A time with s, m or h.
    Time(&'static str),
    /// The same, and 0 is none.
    Delay(&'static str),
    /// An instant in RFC 3339.
    Instant(&'static str),
    /// Minutes as a number.
    Minutes(&'static str),
    /// The text of the file that is named there.
    FileText(&'static str),
    /// Always this.
    Fixed(&'static str),
}

/// All keys in the order in which they are shown.
const KEYS: [(&str, Meaning); 11] = [
    ("http-proxy", Meaning::Proxy("http-proxy")),
    ("https-proxy", Meaning::Proxy("https-proxy")),
    ("no-proxy", Meaning::List("no-proxy")),
    ("remote-server", Meaning::Text("server")),
    ("ca-certs", Meaning::FileText("ca-file")),
    ("dial-timeout", Meaning::Time("dial-timeout")),
    ("check-interval", Meaning::Minutes("check-interval")),
    ("log-level", Meaning::Fixed("info")),
    ("tls-patch-download", Meaning::Fixed("true")),
    ("cutoff-date", Meaning::Instant("cutoff-date")),
    ("patch-delay", Meaning::Delay("patch-delay")),
];

/// Shows settings or changes them.
pub(super) fn run(
    path: &Path,
    settings: &[String],
    format: ConfigFormat,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    let failed = |why: String| CliError::Config { path: path.to_owned(), why };
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error.to_string())),
        Ok(text) => text,
    };
    let mut document = parse(&text).map_err(failed)?;
    let changes: Vec<(&str, &str)> = settings.iter().filter_map(|setting| setting.split_once('=')).collect();
    if changes.is_empty() {
        let shipped = parse(SHIPPED).map_err(failed)?;
        out.write_all(show(&document, &shipped, settings, format)?.as_bytes())?;
        return Ok(());
    }
    if let Some(shown) = settings.iter().find(|setting| !setting.contains('=')) {
        return Err(CliError::Setting {
            key: shown.clone(),
            why: "it has no value beside others that have one".into(),
        });
    }
    for (key, value) in changes {
        let value = if value == "@stdin" { read_value(key)? } else { value.to_owned() };
        change(&mut document, key, value.trim())?;
    }
    let changed = document.to_string();
    if changed != text {
        replace_configuration(path, &changed)?;
        writeln!(err, "{RESTART_HINT}")?;
    }
    Ok(())
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())
}

fn meaning(key: &str) -> Result<Meaning, CliError> {
    let found = KEYS.iter().find(|(known, _)| *known == key).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
        CliError::Setting {
            key: key.to_owned(),
            why: format!("there is no such key; there are {}", known.join(", ")),
        }
    })
}

/// The keys that were asked for (all, if none) with their values.
fn show(
    document: &DocumentMut,
    shipped: &DocumentMut,
    asked: &[String],
    format: ConfigFormat,
) -> Result<String, CliError> {
    let mut shown = Vec::new();
    for key in asked {
        shown.push((key.as_str(), meaning(key)?));
    }
    if shown.is_empty() {
        shown.extend(KEYS);
    }
    let values = shown.into_iter().map(|(key, meaning)| {
        let set = |name: &str| {
            let text = |document: &DocumentMut| Some(document.get(name)?.as_str()?.to_owned());
            text(document).or_else(|| text(shipped)).unwrap_or_default()
        };
        let value = match meaning {
            Meaning::Fixed(value) => value.to_owned(),
            Meaning::Text(name)
            | Meaning::Proxy(name)
            | Meaning::List(name)
            | Meaning::Time(name)
            | Meaning::Instant(name) => set(name),
            Meaning::Delay(name) => match set(name) {
                none if seconds(&none) == Some(0) => "0".to_owned(),
                delay => delay,
            },
            Meaning::Minutes(name) => minutes(&set(name)),
            Meaning::FileText(name) => match set(name).as_str() {
                "" => String::new(),
                path => std::fs::read_to_string(path).unwrap_or_default(),
            },
        };
        let is_text = match meaning {
            Meaning::Fixed(_) | Meaning::Minutes(_) => value.is_empty(),
            Meaning::Delay(_) => value != "0",
            _ => true,
        };
        (key, value, is_text)
    });
    Ok(match format {
        ConfigFormat::Yaml => values
            .map(|(key, value, is_text)| format!("{key}: {}\n", if is_text { scalar(&value) } else { value }))
            .collect(),
        ConfigFormat::Json => {
            let object: serde_json::Map<_, _> = values
                .map(|(key, value, is_text)| {
                    let typed = if is_text { None } else { serde_json::from_str(&value).ok() };
                    (key.to_owned(), typed.unwrap_or_else(|| value.into()))
                })
                .collect();
            serde_json::Value::Object(object).to_string() + "\n"
        }
    })
}

/// Sets a key, or clears it with an empty value.
fn change(document: &mut DocumentMut, key: &str, new: &str) -> Result<(), CliError> {
    let refuse = |why: &str| Err(CliError::Setting { key: key.to_owned(), why: why.to_owned() });
    let meaning = meaning(key)?;
    let (name, text) = match meaning {
        Meaning::Fixed(only) if new == only || new.is_empty() => return Ok(()),
        Meaning::Fixed(_) => return refuse("this client does not have it"),
        Meaning::FileText(_) => {
            return refuse("it is the file that ca-file names in the daemon's configuration");
        }
        Meaning::Text(name)
        | Meaning::Proxy(name)
        | Meaning::List(name)
        | Meaning::Time(name)
        | Meaning::Delay(name)
        | Meaning::Instant(name)
        | Meaning::Minutes(name)
            if new.is_empty() =>
        {
            document.remove(name);
            return Ok(());
        }
        Meaning::Text(name) => match new.strip_prefix("https://") {
            Some(host) if !host.is_empty() && !new.contains(char::is_whitespace) => (name, new.to_owned()),
            _ => return refuse("it is not an https URL"),
        },
        Meaning::Proxy(name) => {
            let schemes = ["http://", "https://", "socks5://", "socks5h://"];
            let host = schemes.iter().find_map(|scheme| new.strip_prefix(scheme)).unwrap_or_default();
            if host.is_empty() || new.contains(char::is_whitespace) {
                return refuse("it is not a URL that begins with http://, https://, socks5:// or socks5h://");
            }
            (name, new.to_owned())
        }
        Meaning::List(name) => (name, new.to_owned()),
        Meaning::Time(name) => match seconds(new) {
            Some(1..) => (name, new.to_owned()),
            _ => return refuse("it is not a time of a second or more, such as 12s, 5m or 1h"),
        },
        Meaning::Delay(name) if new == "0" => {
            document.remove(name);
            return Ok(());
        }
        Meaning::Delay(name) => match seconds(new) {
            Some(0..=YEAR_SECONDS) => (name, new.to_owned()),
            _ => return refuse("it is neither 0 nor a time such as 30m, 12h, 3d or 2w, at most a year"),
        },
        Meaning::Instant(name) => match new.parse::<Timestamp>() {
            Ok(_) => (name, new.to_owned()),
            Err(_) => return refuse("it is not a time in RFC 3339, such as 2026-01-31T00:00:00Z"),
        },
        Meaning::Minutes(name) => match new.parse::<u32>() {
            Ok(minutes) if minutes == 0 || (60..=366 * 1440).contains(&minutes) => {
                (name, format!("{minutes}m"))
            }
            _ => return refuse("it is neither 0 nor a number of minutes from 60 to a year"),
        },
    };
    document[name] = value(text);
    Ok(())
}

/// Of a number with s, m, h, d or w.
fn seconds(text: &str) -> Option<u64> {
    [("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("w", 7 * 86400)].into_iter().find_map(
        |(unit, seconds)| {
            let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
            Some(u64::from(number) * seconds)
        },
    )
}

/// Whole minutes, upwards: an interval is never off because it is short.
fn minutes(text: &str) -> String {
    seconds(text).map(|seconds| seconds.div_ceil(60).to_string()).unwrap_or_default()
}

fn read_value(key: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_VALUE_BYTES).read_to_string(&mut text);
    read.map_err(|error| CliError::Setting { key: key.to_owned(), why: error.to_string() })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, keys: &[&str], format: ConfigFormat) -> Result<String, String> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        show(&parse(text).unwrap(), &parse(SHIPPED).unwrap(), &keys, format)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn all_settings_of_an_empty_file() {
        insta::assert_snapshot!(shown("", &[], ConfigFormat::Yaml).unwrap(), @r#"
        http-proxy: ""
        https-proxy: ""
        no-proxy: ""
        remote-server: ""
        ca-certs: ""
        dial-timeout: 12s
        check-interval: 60
        log-level: info
        tls-patch-download: true
        cutoff-date: ""
        patch-delay: 0
        "#);
    }

    #[test]
    fn one_setting() {
        let text = "server = \"https://a.example\"\ncheck-interval = \"90s\"\n";
        assert_eq!(
            shown(text, &["remote-server"], ConfigFormat::Yaml).unwrap(),
            "remote-server: https://a.example\n"
        );
        assert_eq!(shown(text, &["check-interval"], ConfigFormat::Json).unwrap(), "{\"check-interval\":2}\n");
        assert!(shown(text, &["remote"], ConfigFormat::Json).unwrap_err().contains("remote-server"));
    }

    #[test]
    fn changes_keep_comments_and_what_is_refused_says_why() {
        let text = "# ours\nserver = \"https://a\" # here\n";
        let changed = |key: &str, value: &str| {
            let mut document = parse(text).unwrap();
            change(&mut document, key, value)
                .map(|()| document.to_string())
                .map_err(|error| error.to_string())
        };
        assert!(changed("remote-server", "https://b").unwrap().starts_with("# ours\nserver = \"https://b\""));
        assert_eq!(changed("check-interval", "120").unwrap(), format!("{text}check-interval = \"120m\"\n"));
        let proxy = "socks5://proxy:1080";
        assert_eq!(changed("https-proxy", proxy).unwrap(), format!("{text}https-proxy = \"{proxy}\"\n"));
        assert_eq!(changed("check-interval", "0").unwrap(), format!("{text}check-interval = \"0m\"\n"));
        assert!(!changed("remote-server", "").unwrap().contains("server"));
        assert_eq!(changed("patch-delay", "3d").unwrap(), format!("{text}patch-delay = \"3d\"\n"));
        let cutoff = "2026-01-01T00:00:00Z";
        assert_eq!(changed("cutoff-date", cutoff).unwrap(), format!("{text}cutoff-date = \"{cutoff}\"\n"));
        for same in
            [("http-proxy", ""), ("tls-patch-download", "true"), ("patch-delay", "0"), ("dial-timeout", "")]
        {
            assert_eq!(changed(same.0, same.1).unwrap(), text);
        }
        for (key, value) in [
            ("remote-server", "http://a"),
            ("remote-server", "https://"),
            ("dial-timeout", "0s"),
            ("dial-timeout", "12"),
            ("check-interval", "59"),
            ("check-interval", "60m"),
            ("http-proxy", "proxy:3128"),
            ("https-proxy", "https://"),
            ("tls-patch-download", "false"),
            ("cutoff-date", "2026-01-01"),
            ("patch-delay", "-1d"),
            ("patch-delay", "2y"),
            ("patch-delay", "9999w"),
            ("ca-certs", "-----BEGIN CERTIFICATE-----"),
            ("other", "1"),
        ] {
            let error = changed(key, value).unwrap_err();
            assert!(error.contains(key) && !error.contains('\n'), "{error}");
        }
    }
}
