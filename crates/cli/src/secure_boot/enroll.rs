use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use livepatch_kernel::{Enrolment, LoadFacts, SecureBootFacts};
use livepatch_modsig::Certificate;

use super::status::trust;
use crate::{CliError, Exit};

const MOKUTIL: &str = "mokutil";

/// Hands to `mokutil --import` the certificates that the machine's owner has not enrolled yet. mokutil asks for a password,
/// and the firmware's console asks for it again at the next boot: nobody enrols a key from afar.
pub(super) fn enroll(
    certificates: &[Certificate],
    facts: &LoadFacts,
    boot: &SecureBootFacts,
    out: &mut dyn Write,
) -> Result<Exit, CliError> {
    if !boot.uefi {
        return Err(CliError::NoUefi);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(CliError::NotPermitted);
    }
    import_all(Path::new(MOKUTIL), certificates, facts, boot, out)?;
    Ok(Exit::Ok)
}

fn import_all(
    mokutil: &Path,
    certificates: &[Certificate],
    facts: &LoadFacts,
    boot: &SecureBootFacts,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut imported = false;
    for certificate in certificates {
        match trust(certificate, facts, boot).enrolment {
            Enrolment::Enrolled => writeln!(out, "{} is enrolled already.", certificate.subject())?,
            Enrolment::Pending => {
                writeln!(out, "{} waits for the next boot already.", certificate.subject())?;
                imported = true;
            }
            Enrolment::Absent | Enrolment::Unknown => {
                writeln!(out, "Importing {}. Choose a password for the next boot.", certificate.subject())?;
                out.flush()?;
                import(mokutil, certificate)?;
                imported = true;
            }
        }
    }
    if imported {
        writeln!(
            out,
            "Reboot with a console at hand: choose \"Enroll MOK\" on the blue screen and give that password."
        )?;
    }
    Ok(())
}

/// mokutil reads DER from a file, whatever form the certificate was given in.
fn import(mokutil: &Path, certificate: &Certificate) -> Result<(), CliError> {
    let mut file = tempfile::Builder::new().prefix("livepatch-").suffix(".x509").tempfile()?;
    file.write_all(certificate.der())?;
    file.flush()?;
    let status = Command::new(mokutil).arg("--import").arg(file.path()).status();
    match status {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(CliError::NoMokutil),
        Err(error) => Err(CliError::Mokutil(error.to_string())),
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CliError::Mokutil(status.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn certificate() -> Certificate {
        let pem = include_bytes!("../../../../fuzz/seeds/module_signature/certificate.pem");
        Certificate::from_pem(pem).unwrap().remove(0)
    }

    fn said(facts: &SecureBootFacts) -> String {
        let mut out = Vec::new();
        import_all(Path::new("true"), &[certificate()], &LoadFacts::default(), facts, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn mokutil_gets_the_certificate_as_der() {
        let directory = tempfile::tempdir().unwrap();
        let mokutil = directory.path().join("mokutil");
        let tell = |script: &str| {
            let script = script.replace("HERE", &directory.path().display().to_string());
            // Renamed into place: a file that is written to cannot be started.
            fs::write(directory.path().join("script"), format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(directory.path().join("script"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(directory.path().join("script"), &mokutil).unwrap();
        };
        assert!(matches!(import(&mokutil, &certificate()), Err(CliError::NoMokutil)));
        tell("echo \"$1 $#\" > HERE/arguments; cp \"$2\" HERE/imported");
        import(&mokutil, &certificate()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("arguments")).unwrap(), "--import 2\n");
        assert_eq!(fs::read(directory.path().join("imported")).unwrap(), certificate().der());
        tell("exit 3");
        let error = import(&mokutil, &certificate()).unwrap_err();
        assert_eq!(error.to_string(), "mokutil did not import the certificate: exit status: 3");
    }

    #[test]
    fn what_is_enrolled_is_left_alone() {
        let facts = SecureBootFacts {
            uefi: true,
            enrolled: Some(vec![certificate().der().to_vec()]),
            ..SecureBootFacts::default()
        };
        let mut out = Vec::new();
        let mut enroll = |facts: &SecureBootFacts| {
            enroll(&[certificate()], &LoadFacts::default(), facts, &mut out).map(|_| ())
        };
        let none = SecureBootFacts { uefi: false, ..facts.clone() };
        assert!(matches!(enroll(&none), Err(CliError::NoUefi)));
        if !rustix::process::geteuid().is_root() {
            assert!(matches!(enroll(&facts), Err(CliError::NotPermitted)));
        }
        let pending =
            SecureBootFacts { pending: facts.enrolled.clone(), enrolled: Some(vec![]), ..facts.clone() };
        let absent = SecureBootFacts { pending: Some(vec![]), ..pending.clone() };
        insta::assert_snapshot!([facts, pending, absent].map(|facts| said(&facts)).join("---\n"), @r#"
        CN=fuzz is enrolled already.
        ---
        CN=fuzz waits for the next boot already.
        Reboot with a console at hand: choose "Enroll MOK" on the blue screen and give that password.
        ---
        Importing CN=fuzz. Choose a password for the next boot.
        Reboot with a console at hand: choose "Enroll MOK" on the blue screen and give that password.
        "#);
    }
}
