//! The end of the demo: the same livepatch on a machine with Secure Boot, which never had a server. Its kernel takes modules
//! only of keys that the machine's owner enrolled.

use std::path::Path;

use livepatch_vm::{Firmware, KernelTree, SecureBootKeys};

use super::machine::{Content, Machine};
use super::report::Verdict;
use super::session::Session;
use crate::config::Fix;
use crate::error::{Error, Exit};
use crate::pem::der_of_pem;
use crate::process::tool_error;
use crate::signer::Signer;

/// Where root puts the bundle.
const CARRIED: &str = "/root/carried.lpb";

/// What both machines have.
pub(crate) struct SecureBoot<'a> {
    pub(crate) tree: &'a KernelTree,
    pub(crate) fixes: &'a [Fix],
    pub(crate) content: &'a Content<'a>,
    /// The machine's owner.
    pub(crate) owner: &'a Signer,
    pub(crate) vendor: &'a Signer,
    /// The bundle, with all that a host without a server needs.
    pub(crate) carried: &'a [u8],
    pub(crate) version: &'a str,
    /// Where transcripts go.
    pub(crate) directory: &'a Path,
}

impl SecureBoot<'_> {
    /// What the checks say where the vendor's certificate is not enrolled, and where it is.
    pub(crate) fn story(&self, session: &mut Session) -> Result<[Vec<Verdict>; 2], Error> {
        let machine = self.boot("Secure Boot on, and only its owner's key", vec![], "unknown", session)?;
        machine.secure_boot(session)?;
        let apply = format!("apply --bundle {CARRIED}");
        machine.says_no(&apply, "the kernel does not trust the key that signed the module", session)?;
        let refused = machine.check(|_| Verdict::Vulnerable, session)?;
        machine.shutdown()?;

        let enrolled = vec![certificate(self.vendor)?];
        let machine = self.boot(
            "Secure Boot on, and the vendor's certificate enrolled",
            enrolled,
            "enrolled",
            session,
        )?;
        machine.secure_boot(session)?;
        machine.livepatch(&apply, Some(self.version), session)?;
        let applied = machine.check(|_| Verdict::Fixed, session)?;
        machine.is_well(session)?;
        machine.shutdown()?;
        Ok([refused, applied])
    }

    fn boot(
        &self,
        what: &str,
        machine_owner: Vec<Vec<u8>>,
        transcript: &str,
        session: &mut Session,
    ) -> Result<Machine<'_>, Error> {
        let platform = certificate(self.owner)?;
        let keys = SecureBootKeys { platform, machine_owner, ..SecureBootKeys::default() };
        let transcript = self.directory.join(format!("guest-{transcript}.log"));
        let (machine, _) = session.step(&format!("boot another machine: {what}"), |_| {
            let firmware = Firmware::SecureBoot(keys);
            let machine = Machine::boot(self.tree, self.fixes, self.content, firmware, &transcript)?;
            machine.put(CARRIED, self.carried)?;
            Ok(machine)
        })?;
        Ok(machine)
    }
}

/// A certificate as firmware has it.
fn certificate(signer: &Signer) -> Result<Vec<u8>, Error> {
    let pem = signer.certificate()?;
    let der = std::str::from_utf8(&pem).ok().and_then(der_of_pem);
    der.ok_or_else(|| tool_error("livepatch-build keygen", Exit::Failure, "the certificate is not PEM"))
}
