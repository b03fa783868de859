//! Configuration in three stages: optional fragments, merged, validated.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The shipped file is the default.
const SHIPPED: &str = include_str!("../livepatch.toml");

/// One file's worth of settings, all optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fragment {
    server: Option<String>,
    ca_file: Option<PathBuf>,
    check_interval: Option<String>,
    dial_timeout: Option<String>,
    transition_timeout: Option<String>,
}

impl Fragment {
    fn or(self, other: Self) -> Self {
        Self {
            server: self.server.or(other.server),
            ca_file: self.ca_file.or(other.ca_file),
            check_interval: self.check_interval.or(other.check_interval),
            dial_timeout: self.dial_timeout.or(other.dial_timeout),
            transition_timeout: self.transition_timeout.or(other.transition_timeout),
        }
    }
}

/// The settings that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// URL of the server, without a slash at its end.
    pub server: Option<String>,
    /// PEM file of the certificates that alone are believed for the server.
    pub ca_file: Option<PathBuf>,
    /// Time between two checks; none: no timer.
    pub check_interval: Option<Duration>,
    /// Bound of connecting.
    pub dial_timeout: Duration,
    /// Bound of a transition.
    pub transition_timeout: Duration,
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or unknown keys.
    #[error("not a configuration: {0}")]
    Syntax(String),
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
        let server = merged.server.map(|server| -> Result<String, ConfigError> {
            let host = server.strip_prefix("https://").unwrap_or_default();
            if host.is_empty() || host.starts_with('/') || server.contains(char::is_whitespace) {
                return Err(ConfigError::Value {
                    key: "server",
                    value: server,
                    why: "it is not an https URL; plain http is not spoken",
                });
            }
            Ok(server.trim_end_matches('/').to_owned())
        });
        let check_interval = duration("check-interval", merged.check_interval)?;
        Ok(Self {
            server: server.transpose()?,
            ca_file: merged.ca_file,
            check_interval: (!check_interval.is_zero()).then_some(check_interval),
            dial_timeout: at_least_a_second("dial-timeout", merged.dial_timeout)?,
            transition_timeout: at_least_a_second("transition-timeout", merged.transition_timeout)?,
        })
    }
}

fn duration(key: &'static str, text: Option<String>) -> Result<Duration, ConfigError> {
    let value = text.unwrap_or_default();
    let seconds = [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(unit, seconds)| {
        let number: u32 = value.strip_suffix(unit)?.parse().ok()?;
        Some(u64::from(number) * seconds)
    });
    match seconds {
        Some(seconds) if seconds <= 366 * 86400 => Ok(Duration::from_secs(seconds)),
        _ => Err(ConfigError::Value {
            key,
            value,
            why: "it is not a number with s, m or h, or longer than a year",
        }),
    }
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
    fn what_is_wrong_is_refused() {
        for text in [
            "server = \"http://a\"",
            "server = \"https://\"",
            "server = \"https:///x\"",
            "check-interval = \"5\"",
            "check-interval = \"-5s\"",
            "check-interval = 5",
            "dial-timeout = \"0s\"",
            "transition-timeout = \"99999999h\"",
            "unknown = 1",
            "=",
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{text} {error}");
        }
    }
}
