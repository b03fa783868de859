//! `Packages`: the packages of an archive.

use livepatch_types::Sha256Digest;

use crate::paragraph::{Paragraph, paragraphs};

/// Longest `Packages` that is read, unpacked, in bytes. Debian's main has 50 MB.
pub const MAX_BYTES: u64 = 256 << 20;

/// Why an index of packages is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackagesError {
    /// It is not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// A kernel's entry says something twice.
    #[error("the entry of {0} has a field twice")]
    Doubled(String),
    /// A kernel's entry lacks something, or says it wrongly.
    #[error("the entry of {package} has no valid {field}")]
    Entry {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
    },
    /// A path that would lead elsewhere.
    #[error("the file of {package} is not below the archive: {path:?}")]
    Path {
        /// The package.
        package: String,
        /// The path, cut to 80 characters.
        path: String,
    },
}

/// Where a package is below its archive's root. No part of it leads up, no character needs escaping in a URL but `+`
/// and `~`, which may stand there as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPath(String);

impl PoolPath {
    /// Checks a path; none for one that leads elsewhere or is not written plainly.
    pub fn parse(text: &str) -> Option<Self> {
        // `./` is how small archives begin it.
        let text = text.strip_prefix("./").unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
        (text.len() <= 512 && text.ends_with(".deb") && text.split('/').all(part))
            .then(|| Self(text.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageEntry {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its architecture, in the archive's words.
    pub architecture: String,
    /// Length of its file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of its file.
    pub sha256: Sha256Digest,
}

/// A package and where its file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PooledPackage {
    /// The package.
    pub entry: PackageEntry,
    /// Where its file is.
    pub path: PoolPath,
}

/// Whether a package has a kernel: `linux-image-6.1.0-50-amd64`, `linux-image-unsigned-5.15.0-91-generic`; not one that only
/// depends on the newest (`linux-image-amd64`), and none with debug information.
pub fn is_kernel_image(package: &str) -> bool {
    let Some(rest) = package.strip_prefix("linux-image-") else { return false };
    let rest = rest.strip_prefix("unsigned-").unwrap_or(rest);
    let debug = rest.ends_with("-dbg") || rest.ends_with("-dbgsym");
    rest.starts_with(|first: char| first.is_ascii_digit()) && !debug
}

/// The kernel images of an index of packages, in its order. One that cannot be used makes all of it useless: what an
/// archive signs is right, or somebody must look.
pub fn kernel_images(bytes: &[u8]) -> Result<Vec<PooledPackage>, PackagesError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PackagesError::NotText)?;
    let kernels = paragraphs(text).filter(|text| {
        let name = text.lines().find_map(|line| line.strip_prefix("Package:"));
        name.is_some_and(|name| is_kernel_image(name.trim()))
    });
    kernels.map(|text| pooled(&Paragraph::parse(text))).collect()
}

/// All packages of an index that have what an entry needs; others are passed over.
pub fn readable(bytes: &[u8]) -> Result<Vec<PackageEntry>, PackagesError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PackagesError::NotText)?;
    Ok(paragraphs(text).filter_map(|text| entry(&Paragraph::parse(text)).ok()).collect())
}

impl PackageEntry {
    /// The name that apt gives the file.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.package, self.version.replace(':', "%3a"), self.architecture)
    }
}

fn pooled(fields: &Paragraph<'_>) -> Result<PooledPackage, PackagesError> {
    let entry = entry(fields)?;
    let package = || entry.package.clone();
    let path = fields.value("filename");
    let path = path.ok_or_else(|| PackagesError::Entry { package: package(), field: "Filename" })?;
    let pool_path = PoolPath::parse(path);
    let elsewhere = || PackagesError::Path { package: package(), path: path.chars().take(80).collect() };
    Ok(PooledPackage { path: pool_path.ok_or_else(elsewhere)?, entry })
}

fn entry(fields: &Paragraph<'_>) -> Result<PackageEntry, PackagesError> {
    let package: String = fields.value("package").unwrap_or_default().chars().take(128).collect();
    let wrong = |field| PackagesError::Entry { package: package.clone(), field };
    if fields.doubled.is_some() {
        return Err(PackagesError::Doubled(package));
    }
    if !is_word(&package, b"+.-") {
        return Err(wrong("Package"));
    }
    let word = |name: &str, field, others: &[u8]| {
        fields.value(name).filter(|text| is_word(text, others)).map(str::to_owned).ok_or_else(|| wrong(field))
    };
    Ok(PackageEntry {
        version: word("version", "Version", b".+:~-")?,
        architecture: word("architecture", "Architecture", b"-")?,
        size_bytes: fields.value("size").and_then(|size| size.parse().ok()).ok_or_else(|| wrong("Size"))?,
        sha256: fields
            .value("sha256")
            .and_then(|hex| Sha256Digest::parse(hex).ok())
            .ok_or_else(|| wrong("SHA256"))?,
        package,
    })
}

/// Letters, digits and what else is allowed, at most 128.
fn is_word(text: &str, others: &[u8]) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
}
