//! How far the daemon goes: a switch that also works when nobody can log in.

use std::fmt;
use std::str::FromStr;

/// How far the daemon goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// All of it.
    #[default]
    Normal,
    /// It asks the server and reports, but applies nothing, after a boot neither. What was withdrawn still goes.
    NoApply,
    /// It applies what this host has already, and asks the server only when root says so.
    NoRefresh,
    /// It answers who asks for the status, and does nothing else.
    Stop,
}

/// Where a mode was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModeSource {
    /// Nowhere: it is the default.
    #[default]
    Default,
    /// `livepatch_mode=` (or the legacy `canonical_livepatch_mode=`) on the kernel's command line.
    CommandLine,
    /// The file beside the configuration.
    File,
    /// `mode` in the configuration.
    Configuration,
}

/// A word that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mode: normal, no-apply, no-refresh or stop")]
pub struct ModeError(String);

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        match text {
            "normal" => Ok(Self::Normal),
            "no-apply" => Ok(Self::NoApply),
            "no-refresh" => Ok(Self::NoRefresh),
            "stop" => Ok(Self::Stop),
            _ => Err(ModeError(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::NoApply => "no-apply",
            Self::NoRefresh => "no-refresh",
            Self::Stop => "stop",
        })
    }
}

impl fmt::Display for ModeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "the default",
            Self::CommandLine => "the kernel's command line",
            Self::File => "the mode file",
            Self::Configuration => "the configuration",
        })
    }
}

impl Mode {
    /// The mode that holds: of the kernel's command line, else of the file, else of the configuration. The text of the
    /// command line is what /proc/cmdline has; its last word for it counts, as the kernel itself has it.
    ///
    /// A word that is no mode is not passed over: somebody wanted to hold the daemon back.
    pub fn choose(
        command_line: &str,
        file: Option<&str>,
        configured: Option<Mode>,
    ) -> Result<(Self, ModeSource), ModeError> {
        let switches = ["livepatch_mode=", "canonical_livepatch_mode="];
        let word = command_line
            .split_ascii_whitespace()
            .filter_map(|word| switches.iter().find_map(|switch| word.strip_prefix(switch)))
            .next_back();
        if let Some(word) = word {
            return Ok((word.parse()?, ModeSource::CommandLine));
        }
        if let Some(text) = file.map(str::trim).filter(|text| !text.is_empty()) {
            return Ok((text.parse()?, ModeSource::File));
        }
        Ok(match configured {
            Some(mode) => (mode, ModeSource::Configuration),
            None => (Self::default(), ModeSource::Default),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_says_one() {
        for (line, file, configured, expected) in [
            ("", None, None, "normal by the default"),
            ("root=/dev/vda1 quiet", None, Some(Mode::Stop), "stop by the configuration"),
            ("", Some("no-refresh\n"), Some(Mode::Stop), "no-refresh by the mode file"),
            ("", Some(" \n"), None, "normal by the default"),
            ("a livepatch_mode=no-apply b", Some("stop"), None, "no-apply by the kernel's command line"),
            ("canonical_livepatch_mode=stop", None, None, "stop by the kernel's command line"),
            ("livepatch_mode=stop livepatch_mode=normal", None, None, "normal by the kernel's command line"),
            ("xlivepatch_mode=stop", None, None, "normal by the default"),
        ] {
            let (mode, source) = Mode::choose(line, file, configured).unwrap();
            assert_eq!(format!("{mode} by {source}"), expected);
        }
        for (line, file) in [("livepatch_mode=", None), ("livepatch_mode=off", None), ("", Some("Stop"))] {
            assert!(Mode::choose(line, file, None).unwrap_err().to_string().contains("is no mode"));
        }
    }
}
