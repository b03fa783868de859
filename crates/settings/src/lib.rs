//! Floor 2: the settings of a host, which agent and loader both read: what its owner wrote into
//! /etc/livepatch/livepatch.toml, over the shipped file, and the boot switch. [`Policy`] is a pure rule over them.
//!
//! Invariant: one reader and one rule, so that the agent says what the loader does.

mod config;
mod log_level;
pub mod policy;

pub use config::{Config, ConfigError, TelemetrySwitch};
pub use log_level::{LogLevel, LogLevelError};
pub use policy::{Asker, Mode, ModeError, ModeSource, Policy, Waiting, Window, WindowError};
