//! The C source around the patched functions: module boilerplate and the tables of the livepatch.
//!
//! It is compiled in the target tree, so that every structure has that kernel's layout
//! (include/linux/livepatch.h, include/linux/module.h). What modpost adds to an ordinary module stands here too,
//! because the undefined symbols of a livepatch would stop modpost.

use std::fmt::Write as _;

use livepatch_klp::resolve::Redirect;
use livepatch_types::{KernelIdentity, PatchVersion};

/// Kernel symbols that the glue itself refers to and that are not exported: the notes of the running kernel.
pub const NOTES_SYMBOLS: [&str; 2] = ["__start_notes", "__stop_notes"];

/// Functions of one object to be redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRedirects {
    /// `vmlinux` or a module's name.
    pub object: String,
    /// The functions.
    pub redirects: Vec<Redirect>,
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
	return klp_enable_patch(&patch);
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

/// Writes the glue of a livepatch.
pub fn source(version: PatchVersion, kernel: &KernelIdentity, objects: &[ObjectRedirects]) -> String {
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
    out.push_str("\nstatic struct klp_object objects[] = {\n");
    for (index, object) in objects.iter().enumerate() {
        // The kernel itself has no name here.
        let name =
            if object.object == "vmlinux" { "NULL".to_owned() } else { format!("\"{}\"", object.object) };
        _ = writeln!(out, "\t{{ .name = {name}, .funcs = functions_{index} }},");
    }
    out.push_str(
        "\t{ }\n};\n\nstatic struct klp_patch patch = {\n\t.mod = THIS_MODULE,\n\t.objs = objects,\n",
    );
    out.push_str("\t.replace = true,\n};\n\nstatic const unsigned char wanted_build_id[] __initconst = {");
    for byte in kernel.build_id.as_bytes() {
        _ = write!(out, " 0x{byte:02x},");
    }
    out.push_str(" };\n");
    out.push_str(INIT);
    out
}
