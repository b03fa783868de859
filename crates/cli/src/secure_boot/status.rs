use livepatch_api::daemon::Failure;
use livepatch_api::secure_boot::{Key, Keyring, SecureBootStatus, VendorCertificate};
use livepatch_kernel::{
    Enrolment, LoadFacts, Loads, Lockdown, ModuleSigner, ModuleTrust, SecureBootFacts, module_trust,
};
use livepatch_modsig::Certificate;

use crate::CliError;

/// What there is to say, from what was read.
pub(super) fn status(
    facts: &LoadFacts,
    boot: &SecureBootFacts,
    certificates: Result<Vec<Certificate>, CliError>,
) -> SecureBootStatus {
    let (certificates, problem) = match certificates {
        Ok(certificates) => (certificates, None),
        Err(error) => {
            let (message, hints) = (error.to_string(), error.hints());
            (Vec::new(), Some(Failure { code: "trust-missing".into(), message, hints }))
        }
    };
    SecureBootStatus {
        schema: 1,
        uefi: boot.uefi,
        secure_boot: boot.secure_boot,
        setup_mode: boot.setup_mode,
        lockdown: facts.lockdown.map(|lockdown| lockdown_word(lockdown).to_owned()),
        signatures_enforced: facts.signatures_enforced,
        modules_disabled: facts.modules_disabled,
        keyrings: boot.keyrings.as_deref().map(|keyrings| keyrings.iter().map(keyring).collect()),
        vendor: certificates.iter().map(|certificate| vendor(certificate, facts, boot)).collect(),
        problem,
    }
}

/// What this kernel makes of modules that a certificate's key signed.
pub(super) fn trust(certificate: &Certificate, facts: &LoadFacts, boot: &SecureBootFacts) -> ModuleTrust {
    let key_id = certificate.key_id_hex();
    module_trust(facts, boot, ModuleSigner { der: certificate.der(), key_id: &key_id })
}

fn vendor(certificate: &Certificate, facts: &LoadFacts, boot: &SecureBootFacts) -> VendorCertificate {
    let trust = trust(certificate, facts, boot);
    VendorCertificate {
        subject: certificate.subject().to_owned(),
        key_id: certificate.key_id_hex(),
        enrolment: enrolment_word(trust.enrolment).into(),
        keyring: trust.keyring.map(|name| name.as_str().to_owned()),
        loads: match trust.loads {
            Loads::Yes => "yes",
            Loads::No => "no",
            Loads::Unknown => "unknown",
        }
        .into(),
        reason: trust.reason,
        hints: trust.hint.map(str::to_owned).into_iter().collect(),
    }
}

fn keyring(keyring: &livepatch_kernel::Keyring) -> Keyring {
    let key =
        |key: &livepatch_kernel::KernelKey| Key { subject: key.subject.clone(), key_id: key.key_id.clone() };
    Keyring {
        name: keyring.name.as_str().into(),
        keys: keyring.keys.iter().map(key).collect(),
        digests: keyring.digests,
    }
}

fn lockdown_word(lockdown: Lockdown) -> &'static str {
    match lockdown {
        Lockdown::Off => "none",
        Lockdown::Integrity => "integrity",
        Lockdown::Confidentiality => "confidentiality",
    }
}

fn enrolment_word(enrolment: Enrolment) -> &'static str {
    match enrolment {
        Enrolment::Enrolled => "enrolled",
        Enrolment::Pending => "pending",
        Enrolment::Absent => "absent",
        Enrolment::Unknown => "unknown",
    }
}
