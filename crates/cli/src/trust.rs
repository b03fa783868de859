//! `livepatch trust`: the vendor's repository and the operator's root as the loader sees them. Asks the loader alone.

use std::fmt::Write as _;
use std::io::Write;

use clap::Subcommand;
use livepatch_api::daemon::Failure;
use livepatch_loader_api::{LogView, OperatorView, RootRequest, VendorView, View};
use livepatch_types::{PatchVersion, plural};
use serde::Serialize;

use crate::act::Daemons;
use crate::command::Format;
use crate::text::{problem_text, time};
use crate::{CliError, Exit};

#[derive(Debug, clap::Args)]
pub(crate) struct Trust {
    #[command(subcommand)]
    command: Option<TrustCommand>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t, global = true)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum TrustCommand {
    /// Set what was seen of repository, operator's root and log aside, lost or corrupt, and begin anew from what is pinned
    Reset,
}

/// The form for programs.
#[derive(Serialize)]
struct Shown {
    schema: u32,
    vendor: Option<VendorView>,
    operator: Option<OperatorView>,
    log: Option<LogView>,
    problem: Option<Failure>,
}

impl Trust {
    pub(crate) fn run(&self, daemons: &Daemons<'_>, out: &mut dyn Write) -> Result<Exit, CliError> {
        let view = match self.command {
            Some(TrustCommand::Reset) => daemons.loader(RootRequest::ResetTrust)?,
            None => daemons.view()?,
        };
        let View { vendor, vendor_problem, operator, operator_problem, log, problem, .. } = view;
        // Of the loader's other problems only this page explains those of the root.
        let of_the_root = problem.filter(|problem| problem.code.starts_with("operator-"));
        let problem = vendor_problem.or(operator_problem).or(of_the_root);
        let shown = Shown { schema: 1, vendor, operator, log, problem };
        let text = match self.format {
            Format::Text => text(&shown),
            Format::Json => {
                let json = serde_json::to_string_pretty(&shown);
                json.map_err(|error| CliError::Answer(error.to_string()))? + "\n"
            }
        };
        out.write_all(text.as_bytes())?;
        Ok(if shown.problem.is_some() { Exit::Failed } else { Exit::Ok })
    }
}

fn text(shown: &Shown) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    match &shown.vendor {
        Some(vendor) => {
            row("repository", vendor.repository.to_string());
            for seen in &vendor.seen {
                row(seen.role.as_str(), format!("version {}, expires {}", seen.version, time(seen.expires)));
            }
            if vendor.knows_this_kernel {
                row("allowed", list(&vendor.allowed));
            } else {
                row("allowed", "not asked yet for this kernel".into());
            }
            row("withdrawn", list(&vendor.withdrawn));
        }
        None if shown.problem.is_none() => {
            row(
                "repository",
                "none: no vendor-root.json is pinned, the vendor's certificate alone counts".into(),
            );
        }
        None => row("repository", "not known".into()),
    }
    row(
        "operator",
        match &shown.operator {
            Some(operator) => {
                let OperatorView { repository, root, expires } = operator;
                format!("{repository}, root version {root}, expires {}", time(*expires))
            }
            None => "no operator-root.json is pinned, the key in operator.pub alone counts".into(),
        },
    );
    row(
        "log",
        match &shown.log {
            Some(LogView { name, size: 0, .. }) => format!("{name}, nothing of it was seen yet"),
            Some(LogView { name, size, .. }) => {
                format!("{name}, {} seen", plural(*size as usize, "entry", "entries"))
            }
            None => "no log.vkey is pinned, nobody asks here what is in a log".into(),
        },
    );
    if let Some(problem) = &shown.problem {
        text.push('\n');
        text.push_str(&problem_text(problem));
    }
    text
}

fn list(versions: &[PatchVersion]) -> String {
    let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
    if versions.is_empty() { "none".into() } else { versions.join(", ") }
}
