//! Configuration in three stages: optional fragments, merged, validated.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use livepatch_types::{Cohort, CveId, NoticeId, Redacted};
use serde::Deserialize;

use crate::LogLevel;
use crate::policy::{Mode, ModeError, Policy, Window};

/// Each that does not answer costs a check some seconds.
const MOST_MIRRORS: usize = 8;

/// The shipped file is the default.
const SHIPPED: &str = include_str!("../livepatch.toml");

/// One file's worth of settings, all optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fragment {
    server: Option<String>,
    mirrors: Option<Vec<String>>,
    ca_file: Option<PathBuf>,
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
    check_interval: Option<String>,
    dial_timeout: Option<String>,
    transition_timeout: Option<String>,
    mode: Option<String>,
    cutoff_date: Option<String>,
    patch_delay: Option<String>,
    patch_spread: Option<String>,
    held_cves: Option<Vec<String>>,
    held_notices: Option<Vec<String>>,
    maintenance_windows: Option<Vec<String>>,
    cohort: Option<String>,
    telemetry: Option<TelemetrySwitch>,
    log_level: Option<String>,
}

impl Fragment {
    fn or(self, other: Self) -> Self {
        Self {
            server: self.server.or(other.server),
            mirrors: self.mirrors.or(other.mirrors),
            ca_file: self.ca_file.or(other.ca_file),
            http_proxy: self.http_proxy.or(other.http_proxy),
            https_proxy: self.https_proxy.or(other.https_proxy),
            no_proxy: self.no_proxy.or(other.no_proxy),
            check_interval: self.check_interval.or(other.check_interval),
            dial_timeout: self.dial_timeout.or(other.dial_timeout),
            transition_timeout: self.transition_timeout.or(other.transition_timeout),
            mode: self.mode.or(other.mode),
            cutoff_date: self.cutoff_date.or(other.cutoff_date),
            patch_delay: self.patch_delay.or(other.patch_delay),
            patch_spread: self.patch_spread.or(other.patch_spread),
            held_cves: self.held_cves.or(other.held_cves),
            held_notices: self.held_notices.or(other.held_notices),
            maintenance_windows: self.maintenance_windows.or(other.maintenance_windows),
            cohort: self.cohort.or(other.cohort),
            telemetry: self.telemetry.or(other.telemetry),
            log_level: self.log_level.or(other.log_level),
        }
    }
}

/// Whether the server is told how this host is. It is polled in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TelemetrySwitch {
    /// It is.
    #[default]
    On,
    /// It is not.
    Off,
}

/// The settings that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// URL of the server, without a slash at its end.
    pub server: Option<String>,
    /// URLs that are asked for documents, modules and metadata, in turn, when the server fails.
    pub mirrors: Vec<String>,
    /// PEM file of the certificates that alone are believed for the server.
    pub ca_file: Option<PathBuf>,
    /// URL of the proxy that requests go through; may hold a name and a password.
    pub proxy: Option<Redacted<String>>,
    /// Hosts, domains and networks that are asked without it, with commas between.
    pub no_proxy: String,
    /// Time between two checks; none: no timer.
    pub check_interval: Option<Duration>,
    /// Bound of connecting.
    pub dial_timeout: Duration,
    /// Bound of a transition.
    pub transition_timeout: Duration,
    /// Whether the server is told how this host is.
    pub telemetry: TelemetrySwitch,
    /// What the daemons log, where their command line does not say it.
    pub log_level: LogLevel,
    /// The mode that this file sets, if it does.
    pub mode: Option<Mode>,
    /// What may be applied, and when; its mode is that of [`Config::with_mode`].
    pub policy: Policy,
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or unknown keys.
    #[error("not a configuration: {0}")]
    Syntax(String),
    /// A value that is not what it should be.
    #[error("{key} = {value:?}: {why}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value that breaks a rule.
    #[error("{key} = {value:?}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
        /// The rule.
        why: &'static str,
    },
}

impl Config {
    /// Reads a host's file over the shipped one.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let read = |text: &str| -> Result<Fragment, ConfigError> {
            toml::from_str(text).map_err(|error| ConfigError::Syntax(one_line(&error.to_string())))
        };
        Self::validate(read(text)?.or(read(SHIPPED)?))
    }

    fn validate(merged: Fragment) -> Result<Self, ConfigError> {
        let mirrors = merged.mirrors.unwrap_or_default();
        if mirrors.len() > MOST_MIRRORS {
            let (key, value) = ("mirrors", mirrors.len().to_string());
            return Err(ConfigError::Value { key, value, why: "there are more than 8" });
        }
        let mirrors = mirrors.into_iter().map(|url| https("mirrors", url)).collect::<Result<Vec<_>, _>>()?;
        // Other clients have it beside the next one. Nothing is asked over plain http, so it is only looked at.
        proxy("http-proxy", merged.http_proxy)?;
        let check_interval = duration("check-interval", merged.check_interval)?;
        Ok(Self {
            server: merged.server.map(|url| https("server", url)).transpose()?,
            mirrors,
            ca_file: merged.ca_file,
            proxy: proxy("https-proxy", merged.https_proxy)?,
            no_proxy: merged.no_proxy.unwrap_or_default(),
            check_interval: (!check_interval.is_zero()).then_some(check_interval),
            dial_timeout: at_least_a_second("dial-timeout", merged.dial_timeout)?,
            transition_timeout: at_least_a_second("transition-timeout", merged.transition_timeout)?,
            telemetry: merged.telemetry.unwrap_or_default(),
            log_level: setting("log-level", merged.log_level)?.unwrap_or_default(),
            mode: setting("mode", merged.mode)?,
            policy: Policy {
                cutoff: setting::<Timestamp>("cutoff-date", merged.cutoff_date)?,
                patch_delay: duration("patch-delay", merged.patch_delay)?,
                patch_spread: duration("patch-spread", merged.patch_spread)?,
                held_cves: settings("held-cves", merged.held_cves, CveId::parse)?,
                held_notices: settings("held-notices", merged.held_notices, NoticeId::parse)?,
                windows: settings("maintenance-windows", merged.maintenance_windows, str::parse::<Window>)?,
                cohort: setting::<Cohort>("cohort", merged.cohort)?,
                ..Policy::default()
            },
        })
    }

    /// The settings of this machine: the file (a missing one is an empty one), the file `mode` beside it, and the boot
    /// switch on the kernel's command line.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_if_there(path)?.unwrap_or_default();
        Self::parse(&text).with_context(|| cannot_use(path))?.with_mode_of_host(path)
    }

    /// The same for the loader, which brings the last healthy livepatch back also where its owner's file is wrong: then
    /// with settings by which nothing new is applied ([`Policy::unusable`]), and with what is wrong. An error where the
    /// file may set a mode that cannot be told: somebody wanted to hold the daemons back.
    pub fn read_or_bring_back(path: &Path) -> anyhow::Result<(Self, Option<ConfigError>)> {
        let text = read_if_there(path)?.unwrap_or_default();
        let (config, wrong) = match Self::parse(&text) {
            Ok(config) => (config, None),
            Err(wrong) => match Self::without_what_is_wrong(&text) {
                Some(config) => (config, Some(wrong)),
                None => return Err(wrong).with_context(|| cannot_use(path)),
            },
        };
        Ok((config.with_mode_of_host(path)?, wrong))
    }

    /// The shipped settings with the mode of this text, and nothing new is applied by them; none: the mode cannot be told.
    fn without_what_is_wrong(text: &str) -> Option<Self> {
        let mode = match toml::from_str::<toml::Table>(text) {
            Ok(table) => match table.get("mode") {
                None => None,
                Some(mode) => Some(mode.as_str()?.parse().ok()?),
            },
            // Not TOML: no mode is set where the word is nowhere but in comments.
            Err(_) => {
                let says = |line: &str| !line.trim_start().starts_with('#') && line.contains("mode");
                if text.lines().any(says) {
                    return None;
                }
                None
            }
        };
        let shipped = Self::parse("").ok()?;
        Some(Self { mode, policy: Policy { unusable: true, ..shipped.policy }, ..shipped })
    }

    /// With the mode file beside the configuration, and the boot switch of this machine.
    fn with_mode_of_host(self, path: &Path) -> anyhow::Result<Self> {
        let mode = read_if_there(&path.with_file_name("mode"))?;
        let command_line = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
        self.with_mode(&command_line, mode.as_deref()).context("cannot tell the mode")
    }

    /// The same with the mode that holds on this machine: see [`Mode::choose`].
    pub fn with_mode(mut self, command_line: &str, file: Option<&str>) -> Result<Self, ModeError> {
        (self.policy.mode, self.policy.mode_source) = Mode::choose(command_line, file, self.mode)?;
        Ok(self)
    }
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use {}", path.display())
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn duration(key: &'static str, text: Option<String>) -> Result<Duration, ConfigError> {
    let value = text.unwrap_or_default();
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("w", 7 * 86400)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let number: u32 = value.strip_suffix(unit)?.parse().ok()?;
        Some(u64::from(number) * seconds)
    });
    match seconds {
        Some(seconds) if seconds <= 366 * 86400 => Ok(Duration::from_secs(seconds)),
        _ => Err(ConfigError::Value {
            key,
            value,
            why: "it is not a number with s, m, h, d or w, or longer than a year",
        }),
    }
}

/// A URL without a slash at its end.
fn https(key: &'static str, url: String) -> Result<String, ConfigError> {
    let host = url.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || url.contains(char::is_whitespace) {
        return Err(ConfigError::Value {
            key,
            value: url,
            why: "it is not an https URL; plain http is not spoken",
        });
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn proxy(key: &'static str, text: Option<String>) -> Result<Option<Redacted<String>>, ConfigError> {
    let Some(url) = text.filter(|url| !url.is_empty()) else { return Ok(None) };
    let schemes = ["http://", "https://", "socks5://", "socks5h://"];
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    match rest {
        Some(rest) if !rest.is_empty() && !url.contains(char::is_whitespace) => Ok(Some(Redacted::new(url))),
        // Not shown: it may hold a password.
        _ => Err(ConfigError::Value {
            key,
            value: "…".into(),
            why: "it is not a URL that begins with http://, https://, socks5:// or socks5h://",
        }),
    }
}

fn setting<T: FromStr<Err: Display>>(
    key: &'static str,
    text: Option<String>,
) -> Result<Option<T>, ConfigError> {
    text.map(|value| value.parse().map_err(|error: T::Err| wrong(key, &value, &error))).transpose()
}

fn settings<T, E: Display>(
    key: &'static str,
    texts: Option<Vec<String>>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, ConfigError> {
    let texts = texts.unwrap_or_default();
    texts.iter().map(|value| parse(value).map_err(|error| wrong(key, value, &error))).collect()
}

fn wrong(key: &'static str, value: &str, why: &dyn Display) -> ConfigError {
    ConfigError::Setting { key, value: value.to_owned(), why: why.to_string() }
}

fn at_least_a_second(key: &'static str, text: Option<String>) -> Result<Duration, ConfigError> {
    let value = text.clone().unwrap_or_default();
    match duration(key, text)? {
        Duration::ZERO => Err(ConfigError::Value { key, value, why: "it must be a second or more" }),
        time => Ok(time),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_shipped_one() {
        let config = Config::parse("").unwrap();
        assert_eq!(config, Config::parse(SHIPPED).unwrap());
        assert_eq!(config.check_interval, Some(Duration::from_secs(3600)));
        assert_eq!(config.transition_timeout, Duration::from_secs(60));
    }

    #[test]
    fn a_host_overrides() {
        let text = "server = \"https://10.0.2.2:8443/\"\ncheck-interval = \"0s\"\nca-file = \"/a.pem\"";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.server.as_deref(), Some("https://10.0.2.2:8443"));
        assert_eq!((config.check_interval, config.ca_file), (None, Some("/a.pem".into())));
    }

    #[test]
    fn what_the_owner_allows() {
        let text = "mode = \"no-refresh\"\ncutoff-date = \"2026-01-01T00:00:00Z\"\npatch-delay = \"2w\"\npatch-spread = \"4d\"\n\
            held-cves = [\"CVE-2026-1001\"]\nmaintenance-windows = [\"sat,sun 02:00-06:00 UTC\"]\n\
            cohort = \"databases/2\"";
        let config = Config::parse(text).unwrap();
        assert_eq!((config.mode, config.policy.mode), (Some(Mode::NoRefresh), Mode::Normal));
        assert_eq!(config.policy.patch_delay, Duration::from_secs(14 * 86400));
        assert_eq!(config.policy.cutoff, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(config.policy.patch_spread, Duration::from_secs(4 * 86400));
        assert_eq!(config.policy.cohort, Some(Cohort::parse("databases/2").unwrap()));
        assert_eq!((config.policy.held_cves.len(), config.policy.windows.len()), (1, 1));
        let stopped = config.clone().with_mode("quiet livepatch_mode=stop", None).unwrap();
        assert_eq!(stopped.policy.mode, Mode::Stop);
        assert_eq!(config.with_mode("quiet", None).unwrap().policy.mode, Mode::NoRefresh);
    }

    #[test]
    fn what_is_logged() {
        let filter = |text: &str| Config::parse(text).unwrap().log_level.filter();
        for (text, expected) in [
            ("", "info"),
            ("log-level = \"debug\"", "debug"),
            ("log-level = \"info\"", "info"),
            // What is logged with a priority of at least notice: warnings and errors.
            ("log-level = \"notice\"", "warn"),
            ("log-level = \"warning\"", "warn"),
            ("log-level = \"error\"", "error"),
        ] {
            assert_eq!(filter(text), expected, "{text}");
        }
    }

    /// What was healthy comes back under a file that is wrong, unless a mode may say otherwise.
    /// The mode in a file of its own, for who manages the configuration by other means.
    #[test]
    fn the_file_beside_the_configuration_has_a_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (path, beside) = (directory.path().join("livepatch.toml"), directory.path().join("mode"));
        for (configured, file, mode) in [
            ("", "no-apply\n", Some((Mode::NoApply, "the mode file"))),
            ("mode = \"stop\"", "no-refresh", Some((Mode::NoRefresh, "the mode file"))),
            ("mode = \"stop\"", "normal", Some((Mode::Normal, "the mode file"))),
            ("", "off", None),
            ("", "\n", Some((Mode::Normal, "the default"))),
        ] {
            std::fs::write(&path, configured).unwrap();
            std::fs::write(&beside, file).unwrap();
            let policy = Config::read(&path).map(|config| config.policy).ok();
            let read = policy.as_ref().map(|policy| (policy.mode, policy.mode_source.to_string()));
            assert_eq!(read, mode.map(|(mode, source)| (mode, source.to_owned())), "{configured} {file}");
        }
        std::fs::remove_file(&beside).unwrap();
        assert_eq!(Config::read(&path).unwrap().policy.mode, Mode::Normal);
    }

    #[test]
    fn a_file_that_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("livepatch.toml");
        for (text, mode) in [
            ("dial-timeout = \"99999h\"", Some(Mode::Normal)),
            ("dial-timeout = \"99999h\"\nmode = \"stop\"", Some(Mode::Stop)),
            ("server = \"https:///x\"\n\"mode\" = 'no-apply'", Some(Mode::NoApply)),
            ("patch-delay = \"2w\nheld-cves = [", Some(Mode::Normal)),
            ("# mode = \"stop\"\n=", Some(Mode::Normal)),
            ("mode = \"off\"", None),
            ("mode = 1", None),
            ("mode = \"stop\"\n=", None),
            ("= # mode\n'mode' = \"stop\"", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(Config::read(&path).is_err(), "{text}");
            match (Config::read_or_bring_back(&path), mode) {
                (Ok((config, wrong)), Some(mode)) => {
                    assert!(wrong.is_some() && config.policy.unusable, "{text}");
                    assert_eq!(config.policy.mode, mode, "{text}");
                }
                (Err(_), None) => {}
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        std::fs::write(&path, "patch-delay = \"2w\"").unwrap();
        let (config, wrong) = Config::read_or_bring_back(&path).unwrap();
        assert_eq!((config, wrong.is_none()), (Config::read(&path).unwrap(), true));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in [
            "server = \"http://a\"",
            "server = \"https://\"",
            "server = \"https:///x\"",
            "mirrors = \"https://a\"",
            "mirrors = [\"http://a\"]",
            "mirrors = [\"https://a\", \"\"]",
            "mirrors = [\"https://1\", \"https://2\", \"https://3\", \"https://4\", \"https://5\", \"https://6\", \"https://7\", \"https://8\", \"https://9\"]",
            "check-interval = \"5\"",
            "check-interval = \"-5s\"",
            "check-interval = 5",
            "dial-timeout = \"0s\"",
            "transition-timeout = \"99999999h\"",
            "unknown = 1",
            "https-proxy = \"proxy:3128\"",
            "https-proxy = \"ftp://proxy\"",
            "http-proxy = \"socks5://\"",
            "mode = \"off\"",
            "telemetry = \"some\"",
            "telemetry = false",
            "log-level = \"loud\"",
            "cutoff-date = \"yesterday\"",
            "cutoff-date = 2026-01-01",
            "patch-delay = \"-1d\"",
            "patch-delay = \"2y\"",
            "patch-spread = \"2\"",
            "held-cves = [\"2026-1\"]",
            "held-cves = \"CVE-2026-1001\"",
            "held-notices = [\"CVE-2026-1001\"]",
            "maintenance-windows = [\"daily\"]",
            "cohort = \"\"",
            "cohort = \"Site Berlin\"",
            "cohort = \"databases/x\"",
            "cohort = 1",
            "=",
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{text} {error}");
        }
    }
}
