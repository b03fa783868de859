//! The disk of a Debian with systemd, for tests of the packages as they are installed.
//!
//! It is made once per recipe and kernel (mmdebstrap and mke2fs, both as root), and kept beside the prepared kernel
//! sources. Tests work on copies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use livepatch_vm::KernelTree;

use crate::error::Error;
use crate::fetch::{make_directory, remove_directory};
use crate::process::{command, output};
use crate::progress::Step;
use crate::setup;

/// What is installed besides the smallest Debian with apt.
const INCLUDED: &str = "systemd-sysv,udev,dbus,kmod,iproute2";
/// What is done in it; `$1` is its root.
const HOOKS: [&str; 5] = [
    "chroot \"$1\" useradd --uid 1000 --create-home user",
    "echo guest >\"$1/etc/hostname\"",
    // With an empty one, systemd takes every boot for the first.
    "echo 0123456789abcdef0123456789abcdef >\"$1/etc/machine-id\"",
    "printf '[Match]\\nType=ether\\n[Network]\\nDHCP=ipv4\\n' >\"$1/etc/systemd/network/80-dhcp.network\"",
    "chroot \"$1\" systemctl enable systemd-networkd.service",
];
const SUITE: &str = "bookworm";
const SIZE: &str = "1200M";

/// The disk, made if it is not there; none when it is not there and only root can make it.
pub(crate) fn disk(kernel: &KernelTree, cache: &Path) -> Result<Option<PathBuf>, Error> {
    let recipe = format!("{SUITE}\n{INCLUDED}\n{}\n{SIZE}\n{}\n", HOOKS.join("\n"), kernel.release());
    let directory = cache.join("system");
    make_directory(cache)?;
    let lock = File::create(cache.join("system.lock")).map_err(|e| Error::io("make a lock file", e))?;
    lock.lock().map_err(|e| Error::io("wait for another disk", e))?;
    let (disk, stamp) = (directory.join("disk.img"), directory.join("recipe"));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && disk.exists() {
        return Ok(Some(disk));
    }
    if !setup::is_root()? {
        return Ok(None);
    }
    let step = Step::begin("made the disk of a Debian with systemd");
    remove_directory(&directory)?;
    make_directory(&directory)?;
    let root = directory.join("root");
    let mut bootstrap = command("mmdebstrap");
    bootstrap
        .args(["--quiet", "--variant=minbase", "--format=directory"])
        .arg(format!("--include={INCLUDED}"));
    bootstrap.args(HOOKS.map(|hook| format!("--customize-hook={hook}")));
    step.note("mmdebstrap");
    output(bootstrap.arg(SUITE).arg(&root))?;

    step.note("modules of the kernel");
    let modules = kernel.modules_directory();
    make_directory(&root.join("usr/lib/modules"))?;
    output(command("cp").arg("-a").arg("--").arg(&modules).arg(root.join("usr/lib/modules")))?;
    step.note("file system");
    let mut format = command("mke2fs");
    output(format.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk).arg(SIZE))?;
    remove_directory(&root)?;
    fs::write(&stamp, recipe).map_err(|e| Error::io("note the recipe of the disk", e))?;
    step.done();
    Ok(Some(disk))
}
