//! `livepatch-build toolchain`: the compilers of kernels that are not the host's.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use livepatch_kbuild::{
    Environment, HOST, Isolation, Recipe, ToolchainChoice, ToolchainName, ToolchainRoot, list_toolchains,
    make_toolchain,
};
use livepatch_types::plural;
use serde::Serialize;

use crate::cli::{Format, Shown, default_cache, json, with_progress};
use crate::error::ExitCode;
use crate::report::PackageReport;

/// Where toolchains are, and how programs are kept apart.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EnvironmentArguments {
    /// Where prepared kernel sources are kept (about 1.7 GB each)
    #[arg(long, value_name = "DIR", env = "LIVEPATCH_CACHE")]
    cache: Option<PathBuf>,
    /// Where toolchain roots are kept; if not said, `toolchains` in the cache
    #[arg(long, value_name = "DIR", env = "LIVEPATCH_TOOLCHAINS")]
    toolchains: Option<PathBuf>,
    /// How make, compilers and whatever else works on the source is kept from the network and from all other files
    #[arg(long, value_enum, default_value_t)]
    sandbox: SandboxChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SandboxChoice {
    /// In namespaces of their own, by bubblewrap.
    #[default]
    Bubblewrap,
    /// Not at all: for sources that you trust as you trust yourself.
    None,
}

impl EnvironmentArguments {
    /// The cache, and how to work in it.
    pub(crate) fn open(&self, choice: ToolchainChoice) -> Result<(PathBuf, Environment), Shown> {
        let cache = self.cache.clone().map_or_else(default_cache, Ok)?;
        let environment = Environment {
            toolchains: self.toolchains.clone().unwrap_or_else(|| Environment::new(&cache).toolchains),
            choice,
            isolation: match self.sandbox {
                SandboxChoice::Bubblewrap => Isolation::Bubblewrap,
                SandboxChoice::None => Isolation::None,
            },
        };
        Ok((cache, environment))
    }
}

/// What is done with toolchain roots.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolchainCommand {
    /// Make a root: a small system of one distribution release with its compiler, by mmdebstrap.
    Make(MakeArguments),
    /// List the roots.
    List(ListArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct MakeArguments {
    /// The distribution release, such as bookworm
    #[arg(long, value_name = "SUITE")]
    suite: String,
    /// The compiler's package, as gcc-12 or gcc-12=VERSION
    #[arg(long, value_name = "PACKAGE")]
    compiler: String,
    /// Where the packages are: an address, or a line of a sources.list; may be given several times. If not said, where
    /// this host's apt has that release, else mmdebstrap's own choice
    #[arg(long, value_name = "URL|LINE")]
    mirror: Vec<String>,
    #[command(flatten)]
    environment: EnvironmentArguments,
    /// Name of the root; if not said, made of release and compiler
    #[arg(value_name = "ROOT", value_parser = ToolchainName::parse)]
    name: Option<ToolchainName>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    environment: EnvironmentArguments,
    /// How to print the list
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Reads `--toolchain`.
pub(crate) fn parse_choice(text: &str) -> Result<ToolchainChoice, String> {
    if text == HOST {
        return Ok(ToolchainChoice::Host);
    }
    ToolchainName::parse(text).map(ToolchainChoice::Root)
}

/// A root, as programs read it.
#[derive(Serialize)]
struct RootView<'r> {
    name: &'r str,
    directory: &'r Path,
    suite: &'r str,
    compiler: &'r str,
    version: &'r str,
    content: String,
    packages: Vec<PackageReport>,
}

impl<'r> RootView<'r> {
    fn of(root: &'r ToolchainRoot) -> Self {
        Self {
            name: root.name.as_str(),
            directory: &root.root,
            suite: &root.suite,
            compiler: &root.compiler,
            version: &root.version,
            content: root.content.to_string(),
            packages: root.packages.iter().map(PackageReport::from).collect(),
        }
    }
}

fn text(root: &ToolchainRoot) -> String {
    let packages = plural(root.packages.len(), "package", "packages");
    format!(
        "{}\n  compiler  {} {}\n  suite     {}, {packages}\n  content   {}\n",
        root.name, root.compiler, root.version, root.suite, root.content
    )
}

pub(crate) fn run(command: &ToolchainCommand) -> Result<String, Shown> {
    match command {
        ToolchainCommand::Make(arguments) => run_make(arguments),
        ToolchainCommand::List(arguments) => run_list(arguments),
    }
}

fn run_make(arguments: &MakeArguments) -> Result<String, Shown> {
    let usage = |message| Shown {
        message,
        hint: "give them as in: --suite bookworm --compiler gcc-12=12.2.0-14+deb12u1".into(),
        code: ExitCode::Usage,
    };
    let recipe = Recipe::new(&arguments.suite, &arguments.compiler, &arguments.mirror).map_err(usage)?;
    let name = arguments.name.clone().map_or_else(|| recipe.default_name(), Ok).map_err(usage)?;
    let (_, environment) = arguments.environment.open(ToolchainChoice::default())?;
    let root = with_progress(|progress| make_toolchain(&recipe, &name, &environment, progress))?;
    Ok(match arguments.format {
        Format::Json => json(&RootView::of(&root)),
        Format::Text => text(&root),
    })
}

fn run_list(arguments: &ListArguments) -> Result<String, Shown> {
    let (_, Environment { toolchains, .. }) = arguments.environment.open(ToolchainChoice::default())?;
    let roots = list_toolchains(&toolchains)?;
    Ok(match arguments.format {
        Format::Json => json(&roots.iter().map(RootView::of).collect::<Vec<_>>()),
        Format::Text if roots.is_empty() => format!("no toolchain roots in {}\n", toolchains.display()),
        Format::Text => roots.iter().map(text).collect(),
    })
}
