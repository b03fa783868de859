use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::BundleError;
use crate::bundle::MAX_VENDOR_BYTES;

const SCHEMA: u32 = 1;
/// Most files: as many new roots as a host follows in one update, and what names all the rest.
const MAX_FILES: usize = 256 + 4;

/// Files of a vendor's repository that travel in a bundle, by their paths in the repository. A host asks for the paths
/// that it wants; none of them becomes a path of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorFiles {
    /// Version of the format: 1.
    schema: u32,
    /// Text by path.
    files: BTreeMap<String, String>,
}

impl VendorFiles {
    /// Puts files together; they must be text, as all metadata is.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, BundleError> {
        let text = |(path, bytes): (String, Vec<u8>)| match String::from_utf8(bytes) {
            Ok(text) => Ok((path, text)),
            Err(_) => Err(wrong(format!("{path} is not text"))),
        };
        let files: BTreeMap<_, _> = files.into_iter().map(text).collect::<Result<_, _>>()?;
        Self { schema: SCHEMA, files }.checked()
    }

    /// Reads the section.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() as u64 > MAX_VENDOR_BYTES {
            return Err(wrong(format!("it has more than {MAX_VENDOR_BYTES} bytes")));
        }
        let files: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        files.checked()
    }

    fn checked(self) -> Result<Self, BundleError> {
        if self.schema != SCHEMA {
            return Err(wrong(format!("schema {} is not {SCHEMA}", self.schema)));
        }
        if self.files.len() > MAX_FILES {
            return Err(wrong(format!("{} files where {MAX_FILES} are allowed", self.files.len())));
        }
        Ok(self)
    }

    /// The bytes that [`VendorFiles::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers and strings: serialising them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A file.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(String::as_bytes)
    }

    /// The paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

fn wrong(why: String) -> BundleError {
    BundleError::Part("vendor", why)
}
