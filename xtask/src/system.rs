//! The disk of a Debian with systemd, for tests of the packages as they are installed.
//!
//! It is made once per recipe and kernels (mmdebstrap and mke2fs, both as root), and kept beside the prepared kernel
//! sources. Tests work on copies. It has what our packages depend on, so that they can be installed without a network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use livepatch_vm::KernelTree;

use crate::dist::packages::PACKAGES;
use crate::error::Error;
use crate::fetch::{make_directory, remove_directory};
use crate::process::{command, output};
use crate::progress::Step;
use crate::setup;

/// What is installed besides the smallest Debian with apt: the last two are programs that reboot hosts, or say that somebody should.
const INCLUDED: &str = "systemd-sysv,udev,dbus,kmod,iproute2,unattended-upgrades,needrestart";
/// What is done in it; `$1` is its root.
const HOOKS: [&str; 7] = [
    "chroot \"$1\" useradd --uid 1000 --create-home user",
    "echo guest >\"$1/etc/hostname\"",
    // With an empty one, systemd takes every boot for the first.
    "echo 0123456789abcdef0123456789abcdef >\"$1/etc/machine-id\"",
    "printf '[Match]\\nType=ether\\n[Network]\\nDHCP=ipv4\\n' >\"$1/etc/systemd/network/80-dhcp.network\"",
    "chroot \"$1\" systemctl enable systemd-networkd.service",
    // A machine that was saved days ago would make up for all of them at once.
    "chroot \"$1\" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer",
    // Tests call both when they are asked about: every installation and every boot would take seconds longer.
    "chroot \"$1\" systemctl mask unattended-upgrades.service && rm \"$1/etc/apt/apt.conf.d/99needrestart\" \"$1/etc/dpkg/dpkg.cfg.d/needrestart\"",
];
const SUITE: &str = "bookworm";
const SIZE: &str = "2000M";

/// The disk in this directory, made if it is not there; none when it is not there and only root can make it.
pub(crate) fn disk(
    workspace: &Path,
    kernels: &[KernelTree],
    directory: &Path,
) -> Result<Option<PathBuf>, Error> {
    let mut included = INCLUDED.to_owned();
    for package in PACKAGES {
        let control = workspace.join("dist").join(package.name).join("DEBIAN/control");
        let text =
            fs::read_to_string(&control).map_err(|e| Error::io(format!("read {}", control.display()), e))?;
        included.extend(dependencies(&text).iter().map(|name| format!(",{name}")));
    }
    let releases = kernels.iter().map(|kernel| format!("{}\n", kernel.release())).collect::<String>();
    let recipe = format!("{SUITE}\n{included}\n{}\n{SIZE}\n{releases}", HOOKS.join("\n"));
    make_directory(directory.parent().unwrap_or(directory))?;
    let lock =
        File::create(directory.with_added_extension("lock")).map_err(|e| Error::io("make a lock file", e))?;
    lock.lock().map_err(|e| Error::io("wait for another disk", e))?;
    let (disk, stamp) = (directory.join("disk.img"), directory.join("recipe"));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && disk.exists() {
        return Ok(Some(disk));
    }
    if !setup::is_root()? {
        return Ok(None);
    }
    let step = Step::begin("made the disk of a Debian with systemd");
    remove_directory(directory)?;
    make_directory(directory)?;
    let root = directory.join("root");
    let mut bootstrap = command("mmdebstrap");
    bootstrap
        .args(["--quiet", "--variant=minbase", "--format=directory"])
        .arg(format!("--include={included}"));
    bootstrap.args(HOOKS.map(|hook| format!("--customize-hook={hook}")));
    step.note("mmdebstrap");
    output(bootstrap.arg(SUITE).arg(&root))?;

    step.note("modules of the kernel");
    let modules = root.join("usr/lib/modules");
    make_directory(&modules)?;
    let kernels = kernels.iter().map(KernelTree::modules_directory);
    output(command("cp").args(["-a", "-t"]).arg(&modules).arg("--").args(kernels))?;
    step.note("file system");
    let mut format = command("mke2fs");
    output(format.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk).arg(SIZE))?;
    remove_directory(&root)?;
    fs::write(&stamp, recipe).map_err(|e| Error::io("note the recipe of the disk", e))?;
    step.done();
    Ok(Some(disk))
}

/// What a package depends on besides ours and the libraries of its programs, which every Debian of this kind has: the
/// first of alternatives.
fn dependencies(control: &str) -> Vec<String> {
    let fields = ["Depends:", "Pre-Depends:"];
    let lists = control.lines().filter_map(|line| fields.iter().find_map(|field| line.strip_prefix(field)));
    let first = |entry: &str| {
        entry.split('|').next().and_then(|name| name.split_whitespace().next()).map(String::from)
    };
    lists
        .flat_map(|list| list.split(','))
        .filter_map(first)
        .filter(|name| !name.starts_with("${") && !name.starts_with("livepatch"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_plain_names() {
        let control =
            "Package: x\nPre-Depends: i (>= 1~)\nDepends: ${shlibs:Depends}, a | b, livepatch (= 1), make\n";
        assert_eq!(dependencies(control), ["i", "a", "make"]);
        assert_eq!(dependencies("Package: x\n"), [""; 0]);
    }
}
