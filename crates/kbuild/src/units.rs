//! All units that a kernel's configuration compiles, each with its exact command line.
//!
//! `make -n` prints what it would run, without running it: that is the one complete and certain source of command
//! lines, and it takes seconds. (Reading Makefiles would be guessing; letting make compile each unit costs a second
//! of recursion per unit and writes into the tree.)

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use livepatch_types::ModuleName;

use crate::headers::DIRECTORY;
use crate::inside::{Inside, Links};

/// Whether a program is a gcc by the names that CONFIG_CC_VERSION_TEXT has: `gcc-12` in Debian's kernels, since 6.11
/// with the prefix of cross compilers, `x86_64-linux-gnu-gcc-12`; `gcc` where people build their own.
pub(crate) fn is_gcc(program: &str) -> bool {
    let plain = program.strip_prefix("x86_64-linux-gnu-").unwrap_or(program);
    let version = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    plain == "gcc" || plain.strip_prefix("gcc-").is_some_and(version)
}

/// What a unit is linked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// The kernel itself.
    Vmlinux,
    /// A module.
    Module(ModuleName),
}

/// A compiler's command line for one unit, relative to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerCommand {
    pub(crate) words: Vec<String>,
}

impl CompilerCommand {
    /// Takes the words of a command, which must be a plain gcc.
    pub(crate) fn new(words: Vec<String>) -> Result<Self, &'static str> {
        let plain = words.first().is_some_and(|program| is_gcc(program));
        if plain && words.len() > 4 { Ok(Self { words }) } else { Err("its command is not a gcc") }
    }

    /// Value of a `-DNAME="value"` word.
    fn define(&self, name: &str) -> Option<&str> {
        let start = format!("-D{name}=\"");
        self.words.iter().find_map(|word| word.strip_prefix(start.as_str())?.strip_suffix('"'))
    }

    /// What the unit becomes part of, as kbuild tells the compiler.
    pub fn membership(&self) -> Result<Membership, String> {
        if !self.words.iter().any(|word| word == "-DMODULE") {
            return Ok(Membership::Vmlinux);
        }
        let name = self.define("KBUILD_MODNAME").ok_or("its command has no KBUILD_MODNAME")?;
        ModuleName::parse(name).map(Membership::Module).map_err(|error| error.to_string())
    }

    /// The same with the macros of include/asm-generic/runtime-const.h in place of those of arch/x86/include/asm, which
    /// have the same guard: the kernel writes constants into its own code only, and these read the variables.
    pub fn with_generic_runtime_constants(&self) -> Self {
        self.including("./include/asm-generic/runtime-const.h")
    }

    /// The same with static keys read as the variables that they are.
    pub fn with_static_keys_read(&self) -> Self {
        self.including(&format!("./{}", crate::compile::STATIC_KEYS_FILE))
    }

    /// The same with a call wherever a function ends in another one.
    pub fn without_sibling_calls(&self) -> Self {
        self.with(["-fno-optimize-sibling-calls".to_owned()])
    }

    /// The same with debug information that names files from this directory on, whatever its own name is.
    pub(crate) fn with_debug_paths_below(&self, directory: &std::path::Path) -> Self {
        self.with([format!("-fdebug-prefix-map={}=.", directory.display())])
    }

    fn including(&self, header: &str) -> Self {
        self.with(["-include".to_owned(), header.to_owned()])
    }

    /// More options, behind all others.
    fn with(&self, options: impl IntoIterator<Item = String>) -> Self {
        let mut words = self.words.clone();
        let source = words.len().saturating_sub(1);
        words.splice(source..source, options);
        Self { words }
    }

    /// The same with the headers for authors behind all others; only in a mirror.
    pub(crate) fn with_author_headers(&self) -> Self {
        let mut words = self.words.clone();
        let source = words.len().saturating_sub(1);
        words.splice(source..source, ["-idirafter".to_owned(), DIRECTORY.to_owned()]);
        Self { words }
    }

    /// Whether objects of this command have whole debug information: options of CONFIG_DEBUG_INFO_REDUCED and
    /// CONFIG_DEBUG_INFO_SPLIT (Makefile.debug) leave types out.
    pub fn has_debug_information(&self) -> bool {
        let mut on = false;
        for word in &self.words {
            match word.strip_prefix("-g") {
                Some("0") => on = false,
                Some("split-dwarf") => return false,
                Some(level) => on |= level.is_empty() || level.starts_with(['1', '2', '3', 'd']),
                None if word.starts_with("-femit-struct-debug-") => return false,
                None => {}
            }
        }
        on
    }

    /// The same with whole debug information.
    pub fn with_debug_information(&self) -> Self {
        let out_of_place = |word: &String| {
            word.starts_with("-femit-struct-debug-") || word == "-gsplit-dwarf" || word == "-g0"
        };
        let mut words: Vec<String> = self.words.iter().filter(|word| !out_of_place(word)).cloned().collect();
        words.insert(words.len().saturating_sub(1), "-g".to_owned());
        Self { words }
    }

    /// The source file.
    pub fn source(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }

    /// The words with other output files.
    pub(crate) fn redirected(&self, object: &Path, dependencies: &Path) -> Vec<String> {
        let mut out = Vec::with_capacity(self.words.len());
        let mut is_output = false;
        for word in &self.words {
            if is_output {
                out.push(object.display().to_string());
            } else if word.starts_with("-Wp,-MMD,") {
                out.push(format!("-Wp,-MMD,{}", dependencies.display()));
            } else {
                out.push(word.clone());
            }
            is_output = word == "-o";
        }
        out
    }

    /// The words that only list what the unit includes, system headers too, into a file.
    pub(crate) fn listing(&self, dependencies: &Path) -> Vec<String> {
        let mut out = Vec::with_capacity(self.words.len() + 3);
        let mut skip = false;
        for word in &self.words {
            let is_output = word == "-o";
            if !(skip || is_output || word == "-c" || word.starts_with("-Wp,-MMD,")) {
                out.push(word.clone());
            }
            skip = is_output;
        }
        out.extend(["-M".to_owned(), "-MF".to_owned(), dependencies.display().to_string()]);
        out
    }

    fn include_directories(&self) -> impl Iterator<Item = &str> {
        self.words.iter().filter_map(|word| word.strip_prefix("-I")).filter(|dir| !dir.is_empty())
    }

    fn forced_includes(&self) -> impl Iterator<Item = &str> {
        self.words.windows(2).filter(|pair| pair[0] == "-include").map(|pair| pair[1].as_str())
    }
}

/// The units of one kernel.
#[derive(Debug, Clone, Default)]
pub struct UnitList {
    commands: BTreeMap<String, String>,
}

impl UnitList {
    /// Reads what `make -n` printed: of each line that compiles a C file the compiler's part.
    pub(crate) fn from_dry_run(output: &str, compiler: &str) -> Self {
        let mut commands = BTreeMap::new();
        let start = format!("{compiler} ");
        for line in output.lines() {
            // Programs that run on the build machine are compiled too, and not with this definition.
            let of_kernel = line.contains(" -D__KERNEL__ ") && line.contains(" -c -o ");
            let Some(at) = line.find(&start).filter(|_| of_kernel) else { continue };
            // The command is quoted once more for fixdep; the first one ends at the first `;`.
            let command =
                line[at..].split(" ; ").next().unwrap_or_default().split("; ").next().unwrap_or_default();
            let Some(output) = command.rsplit(" -o ").next().and_then(|rest| rest.split_whitespace().next())
            else {
                continue;
            };
            if command.trim_end().ends_with(".c") && output.ends_with(".o") {
                commands.insert(output.to_owned(), command.trim().to_owned());
            }
        }
        Self { commands }
    }

    /// One line per unit; [`UnitList::parse`] reads it back.
    pub(crate) fn to_text(&self) -> String {
        self.commands.iter().map(|(unit, command)| format!("{unit}\t{command}\n")).collect()
    }

    /// Reads [`UnitList::to_text`].
    pub(crate) fn parse(text: &str) -> Self {
        let split =
            |line: &str| line.split_once('\t').map(|(unit, command)| (unit.to_owned(), command.to_owned()));
        Self { commands: text.lines().filter_map(split).collect() }
    }

    /// The command of a unit; none when this configuration does not compile it.
    pub fn command(&self, unit: &str) -> Option<Result<CompilerCommand, &'static str>> {
        let words = shlex::split(self.commands.get(unit)?);
        Some(words.ok_or("the quotes of its command do not match").and_then(CompilerCommand::new))
    }

    /// Names of all units.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.commands.keys().map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Units that may include one of these files (headers or other C files): at least all that do. Conditions of
    /// the preprocessor are ignored, and an include whose name is a macro may be anything.
    pub fn that_may_include(&self, tree: &Path, files: &BTreeSet<String>) -> Vec<String> {
        // A tree that cannot be opened holds nothing that could be included.
        let Ok(tree) = Inside::open(tree) else { return Vec::new() };
        let mut graph = IncludeGraph::new(tree);
        let mut out = Vec::new();
        for (unit, command) in &self.commands {
            let Some(Ok(command)) = shlex::split(command).map(CompilerCommand::new) else { continue };
            if graph.reaches(&command, files) {
                out.push(unit.clone());
            }
        }
        out
    }
}

/// One `#include` line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Include {
    Quoted(String),
    Angled(String),
    /// The name is a macro.
    Computed,
}

fn include_lines(text: &str) -> Vec<Include> {
    let mut out = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix('#') else { continue };
        let Some(rest) = rest.trim_start().strip_prefix("include") else { continue };
        let rest = rest.trim_start();
        let named = |end: char| rest.get(1..).and_then(|r| r.split(end).next()).map(str::to_owned);
        match rest.as_bytes().first() {
            Some(b'"') => out.extend(named('"').map(Include::Quoted)),
            Some(b'<') => out.extend(named('>').map(Include::Angled)),
            // include/trace/define_trace.h includes the trace header that included it: nothing new.
            Some(b'T') if rest.starts_with("TRACE_INCLUDE(") => {}
            Some(_) => out.push(Include::Computed),
            None => {}
        }
    }
    out.sort_by_key(|include| format!("{include:?}"));
    out.dedup();
    out
}

/// Which file includes which. Files are numbers; what a file includes depends on the unit's include directories, so
/// edges are kept per list of directories, of which a kernel has some hundreds.
struct IncludeGraph {
    tree: Inside,
    paths: Vec<String>,
    numbers: HashMap<String, Option<usize>>,
    lines: HashMap<usize, Rc<[Include]>>,
    edges: HashMap<Vec<String>, HashMap<usize, Edges>>,
}

/// What one file includes; none when an include's name is a macro.
type Edges = Option<Rc<[usize]>>;

impl IncludeGraph {
    fn new(tree: Inside) -> Self {
        Self {
            tree,
            paths: Vec::new(),
            numbers: HashMap::new(),
            lines: HashMap::new(),
            edges: HashMap::new(),
        }
    }

    /// The number of a file; none when there is no such file.
    fn number(&mut self, path: String) -> Option<usize> {
        if let Some(&known) = self.numbers.get(&path) {
            return known;
        }
        let number = self.tree.is_file(&path).then_some(self.paths.len());
        if number.is_some() {
            self.paths.push(path.clone());
        }
        self.numbers.insert(path, number);
        number
    }

    fn lines(&mut self, file: usize) -> Rc<[Include]> {
        if let Some(known) = self.lines.get(&file) {
            return known.clone();
        }
        let bytes = self.tree.read(&self.paths[file], Links::Followed).unwrap_or_default();
        let lines: Rc<[Include]> = include_lines(&String::from_utf8_lossy(&bytes)).into();
        self.lines.insert(file, lines.clone());
        lines
    }

    fn find_edges(&mut self, directories: &[String], file: usize) -> Edges {
        let own = Path::new(&self.paths[file]).parent().map(|p| p.display().to_string());
        let mut out = Vec::new();
        for include in self.lines(file).iter() {
            let (name, own) = match include {
                Include::Computed => return None,
                Include::Quoted(name) => (name, own.as_ref()),
                Include::Angled(name) => (name, None),
            };
            let mut places = own.into_iter().chain(directories);
            out.extend(places.find_map(|directory| self.number(plain_path(&format!("{directory}/{name}")))));
        }
        Some(out.into())
    }

    fn reaches(&mut self, command: &CompilerCommand, files: &BTreeSet<String>) -> bool {
        let directories: Vec<String> = command.include_directories().map(plain_path).collect();
        let mut known = self.edges.remove(&directories).unwrap_or_default();
        let starts = command.forced_includes().chain([command.source()]).map(plain_path);
        let mut queue: Vec<usize> = starts.filter_map(|path| self.number(path)).collect();
        let mut seen: HashSet<usize> = queue.iter().copied().collect();
        let mut found = false;
        while let Some(file) = queue.pop() {
            if files.contains(&self.paths[file]) {
                found = true;
                break;
            }
            let edges = known.entry(file).or_insert_with(|| self.find_edges(&directories, file));
            let Some(edges) = edges else {
                found = true;
                break;
            };
            queue.extend(edges.iter().filter(|next| seen.insert(**next)));
        }
        self.edges.insert(directories, known);
        found
    }
}

/// A path without `.` and with `..` resolved by text, as the tree has no links between directories.
pub(crate) fn plain_path(path: &str) -> String {
    let mut out = PathBuf::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = out.pop(),
            part => out.push(part),
        }
    }
    out.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRY: &str = "set -e;  echo '  CC [M]  net/x.o';    trap 'rm -f net/x.o; trap - HUP' HUP;  gcc-12 \
        -Wp,-MMD,net/.x.o.d -D__KERNEL__ -I./include -include ./include/k.h -DMODULE -DKBUILD_MODNAME='\"x_y\"' -c -o net/x.o net/x.c   ; true --orc   \
        net/x.o; scripts/basic/fixdep net/.x.o.d net/x.o 'gcc-12 -c -o net/x.o net/x.c' > net/.x.o.cmd\n\
        gcc-12 -O2 -c -o scripts/y.o scripts/y.c\nset -e; gcc-12 -Wp,-MMD,a -D__KERNEL__ -D2 -c -o arch/z.o arch/z.S ; x\n";

    #[test]
    fn a_dry_run_names_units_and_commands() {
        let units = UnitList::parse(&UnitList::from_dry_run(DRY, "gcc-12").to_text());
        assert_eq!(units.names().collect::<Vec<_>>(), ["net/x.o"]);
        let command = units.command("net/x.o").unwrap().unwrap();
        let name = ModuleName::parse("x_y").unwrap();
        assert_eq!(command.membership(), Ok(Membership::Module(name)));
        assert_eq!(command.source(), "net/x.c");
        let words = command.redirected(Path::new("/o"), Path::new("/d"));
        assert!(words.windows(2).any(|w| w == ["-o", "/o"]) && words.contains(&"-Wp,-MMD,/d".to_owned()));
        let words = command.listing(Path::new("/d"));
        assert!(
            !words.contains(&"-o".to_owned()) && words.ends_with(&["-M".into(), "-MF".into(), "/d".into()])
        );
        assert!(units.command("net/z.o").is_none());
    }

    #[test]
    fn compilers_are_known_by_name() {
        for name in ["gcc", "gcc-12", "x86_64-linux-gnu-gcc", "x86_64-linux-gnu-gcc-12"] {
            assert!(is_gcc(name), "{name}");
        }
        for name in ["gcc-", "cc", "clang-19", "/usr/bin/gcc-12", "aarch64-linux-gnu-gcc-12", "gcc-12;x", ""]
        {
            assert!(!is_gcc(name), "{name}");
        }
    }

    #[test]
    fn generic_runtime_constants_are_included_last() {
        let words = ["gcc-12", "-include", "a.h", "-c", "-o", "x.o", "x.c"].map(str::to_owned);
        let command = CompilerCommand::new(words.to_vec()).unwrap().with_generic_runtime_constants();
        assert_eq!(command.source(), "x.c");
        let includes: Vec<&str> = command.forced_includes().collect();
        assert_eq!(includes, ["a.h", "./include/asm-generic/runtime-const.h"]);
    }

    #[test]
    fn debug_information_is_asked_for_where_it_is_not_whole() {
        let command = |options: &str| {
            let words = format!("gcc-12 {options} -c -o x.o x.c");
            CompilerCommand::new(words.split_whitespace().map(str::to_owned).collect()).unwrap()
        };
        for whole in ["-g", "-g2", "-gdwarf-4", "-g0 -g"] {
            assert!(command(whole).has_debug_information(), "{whole}");
        }
        for lacking in ["-O2", "-g -g0", "-g -femit-struct-debug-baseonly", "-g -gsplit-dwarf", "-gz=zlib"] {
            let command = command(lacking);
            assert!(!command.has_debug_information(), "{lacking}");
            let with = command.with_debug_information();
            assert!(with.has_debug_information() && with.source() == "x.c", "{with:?}");
        }
    }

    #[test]
    fn includes_are_followed_through_headers() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("net/x.c", "#include \"local.h\"\n");
        write("net/local.h", "# include <linux/a.h>\n");
        write("include/linux/a.h", "#ifdef NO\n#include <linux/b.h>\n#endif\n");
        write("include/linux/b.h", "");
        write("include/k.h", "");
        let units = UnitList::from_dry_run(DRY, "gcc-12");
        let may = |file: &str| units.that_may_include(tree.path(), &BTreeSet::from([file.to_owned()]));
        for file in ["net/x.c", "net/local.h", "include/linux/a.h", "include/linux/b.h", "include/k.h"] {
            assert_eq!(may(file), ["net/x.o"], "{file}");
        }
        assert_eq!(may("include/linux/c.h"), [""; 0]);
        write("net/local.h", "#include SOME_MACRO\n");
        assert_eq!(may("include/linux/c.h"), ["net/x.o"], "a computed include may be anything");
    }
}
