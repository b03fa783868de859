//! The C source around the patched functions: module boilerplate and the tables of the livepatch.
//!
//! It is compiled in the target tree, so that every structure has that kernel's layout
//! (include/linux/livepatch.h, include/linux/module.h). What modpost adds to an ordinary module stands here too,
//! because the undefined symbols of a livepatch would stop modpost.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use livepatch_klp::author::{Hook, State};
use livepatch_klp::extract::Callback;
use livepatch_klp::resolve::Redirect;
use livepatch_manifest::{ObjectName, PatchedObject};
use livepatch_types::{KernelIdentity, PatchVersion};

/// Kernel symbols that the glue itself refers to and that are not exported: the notes of the running kernel.
pub const NOTES_SYMBOLS: [&str; 2] = ["__start_notes", "__stop_notes"];

/// What the glue defines for patched units: the livepatch itself (`livepatch/author.h`).
pub const LIVEPATCH_SYMBOL: &str = "livepatch_patch";

/// Functions of one object to be redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRedirects {
    /// `vmlinux` or a module's name.
    pub object: String,
    /// The functions.
    pub redirects: Vec<Redirect>,
    /// Callbacks of each unit that has some, in the order of units.
    pub callbacks: Vec<Vec<Callback>>,
}

impl ObjectRedirects {
    fn is_module(&self) -> bool {
        self.object != "vmlinux"
    }
}

const HEAD: &str = r#"#include <linux/module.h>
#include <linux/kernel.h>
#include <linux/elf.h>
#include <linux/livepatch.h>
#define INCLUDE_VERMAGIC
#include <linux/vermagic.h>
"#;

/// Loading it into any other kernel than the one it was built for ends here, whatever the version strings say.
const INIT: &str = r#"
extern const char __start_notes[], __stop_notes[];

static bool __init is_the_kernel(void)
{
	const char *note = __start_notes;

	while (note + sizeof(Elf64_Nhdr) < __stop_notes) {
		const Elf64_Nhdr *head = (const Elf64_Nhdr *)note;
		const char *name = note + sizeof(*head);
		const char *text = name + ALIGN(head->n_namesz, 4);

		if (head->n_type == NT_GNU_BUILD_ID_NOTE && head->n_namesz == 4 && !memcmp(name, "GNU", 4))
			return head->n_descsz == sizeof(wanted_build_id) &&
			       !memcmp(text, wanted_build_id, sizeof(wanted_build_id));
		note = text + ALIGN(head->n_descsz, 4);
	}
	return false;
}

static int __init livepatch_init(void)
{
	if (!is_the_kernel()) {
		pr_err("this livepatch was built for another kernel (build-id %*phN)\n",
		       (int)sizeof(wanted_build_id), wanted_build_id);
		return -ENOEXEC;
	}
	return klp_enable_patch(&livepatch_patch);
}

static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);

__visible struct module __this_module
__section(".gnu.linkonce.this_module") = {
	.name = KBUILD_MODNAME,
	.init = init_module,
	.exit = cleanup_module,
	.arch = MODULE_ARCH_INIT,
};
"#;

/// A livepatch goes to modules by their names. One that was built out of tree is another module, whatever its name: its
/// code stays as it is, and without a livepatch that the host believes in it must not run.
const IS_THE_MODULE: &str = r#"
static int is_the_module(struct klp_object *object)
{
	if (!test_bit(TAINT_OOT_MODULE, &object->mod->taints))
		return 0;
	pr_err("module %s was built out of tree and is not the one that this livepatch is for\n", object->name);
	return -ENOEXEC;
}
"#;

/// Writes the glue of a livepatch. `patched` are the same objects as the manifest has them.
pub fn source(
    version: PatchVersion,
    kernel: &KernelIdentity,
    objects: &[ObjectRedirects],
    patched: &[PatchedObject],
    states: &BTreeSet<State>,
) -> String {
    let mut out = String::from(HEAD);
    out.push_str("\n#define NT_GNU_BUILD_ID_NOTE 3\n\n");
    for (key, value) in [
        ("livepatch", "Y".to_owned()),
        ("livepatch_version", version.to_string()),
        ("livepatch_kernel_release", kernel.release.to_string()),
        ("livepatch_kernel_build_id", kernel.build_id.to_string()),
        ("depends", String::new()),
    ] {
        // Values are digits, letters and ._+~- by their types: nothing can leave the quotes.
        _ = writeln!(out, "MODULE_INFO({key}, \"{value}\");");
    }
    for object in patched {
        if let ObjectName::Module(name) = &object.name {
            _ = writeln!(out, "MODULE_INFO(livepatch_object, \"{name} {}\");", object.build_id);
        }
    }
    out.push_str("MODULE_INFO(vermagic, VERMAGIC_STRING);\nMODULE_INFO(name, KBUILD_MODNAME);\n");
    out.push_str("#if defined(CONFIG_RETPOLINE) || defined(CONFIG_MITIGATION_RETPOLINE)\n");
    out.push_str("MODULE_INFO(retpoline, \"Y\");\n#endif\n");
    out.push_str("MODULE_LICENSE(\"GPL\");\n");
    _ = writeln!(out, "MODULE_DESCRIPTION(\"livepatch {version} for {}\");\n", kernel.release);

    for redirect in objects.iter().flat_map(|object| &object.redirects) {
        _ = writeln!(out, "extern char {}[];", redirect.symbol);
    }
    for (index, object) in objects.iter().enumerate() {
        _ = writeln!(out, "\nstatic struct klp_func functions_{index}[] = {{");
        for Redirect { name, sympos, symbol } in &object.redirects {
            _ = writeln!(
                out,
                "\t{{ .old_name = \"{name}\", .new_func = {symbol}, .old_sympos = {sympos} }},"
            );
        }
        out.push_str("\t{ }\n};\n");
    }
    if objects.iter().any(ObjectRedirects::is_module) {
        out.push_str(IS_THE_MODULE);
    }
    let callbacks: Vec<String> =
        objects.iter().enumerate().map(|(index, object)| callbacks(&mut out, index, object)).collect();
    out.push_str("\nstatic struct klp_object objects[] = {\n");
    for ((index, object), callbacks) in objects.iter().enumerate().zip(callbacks) {
        // The kernel itself has no name here.
        let name = if object.is_module() { format!("\"{}\"", object.object) } else { "NULL".to_owned() };
        _ = writeln!(out, "\t{{ .name = {name}, .funcs = functions_{index}{callbacks} }},");
    }
    out.push_str("\t{ }\n};\n");
    let mut field = "";
    if !states.is_empty() {
        out.push_str("\nstatic struct klp_state states[] = {\n");
        for State { id, version } in states {
            _ = writeln!(out, "\t{{ .id = {id}ul, .version = {version}u }},");
        }
        out.push_str("\t{ }\n};\n");
        field = "\t.states = states,\n";
    }
    _ = write!(
        out,
        "\nstruct klp_patch {LIVEPATCH_SYMBOL} = {{\n\t.mod = THIS_MODULE,\n\t.objs = objects,\n{field}"
    );
    out.push_str("\t.replace = true,\n};\n\nstatic const unsigned char wanted_build_id[] __initconst = {");
    for byte in kernel.build_id.as_bytes() {
        _ = write!(out, " 0x{byte:02x},");
    }
    out.push_str(" };\n");
    out.push_str(INIT);
    out
}

/// Writes what an object's callbacks need; gives their part of its `struct klp_object`.
///
/// Callbacks of several units are one of the object, as the kernel combines those of several objects
/// (kernel/livepatch/core.c and transition.c): they run in the order of units, and back in the opposite order. When a
/// pre-patch callback fails, the units before it are undone by their post-unpatch callbacks, those after it never ran.
/// Before all of them a module must be the right one.
fn callbacks(out: &mut String, index: usize, object: &ObjectRedirects) -> String {
    for Callback { hook, symbol, .. } in object.callbacks.iter().flatten() {
        _ = writeln!(out, "\nextern {} {symbol}(struct klp_object *object);", result(*hook));
    }
    let check =
        Callback { hook: Hook::PrePatch, name: "is_the_module".into(), symbol: "is_the_module".into() };
    let check = object.is_module().then(|| vec![check]);
    let units: Vec<&Vec<Callback>> = check.iter().chain(&object.callbacks).collect();
    let of = |unit: &[Callback], hook| unit.iter().find(|c| c.hook == hook).map(|c| c.symbol.clone());
    let mut fields = String::new();
    for hook in Hook::ALL {
        let symbols: Vec<String> = units.iter().filter_map(|unit| of(unit, hook)).collect();
        let name = match symbols.as_slice() {
            [] => continue,
            [only] if units.len() == 1 => only.clone(),
            _ => {
                let name = format!("{}_{index}", hook.field());
                let head = format!("\nstatic {} {name}(struct klp_object *object)\n{{\n", result(hook));
                out.push_str(&head);
                match hook {
                    Hook::PrePatch => {
                        let steps: Vec<_> =
                            units.iter().map(|unit| (of(unit, hook), of(unit, Hook::PostUnpatch))).collect();
                        all_or_nothing(out, &steps);
                    }
                    Hook::PostPatch => symbols.iter().for_each(|s| _ = writeln!(out, "\t{s}(object);")),
                    Hook::PreUnpatch | Hook::PostUnpatch => {
                        symbols.iter().rev().for_each(|s| _ = writeln!(out, "\t{s}(object);"));
                    }
                }
                out.push_str("}\n");
                name
            }
        };
        _ = write!(fields, " .{} = {name},", hook.field());
    }
    if fields.is_empty() { fields } else { format!(", .callbacks = {{{fields} }}") }
}

/// What a kind of callback returns.
fn result(hook: Hook) -> &'static str {
    if hook == Hook::PrePatch { "int" } else { "void" }
}

/// The body of a function that does each step, or undoes those that are done and returns the error.
fn all_or_nothing(out: &mut String, steps: &[(Option<String>, Option<String>)]) {
    out.push_str("\tint error;\n\n");
    for (at, (step, _)) in steps.iter().enumerate() {
        if let Some(step) = step {
            _ = writeln!(out, "\terror = {step}(object);\n\tif (error)\n\t\tgoto failed_{at};");
        }
    }
    out.push_str("\treturn 0;\n");
    for (at, (step, _)) in steps.iter().enumerate().rev() {
        if step.is_some() {
            _ = writeln!(out, "failed_{at}:");
        }
        if let Some(undo) = steps.get(at.wrapping_sub(1)).and_then(|(_, undo)| undo.as_ref()) {
            _ = writeln!(out, "\t{undo}(object);");
        }
    }
    out.push_str("\treturn error;\n");
}
