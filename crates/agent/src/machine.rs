use std::path::Path;

use aws_lc_rs::hmac;

const KEY: &[u8] = b"livepatch machine id, version 1";

/// What the server knows this machine by: a keyed hash of its machine id, never the id itself. A machine without one
/// (an initramfs) goes by its boot id, that is, by another name after every boot.
pub fn machine_hash(machine_id: &Path, boot_id: Option<&str>) -> String {
    let id = std::fs::read_to_string(machine_id).ok();
    let id = id.as_deref().map(str::trim).filter(|id| !id.is_empty()).or(boot_id).unwrap_or_default();
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), id.as_bytes()))
}
