//! The kernel image as the differ asks about it.

use std::collections::BTreeSet;

use livepatch_kimage::KernelImage;
use livepatch_klp::elf::relocation;
use livepatch_klp::shipped::{Shipped, ShippedTarget, linked_target};

/// vmlinux out of vmlinuz.
pub(crate) struct ShippedKernel<'k> {
    image: &'k KernelImage,
    sealed: Option<BTreeSet<u64>>,
}

impl<'k> ShippedKernel<'k> {
    pub(crate) fn new(image: &'k KernelImage) -> Self {
        Self { image, sealed: image.sealed() }
    }
}

impl Shipped for ShippedKernel<'_> {
    fn object_name(&self) -> &str {
        "vmlinux"
    }

    fn named(&self, name: &str) -> Vec<(u64, bool)> {
        // As in nm: capital letters are visible outside their unit.
        self.image.symbols.named(name).map(|s| (s.address, s.kind.is_ascii_uppercase())).collect()
    }

    fn bytes_at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let section = self.image.section_at(address)?;
        let rest = usize::try_from(section.address + section.size - address).ok()?;
        self.image.bytes_at(address, length.min(rest))
    }

    fn is_code(&self, address: u64) -> bool {
        self.image.section_at(address).is_some_and(|section| section.is_code)
    }

    fn sealed(&self) -> Option<&BTreeSet<u64>> {
        self.sealed.as_ref()
    }

    fn target_at(&self, field: u64, kind: u32, bias: i64) -> Option<ShippedTarget> {
        let width = usize::try_from(relocation::width(kind)?).ok()?;
        linked_target(self.image.bytes_at(field, width)?, field, kind, bias)
    }
}
