//! kpatch's verdict on the same pairs of objects, for comparison: its `create-diff-object`, called as kpatch-build
//! calls it, on objects that the kernel's objtool has worked on as kbuild lets it.
//!
//! The parent's symbol table, which kpatch-build takes from its own build of the kernel with `readelf -s --wide`, is
//! written from the shipped kernel's or module's symbols: they have no names of files, so the unit's own local symbols
//! are those of its original object. It holds the names that the pair mentions. kpatch-build would leave objects below `lib/` out; they are judged all the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use livepatch_build::pipeline::{CompiledPair, Workbench};
use livepatch_kbuild::Membership;
use livepatch_klp::elf::{Binding, Object, Placement, Symbol, SymbolKind};

/// Longer than it ever takes, in seconds: one object takes less than one.
const TIME_OUT_SECONDS: &str = "60";
/// Where a built checkout of kpatch has the program.
const PROGRAM: &str = "kpatch-build/create-diff-object";
/// `struct static_call_site`: two relative pointers (include/linux/static_call_types.h).
const STATIC_CALL_SITE_BYTES: u64 = 8;
/// `struct orc_entry`, packed: two offsets of 16 bits and 16 bits of flags (arch/x86/include/asm/orc_types.h).
const ORC_ENTRY_BYTES: u64 = 6;

/// Directories and file beside one another, as kpatch-build has them.
const ORIGINAL: &str = "orig";
const PATCHED: &str = "patched";
const OUTPUT: &str = "output";
const SYMBOLS: &str = "symtab";

/// What kpatch says about a pair of objects, or about all pairs of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It makes an object of the changes.
    Ok,
    /// It finds no functional change.
    NoChange,
    /// It refuses, with this message.
    Refused(String),
}

impl Verdict {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoChange => "no change",
            Self::Refused(_) => "refused",
        }
    }

    /// As one text: `refused: message`.
    pub fn text(&self) -> String {
        match self {
            Self::Refused(message) => format!("refused: {message}"),
            other => other.word().to_owned(),
        }
    }

    /// kpatch-build ends when any object is refused, and when none has a change.
    pub fn of_all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        let mut all = Verdict::NoChange;
        for verdict in verdicts {
            match (&all, &verdict) {
                (Verdict::Refused(_), _) | (_, Verdict::NoChange) => {}
                _ => all = verdict,
            }
        }
        all
    }

    /// By the program's exit code (`enum exit_status` in kpatch-build/kpatch.h) and what it said.
    fn of_run(code: Option<i32>, said: &str) -> Verdict {
        match code {
            Some(0) => Verdict::Ok,
            Some(3) => Verdict::NoChange,
            // coreutils' timeout(1).
            Some(124 | 137) => Verdict::Refused(format!("it took longer than {TIME_OUT_SECONDS} seconds")),
            Some(_) => Verdict::Refused(message(said)),
            None => Verdict::Refused(format!("it crashed; {}", message(said))),
        }
    }
}

/// The lines with which it gives up: each begins with the program's name, or with `ERROR: `.
fn message(said: &str) -> String {
    let plain = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("create-diff-object: ").unwrap_or(line);
        line.strip_prefix("ERROR: ").unwrap_or(line).to_owned()
    };
    let mut lines: Vec<String> = said.lines().map(plain).filter(|line| !line.is_empty()).collect();
    lines.dedup();
    // Its last word is the same for all of them.
    if lines.len() > 1 && lines.last().is_some_and(|line| line == "unreconcilable difference") {
        lines.pop();
    }
    if lines.is_empty() { "it said nothing".into() } else { lines.join("; ") }
}

/// kpatch, ready for the objects of one kernel.
pub struct Kpatch {
    program: PathBuf,
    objtool: PathBuf,
    symvers: PathBuf,
    /// Options of objtool by unit; a unit that is not here is not checked by it.
    options: BTreeMap<String, Vec<String>>,
    sizes: Vec<(&'static str, String)>,
    scratch: tempfile::TempDir,
}

/// Files for one run of create-diff-object.
pub struct Prepared {
    directory: PathBuf,
    /// Name of the object.
    file: String,
    parent: String,
}

impl Prepared {
    /// Where create-diff-object writes its object.
    pub fn output(&self) -> PathBuf {
        self.directory.join(OUTPUT).join(&self.file)
    }
}

impl Kpatch {
    /// Takes a built checkout of kpatch. An error says why it cannot serve this kernel.
    pub fn open(checkout: &Path, bench: &Workbench) -> Result<Self, Box<dyn Error>> {
        let program = checkout.canonicalize().unwrap_or_else(|_| checkout.into()).join(PROGRAM);
        if !program.is_file() {
            return Err(format!("{} is not there: build kpatch first", program.display()).into());
        }
        let tree = bench.tree();
        let config = fs::read_to_string(tree.path().join(".config"))?;
        if config.lines().any(|line| line == "CONFIG_X86_KERNEL_IBT=y") {
            return Err("kpatch-build refuses kernels with CONFIG_X86_KERNEL_IBT".into());
        }
        let sizes = tree.entry_sizes();
        let sizes = [
            ("ALT_STRUCT_SIZE", sizes.alt_instr),
            ("BUG_STRUCT_SIZE", sizes.bug_entry),
            ("EX_STRUCT_SIZE", sizes.exception_entry),
            ("JUMP_STRUCT_SIZE", sizes.jump_entry),
            ("PARA_STRUCT_SIZE", sizes.paravirt_site),
            ("ORC_STRUCT_SIZE", ORC_ENTRY_BYTES),
            ("STATIC_CALL_STRUCT_SIZE", STATIC_CALL_SITE_BYTES),
        ];
        Ok(Self {
            program,
            objtool: tree.path().join("tools/objtool/objtool"),
            symvers: tree.path().join("Module.symvers"),
            options: objtool_options(bench)?,
            sizes: sizes.map(|(name, bytes)| (name, bytes.to_string())).into(),
            scratch: tempfile::tempdir()?,
        })
    }

    /// Its verdict on all units of a case.
    pub fn judge(&self, bench: &Workbench, pairs: &[CompiledPair]) -> Result<Verdict, Box<dyn Error>> {
        let mut verdicts = Vec::new();
        for pair in pairs {
            let prepared = self.prepare(bench, pair, "pair")?;
            let output = self.command(&prepared).output()?;
            let verdict = Verdict::of_run(output.status.code(), &String::from_utf8_lossy(&output.stderr));
            verdicts.push(match verdict {
                Verdict::Refused(message) => Verdict::Refused(format!("{}: {message}", pair.unit)),
                other => other,
            });
        }
        Ok(Verdict::of_all(verdicts))
    }

    /// Writes the files that create-diff-object reads; `name` tells pairs apart that are kept.
    pub fn prepare(
        &self,
        bench: &Workbench,
        pair: &CompiledPair,
        name: &str,
    ) -> Result<Prepared, Box<dyn Error>> {
        let directory = self.scratch.path().join(name);
        let file = pair.unit.rsplit('/').next().unwrap_or_default().to_owned();
        for (side, bytes) in [(ORIGINAL, &pair.original), (PATCHED, &pair.patched)] {
            fs::create_dir_all(directory.join(side))?;
            let path = directory.join(side).join(&file);
            fs::write(&path, bytes)?;
            self.run_objtool(&pair.unit, &path)?;
        }
        fs::create_dir_all(directory.join(OUTPUT))?;
        let own: Vec<Symbol> = Object::parse(&pair.original)?.symbols;
        let patched = Object::parse(&pair.patched)?.symbols;
        // It looks up no other names, and reading all of a kernel's would take most of its time.
        let names: HashSet<&str> = own.iter().chain(&patched).map(|symbol| symbol.name.as_str()).collect();
        let (parent, others) = match &pair.membership {
            Membership::Vmlinux => ("vmlinux".to_owned(), kernel_symbols(bench, &names)),
            Membership::Module(module) => {
                let object = Object::parse(&bench.files().module(module.as_str())?)?;
                let wanted = object.symbols.iter().filter(|symbol| names.contains(symbol.name.as_str()));
                (module.to_string(), wanted.filter_map(Row::of).collect())
            }
        };
        fs::write(directory.join(SYMBOLS), symbol_table(&own, &others))?;
        Ok(Prepared { directory, file, parent })
    }

    /// As kbuild does: its warnings do not stop a build.
    fn run_objtool(&self, unit: &str, object: &Path) -> Result<(), Box<dyn Error>> {
        let Some(options) = self.options.get(unit) else { return Ok(()) };
        let output = bounded(&self.objtool).args(options).arg(object).output()?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("objtool on {unit}: {}", said()).into()) }
    }

    /// create-diff-object with its arguments, under a time limit.
    pub fn command(&self, prepared: &Prepared) -> Command {
        let mut command = bounded(&self.program);
        command.envs(self.sizes.iter().map(|(name, bytes)| (name, bytes)));
        let Prepared { directory, file, parent } = prepared;
        let place = |side: &str| format!("{side}/{file}");
        // Relative, as kpatch-build has them: they stand in its messages.
        command.current_dir(directory).args([&place(ORIGINAL), &place(PATCHED), parent, SYMBOLS]);
        command.arg(&self.symvers).arg("livepatch_case").arg(place(OUTPUT));
        command
    }
}

/// A program under timeout(1), which sees nothing of the caller's environment but where programs are.
pub fn bounded(program: &Path) -> Command {
    // With a path, so that the standard library can use posix_spawn(3): a fork of this process, which has a kernel in
    // memory, costs more than most of these programs.
    let mut command = Command::new("/usr/bin/timeout");
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.args(["--kill-after=5", TIME_OUT_SECONDS]).arg(program);
    command
}

/// What make would call objtool with, by unit: `make -n`, which runs nothing, prints it after the compiler's command.
fn objtool_options(bench: &Workbench) -> Result<BTreeMap<String, Vec<String>>, Box<dyn Error>> {
    let tree = bench.tree();
    let compiler = tree.compiler_version().split(' ').next().unwrap_or_default();
    let mut make = Command::new("make");
    make.env("LC_ALL", "C").stdin(Stdio::null()).arg("-C").arg(tree.path());
    make.args(["-s", "-n", "-k", "-O", "ARCH=x86", "objtool=true"]).arg(format!("CC={compiler}"));
    make.arg(format!("KERNELRELEASE={}", bench.identity().release)).args(["vmlinux", "modules"]);
    let Output { stdout, stderr, .. } = make.output()?;
    let options = options_in(&String::from_utf8_lossy(&stdout));
    if options.is_empty() {
        let said = String::from_utf8_lossy(&stderr);
        return Err(format!("make -n names no call of objtool: {}", said.trim()).into());
    }
    Ok(options)
}

/// `…; true OPTIONS UNIT;` of each line.
fn options_in(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut out = BTreeMap::new();
    for part in text.lines().flat_map(|line| line.split(';')) {
        let Some(rest) = part.trim().strip_prefix("true ") else { continue };
        let mut words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        if let Some(unit) = words.pop_if(|last| last.ends_with(".o"))
            && words.iter().all(|word| word.starts_with("--"))
        {
            out.insert(unit, words);
        }
    }
    out
}

/// A symbol of the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    address: u64,
    size: u64,
    kind: &'static str,
    binding: &'static str,
    name: String,
}

impl Row {
    /// Of a module's own symbols.
    fn of(symbol: &Symbol) -> Option<Self> {
        let kind = match symbol.kind {
            SymbolKind::Function => "FUNC",
            SymbolKind::Object => "OBJECT",
            SymbolKind::None => "NOTYPE",
            _ => return None,
        };
        let binding = match symbol.binding {
            Binding::Local => "LOCAL",
            Binding::Global => "GLOBAL",
            Binding::Weak => "WEAK",
        };
        let placed = matches!(symbol.placement, Placement::Section(_)) && !symbol.name.is_empty();
        let row =
            || Self { address: symbol.value, size: symbol.size, kind, binding, name: symbol.name.clone() };
        placed.then(row)
    }
}

/// Symbols of the kernel by name; the letters of kallsyms are those of nm.
fn kernel_symbols(bench: &Workbench, names: &HashSet<&str>) -> Vec<Row> {
    let row = |symbol: &livepatch_kimage::KernelSymbol| Row {
        address: symbol.address,
        size: 0,
        kind: match symbol.kind.to_ascii_lowercase() {
            b't' | b'w' => "FUNC",
            b'a' => "NOTYPE",
            _ => "OBJECT",
        },
        binding: match symbol.kind {
            b'W' | b'V' | b'w' | b'v' => "WEAK",
            kind if kind.is_ascii_uppercase() => "GLOBAL",
            _ => "LOCAL",
        },
        name: symbol.name.clone(),
    };
    bench.image().symbols.all().iter().filter(|s| names.contains(s.name.as_str())).map(row).collect()
}

/// The parent's symbol table as `readelf -s --wide` prints it: the locals of all other files, those of the unit under
/// its file's name, the globals.
fn symbol_table(own: &[Symbol], others: &[Row]) -> String {
    let mut out = String::from("Symbol table '.symtab' contains all entries:\n");
    let mut number = 0;
    let mut line = |row: &Row, section: &str| {
        let Row { address, size, kind, binding, name } = row;
        // Writing to a string does not fail.
        _ = writeln!(
            out,
            "{number:>6}: {address:016x} {size:>5} {kind:<7} {binding:<6} DEFAULT {section:>4} {name}"
        );
        number += 1;
    };
    let file =
        |name: &str| Row { address: 0, size: 0, kind: "FILE", binding: "LOCAL", name: name.to_owned() };
    let addresses: HashMap<&str, u64> = others.iter().map(|row| (row.name.as_str(), row.address)).collect();
    line(&file("others"), "ABS");
    others.iter().filter(|row| row.binding == "LOCAL").for_each(|row| line(row, "1"));
    for symbol in own.iter().filter(|symbol| symbol.binding == Binding::Local) {
        if symbol.kind == SymbolKind::File {
            line(&file(&symbol.name), "ABS");
        } else if let Some(row) = Row::of(symbol).filter(|row| row.kind != "NOTYPE") {
            // Of several symbols of one name any serves: the position it makes of that is not looked at.
            let address = addresses.get(row.name.as_str()).copied().unwrap_or(0);
            line(&Row { address, ..row }, "1");
        }
    }
    others.iter().filter(|row| row.binding != "LOCAL").for_each(|row| line(row, "1"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_messages_are_read() {
        let said = "ERROR: changed section .data.x not selected for inclusion\ncreate-diff-object: ERROR: f.o: \
                    kpatch_verify_patchability: 1886: 1 unsupported section change(s)\ncreate-diff-object: \
                    unreconcilable difference\n";
        let refused = Verdict::of_run(Some(2), said);
        assert_eq!(
            refused.text(),
            "refused: changed section .data.x not selected for inclusion; f.o: kpatch_verify_patchability: 1886: 1 \
             unsupported section change(s)"
        );
        assert_eq!(Verdict::of_run(Some(0), ""), Verdict::Ok);
        assert_eq!(Verdict::of_run(Some(3), ""), Verdict::NoChange);
        assert_eq!(Verdict::of_run(Some(124), "").text(), "refused: it took longer than 60 seconds");
        assert_eq!(Verdict::of_run(None, "").text(), "refused: it crashed; it said nothing");
    }

    #[test]
    fn one_refused_object_refuses_the_case() {
        let refused = || Verdict::Refused("x".into());
        assert_eq!(Verdict::of_all([]), Verdict::NoChange);
        assert_eq!(Verdict::of_all([Verdict::NoChange, Verdict::Ok, Verdict::NoChange]), Verdict::Ok);
        assert_eq!(Verdict::of_all([Verdict::Ok, refused(), Verdict::Ok]), refused());
    }

    #[test]
    fn options_of_objtool_are_those_of_the_dry_run() {
        let text = "set -e; gcc-12 -c -o net/x.o net/x.c ; true --orc --module   net/x.o; scripts/fixdep 'true'\n\
                    gcc-12 -c -o y.o y.c\n; true ; true a b.o; true --orc z.o";
        let options = options_in(text);
        assert_eq!(options.keys().collect::<Vec<_>>(), ["net/x.o", "z.o"]);
        assert_eq!(options["net/x.o"], ["--orc", "--module"]);
    }

    #[test]
    fn the_units_locals_stand_under_its_file() {
        let symbol = |name: &str, kind, binding| Symbol {
            name: name.into(),
            placement: if kind == SymbolKind::File { Placement::Absolute } else { Placement::Section(0) },
            value: 0,
            size: 4,
            kind,
            binding,
            other: 0,
        };
        let own = [
            symbol("x.c", SymbolKind::File, Binding::Local),
            symbol("f", SymbolKind::Function, Binding::Local),
            symbol("g", SymbolKind::Function, Binding::Global),
        ];
        let row =
            |name: &str, binding| Row { address: 16, size: 0, kind: "FUNC", binding, name: name.into() };
        let table = symbol_table(&own, &[row("f", "LOCAL"), row("g", "GLOBAL")]);
        let fields: Vec<Vec<&str>> = table.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
        let names: Vec<&str> = fields.iter().map(|f| f[7]).collect();
        assert_eq!(names, ["others", "f", "x.c", "f", "g"]);
        assert_eq!(fields[3], ["3:", "0000000000000010", "4", "FUNC", "LOCAL", "DEFAULT", "1", "f"]);
    }
}
