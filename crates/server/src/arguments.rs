//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;
use livepatch_types::{BuildId, CveId, NoticeId, PatchVersion, Tier};

use crate::document::POLL_HINT_SECONDS;

/// Serve livepatches to a fleet.
///
/// Exit codes: 1 something here failed, 2 wrong command line, 3 refused, 4 data directory not usable,
/// 5 cannot listen.
#[derive(Debug, Parser)]
#[command(name = "livepatch-server", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The data directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/livepatch-server")]
    pub data: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a data directory: database, signing key, TLS certificate.
    Init(Init),
    /// Serve hosts until SIGTERM or SIGINT.
    Serve(Serve),
    /// Publish a signed bundle.
    Publish {
        /// The bundle that livepatch-build made.
        bundle: PathBuf,
        /// The tier to publish it in.
        #[arg(long, default_value = "stable")]
        tier: Tier,
        /// Why it is published although no virtual machine proved it (`livepatch-build prove`).
        #[arg(long, value_name = "REASON")]
        unproven: Option<String>,
    },
    /// Published patches.
    #[command(subcommand)]
    Patch(Patch),
    /// Enrolment tokens.
    #[command(subcommand)]
    Token(Token),
    /// Vendors whose bundles are taken.
    #[command(subcommand)]
    Vendor(Vendor),
    /// The operator's root, by which hosts know this server's keys.
    #[command(subcommand)]
    Operator(Operator),
    /// Enrolled machines.
    #[command(subcommand)]
    Machine(Machine),
    /// Kernels of patches and machines.
    #[command(subcommand)]
    Kernel(Kernel),
    /// Which kernels are covered, for hosts that are not: what `livepatch doctor` tells them to install.
    #[command(subcommand)]
    Support(Support),
    /// How often hosts ask, as they are told by the signed document of their kernel.
    #[command(subcommand)]
    PollHint(PollHint),
    /// The transparency log: what was published, promoted, withdrawn, and which keys were believed.
    #[command(subcommand)]
    Log(Log),
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// A DNS name that hosts use for this server; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// An address that hosts use for this server; may be repeated.
    #[arg(long, value_name = "ADDR")]
    pub ip: Vec<IpAddr>,
    /// Make no certificate: `serve` will get one by --tls-cert and --tls-key.
    #[arg(long, conflicts_with_all = ["dns", "ip"])]
    pub no_certificate: bool,
    /// Name of the transparency log, best the address at which hosts see it without https://; never to be changed
    /// [default: one made from the key].
    #[arg(long, value_name = "NAME")]
    pub log_name: Option<String>,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Certificate chain (PEM) instead of the one that `init` made.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of --tls-cert.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// How to print a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Text,
    /// JSON for programs.
    Json,
}

/// Arguments of every listing.
#[derive(Debug, Args)]
pub struct List {
    /// How to print it.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Commands on patches.
#[derive(Debug, Subcommand)]
pub enum Patch {
    /// List published patches.
    List(List),
    /// Withdraw a version for every kernel, for good: hosts must not run it any more.
    Withdraw {
        /// The version, such as 113.1.
        version: PatchVersion,
    },
}

/// Commands on enrolment tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, once.
    Create {
        /// A name to know it by.
        #[arg(long)]
        name: String,
        /// The tier of the machines that enrol with it.
        #[arg(long)]
        tier: Tier,
        /// When it ends: a date (2027-01-31), an instant (2027-01-31T12:00:00Z) or a time from now (30d, 12h).
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// How many machines it may enrol.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// List tokens; what they are is not known any more.
    List(List),
    /// Make a token worthless; machines that are enrolled stay so.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// Commands on vendors.
#[derive(Debug, Subcommand)]
pub enum Vendor {
    /// Trust a vendor's certificate (PEM or DER).
    Add {
        /// The certificate.
        certificate: PathBuf,
    },
    /// List trusted certificates.
    List(List),
    /// Take a vendor's repository (`livepatch-build trust`), verified as hosts do, and serve it. The first import decides
    /// which root is trusted; later ones must follow it.
    Import {
        /// The repository.
        directory: PathBuf,
    },
    /// List the repositories that are served.
    Repositories(List),
}

/// Commands on the operator's root.
#[derive(Debug, Subcommand)]
pub enum Operator {
    /// Make a key that takes the place of this server's, once a root names it: operator-next.pub is for that root.
    NewKey,
    /// Take an operator's root (`livepatch-build trust init --kind operator`) that names this server's key, and serve it.
    /// One that names the key of `new-key` puts that in the place of the server's; then restart the server.
    Import {
        /// The repository.
        directory: PathBuf,
    },
}

/// Arguments of `machine list`.
#[derive(Debug, Args)]
pub struct Machines {
    /// Only those that are not well: something failed there, the kernel complained, or they went silent while a livepatch
    /// was applied.
    #[arg(long)]
    pub unhealthy: bool,
    /// How to print it.
    #[command(flatten)]
    pub list: List,
}

/// Commands on machines.
#[derive(Debug, Subcommand)]
pub enum Machine {
    /// List machines, what they last reported and how well they are.
    List(Machines),
    /// List the last reports of a machine, the newest first.
    Show {
        /// The machine, or the beginning of it as `machine list` shows it: at least 4 digits.
        machine: String,
        /// How to print it.
        #[command(flatten)]
        list: List,
    },
}

/// Arguments of `kernel cover`.
#[derive(Debug, Args)]
pub struct Cover {
    /// The kernel's build-id, as `kernel list` shows it.
    pub build_id: BuildId,
    /// The last day, in UTC, on which this build gets livepatches.
    #[arg(long, value_name = "DATE")]
    pub until: Option<Date>,
    /// The last day, in UTC, on which any kernel of its series does.
    #[arg(long, value_name = "DATE")]
    pub series_until: Option<Date>,
    /// A CVE whose fix no livepatch can have: a newer kernel is needed.
    #[arg(long, value_name = "CVE")]
    pub upgrade_for: Option<CveId>,
    /// The notice that says so.
    #[arg(long, value_name = "LSN", requires = "upgrade_for")]
    pub notice: Option<NoticeId>,
}

/// Commands on kernels.
#[derive(Debug, Subcommand)]
pub enum Kernel {
    /// List kernels, their patches and how many machines run them.
    List(List),
    /// Say how long a kernel gets livepatches and why a newer one is needed, in place of what was said before; without
    /// options nothing is said any more. Hosts learn it with their next check.
    Cover(Cover),
    /// Take an index of kernels, in place of the one before: hosts whose kernel has no livepatches are told where it was
    /// published. A running server reads it by itself.
    Import {
        /// The file that `livepatch-build index` wrote.
        index: PathBuf,
    },
}

/// Commands on what is covered.
#[derive(Debug, Subcommand)]
pub enum Support {
    /// List the systems, kernels and packages that hosts are told now.
    Show(List),
    /// Print what the program comes with, as a file to begin with.
    Shipped,
    /// Take a file in place of what was said before. A running server reads it by itself.
    Import {
        /// The file, in the form that `support shipped` prints.
        file: PathBuf,
    },
}

/// Commands on how often hosts ask.
#[derive(Debug, Subcommand)]
pub enum PollHint {
    /// Have hosts ask every so many seconds, if their own `check-interval` is longer, in place of what was said before.
    /// They learn it with their next check.
    Set {
        /// From 60 (a minute) to 86400 (a day).
        #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(POLL_HINT_SECONDS))]
        seconds: u32,
    },
    /// Say nothing of it any more: each host asks as often as its `check-interval` says.
    Off,
    /// Show what hosts are told now.
    Show(List),
}

/// Commands on the transparency log.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// List what is in the log.
    Show {
        /// The first entry to list.
        #[arg(long, value_name = "N", default_value = "0")]
        from: u64,
        /// How to print it.
        #[command(flatten)]
        list: List,
    },
    /// Make the whole log anew from its entries and from what happened, and compare. Exit code 3 when anything differs.
    Verify(List),
    /// Print the proof that a bundle is in the log: text in the form of c2sp.org/tlog-proof.
    Prove {
        /// Version or name of the bundle, or SHA-256 of its manifest or module.
        #[arg(value_name = "NAME|DIGEST")]
        bundle: String,
        /// How to print it.
        #[command(flatten)]
        list: List,
    },
    /// Check, without any server, that a bundle is in a log.
    Check {
        /// The bundle.
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
        /// Its proof, from `log prove` or from /v1/log/proofs/ of a server.
        #[arg(long, value_name = "FILE")]
        proof: PathBuf,
        /// The log's key: log.vkey of the server's data directory, got by a way that you trust.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// How to print it.
        #[command(flatten)]
        list: List,
    },
    /// Ask a server for its log, once: list what is new, and refuse (exit code 3) a log that took something back or is not
    /// the same for all.
    Watch(Watch),
}

/// Arguments of `log watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// The server, such as `https://livepatch.example:8443`.
    pub url: String,
    /// Where the log's last signed head is remembered; made the first time.
    #[arg(long, value_name = "FILE")]
    pub state: PathBuf,
    /// The log's key: log.vkey of the server's data directory, got by a way that you trust.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The key that the remembered head is signed with, when the operator has replaced it since.
    #[arg(long, value_name = "FILE")]
    pub former_key: Option<PathBuf>,
    /// Certificates (PEM) to believe instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How to print it.
    #[command(flatten)]
    pub list: List,
}
