//! `series.toml`: the kernels of a series and the fixes that their livepatches hold, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use livepatch_carve::Rule;
use livepatch_types::{CveId, ModuleName, PatchVersion, Rating};
use serde::Deserialize;

/// Name of the file in a series' directory.
pub const FILE_NAME: &str = "series.toml";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesFile {
    /// Version of the livepatches that are to be built.
    pub version: PatchVersion,
    /// Lines of kernels by how their releases begin: `6.1` has `6.1.0-50-cloud-amd64`.
    #[serde(default, rename = "branch")]
    pub branches: BTreeMap<String, Branch>,
    /// The kernels.
    #[serde(default, rename = "kernel")]
    pub kernels: Vec<KernelEntry>,
    /// Packages in which kernels to come will be: what `watch` looks for.
    #[serde(default, rename = "follow")]
    pub follows: Vec<Follow>,
    /// The fixes, in the order in which their patches are applied.
    #[serde(rename = "fix")]
    pub fixes: Vec<FixEntry>,
    /// CVEs that an earlier livepatch fixed and this one does not.
    #[serde(default)]
    pub withdrawn: Vec<Withdrawn>,
}

/// A line of kernels with two versions of its source, out of whose difference fixes are carved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Branch {
    /// The source without the fixes: linux-source package or directory.
    pub carve_from: PathBuf,
    /// The source with them.
    pub carve_to: PathBuf,
}

/// Where one kernel's files are. Paths are those of files in `--packages` directories, or below the series' directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelEntry {
    /// Our name for it: becomes a directory.
    pub name: String,
    /// How its release begins.
    pub branch: String,
    /// linux-image package, or directory with boot/ and lib/modules/
    pub image: Option<PathBuf>,
    /// linux-headers package, or directory with its usr/src/
    pub headers: Option<PathBuf>,
    /// A kernel of one's own, packed or not.
    pub vmlinux: Option<PathBuf>,
    /// Its configuration.
    pub config: Option<PathBuf>,
    /// Its `Module.symvers`.
    pub symvers: Option<PathBuf>,
    /// Its modules.
    pub modules: Option<PathBuf>,
    /// linux-source package of the same version, or a source tree.
    pub source: PathBuf,
    /// Patches of the distribution's packaging that this kernel has beside (Debian's rt kernels).
    #[serde(rename = "source-patches")]
    pub source_patches: Option<PatchesEntry>,
}

/// Patches that stand in a distribution's packaging.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchesEntry {
    /// The packaging: `linux_6.1.176-1.debian.tar.xz`, in a `--packages` directory or below the series' directory.
    pub archive: PathBuf,
    /// The directory below `debian/` in it that has them and their `series`.
    pub directory: String,
}

/// Packages of kernels to come. Image, headers and source of one kernel have one version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// How their releases begin.
    pub branch: String,
    /// Name of the image package, with one `*`: `linux-image-6.1.0-*-cloud-amd64`.
    pub image: String,
    /// Name of its headers package; `*` stands for the same text.
    pub headers: String,
    /// Name of the source package.
    pub source: String,
}

/// One fix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixEntry {
    /// The CVE that all of its hunks belong to.
    pub cve: CveId,
    /// Its rating.
    pub rating: Rating,
    /// Title of the fix.
    pub title: String,
    /// The commit upstream.
    pub upstream: Option<String>,
    /// Source patches, below the series' directory.
    #[serde(default)]
    pub patch: Vec<PathBuf>,
    /// Or how to carve it out of the branch's two sources.
    #[serde(default)]
    pub carve: Vec<CarveEntry>,
    /// Code of the author's own beside the fix: callbacks, states, shadow variables.
    #[serde(default)]
    pub author: Vec<AuthorEntry>,
    /// Only kernels of these branches; none named: of all.
    #[serde(default)]
    pub branches: Vec<String>,
    /// Why it is in, although its rating is below high.
    pub r#override: Option<Reason>,
    /// Why it is built although something of it is left out: the CVE is then called partially fixed.
    pub partial: Option<Reason>,
    /// Why the fix is whole without a place that cannot be livepatched.
    #[serde(default)]
    pub arguments: Vec<Argument>,
    /// Kernels for which it is left out.
    #[serde(default)]
    pub except: Vec<Except>,
    /// Program that tells whether a kernel has the fix, below the series' directory: C source, or a static program.
    /// Exit status 0: fixed, 1: vulnerable.
    pub check: Option<PathBuf>,
    /// Modules that the check needs besides those that are patched.
    #[serde(default)]
    pub needs: Vec<ModuleName>,
}

/// What of a file's difference is the fix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarveEntry {
    /// The source file.
    pub file: String,
    /// Only the groups of changes with this text are the fix; without it all that differs.
    pub containing: Option<String>,
    /// And of those only so many added lines, from the first one with the text on.
    pub lines: Option<usize>,
}

/// Code that is put into a source file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorEntry {
    /// The source file.
    pub file: String,
    /// In front of its first line with this text.
    pub before: String,
    /// The file with the code, below the series' directory.
    pub code: PathBuf,
}

/// A recorded reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// In words.
    pub reason: String,
}

/// What a person says about a place that a livepatch leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argument {
    /// The place, as a finding names it.
    pub place: String,
    /// Why the fix is whole without it.
    pub reason: String,
}

/// A kernel for which a fix is left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Except {
    /// The kernel's name.
    pub kernel: String,
    /// Why.
    pub reason: String,
}

/// A CVE that is fixed no more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The CVE.
    pub cve: CveId,
    /// Why.
    pub reason: String,
}

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// It is not TOML, or has a member that is not known, or lacks one.
    #[error("series.toml, line {line}: {why}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// What it says cannot be.
    #[error("series.toml: {place}: {why}")]
    Rule {
        /// The kernel or fix.
        place: String,
        /// What is wrong about it.
        why: String,
    },
}

impl SeriesFile {
    /// Reads and checks the file's text.
    pub fn parse(text: &str) -> Result<Self, SeriesError> {
        let series: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            SeriesError::Syntax { line, why: error.message().trim().replace('\n', ", ") }
        })?;
        series.check()?;
        Ok(series)
    }

    /// The fixes for kernels of a branch.
    pub fn fixes_of<'s>(&'s self, branch: &'s str) -> impl Iterator<Item = &'s FixEntry> {
        self.fixes.iter().filter(move |fix| fix.is_for(branch))
    }

    fn check(&self) -> Result<(), SeriesError> {
        let mut names = BTreeSet::new();
        for kernel in &self.kernels {
            kernel.check().map_err(rule(&kernel.name))?;
            if !names.insert(kernel.name.as_str()) {
                return Err(rule(&kernel.name)("there are two kernels of this name".into()));
            }
        }
        for follow in &self.follows {
            follow.check().map_err(rule(&format!("follow {:?}", follow.image)))?;
        }
        if self.kernels.is_empty() && self.follows.is_empty() {
            return Err(rule("kernels")("there is neither [[kernel]] nor [[follow]]".into()));
        }
        let of_kernels = self.kernels.iter().map(|kernel| kernel.branch.as_str());
        let branches: BTreeSet<&str> =
            of_kernels.chain(self.follows.iter().map(|follow| follow.branch.as_str())).collect();
        if let Some(unused) = self.branches.keys().find(|name| !branches.contains(name.as_str())) {
            return Err(rule(&format!("branch {unused:?}"))("no kernel is of this branch".into()));
        }
        for fix in &self.fixes {
            self.check_fix(fix, &branches).map_err(rule(&fix.cve.to_string()))?;
        }
        for branch in &branches {
            let mut seen = BTreeSet::new();
            if let Some(twice) = self.fixes_of(branch).find(|fix| !seen.insert(fix.cve)) {
                let why =
                    format!("it is there twice for kernels of {branch}; put all its hunks into one fix");
                return Err(rule(&twice.cve.to_string())(why));
            }
        }
        for Withdrawn { cve, reason } in &self.withdrawn {
            let rule = rule(&cve.to_string());
            if reason.trim().is_empty() {
                return Err(rule("it is withdrawn without a reason".into()));
            }
            if self.fixes.iter().any(|fix| fix.cve == *cve) {
                return Err(rule("it is withdrawn and a fix at the same time".into()));
            }
        }
        Ok(())
    }

    fn check_fix(&self, fix: &FixEntry, branches: &BTreeSet<&str>) -> Result<(), String> {
        if fix.patch.is_empty() == fix.carve.is_empty() {
            return Err("exactly one of `patch` and `carve` says what the fix is".into());
        }
        match (fix.rating.qualifies(), &fix.r#override) {
            (false, None) => {
                return Err(
                    "only CVEs rated high or critical get a livepatch; say why in `override = { reason = … }`"
                        .into(),
                );
            }
            (true, Some(_)) => return Err("its rating needs no override".into()),
            _ => {}
        }
        if fix.title.trim().is_empty() || fix.title.chars().count() > 200 || fix.title.contains('\n') {
            return Err("`title` is not one line of 1 to 200 characters".into());
        }
        let hexadecimal = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if fix.upstream.as_ref().is_some_and(|id| !(12..=40).contains(&id.len()) || !hexadecimal(id)) {
            return Err("`upstream` is not a commit: 12 to 40 lower-case hexadecimal digits".into());
        }
        let mut reasons = (fix.r#override.iter().chain(&fix.partial).map(|reason| &reason.reason))
            .chain(fix.arguments.iter().map(|argument| &argument.reason))
            .chain(fix.except.iter().map(|except| &except.reason));
        if reasons.any(|reason| reason.trim().is_empty()) {
            return Err("a reason is empty".into());
        }
        let is_kernel = |name: &str| self.kernels.iter().any(|kernel| kernel.name == name);
        if let Some(except) = fix.except.iter().find(|except| !is_kernel(&except.kernel)) {
            return Err(format!("it is left out for {:?}, and there is no such kernel", except.kernel));
        }
        if let Some(unknown) = fix.branches.iter().find(|name| !branches.contains(name.as_str())) {
            return Err(format!("no kernel is of branch {unknown:?}"));
        }
        for entry in &fix.carve {
            if !is_plain(&entry.file) {
                return Err(format!("{:?} is not a path below a source tree", entry.file));
            }
            if entry.lines == Some(0) || (entry.lines.is_some() && entry.containing.is_none()) {
                return Err("`lines` is 0 or without `containing`".into());
            }
        }
        for entry in &fix.author {
            if !is_plain(&entry.file) || entry.before.trim().is_empty() {
                return Err("`author` needs a path below a source tree, and text of a line in it".into());
            }
        }
        let code = fix.author.iter().map(|entry| &entry.code);
        for path in fix.patch.iter().chain(&fix.check).chain(code) {
            if !path.to_str().is_some_and(is_plain) {
                return Err(format!("{} is not a path below the series' directory", path.display()));
            }
        }
        let lacking = branches.iter().find(|name| fix.is_for(name) && !self.branches.contains_key(**name));
        match lacking {
            Some(name) if !fix.carve.is_empty() => {
                Err(format!("it is carved, but [branch.{name:?}] with carve-from and carve-to is missing"))
            }
            _ => Ok(()),
        }
    }
}

fn rule(place: &str) -> impl Fn(String) -> SeriesError + use<> {
    let place = place.to_owned();
    move |why| SeriesError::Rule { place: place.clone(), why }
}

/// A relative path of plain components.
fn is_plain(path: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._+-,~".contains(c))
    };
    path.len() < 256 && path.split('/').all(word)
}

impl KernelEntry {
    fn check(&self) -> Result<(), String> {
        if !is_plain(&self.name) || self.name.contains('/') {
            return Err("its name cannot be that of a directory".into());
        }
        let packages = [self.image.is_some(), self.headers.is_some()];
        let own = [self.vmlinux.is_some(), self.config.is_some(), self.symvers.is_some()];
        let is_packages = packages == [true; 2] && own == [false; 3] && self.modules.is_none();
        let is_own = packages == [false; 2] && own == [true; 3];
        if !is_packages && !is_own {
            return Err("give image and headers, or vmlinux, config and symvers (and modules)".into());
        }
        Ok(())
    }
}

impl Follow {
    fn check(&self) -> Result<(), String> {
        let is_name = |name: &str| is_plain(name) && !name.contains(['/', '_']);
        let is_pattern = |name: &str| name.matches('*').count() == 1 && is_name(&name.replace('*', "x"));
        if !is_pattern(&self.image) || !is_pattern(&self.headers) {
            return Err("`image` and `headers` are names of packages with one `*`".into());
        }
        if !is_name(&self.source) {
            return Err("`source` is the name of a package".into());
        }
        Ok(())
    }
}

impl FixEntry {
    /// Whether it is for kernels of this branch.
    pub fn is_for(&self, branch: &str) -> bool {
        self.branches.is_empty() || self.branches.iter().any(|name| name == branch)
    }
}

impl CarveEntry {
    /// As the carver takes it.
    pub fn rule(&self) -> Option<Rule<'_>> {
        self.containing.as_deref().map(|containing| Rule { containing, lines: self.lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = "2.1"

[branch."6.1"]
carve-from = "old.deb"
carve-to = "new.deb"

[[kernel]]
name = "6.1-cloud"
branch = "6.1"
image = "image.deb"
headers = "headers.deb"
source = "old.deb"

[[fix]]
cve = "CVE-2026-93146"
rating = "high"
title = "time: check"
carve = [{ file = "kernel/time/namespace.c", containing = "tv_nsec", lines = 2 }]
check = "checks/a.c"
needs = ["sch_ingress"]
"#;

    const FIX: &str = "[[fix]]\ncve = \"CVE-2026-1111\"\ntitle = \"t\"\n";

    #[test]
    fn a_good_file_is_read() {
        let series = SeriesFile::parse(GOOD).unwrap();
        assert_eq!(series.version.to_string(), "2.1");
        assert_eq!(series.fixes_of("6.1").count(), 1);
        assert_eq!(series.fixes[0].carve[0].rule().unwrap().lines, Some(2));
        let more =
            format!("{GOOD}{FIX}rating = \"low\"\npatch = [\"a.patch\"]\noverride = {{ reason = \"r\" }}\n");
        assert_eq!(SeriesFile::parse(&more).unwrap().fixes.len(), 2);
    }

    #[test]
    fn kernels_to_come_are_followed() {
        let follow = "[[follow]]\nbranch = \"6.1\"\nimage = \"linux-image-6.1.0-*-amd64\"\n\
                      headers = \"linux-headers-6.1.0-*-amd64\"\nsource = \"linux-source-6.1\"\n";
        let kernel = GOOD.split("[[kernel]]").nth(1).unwrap().split("[[fix]]").next().unwrap();
        let without = GOOD.replace(&format!("[[kernel]]{kernel}"), "");
        assert_eq!(SeriesFile::parse(&format!("{without}{follow}")).unwrap().follows.len(), 1);
        for (text, expected) in [
            (without.clone(), "neither [[kernel]] nor [[follow]]"),
            (format!("{GOOD}{}", follow.replace("6.1.0-*-", "")), "names of packages with one `*`"),
            (format!("{GOOD}{}", follow.replace("headers-6.1.0-*", "headers-*-*")), "with one `*`"),
            (format!("{GOOD}{}", follow.replace("linux-source-6.1", "../x")), "the name of a package"),
        ] {
            let error = SeriesFile::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let with = |more: &str| format!("{GOOD}{FIX}{more}\n");
        let kernel = "[[kernel]]\nname = \"NAME\"\nbranch = \"6.12\"\nsource = \"s\"\n";
        for (text, expected) in [
            ("version = 1".to_owned(), "series.toml, line 1: "),
            (GOOD.replace("headers =", "header ="), "series.toml, line 12: unknown field `header`"),
            (GOOD.replace("\"high\"", "\"huge\""), "line 17: unknown variant `huge`"),
            (with("rating = \"high\""), "CVE-2026-1111: exactly one of `patch` and `carve`"),
            (with("rating = \"low\"\npatch = [\"a\"]"), "CVE-2026-1111: only CVEs rated high or critical"),
            (with("rating = \"high\"\npatch = [\"a\"]\noverride = { reason = \"r\" }"), "needs no override"),
            (with("rating = \"low\"\npatch = [\"a\"]\noverride = { reason = \" \" }"), "a reason is empty"),
            (
                with(
                    "rating = \"high\"\npatch = [\"a\"]\nauthor = [{ file = \"a.c\", before = \" \", code = \"c.c\" }]",
                ),
                "CVE-2026-1111: `author` needs a path below a source tree",
            ),
            (with("rating = \"high\"\npatch = [\"../a\"]"), "is not a path below the series' directory"),
            (
                with("rating = \"high\"\npatch = [\"a\"]\nbranches = [\"6.2\"]"),
                "no kernel is of branch \"6.2\"",
            ),
            (with("rating = \"high\"\npatch = [\"a\"]\nupstream = \"xyz\""), "`upstream` is not a commit"),
            (
                with("rating = \"high\"\ncarve = [{ file = \"/etc/passwd\" }]"),
                "not a path below a source tree",
            ),
            (with("rating = \"high\"\ncarve = [{ file = \"a.c\", lines = 1 }]"), "`lines` is 0 or without"),
            (GOOD.replace("name = \"6.1-cloud\"", "name = \"../x\""), "cannot be that of a directory"),
            (GOOD.replace("image = \"image.deb\"\n", ""), "6.1-cloud: give image and headers, or vmlinux"),
            (
                format!(
                    "{GOOD}{}vmlinux = \"v\"\nconfig = \"c\"\nsymvers = \"m\"\n",
                    kernel.replace("NAME", "own")
                ),
                "CVE-2026-93146: it is carved, but [branch.\"6.12\"] with carve-from and carve-to is missing",
            ),
            (
                format!("{GOOD}{}image = \"i\"\nheaders = \"h\"\n", kernel.replace("NAME", "6.1-cloud")),
                "there are two kernels of this name",
            ),
            (
                format!("{GOOD}[[withdrawn]]\ncve = \"CVE-2026-93146\"\nreason = \"r\"\n"),
                "it is withdrawn and a fix at the same time",
            ),
        ] {
            let error = SeriesFile::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\nexpected {expected}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let twice = with("rating = \"high\"\npatch = [\"a\"]") + FIX + "rating = \"high\"\npatch = [\"b\"]\n";
        let error = SeriesFile::parse(&twice).unwrap_err().to_string();
        assert!(error.contains("CVE-2026-1111: it is there twice for kernels of 6.1"), "{error}");
    }
}
