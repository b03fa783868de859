//! Sizes of table entries, asked of the compiler in the target tree.

use livepatch_klp::EntrySizes;
use livepatch_klp::elf::Object;

/// The C file that is compiled there: one variable of each size in question.
pub(crate) const PROBE_SOURCE: &str = r#"/* Sizes of special section entries: one array per entry type, as long as the entry. */
#include <linux/types.h>
#include <linux/bug.h>
#include <linux/jump_label.h>
#include <linux/module.h>
#include <asm/processor.h>
#include <asm/extable.h>
#include <asm/alternative.h>
#include <asm/paravirt_types.h>

char livepatch_size_alt_instr[sizeof(struct alt_instr)];
char livepatch_size_bug_entry[sizeof(struct bug_entry)];
char livepatch_size_exception_entry[sizeof(struct exception_table_entry)];
char livepatch_size_jump_entry[sizeof(struct jump_entry)];
#ifdef PARAVIRT_PATCH
char livepatch_size_paravirt_site[sizeof(struct paravirt_patch_site)];
#endif
"#;

/// Reads the sizes out of the compiled probe.
pub(crate) fn read_sizes(object: &[u8]) -> Result<EntrySizes, String> {
    let object = Object::parse(object).map_err(|error| error.to_string())?;
    let size = |name: &str| {
        let symbol = format!("livepatch_size_{name}");
        object.symbols.iter().find(|s| s.name == symbol).map(|s| s.size)
    };
    let needed =
        |name: &str| size(name).ok_or_else(|| format!("the compiled probe lacks the size of {name}"));
    Ok(EntrySizes {
        alt_instr: needed("alt_instr")?,
        bug_entry: needed("bug_entry")?,
        exception_entry: needed("exception_entry")?,
        jump_entry: needed("jump_entry")?,
        paravirt_site: size("paravirt_site").unwrap_or(0),
    })
}
