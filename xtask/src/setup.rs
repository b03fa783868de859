//! `cargo xtask setup`: the Debian packages that building and testing need.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::process::{command, output};

/// What is needed and for what.
const PACKAGES: [(&str, &str); 28] = [
    ("bc", "kernel build"),
    ("binutils", "stripping programs for packages"),
    ("bison", "kernel build"),
    ("bubblewrap", "the sandbox of kernel builds"),
    ("busybox-static", "userland of the VMs"),
    ("dpkg-dev", "reading packages"),
    ("dwarves", "kernel build"),
    ("e2fsprogs", "disks of VMs"),
    ("flex", "kernel build"),
    ("g++", "the fuzzer"),
    ("gcc-12", "the compiler that Debian 12 builds its kernels with"),
    ("gnupg", "keys of archives that tests make"),
    ("gpgv", "signatures of archives"),
    ("kmod", "module dependencies"),
    ("libc6-dev", "static programs for the VMs"),
    ("libelf-dev", "kernel build"),
    ("libssl-dev", "kernel build, module signing"),
    ("lintian", "checking packages"),
    ("make", "kernel build"),
    ("mmdebstrap", "the Debian system of VMs, toolchain roots"),
    ("mokutil", "enrolling keys in VMs with Secure Boot"),
    ("ovmf", "UEFI firmware of VMs with Secure Boot"),
    ("patch", "sources of kernels with patches of the packaging"),
    ("pkg-config", "finding libssl"),
    ("qemu-system-x86", "VMs"),
    ("softhsm2", "a PKCS#11 token for the tests of signing"),
    ("xz-utils", "kernel sources, compressed modules"),
    ("zstd", "compressed modules"),
];

/// Installs what is missing; does nothing, fast, if nothing is.
pub(crate) fn setup() -> Result<(), Error> {
    let missing = missing(&installed()?);
    if missing.is_empty() {
        eprintln!("all {} packages are installed", PACKAGES.len());
        return Ok(());
    }
    for (package, purpose) in PACKAGES.iter().filter(|(package, _)| missing.contains(package)) {
        eprintln!("missing: {package} ({purpose})");
    }
    if !is_root()? {
        return Err(Error::NeedsRoot { packages: missing.iter().map(|p| p.to_string()).collect() });
    }
    output(command("apt-get").args(["-q", "update"]))?;
    let mut install = command("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["-q", "-y", "--no-install-recommends", "install"]).args(&missing);
    output(&mut install)?;
    let missing = self::missing(&installed()?);
    if missing.is_empty() {
        eprintln!("installed");
        Ok(())
    } else {
        Err(Error::Program {
            program: "apt-get".into(),
            detail: format!("still missing: {}", missing.join(" ")),
        })
    }
}

/// Whether apt may be told to change something.
pub(crate) fn is_root() -> Result<bool, Error> {
    Ok(output(command("id").arg("-u"))?.trim_ascii() == b"0")
}

fn missing(installed: &BTreeSet<String>) -> Vec<&'static str> {
    PACKAGES.iter().map(|(package, _)| *package).filter(|package| !installed.contains(*package)).collect()
}

fn installed() -> Result<BTreeSet<String>, Error> {
    // It ends with an error when it does not know a package, which is no error here.
    let names = PACKAGES.iter().map(|(package, _)| package);
    let output = command("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(names)
        .output()
        .map_err(|_| Error::NotDebian { program: "dpkg-query".into() })?;
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_installed(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_suffix(" installed")).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_installed_is_missing() {
        let installed = parse_installed("bc installed\nmake config-files\nkmod not-installed\n");
        assert_eq!(installed, BTreeSet::from(["bc".to_string()]));
        assert!(missing(&installed).contains(&"make"));
        assert!(!missing(&installed).contains(&"bc"));
    }
}
