//! Taking the changed functions out of a unit; from another compilation, where those of the kernel's own only work in it.

use livepatch_kbuild::CompilerCommand;
use livepatch_klp::compare::Comparison;
use livepatch_klp::elf::Object;
use livepatch_klp::extract::{Extracted, extract};
use livepatch_klp::second_compilation::{Pair, Reason, extract_second, late_keys};
use livepatch_klp::symvers::Exports;
use livepatch_klp::{EntrySizes, Refusal, Rule, Unit};
use livepatch_manifest::ObjectName;

use crate::error::BuildError;
use crate::pipeline::UnitWork;

/// The command that compiles a unit in another way.
pub(crate) fn command_for(command: &CompilerCommand, reasons: &[Reason]) -> CompilerCommand {
    reasons.iter().fold(command.clone(), |command, reason| match reason {
        Reason::RuntimeConstants => command.with_generic_runtime_constants(),
        Reason::StaticKeys => command.with_static_keys_read(),
        Reason::SiblingCalls => command.without_sibling_calls(),
    })
}

/// What was taken out, and of which compilation.
pub(crate) struct Taken {
    pub(crate) extracted: Extracted,
    /// The patched object, when it is of a second compilation.
    pub(crate) code: Option<Object>,
    /// What made that necessary.
    pub(crate) reasons: Vec<Reason>,
}

/// The objects of a unit, original and patched.
pub(crate) type TwoObjects = (Vec<u8>, Vec<u8>);

/// Compiles a unit again, original and patched, so that it lacks what only the kernel's own code can have.
pub(crate) type Again<'a> = dyn Fn(&UnitWork, &[Reason]) -> Result<TwoObjects, BuildError> + 'a;

/// What taking out the changed functions works with.
pub(crate) struct Extraction<'a> {
    pub(crate) again: &'a Again<'a>,
    pub(crate) sizes: EntrySizes,
    pub(crate) exports: &'a Exports,
}

impl Extraction<'_> {
    /// The changed functions; those that only work in the kernel itself from a second pair of compilations.
    pub(crate) fn extract(
        &self,
        unit: &UnitWork,
        comparison: &Comparison,
        prefix: usize,
    ) -> Result<Result<Option<Taken>, Refusal>, BuildError> {
        let own = Pair { original: &unit.original, patched: &unit.patched };
        let mut code = None;
        let mut second = |reasons: &[Reason]| {
            let (original, patched) = (self.again)(unit, reasons)?;
            let parse = |object: &[u8]| Unit::parse(object, &self.sizes);
            let units = parse(&original).and_then(|original| Ok((original, parse(&patched)?)));
            let extracted = units.and_then(|(original, patched)| {
                let pair = Pair { original: &original, patched: &patched };
                let extracted = extract_second(own, comparison, pair, prefix, reasons)?;
                code = Some(patched.object);
                Ok(extracted)
            });
            Ok::<_, BuildError>(extracted)
        };
        let mut reasons = Vec::new();
        let mut extracted = extract(own.original, own.patched, comparison, prefix);
        if extracted.as_ref().is_err_and(|refusal| refusal.rule == Rule::RuntimeConstant) {
            reasons.push(Reason::RuntimeConstants);
            extracted = second(&reasons)?;
        }
        let is_early = |name: &str| self.exports.of_vmlinux(name).is_some();
        let has_late_keys = matches!(&extracted, Ok(Some(found)) if !late_keys(found, &is_early).is_empty());
        if unit.object != ObjectName::Vmlinux && has_late_keys {
            reasons.push(Reason::StaticKeys);
            extracted = second(&reasons)?;
        }
        if matches!(&extracted, Ok(Some(found)) if !found.ended_in.is_empty()) {
            reasons.push(Reason::SiblingCalls);
            extracted = second(&reasons)?;
        }
        Ok(extracted.map(|extracted| extracted.map(|extracted| Taken { extracted, code, reasons })))
    }
}
