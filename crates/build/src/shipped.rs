//! The kernel image as the differ asks about it.

use livepatch_kimage::KernelImage;
use livepatch_klp::elf::relocation;
use livepatch_klp::shipped::{Shipped, ShippedTarget, linked_target};

/// vmlinux out of vmlinuz.
pub(crate) struct ShippedKernel<'k>(pub(crate) &'k KernelImage);

impl Shipped for ShippedKernel<'_> {
    fn object_name(&self) -> &str {
        "vmlinux"
    }

    fn named(&self, name: &str) -> Vec<(u64, bool)> {
        // As in nm: capital letters are visible outside their unit.
        self.0.symbols.named(name).map(|s| (s.address, s.kind.is_ascii_uppercase())).collect()
    }

    fn bytes_at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let section = self.0.section_at(address)?;
        let rest = usize::try_from(section.address + section.size - address).ok()?;
        self.0.bytes_at(address, length.min(rest))
    }

    fn target_at(&self, field: u64, kind: u32, bias: i64) -> Option<ShippedTarget> {
        let width = usize::try_from(relocation::width(kind)?).ok()?;
        linked_target(self.0.bytes_at(field, width)?, field, kind, bias)
    }
}
