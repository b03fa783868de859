//! Cumulative livepatches of a series, for many kernels.
//!
//! [`mod@file`] is what a person writes; [`kernel`] builds one livepatch for one kernel and says what became of each fix;
//! [`matrix`] does that for many, goes on where an earlier run ended, and keeps the record; [`watch`] does it for kernels
//! that the distribution brings.

pub(crate) mod cli;
pub mod file;
pub mod kernel;
pub mod matrix;
pub mod outcome;
pub mod packages;
pub mod proofs;
pub mod watch;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use livepatch_kbuild::{Environment, Isolation, KbuildError, KernelOrigin, PackagedPatches, SourceOrigin};
use livepatch_types::CveId;

use crate::pipeline::KernelRequest;
use file::{Branch, FILE_NAME, FixEntry, KernelEntry, PatchesEntry, SeriesError, SeriesFile};

/// What is wrong with a series.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error(transparent)]
    Kbuild(#[from] KbuildError),
    /// `series.toml` is wrong.
    #[error(transparent)]
    File(#[from] SeriesError),
    /// A package or directory is nowhere.
    #[error("{0} is neither in the directories of --packages nor below the series' directory")]
    NotFound(PathBuf),
    /// A fix cannot be carved.
    #[error("{cve}: cannot carve {file}: {source}")]
    Carve {
        /// The fix.
        cve: CveId,
        /// The source file.
        file: String,
        /// Why not.
        source: livepatch_carve::CarveError,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Kbuild(error) => return error.hint(),
            Self::File(_) => "docs/series.md describes the file",
            Self::NotFound(_) => {
                "download the package, or name the directory that has it with --packages DIR"
            }
            Self::Carve { .. } => {
                "compare both sources, and say with `containing` and `lines` what the fix is"
            }
        };
        text.into()
    }
}

/// A series and where its files are.
#[derive(Debug, Clone)]
pub struct Series {
    /// The directory with `series.toml`.
    pub directory: PathBuf,
    /// What it says.
    pub file: SeriesFile,
    /// Directories with packages.
    pub packages: Vec<PathBuf>,
}

/// A fix with its patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What the series says of it.
    pub entry: FixEntry,
    /// Unified diffs.
    pub patches: Vec<String>,
    /// Code of the author's own, in the order of `entry.author`.
    pub code: Vec<String>,
}

impl Series {
    /// Reads the series of a directory.
    pub fn open(directory: &Path, packages: &[PathBuf]) -> Result<Self, OpenError> {
        let file = SeriesFile::parse(&read_text(&directory.join(FILE_NAME))?)?;
        Ok(Self { directory: directory.to_owned(), file, packages: packages.to_owned() })
    }

    /// A file or directory that the series names.
    pub fn locate(&self, path: &Path) -> Result<PathBuf, OpenError> {
        let mut places = self.packages.iter().chain([&self.directory]).map(|directory| directory.join(path));
        places.find(|place| place.exists()).ok_or_else(|| OpenError::NotFound(path.to_owned()))
    }

    /// Where the files of a kernel are.
    pub fn kernel_request(
        &self,
        kernel: &KernelEntry,
        cache: &Path,
        environment: &Environment,
    ) -> Result<KernelRequest, OpenError> {
        let locate = |path: &Option<PathBuf>| path.as_ref().map(|path| self.locate(path)).transpose();
        let origin = match (locate(&kernel.image)?.zip(locate(&kernel.headers)?), &kernel.modules) {
            (Some((image, headers)), _) => KernelOrigin::Packages { image, headers },
            (None, modules) => KernelOrigin::Own {
                vmlinux: locate(&kernel.vmlinux)?.unwrap_or_default(),
                config: locate(&kernel.config)?.unwrap_or_default(),
                symvers: locate(&kernel.symvers)?.unwrap_or_default(),
                modules: locate(modules)?,
            },
        };
        let with_place = |patches: &PatchesEntry| {
            let archive = self.locate(&patches.archive)?;
            Ok::<_, OpenError>(PackagedPatches { archive, directory: patches.directory.clone() })
        };
        Ok(KernelRequest {
            kernel: origin,
            source: self.locate(&kernel.source)?,
            source_patches: kernel.source_patches.as_ref().map(with_place).transpose()?,
            cache: cache.to_owned(),
            environment: environment.clone(),
        })
    }

    /// The fixes for kernels of these branches, carved where the series says so.
    pub fn fixes<'b>(
        &self,
        branches: impl Iterator<Item = &'b str>,
        cache: &Path,
        environment: &Environment,
        progress: &crate::pipeline::Progress<'_>,
    ) -> Result<BTreeMap<String, Vec<Fix>>, OpenError> {
        let mut out = BTreeMap::new();
        for name in branches {
            if !out.contains_key(name) {
                out.insert(name.to_owned(), self.fixes_of_branch(name, cache, environment, progress)?);
            }
        }
        Ok(out)
    }

    fn fixes_of_branch(
        &self,
        branch: &str,
        cache: &Path,
        environment: &Environment,
        progress: &crate::pipeline::Progress<'_>,
    ) -> Result<Vec<Fix>, OpenError> {
        let mut files: Vec<&str> =
            self.file.fixes_of(branch).flat_map(|fix| &fix.carve).map(|entry| entry.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        let sources = match self.file.branches.get(branch).filter(|_| !files.is_empty()) {
            Some(sources) => {
                progress(&format!("carving the fixes for kernels of {branch}"));
                self.both(sources, &files, cache, environment.isolation)?
            }
            None => BTreeMap::new(),
        };
        let mut out = Vec::new();
        for entry in self.file.fixes_of(branch) {
            let mut patches = Vec::new();
            for path in &entry.patch {
                patches.push(read_text(&self.directory.join(path))?);
            }
            for carve in &entry.carve {
                let (old, new) = sources.get(carve.file.as_str()).cloned().unwrap_or_default();
                let carved = livepatch_carve::carve(&carve.file, &old, &new, carve.rule());
                patches.push(carved.map_err(|source| OpenError::Carve {
                    cve: entry.cve,
                    file: carve.file.clone(),
                    source,
                })?);
            }
            let code = entry.author.iter().map(|author| read_text(&self.directory.join(&author.code)));
            out.push(Fix { entry: entry.clone(), patches, code: code.collect::<Result<_, _>>()? });
        }
        Ok(out)
    }

    /// Both versions of these files.
    fn both<'f>(
        &self,
        branch: &Branch,
        files: &[&'f str],
        cache: &Path,
        isolation: Isolation,
    ) -> Result<BTreeMap<&'f str, (String, String)>, OpenError> {
        let texts = |path: &Path| -> Result<Vec<String>, OpenError> {
            Ok(SourceOrigin::new(&self.locate(path)?)?.texts(files, cache, isolation)?)
        };
        let (old, new) = (texts(&branch.carve_from)?, texts(&branch.carve_to)?);
        Ok(files.iter().copied().zip(old.into_iter().zip(new)).collect())
    }
}

fn read_text(path: &Path) -> Result<String, KbuildError> {
    let io = |source| KbuildError::Io { action: "read", path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    String::from_utf8(bytes)
        .map_err(|_| KbuildError::Format { path: path.to_owned(), why: "it is not UTF-8 text".into() })
}
