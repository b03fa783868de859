//! The kernel's own keyrings: whom it believes, and whom not any more.

use linux_keyutils::{Key, KeySerialId};

/// Most keys that are looked at in a keyring. A list of revoked digests has some hundreds.
const MAX_LINKS: usize = 16 << 10;

/// The kernel's keyrings that say whose modules it takes (certs/system_keyring.c, security/integrity/digsig.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyringName {
    /// Keys that the kernel was built with.
    Builtin,
    /// Keys that were added since, each signed by one of these keyrings.
    Secondary,
    /// Keys that the machine's owner enrolled (MOK), where the kernel keeps them apart from the firmware's.
    Machine,
    /// Keys of the firmware (`db`) and, where there is no keyring `machine` for them, of the machine's owner.
    Platform,
    /// What is revoked.
    Blacklist,
}

impl KeyringName {
    const ALL: [Self; 5] = [Self::Builtin, Self::Secondary, Self::Machine, Self::Platform, Self::Blacklist];

    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Secondary => "secondary",
            Self::Machine => "machine",
            Self::Platform => "platform",
            Self::Blacklist => "blacklist",
        }
    }

    /// How the kernel calls it.
    fn description(self) -> &'static str {
        match self {
            Self::Builtin => ".builtin_trusted_keys",
            Self::Secondary => ".secondary_trusted_keys",
            Self::Machine => ".machine",
            Self::Platform => ".platform",
            Self::Blacklist => ".blacklist",
        }
    }
}

/// A certificate in a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelKey {
    /// Its subject, as far as the kernel keeps it.
    pub subject: String,
    /// Its subject key identifier in lower-case hexadecimal; its serial number when it has none.
    pub key_id: String,
}

/// What one keyring holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// Which.
    pub name: KeyringName,
    /// Its certificates.
    pub keys: Vec<KernelKey>,
    /// How many entries it has besides: digests that are revoked.
    pub digests: usize,
}

impl Keyring {
    /// Whether it holds the key with this identifier (lower-case hexadecimal).
    pub fn has(&self, key_id: &str) -> bool {
        self.keys.iter().any(|key| key.key_id == key_id)
    }
}

/// A line of /proc/keys (security/keys/proc.c).
struct Line<'a> {
    serial: i32,
    uid: &'a str,
    kind: &'a str,
    description: &'a str,
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut rest = text;
    let mut word = || {
        let (word, tail) = rest.trim_start().split_once(' ')?;
        rest = tail;
        Some(word)
    };
    let serial = i32::try_from(u32::from_str_radix(word()?, 16).ok()?).ok()?;
    let [_flags, _usage, _timeout, _permissions, uid, _gid, kind] =
        [word()?, word()?, word()?, word()?, word()?, word()?, word()?];
    Some(Line { serial, uid, kind, description: rest.trim_start() })
}

/// `Debian Secure Boot CA: 6cce…: X509.rsa 5cbb419e []` (`asymmetric_key_describe`).
fn certificate(description: &str) -> Option<KernelKey> {
    let (named, _algorithm) = description.rsplit_once(": ")?;
    let (subject, key_id) = named.rsplit_once(": ")?;
    let printable = |c: char| if c.is_control() { '?' } else { c };
    Some(KernelKey { subject: subject.chars().map(printable).collect(), key_id: key_id.to_lowercase() })
}

/// The keyrings in the text of /proc/keys, which does not say what is in which: `links` gives the serial numbers of the
/// keys in a keyring. None when one of them cannot be read; only root sees them.
///
/// Nobody but the kernel can make a keyring whose name begins with a dot.
pub fn keyrings(proc_keys: &str, mut links: impl FnMut(i32) -> Option<Vec<i32>>) -> Option<Vec<Keyring>> {
    let lines: Vec<Line<'_>> = proc_keys.lines().filter_map(line).collect();
    let mut found = Vec::new();
    for name in KeyringName::ALL {
        let is_it = |line: &&Line<'_>| {
            let described = line.description.rsplit_once(": ").map(|(name, _)| name);
            line.kind == "keyring" && line.uid == "0" && described == Some(name.description())
        };
        let Some(keyring) = lines.iter().find(is_it) else { continue };
        let linked = links(keyring.serial)?;
        let mut keys = Vec::new();
        let mut digests = 0;
        for entry in lines.iter().filter(|line| linked.contains(&line.serial)) {
            match entry.kind {
                // Nine characters of the name are shown.
                "asymmetri" => keys.extend(certificate(entry.description)),
                "blacklist" => digests += 1,
                _ => {}
            }
        }
        found.push(Keyring { name, keys, digests });
    }
    // Every kernel that signs modules has this one: who does not see it sees none of them.
    found.iter().any(|keyring| keyring.name == KeyringName::Builtin).then_some(found)
}

/// The serial numbers of the keys in a keyring of the running kernel (KEYCTL_READ).
pub(crate) fn links(keyring: i32) -> Option<Vec<i32>> {
    let mut buffer = vec![0; MAX_LINKS * size_of::<i32>()];
    // The length may be that of a keyring which does not fit.
    let length = Key::from_id(KeySerialId::from(keyring)).read(&mut buffer).ok()?;
    let serials = buffer.get(..length)?.as_chunks::<4>().0;
    Some(serials.iter().map(|bytes| i32::from_ne_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: &str = "\
02535f39 I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 2
0000000a I------     1 perm 1f030000     0     0 asymmetri Build time key: 0A0b: X509.rsa 0a0b []
0000000b I------     1 perm 1f030000     0     0 asymmetri Acme: Secure Boot: CA: 0c: X509.rsa 0c []
0000000c I------     1 perm 1f030000     0     0 asymmetri revoked: ff00: X509.rsa ff00 []
0000000d I------     1 perm 0c030000     0     0 blacklist bin:8011
0000000e I------     1 perm 1f030000     0     0 asymmetri of nobody: 99: X509.rsa 99 []
23486b5d I------     1 perm 1f0f0000     0     0 keyring   .secondary_trusted_keys: 1
23a2562f I------     1 perm 0f0b0000     0     0 keyring   .blacklist: 2
23a25630 I------     1 perm 1f3f0000  1000     0 keyring   .platform: 1
1009ac66 I--Q---     1 perm 1f3f0000     0 65534 keyring   _uid_ses.0: 1
";

    fn linked(serial: i32) -> Option<Vec<i32>> {
        match serial {
            0x0253_5f39 => Some(vec![0xb, 0xa]),
            0x2348_6b5d => Some(vec![0x0253_5f39]),
            0x23a2_562f => Some(vec![0xc, 0xd]),
            _ => None,
        }
    }

    #[test]
    fn keys_are_where_the_kernel_put_them() {
        let key = |subject: &str, key_id: &str| KernelKey { subject: subject.into(), key_id: key_id.into() };
        let builtin = vec![key("Build time key", "0a0b"), key("Acme: Secure Boot: CA", "0c")];
        assert_eq!(
            keyrings(KEYS, linked).unwrap(),
            [
                Keyring { name: KeyringName::Builtin, keys: builtin, digests: 0 },
                Keyring { name: KeyringName::Secondary, keys: Vec::new(), digests: 0 },
                Keyring { name: KeyringName::Blacklist, keys: vec![key("revoked", "ff00")], digests: 1 },
            ]
        );
    }

    #[test]
    fn what_is_not_seen_is_not_guessed() {
        assert_eq!(keyrings("", linked), None);
        let of_a_user = "1009ac66 I--Q---     1 perm 1f3f0000  1000 65534 keyring   _uid_ses.1000: 1\n";
        assert_eq!(keyrings(of_a_user, linked), None);
        assert_eq!(keyrings(KEYS, |_| None), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).{0,300}", lines in "([0-9a-f]{8} I 1 perm 0 0 0 (keyring|asymmetri) [.:a-z_ ]{0,40}\n){0,5}") {
            let _ = keyrings(&text, |_| Some(vec![1]));
            let _ = keyrings(&lines, |serial| Some(vec![serial]));
        }
    }
}
