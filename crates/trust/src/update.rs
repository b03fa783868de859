use jiff::Timestamp;
use livepatch_types::{KernelIdentity, Sha256Digest};

use crate::allowance::{KernelAllowance, MAX_ALLOWANCE_BYTES};
use crate::metadata::{MAX_SNAPSHOT_BYTES, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES, VersionedFile};
use crate::state::check_expiry;
use crate::{
    FileMeta, Kind, MAX_ROOT_BYTES, METADATA, Refusal, Role, SignedFile, Snapshot, State, TARGETS,
    TargetName, Targets, TimestampRole,
};

/// How many new roots are followed in one update.
pub const MAX_NEW_ROOTS: u32 = 256;
/// What there is too much of, when there are more.
pub const NEW_ROOTS: &str = "new roots";

/// A file that an update needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its path in the repository, made of numbers and checked names.
    pub path: String,
    /// More bytes than this need not be read.
    pub limit_bytes: u64,
    /// Whether it may not be there: the next root seldom is.
    pub may_be_absent: bool,
    /// Whether a file of this path never changes, so that a copy from before does as well.
    pub immutable: bool,
}

/// The client workflow of TUF 1.0.33, sections 5.3 to 5.6. Ask [`Update::wanted`], give the bytes to [`Update::take`] or
/// say [`Update::absent`], until [`Update::finish`].
#[derive(Debug, Clone)]
pub struct Update {
    state: State,
    new_roots: u32,
    step: Step,
    /// Of the timestamp that was taken.
    timestamp_sha256: Option<Sha256Digest>,
}

#[derive(Debug, Clone)]
enum Step {
    Root,
    Timestamp,
    Snapshot { timestamp: TimestampRole },
    Targets { timestamp: TimestampRole, snapshot: Snapshot },
    Done(Box<Newest>),
}

#[derive(Debug, Clone)]
struct Newest {
    timestamp: TimestampRole,
    snapshot: Snapshot,
    targets: Targets,
}

impl Update {
    /// Begins with what is known of a vendor's repository.
    pub fn new(state: State) -> Result<Self, Refusal> {
        if state.root().kind() != Kind::Vendor {
            return Err(Refusal::WrongKind(Kind::Vendor));
        }
        Ok(Self { state, new_roots: 0, step: Step::Root, timestamp_sha256: None })
    }

    /// Runs an update to its end on files that are at hand; `read` gets each path and its limit in bytes.
    pub fn run(state: State, mut read: impl FnMut(&Wanted) -> Option<Vec<u8>>) -> Result<Vendor, Refusal> {
        let mut update = Self::new(state)?;
        while let Some(wanted) = update.wanted() {
            match read(&wanted) {
                Some(bytes) => update.take(&bytes)?,
                None => update.absent()?,
            }
        }
        update.finish()
    }

    /// What is trusted so far. A new root counts from when it was taken (TUF 1.0.33, section 5.3.8): who keeps this need not
    /// begin again when the rest does not come. All else counts at the end.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The next file; none: the update is done.
    pub fn wanted(&self) -> Option<Wanted> {
        let versioned = |role: Role, file: &VersionedFile, cap: u64| Wanted {
            path: format!("{METADATA}/{}.{role}.json", file.version),
            limit_bytes: file.file.length.min(cap),
            may_be_absent: false,
            immutable: true,
        };
        match &self.step {
            Step::Root => Some(Wanted {
                path: format!("{METADATA}/{}.root.json", self.state.seen(Role::Root).saturating_add(1)),
                limit_bytes: MAX_ROOT_BYTES,
                may_be_absent: true,
                immutable: true,
            }),
            Step::Timestamp => Some(Wanted {
                path: format!("{METADATA}/timestamp.json"),
                limit_bytes: MAX_TIMESTAMP_BYTES,
                may_be_absent: false,
                immutable: false,
            }),
            Step::Snapshot { timestamp } => {
                Some(versioned(Role::Snapshot, &timestamp.meta.snapshot, MAX_SNAPSHOT_BYTES))
            }
            Step::Targets { snapshot, .. } => {
                Some(versioned(Role::Targets, &snapshot.meta.targets, MAX_TARGETS_BYTES))
            }
            Step::Done(_) => None,
        }
    }

    /// The file that was wanted is not there.
    pub fn absent(&mut self) -> Result<(), Refusal> {
        match (&self.step, self.wanted()) {
            (Step::Root, _) => {
                self.step = Step::Timestamp;
                Ok(())
            }
            (_, Some(wanted)) => Err(Refusal::Missing(wanted.path)),
            (_, None) => Ok(()),
        }
    }

    /// Takes the file that was wanted.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.step = match &self.step {
            Step::Root => {
                if self.new_roots == MAX_NEW_ROOTS {
                    return Err(Refusal::TooMany { what: NEW_ROOTS, limit: MAX_NEW_ROOTS as usize });
                }
                self.state.take_root(bytes)?;
                self.new_roots += 1;
                return Ok(());
            }
            Step::Timestamp => Step::Snapshot { timestamp: self.timestamp(bytes)? },
            Step::Snapshot { timestamp } => {
                Step::Targets { timestamp: timestamp.clone(), snapshot: self.snapshot(bytes, timestamp)? }
            }
            Step::Targets { timestamp, snapshot } => Step::Done(Box::new(Newest {
                timestamp: timestamp.clone(),
                snapshot: snapshot.clone(),
                targets: self.targets(bytes, snapshot)?,
            })),
            Step::Done(_) => return Ok(()),
        };
        Ok(())
    }

    /// What is trusted now; before all files were taken, which one is missing.
    pub fn finish(mut self) -> Result<Vendor, Refusal> {
        if let Some(wanted) = self.wanted() {
            return Err(Refusal::Missing(wanted.path));
        }
        let Step::Done(newest) = self.step else { return Err(Refusal::Missing("the metadata".into())) };
        let Newest { timestamp, snapshot, targets } = *newest;
        let headers = [&timestamp.header, &snapshot.header, &targets.header];
        let seen = &mut self.state.seen;
        (seen.timestamp, seen.timestamp_sha256) = (timestamp.header.version, self.timestamp_sha256);
        seen.snapshot = snapshot.header.version;
        seen.targets = targets.header.version;
        seen.issued = headers.iter().fold(seen.issued, |latest, header| latest.max(header.issued));
        Ok(Vendor { state: self.state, timestamp, snapshot, targets })
    }

    fn timestamp(&mut self, bytes: &[u8]) -> Result<TimestampRole, Refusal> {
        let file = SignedFile::parse(bytes, MAX_TIMESTAMP_BYTES, Role::Timestamp.file_words())?;
        let timestamp: TimestampRole = file.verify(self.state.root(), Role::Timestamp)?;
        self.not_before(Role::Timestamp, timestamp.header.version)?;
        self.not_before(Role::Snapshot, timestamp.meta.snapshot.version)?;
        let sha256 = FileMeta::of(bytes).hashes.sha256;
        self.state.check_timestamp(timestamp.header.version, sha256)?;
        self.timestamp_sha256 = Some(sha256);
        Ok(timestamp)
    }

    fn snapshot(&self, bytes: &[u8], timestamp: &TimestampRole) -> Result<Snapshot, Refusal> {
        let named = &timestamp.meta.snapshot;
        let snapshot: Snapshot = self.named(bytes, Role::Snapshot, named, MAX_SNAPSHOT_BYTES)?;
        same_version(Role::Snapshot, named, snapshot.header.version)?;
        self.not_before(Role::Targets, snapshot.meta.targets.version)?;
        Ok(snapshot)
    }

    fn targets(&self, bytes: &[u8], snapshot: &Snapshot) -> Result<Targets, Refusal> {
        let named = &snapshot.meta.targets;
        let targets: Targets = self.named(bytes, Role::Targets, named, MAX_TARGETS_BYTES)?;
        same_version(Role::Targets, named, targets.header.version)?;
        targets.check()?;
        Ok(targets)
    }

    /// A file whose length and digest other metadata states.
    fn named<T: serde::de::DeserializeOwned>(
        &self,
        bytes: &[u8],
        role: Role,
        named: &VersionedFile,
        cap: u64,
    ) -> Result<T, Refusal> {
        let file = SignedFile::parse_checked(bytes, &named.file, cap, role)?;
        file.verify(self.state.root(), role)
    }

    fn not_before(&self, role: Role, offered: u64) -> Result<(), Refusal> {
        let seen = self.state.seen(role);
        if offered < seen { Err(Refusal::Rollback { role, offered, seen }) } else { Ok(()) }
    }
}

fn same_version(role: Role, named: &VersionedFile, actual: u64) -> Result<(), Refusal> {
    if actual == named.version {
        Ok(())
    } else {
        Err(Refusal::WrongVersion { role, expected: named.version, actual })
    }
}

/// A target's file, and what was signed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFile {
    /// Its path in the repository.
    pub path: String,
    /// Its length and digest.
    pub meta: FileMeta,
}

/// A vendor's repository, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor {
    state: State,
    timestamp: TimestampRole,
    snapshot: Snapshot,
    targets: Targets,
}

impl Vendor {
    /// What to remember.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// When each role's metadata expires.
    pub fn expiries(&self) -> [(Role, Timestamp); 4] {
        [
            (Role::Root, self.state.root().header.expires),
            (Role::Timestamp, self.timestamp.header.expires),
            (Role::Snapshot, self.snapshot.header.expires),
            (Role::Targets, self.targets.header.expires),
        ]
    }

    /// Whether something new may be installed at this time. It is never asked for what runs, nor for applying again after
    /// a reboot.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        self.state.check_time(now)?;
        self.expiries().into_iter().try_for_each(|(role, expires)| check_expiry(role, expires, now))
    }

    /// The file that says what is allowed for a kernel.
    pub fn kernel_file(&self, kernel: &KernelIdentity) -> Result<TargetFile, Refusal> {
        let name = TargetName::of_kernel(kernel.architecture, &kernel.build_id);
        let unknown = || Refusal::UnknownKernel(Box::new(kernel.clone()));
        let meta = self.targets.get(&name).ok_or_else(unknown)?;
        if meta.length > MAX_ALLOWANCE_BYTES {
            return Err(Refusal::TooLong { what: name.to_string(), limit: MAX_ALLOWANCE_BYTES });
        }
        let path = format!("{TARGETS}/{}", name.consistent_path(&meta.hashes.sha256));
        Ok(TargetFile { path, meta: meta.clone() })
    }

    /// Every target's file.
    pub fn target_files(&self) -> Result<Vec<TargetFile>, Refusal> {
        let file = |(name, meta): (&String, &FileMeta)| {
            let name = TargetName::parse(name)?;
            let path = format!("{TARGETS}/{}", name.consistent_path(&meta.hashes.sha256));
            Ok(TargetFile { path, meta: meta.clone() })
        };
        self.targets.targets.iter().map(file).collect()
    }

    /// What is allowed for all kernels: for whoever hands the repository on. `read` gets each target's path.
    pub fn all_allowances(
        &self,
        mut read: impl FnMut(&TargetFile) -> Option<Vec<u8>>,
    ) -> Result<Vec<KernelAllowance>, Refusal> {
        let files = self.target_files()?;
        let allowances = files.iter().map(|file| {
            let bytes = read(file).ok_or_else(|| Refusal::Missing(file.path.clone()))?;
            file.meta.check(&bytes, &file.path)?;
            let allowance = KernelAllowance::parse(&bytes)?;
            // By the name under which hosts look for it.
            self.allowance(&allowance.kernel, &bytes)
        });
        allowances.collect()
    }

    /// What is allowed for a kernel, from the bytes of its [`Vendor::kernel_file`].
    pub fn allowance(&self, kernel: &KernelIdentity, bytes: &[u8]) -> Result<KernelAllowance, Refusal> {
        let file = self.kernel_file(kernel)?;
        file.meta.check(bytes, &file.path)?;
        let allowance = KernelAllowance::parse(bytes)?;
        allowance.is_for(kernel)?;
        Ok(allowance)
    }
}
