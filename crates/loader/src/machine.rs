use std::path::Path;

use aws_lc_rs::hmac;
use livepatch_types::Sha256Digest;

const KEY: &[u8] = b"livepatch host, version 1";

/// Which machine this is: a keyed hash of the machine id and of the UUID that the firmware gives (DMI), so that neither a
/// copied disk nor a copied machine id alone passes for it. None: there is no machine id (yet). Firmware without a UUID
/// counts as one that says nothing.
pub fn machine(machine_id: &Path, product_uuid: &Path) -> Option<Sha256Digest> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_lowercase();
    let (id, uuid) = (read(machine_id), read(product_uuid));
    // What machine-id(5) has before the first boot is over.
    if id.is_empty() || id == "uninitialized" {
        return None;
    }
    // A line each: no id can pass for another one with a part of the UUID.
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), format!("{id}\n{uuid}\n").as_bytes());
    <[u8; 32]>::try_from(tag.as_ref()).ok().map(Sha256Digest::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_id_or_another_uuid_is_another_machine() {
        let directory = tempfile::tempdir().unwrap();
        let (id, uuid) = (directory.path().join("id"), directory.path().join("uuid"));
        assert_eq!(machine(&id, &uuid), None);
        let mut seen = Vec::new();
        for (id_text, uuid_text) in [("a", ""), ("a", "b"), ("b", "b"), ("a\nb", "")] {
            std::fs::write(&id, id_text).unwrap();
            std::fs::write(&uuid, uuid_text).unwrap();
            let this = machine(&id, &uuid).unwrap();
            assert!(!seen.contains(&this), "{id_text} {uuid_text}");
            seen.push(this);
        }
        std::fs::write(&id, "B\n").unwrap();
        std::fs::write(&uuid, "B\n").unwrap();
        assert_eq!(machine(&id, &uuid), Some(seen[2]), "white space and case are the same");
        for none in ["\n", "uninitialized\n"] {
            std::fs::write(&id, none).unwrap();
            assert_eq!(machine(&id, &uuid), None);
        }
    }
}
