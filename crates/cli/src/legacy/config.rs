//! Settings by the names of the original. They are the daemon's own file; what this client does not have has one value.

use std::io::{Read as _, Write};
use std::path::Path;

use jiff::Timestamp;
use livepatch_api::legacy::scalar;
use livepatch_settings::ConfigError;
use toml_edit::DocumentMut;

use super::arguments::ConfigFormat;
use super::change::{change, seconds};
use crate::CliError;
use crate::settings::{self, Told};

/// The shipped file is the default.
const SHIPPED: &str = include_str!("../../../settings/livepatch.toml");
const MAX_VALUE_BYTES: u64 = 1 << 20;
const STDIN: &str = "@stdin";
const RESTART_HINT: &str = "hint: `systemctl restart livepatchd` makes the daemon read its configuration";

/// How a key of the original stands in the daemon's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
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
    /// From which priority on is logged.
    Level(&'static str),
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
    ("log-level", Meaning::Level("log-level")),
    ("tls-patch-download", Meaning::Fixed("true")),
    ("cutoff-date", Meaning::Instant("cutoff-date")),
    ("patch-delay", Meaning::Delay("patch-delay")),
];

/// Shows settings or changes them.
pub(super) fn run(
    path: &Path,
    settings: &[String],
    format: ConfigFormat,
    now: Timestamp,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    let failed = |why: String| CliError::Config { path: path.to_owned(), why };
    let text = settings::read(path)?;
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
    if changes.iter().filter(|(_, value)| *value == STDIN).count() > 1 {
        let (key, why) = (changes[0].0.to_owned(), "standard input is read once".into());
        return Err(CliError::Setting { key, why });
    }
    let was_right = settings::check(&text).is_ok();
    let mut certificates = None;
    for (key, value) in changes {
        let value = if value == STDIN { read_value(key)? } else { value.to_owned() };
        let refused = |why| CliError::Setting { key: key.to_owned(), why };
        let change = change(&mut document, key, value.trim(), path, now).map_err(refused)?;
        certificates = change.or(certificates);
        // What was wrong before is not this key's fault; it is named when the file is written.
        match settings::check(&document.to_string()) {
            Err(ConfigError::Setting { why, .. }) if was_right => return Err(refused(why)),
            Err(ConfigError::Value { why, .. }) if was_right => return Err(refused(why.to_owned())),
            _ => {}
        }
    }
    let changed = document.to_string();
    settings::check(&changed).map_err(|error| failed(error.to_string()))?;
    if let Some(certificates) = &certificates {
        certificates.write()?;
    }
    if changed != text {
        settings::write(path, &changed)?;
    }
    if (changed != text || certificates.is_some()) && settings::tell(path)? == Told::No {
        writeln!(err, "{RESTART_HINT}")?;
    }
    Ok(())
}

pub(super) fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())
}

/// All keys.
#[cfg(test)]
pub(crate) fn all_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, _)| *key)
}

/// What a key means; the error says which keys there are.
pub(crate) fn meaning(key: &str) -> Result<Meaning, String> {
    let found = KEYS.iter().find(|(known, _)| *known == key).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
        format!("there is no such key; there are {}", known.join(", "))
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
        let meaning = meaning(key).map_err(|why| CliError::Setting { key: key.clone(), why })?;
        shown.push((key.as_str(), meaning));
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
            | Meaning::Level(name)
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

/// Whole minutes, upwards: an interval is never off because it is short.
fn minutes(text: &str) -> String {
    seconds(text).map(|seconds| seconds.div_ceil(60).to_string()).unwrap_or_default()
}

fn read_value(key: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let refused = |why| CliError::Setting { key: key.to_owned(), why };
    let read = std::io::stdin().lock().take(MAX_VALUE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| refused(error.to_string()))?;
    if text.len() as u64 > MAX_VALUE_BYTES {
        return Err(refused(format!("it has more than {MAX_VALUE_BYTES} bytes")));
    }
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
}
