//! `Module.symvers`: which symbols the kernel and its modules export, with the checksums of their types
//! (Documentation/kbuild/modules.rst, "Symbols and Module.symvers": CRC, name, object, kind, namespace by tabs).

use std::collections::HashMap;

/// One exported symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Checksum of its type (CONFIG_MODVERSIONS).
    pub crc: u32,
    /// `vmlinux`, or the module's name with underscores.
    pub owner: String,
    /// Namespace; empty for none.
    pub namespace: String,
}

/// All exports by name.
#[derive(Debug, Clone, Default)]
pub struct Exports(HashMap<String, Export>);

/// A line that is not of the form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of Module.symvers is not of the form CRC, name, object, kind, namespace")]
pub struct SymversError {
    /// Line number from 1.
    pub line: usize,
}

impl Exports {
    /// Reads the file.
    pub fn parse(text: &str) -> Result<Self, SymversError> {
        let mut out = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let bad = SymversError { line: index + 1 };
            let fields: Vec<&str> = line.split('\t').collect();
            let [crc, name, owner, _kind, rest @ ..] = fields.as_slice() else { return Err(bad) };
            let crc = crc.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()).ok_or(bad)?;
            // drivers/net/foo-bar → foo_bar
            let owner = owner.rsplit('/').next().unwrap_or(owner).replace('-', "_");
            let namespace = rest.first().map(|n| (*n).to_owned()).unwrap_or_default();
            out.insert((*name).to_owned(), Export { crc, owner, namespace });
        }
        Ok(Self(out))
    }

    /// The export of this name.
    pub fn get(&self, name: &str) -> Option<&Export> {
        self.0.get(name)
    }

    /// The export of this name, if the kernel itself makes it.
    pub fn of_vmlinux(&self, name: &str) -> Option<&Export> {
        self.get(name).filter(|export| export.owner == "vmlinux")
    }
}
