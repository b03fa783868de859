//! `livepatch secure-boot`: whose modules this machine's kernel takes, and how it comes to take ours. Asks no daemon:
//! what it says is for the moment in which the daemon cannot load what it has.

mod enroll;
mod status;
mod text;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Subcommand;
use livepatch_kernel::{Kernel as _, LinuxKernel};
use livepatch_modsig::Certificate;

use crate::command::Format;
use crate::{CliError, Exit};

pub use text::secure_boot_text;

#[derive(Debug, clap::Args)]
pub(crate) struct SecureBoot {
    #[command(subcommand)]
    command: SecureBootCommand,
    /// Directory with the vendor.pem of this host's administrator
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/livepatch/trust")]
    trust_dir: PathBuf,
    /// Directory with the vendor.pem of the package, for when the directory above has none
    #[arg(long, global = true, value_name = "DIR", default_value = "/usr/share/livepatch/keys")]
    keys_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum SecureBootCommand {
    /// Show Secure Boot, lockdown and keys, and whether a livepatch would load; root sees more than others
    Status {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Import the certificate of who signs livepatches, with mokutil; a reboot and a yes at its console complete it
    Enroll,
}

impl SecureBoot {
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<Exit, CliError> {
        let kernel = LinuxKernel::default();
        let (facts, boot) = (kernel.facts(), kernel.secure_boot());
        match self.command {
            SecureBootCommand::Status { format } => {
                let status = status::status(&facts, &boot, self.certificates());
                let text = match format {
                    Format::Text => secure_boot_text(&status),
                    Format::Json => {
                        let json = serde_json::to_string_pretty(&status);
                        json.map_err(|error| CliError::Answer(error.to_string()))? + "\n"
                    }
                };
                out.write_all(text.as_bytes())?;
                Ok(Exit::Ok)
            }
            SecureBootCommand::Enroll => enroll::enroll(&self.certificates()?, &facts, &boot, out),
        }
    }

    /// Whose modules livepatchd believes, by its own rule: what the administrator put in place goes before what came with
    /// the package.
    fn certificates(&self) -> Result<Vec<Certificate>, CliError> {
        let path = self.trust_dir.join("vendor.pem");
        let bytes = std::fs::read(&path).or_else(|error| match error.kind() {
            ErrorKind::NotFound => std::fs::read(self.keys_dir.join("vendor.pem")).map_err(|_| error),
            _ => Err(error),
        });
        let bytes =
            bytes.map_err(|error| CliError::VendorCertificate(format!("{}: {error}", path.display())))?;
        Certificate::from_pem(&bytes)
            .map_err(|error| CliError::VendorCertificate(format!("vendor.pem: {error}")))
    }
}
