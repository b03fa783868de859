use crate::{InvalidValue, text_value};

/// A kernel release as `uname -r` prints it, for example `6.1.0-50-cloud-amd64`. At most 64 characters
/// (`__NEW_UTS_LEN` in include/uapi/linux/utsname.h), letters, digits and `._+~-` only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelRelease(String);

impl KernelRelease {
    /// Checks a release string.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why| InvalidValue::new("kernel release", why, text);
        if text.is_empty() || text.len() > 64 {
            return Err(refuse("it is empty or longer than 64 characters"));
        }
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(refuse("it does not start with a digit"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b)) {
            return Err(refuse("only letters, digits and ._+~- may stand in it"));
        }
        Ok(Self(text.to_owned()))
    }
    /// The release as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    fn to_text(&self) -> &str {
        &self.0
    }
}
text_value!(KernelRelease);

/// The GNU build-id of a kernel or module: what identifies it, as no string does. 8 to 64 bytes
/// (the linker makes 20 with SHA-1, its default).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(Vec<u8>);

impl BuildId {
    /// Takes the raw bytes of the note's descriptor.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidValue> {
        if !(8..=64).contains(&bytes.len()) {
            return Err(InvalidValue::new("build-id", "it is not 8 to 64 bytes", &hex::encode(bytes)));
        }
        Ok(Self(bytes.to_vec()))
    }
    /// Reads lower-case hexadecimal.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let bytes = lower_hex(text)
            .ok_or_else(|| InvalidValue::new("build-id", "it is not lower-case hexadecimal", text))?;
        Self::from_bytes(&bytes)
    }
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    fn to_text(&self) -> String {
        hex::encode(&self.0)
    }
}
text_value!(BuildId);

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// Takes the 32 bytes of a digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// Reads 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let bytes = lower_hex(text).and_then(|b| <[u8; 32]>::try_from(b).ok());
        bytes.map(Self).ok_or_else(|| {
            InvalidValue::new("SHA-256 digest", "it is not 64 lower-case hexadecimal digits", text)
        })
    }
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    fn to_text(self) -> String {
        hex::encode(self.0)
    }
}
text_value!(Sha256Digest);

/// The random name that a host got when it enrolled: 32 lower-case hexadecimal digits. It says nothing about the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId([u8; 16]);

impl HostId {
    /// Takes 16 random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
    /// Reads 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let bytes = lower_hex(text).and_then(|b| <[u8; 16]>::try_from(b).ok());
        bytes
            .map(Self)
            .ok_or_else(|| InvalidValue::new("host id", "it is not 32 lower-case hexadecimal digits", text))
    }
    fn to_text(self) -> String {
        hex::encode(self.0)
    }
}
text_value!(HostId);

fn lower_hex(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { None } else { hex::decode(text).ok() }
}

/// A processor architecture by Debian's name. Livepatches are built for x86_64 alone so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit x86, `uname -m` x86_64.
    Amd64,
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Amd64 => f.write_str("amd64"),
        }
    }
}

/// Exactly one kernel: what a livepatch is built for and what a host runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelIdentity {
    /// Architecture of the kernel.
    pub architecture: Architecture,
    /// `uname -r`. For people; the build-id decides.
    pub release: KernelRelease,
    /// GNU build-id of vmlinux.
    pub build_id: BuildId,
}
