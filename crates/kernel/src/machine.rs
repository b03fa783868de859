use std::io::Read as _;

use livepatch_api::legacy::MachineTexts;

const MAX_FILE_BYTES: u64 = 1 << 20;

/// What this machine and its kernel say of themselves, for a legacy status and for reports. What cannot be read is empty.
pub fn machine_texts() -> MachineTexts {
    let boot = std::fs::read_dir("/boot").into_iter().flatten().flatten();
    MachineTexts {
        machine_id: text("/etc/machine-id"),
        cpuinfo: text("/proc/cpuinfo"),
        stat: text("/proc/stat"),
        uptime: text("/proc/uptime"),
        version_signature: text("/proc/version_signature"),
        osrelease: text("/proc/sys/kernel/osrelease"),
        boot_files: boot.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
    }
}

/// A file's beginning; of /proc/cpuinfo and /proc/stat of a large machine that is enough.
fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}
