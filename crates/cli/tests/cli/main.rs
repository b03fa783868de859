//! The program against sockets that a test answers.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod bug_report;
mod bundle;
mod commands;
mod config_import;
mod cves_and_holds;
mod doctor;
mod elsewhere;
mod explain;
mod inspect;
mod legacy;
mod locks;
mod monitoring;
mod never_hangs;
mod readers;
mod reboot_required;
mod schema;
mod secure_boot;
mod support;
mod telemetry;
mod texts;
mod trust;
mod wait;
