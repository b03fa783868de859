//! Which kernel symbol each undefined symbol of an extracted object is, as the kernel will count it.

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::Binding;
use crate::extract::{Extracted, Original, STATIC_CALL, STATIC_CALL_KEY};
use crate::refusal::{Refusal, Rule};
use crate::shipped::{Fidelity, Shipped, may_be_called_indirectly};
use crate::symvers::Exports;
use crate::unit::{ItemKind, Unit};

/// A symbol that the kernel's livepatch code finds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LivepatchSymbol {
    /// When the relocation is applied: with this object, `vmlinux` or a module.
    pub applied_with: String,
    /// The object that the symbol is in.
    pub object: String,
    /// Its name in kallsyms.
    pub name: String,
    /// Its place among symbols of that name, from 1; 0 when it is the only one.
    pub sympos: u32,
}

impl LivepatchSymbol {
    /// The symbol's name in the module: `.klp.sym.OBJECT.NAME,POS`
    /// (Documentation/livepatch/module-elf-format.rst).
    pub fn symbol_name(&self) -> String {
        format!(".klp.sym.{}.{},{}", self.object, self.name, self.sympos)
    }
}

/// How an undefined symbol is found at load time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Exported by the kernel: an ordinary symbol.
    Exported,
    /// By the livepatch code.
    Livepatch(LivepatchSymbol),
}

/// One function that the kernel is told to redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Name in kallsyms.
    pub name: String,
    /// `old_sympos`.
    pub sympos: u32,
    /// Symbol of the new code.
    pub symbol: String,
}

/// An extracted unit whose every reference is known.
#[derive(Debug)]
pub struct Resolved {
    /// The functions to redirect.
    pub redirects: Vec<Redirect>,
    /// For each undefined symbol how it is found. Those of other units of the same livepatch are missing here.
    pub symbols: BTreeMap<String, Resolution>,
}

/// Modules whose exports an extracted unit uses: their files are needed to count symbols in them.
pub fn modules_used(extracted: &Extracted, exports: &Exports, own: &str) -> BTreeSet<String> {
    let external = |original: &Original| match original {
        Original::External(name) => exports.get(name).map(|export| export.owner.clone()),
        Original::Item(_) => None,
    };
    extracted
        .originals
        .values()
        .filter_map(external)
        .filter(|owner| owner != "vmlinux" && owner != own)
        .collect()
}

/// Place of the symbol at an address among all of its name, or none.
pub fn sympos(shipped: &dyn Shipped, name: &str, address: u64) -> Option<u32> {
    let all = shipped.named(name);
    let place = all.iter().position(|(a, _)| *a == address)?;
    if all.len() == 1 { Some(0) } else { u32::try_from(place + 1).ok() }
}

/// What [`resolve`] works with.
pub struct Context<'a> {
    /// The original unit.
    pub original: &'a Unit,
    /// What the proof taught about it.
    pub fidelity: &'a Fidelity,
    /// The object that the unit belongs to.
    pub shipped: &'a dyn Shipped,
    /// The kernel itself.
    pub vmlinux: &'a dyn Shipped,
    /// Modules by name, at least those of [`modules_used`].
    pub modules: &'a BTreeMap<String, &'a dyn Shipped>,
    /// All exports.
    pub exports: &'a Exports,
    /// Names that other units of the same livepatch define.
    pub defined_elsewhere: &'a BTreeSet<String>,
}

/// Finds every symbol of an extracted unit.
pub fn resolve(extracted: &Extracted, context: &Context<'_>) -> Result<Resolved, Refusal> {
    let redirects = extracted
        .functions
        .iter()
        .map(|function| {
            context.check_proven(function.original)?;
            let (name, sympos) = context.item(function.original)?;
            Ok(Redirect { name, sympos, symbol: function.symbol.clone() })
        })
        .collect::<Result<_, Refusal>>()?;
    context.check_addresses(extracted)?;
    let mut symbols = BTreeMap::new();
    for (symbol, original) in &extracted.originals {
        let resolution = match original {
            Original::Item(item) => Some(context.resolve_item(*item)?),
            Original::External(name) => context.resolve_external(name)?,
        };
        if let Some(resolution) = resolution {
            symbols.insert(symbol.clone(), resolution);
        }
    }
    Ok(Resolved { redirects, symbols })
}

impl Context<'_> {
    fn own(&self) -> &str {
        self.shipped.object_name()
    }

    /// What is redirected must be known to be the code that the unit was compiled to.
    fn check_proven(&self, index: usize) -> Result<(), Refusal> {
        if self.fidelity.proven.contains(&index) {
            return Ok(());
        }
        let name = self.original.items[index].name();
        let reason = self.fidelity.skipped.iter().find(|(skipped, _)| skipped == name);
        let reason = reason.map_or("it was not compared", |(_, reason)| reason);
        let why = format!("it cannot be redirected, for it was not found in {}: {reason}", self.own());
        Err(Refusal::new(Rule::Fidelity, name, why))
    }

    /// Hardware with IBT lets an indirect call arrive only at `endbr64`. The compiler omits it in functions whose
    /// address nothing in their unit takes, and the kernel overwrites those of others that nothing in the kernel
    /// takes: an address that only the livepatch hands out would stop the kernel at its first use. objtool cannot see
    /// that, because those functions are not in its object.
    fn check_addresses(&self, extracted: &Extracted) -> Result<(), Refusal> {
        if self.vmlinux.sealed().is_none() {
            return Ok(());
        }
        for symbol in &extracted.addresses {
            // Only ever written to, by static_call_update().
            let Some(original) = extracted.originals.get(symbol).filter(|_| !symbol.starts_with(STATIC_CALL))
            else {
                continue;
            };
            let (name, shipped, places) = self.places(original)?;
            let is_bad = |place: &u64| shipped.is_code(*place) && !may_be_called_indirectly(shipped, *place);
            if places.iter().any(is_bad) {
                let why = format!(
                    "the patch uses its address, and in {} no indirect call may go there (no endbr64, or sealed)",
                    shipped.object_name()
                );
                return Err(Refusal::new(Rule::SealedAddress, name, why));
            }
        }
        Ok(())
    }

    /// Where the function or variable may be that an undefined symbol stands for.
    fn places(&self, original: &Original) -> Result<(String, &dyn Shipped, Vec<u64>), Refusal> {
        let visible = |shipped: &dyn Shipped, name: &str| -> Vec<u64> {
            shipped.named(name).iter().filter(|(_, visible)| *visible).map(|(a, _)| *a).collect()
        };
        match original {
            Original::Item(index) => {
                let item = &self.original.items[*index];
                let places = match self.fidelity.address_of.get(index) {
                    Some(&address) => vec![address],
                    None if item.kind != ItemKind::Function => Vec::new(),
                    None => {
                        let (name, sympos) = self.item(*index)?;
                        let place = (sympos as usize).saturating_sub(1);
                        self.shipped.named(&name).get(place).map(|(a, _)| *a).into_iter().collect()
                    }
                };
                Ok((item.name().to_owned(), self.shipped, places))
            }
            Original::External(name) => {
                let owner = self.exports.get(name).map_or(self.own(), |export| export.owner.as_str());
                let (shipped, known) = match owner {
                    owner if owner == self.own() => (self.shipped, self.fidelity.externals.get(name)),
                    "vmlinux" => (self.vmlinux, None),
                    owner => (self.modules.get(owner).copied().unwrap_or(self.shipped), None),
                };
                let places = known.map_or_else(|| visible(shipped, name), |address| vec![*address]);
                Ok((name.clone(), shipped, places))
            }
        }
    }

    fn livepatch(&self, object: &str, name: String, sympos: u32) -> Resolution {
        // Relocations against the kernel are applied when the livepatch is loaded; the kernel refuses them in the
        // sections of a module (klp_resolve_symbols, kernel/livepatch/core.c).
        let applied_with = if object == "vmlinux" { "vmlinux" } else { self.own() };
        Resolution::Livepatch(LivepatchSymbol {
            applied_with: applied_with.to_owned(),
            object: object.to_owned(),
            name,
            sympos,
        })
    }

    /// Name and place of an item of the original unit in the shipped object.
    fn item(&self, index: usize) -> Result<(String, u32), Refusal> {
        let item = &self.original.items[index];
        if let Some(&address) = self.fidelity.address_of.get(&index) {
            let found = item.names.iter().find_map(|n| Some((n.clone(), sympos(self.shipped, n, address)?)));
            return found.ok_or_else(|| {
                let why = format!("{} has no symbol of this name where the shipped code uses it", self.own());
                Refusal::new(Rule::SymbolMissing, item.name(), why)
            });
        }
        // Nothing that was proven refers to it: its name must settle it. A global name is unique by the rules of
        // linking, even beside local ones.
        for name in &item.names {
            let all = self.shipped.named(name);
            let visible: Vec<u64> = all.iter().filter(|(_, visible)| *visible).map(|(a, _)| *a).collect();
            let address = match (item.binding, all.as_slice(), visible.as_slice()) {
                (_, [(only, _)], _) => *only,
                (Binding::Global, _, [only]) => *only,
                (_, [], _) => continue,
                _ => {
                    let why = format!(
                        "{} symbols of {} have this name, and no proven code tells which",
                        all.len(),
                        self.own()
                    );
                    return Err(Refusal::new(Rule::Ambiguous, name, why));
                }
            };
            if let Some(place) = sympos(self.shipped, name, address) {
                return Ok((name.clone(), place));
            }
        }
        let why = format!("{} has no symbol of this name", self.own());
        Err(Refusal::new(Rule::SymbolMissing, item.name(), why))
    }

    fn resolve_item(&self, index: usize) -> Result<Resolution, Refusal> {
        let item = &self.original.items[index];
        let exported = item.binding == Binding::Global
            && self.own() == "vmlinux"
            && item.names.iter().any(|n| self.exports.of_vmlinux(n).is_some());
        if exported && item.names.len() == 1 {
            return Ok(Resolution::Exported);
        }
        let (name, sympos) = self.item(index)?;
        Ok(self.livepatch(self.own(), name, sympos))
    }

    /// None when another unit of the livepatch defines it.
    fn resolve_external(&self, name: &str) -> Result<Option<Resolution>, Refusal> {
        if let Some(export) = self.exports.get(name) {
            if export.owner == "vmlinux" {
                return Ok(Some(Resolution::Exported));
            }
            let owner: &dyn Shipped = if export.owner == self.own() {
                self.shipped
            } else {
                *self.modules.get(&export.owner).ok_or_else(|| {
                    let why = format!("module {} exports it, and that module is not at hand", export.owner);
                    Refusal::new(Rule::SymbolMissing, name, why)
                })?
            };
            return self
                .visible_in(owner, name)
                .map(|found| found.map(|pos| self.livepatch(&export.owner, name.into(), pos)));
        }
        let found = match self.fidelity.externals.get(name) {
            Some(&address) => sympos(self.shipped, name, address),
            None => self.visible_in(self.shipped, name)?,
        };
        if let Some(found) = found {
            return Ok(Some(self.livepatch(self.own(), name.to_owned(), found)));
        }
        if self.defined_elsewhere.contains(name) {
            return Ok(None);
        }
        // The trampoline may be exported without its key; the kernel would look the key up by it
        // (kernel/static_call_inline.c, static_call_add_module).
        if name.starts_with(STATIC_CALL_KEY)
            && let Some(found) = self.visible_in(self.vmlinux, name)?
        {
            return Ok(Some(self.livepatch("vmlinux", name.to_owned(), found)));
        }
        let why = if self.own() != "vmlinux" && self.vmlinux.named(name).iter().any(|(_, visible)| *visible) {
            "the kernel has it but does not export it to modules".to_owned()
        } else {
            format!("neither {} nor any export has it", self.own())
        };
        Err(Refusal::new(Rule::SymbolMissing, name, why))
    }

    /// Place of the one symbol of this name that is visible outside its unit.
    fn visible_in(&self, shipped: &dyn Shipped, name: &str) -> Result<Option<u32>, Refusal> {
        let visible: Vec<u64> = shipped.named(name).iter().filter(|(_, v)| *v).map(|(a, _)| *a).collect();
        match visible.as_slice() {
            [] => Ok(None),
            [only] => Ok(sympos(shipped, name, *only)),
            several => {
                let why =
                    format!("{} visible symbols of {} have this name", several.len(), shipped.object_name());
                Err(Refusal::new(Rule::Ambiguous, name, why))
            }
        }
    }
}
