//! `livepatch-build trust`.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use jiff::SignedDuration;
use livepatch_manifest::{Bundle, VendorFiles, sha256};
use livepatch_modsig::{verify_detached, verify_module};
use livepatch_transparency::{BundleEvent, Entry, LoggedProof};
use livepatch_trust::{KernelAllowance, KeyId, Kind, RepositoryName, Role, TargetName, Targets};
use livepatch_types::{Architecture, BuildId, Clock, PatchVersion, plural};

use super::edit::{self, Rotation, Term};
use super::error::TrustError;
use super::key::{self, MetadataKey};
use super::repository::{self, Repository, Verified};
use super::show;
use crate::cli::{Format, Shown, json, parse_bundle, signing_error};
use crate::error::ExitCode;
use crate::files::{read, write};
use crate::signing::read_certificate;
use crate::token::{PinSource, TokenKey};

/// For how long vendors' and operators' metadata stands, unless told otherwise.
const DEFAULT_DAYS: i64 = 365;

/// Commands on repositories.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Make a key for signing metadata: NAME.key.pem and NAME.pub.pem
    Keygen {
        /// Directory to write to
        directory: PathBuf,
        /// Name of the key
        #[arg(long)]
        name: String,
    },
    /// Make a repository, whose first root (and a vendor's first targets) then wait for signatures in DIR/staged
    Init(InitArguments),
    /// Sign a file of DIR/staged. The file can be on any host; bring it back, or to whoever signs next
    Sign(SignArguments),
    /// Release what is staged and signed by enough keys; for a vendor, with a new snapshot and timestamp
    Release(ReleaseArguments),
    /// Stage a root that changes the keys of a role
    Rotate(RotateArguments),
    /// Stage the same root or targets with a later expiry. Snapshot and timestamp are renewed by `release`
    Renew(RenewArguments),
    /// Stage targets that allow a signed bundle's module on its kernel
    Allow(AllowArguments),
    /// Stage targets that withdraw a livepatch for good
    Withdraw(KernelChange),
    /// Stage targets by which no livepatch below this one is installed any more
    Lowest(KernelChange),
    /// Put what the repository says of a bundle's kernel into the bundle, for `livepatch apply --bundle`
    Attach(AttachArguments),
    /// Check a repository as a host does, with every file. Exits with 0, or with 7
    Verify(LookArguments),
    /// Show keys, versions, what is allowed, and what waits for signatures
    Show(LookArguments),
}

/// For how long.
#[derive(Debug, clap::Args)]
struct TermArguments {
    /// For how many days it stands
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_DAYS, value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: i64,
}

impl TermArguments {
    fn term(&self, clock: &dyn Clock) -> Term {
        let now = clock.now();
        // Metadata has whole seconds.
        let issued = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
        let expires = issued.checked_add(SignedDuration::from_hours(24 * self.days));
        Term { issued, expires: expires.unwrap_or(jiff::Timestamp::MAX) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindChoice {
    Vendor,
    Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleChoice {
    Root,
    Targets,
    Snapshot,
    Timestamp,
    Documents,
    Assignments,
}

impl From<RoleChoice> for Role {
    fn from(role: RoleChoice) -> Self {
        match role {
            RoleChoice::Root => Self::Root,
            RoleChoice::Targets => Self::Targets,
            RoleChoice::Snapshot => Self::Snapshot,
            RoleChoice::Timestamp => Self::Timestamp,
            RoleChoice::Documents => Self::Documents,
            RoleChoice::Assignments => Self::Assignments,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArguments {
    /// Directory to make
    directory: PathBuf,
    /// Name of the repository: for a vendor, its distribution and series, as in debian-12-6.1
    #[arg(long)]
    name: RepositoryName,
    /// Whose repository it is
    #[arg(long, value_enum, default_value = "vendor")]
    kind: KindChoice,
    /// Public key of the root role; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    root_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: usize,
    /// Vendor: public key of the targets role; may be given several times
    #[arg(long, value_name = "FILE", required_if_eq("kind", "vendor"))]
    targets_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    targets_threshold: usize,
    /// Vendor: public key of snapshot and timestamp; may be given several times, one signs
    #[arg(long, value_name = "FILE", required_if_eq("kind", "vendor"))]
    release_key: Vec<PathBuf>,
    /// Operator: public key that signs kernel documents; may be given several times, one signs
    #[arg(long, value_name = "FILE", required_if_eq("kind", "operator"))]
    documents_key: Vec<PathBuf>,
    /// Operator: public key that signs assignments of hosts; may be given several times, one signs
    #[arg(long, value_name = "FILE", required_if_eq("kind", "operator"))]
    assignments_key: Vec<PathBuf>,
    #[command(flatten)]
    term: TermArguments,
}

/// Who signs.
#[derive(Debug, Clone, clap::Args)]
struct SignerArguments {
    /// Private key (PEM: Ed25519, or ECDSA on P-256), which only its owner may read
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Sign with an ECDSA key on P-256 in a token instead: the token maker's PKCS#11 library
    #[arg(long, value_name = "LIBRARY", conflicts_with = "key", requires_all = ["token", "key_label", "public", "pin"])]
    pkcs11: Option<PathBuf>,
    /// Label of the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    token: Option<String>,
    /// Label of the private key in the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    key_label: Option<String>,
    /// Public key (PEM) of the token's key
    #[arg(long, value_name = "FILE", requires = "pkcs11")]
    public: Option<PathBuf>,
    /// File with the token's PIN, which only its owner may read
    #[arg(long, value_name = "FILE", requires = "pkcs11", group = "pin")]
    pin_file: Option<PathBuf>,
    /// Open file descriptor to read the token's PIN from, as in `--pin-fd 3 3< <(get-pin)`
    #[arg(long, value_name = "NUMBER", requires = "pkcs11", group = "pin")]
    pin_fd: Option<u32>,
}

impl SignerArguments {
    fn open(&self) -> Result<Option<MetadataKey>, TrustError> {
        let Self { key, pkcs11, token, key_label, public, pin_file, pin_fd } = self.clone();
        let pin = pin_file.map(PinSource::File).or(pin_fd.map(PinSource::Descriptor));
        match (key, pkcs11.zip(token).zip(key_label).zip(public).zip(pin)) {
            (Some(key), _) => MetadataKey::open(&key).map(Some),
            (None, Some(((((library, token), key), public), pin))) => {
                MetadataKey::in_token(&TokenKey { library, token, key }, &pin, &public).map(Some)
            }
            (None, None) => Ok(None),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct SignArguments {
    /// The file, which then has one signature more
    file: PathBuf,
    #[command(flatten)]
    signer: SignerArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArguments {
    /// The repository
    directory: PathBuf,
    #[command(flatten)]
    signer: SignerArguments,
    #[command(flatten)]
    term: TermArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateArguments {
    /// The repository
    directory: PathBuf,
    /// The role
    #[arg(long, value_enum)]
    role: RoleChoice,
    /// Public key that it gets; may be given several times
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// Public key that it loses; may be given several times
    #[arg(long, value_name = "FILE")]
    remove: Vec<PathBuf>,
    /// Key that it loses, by its id; may be given several times
    #[arg(long, value_name = "ID")]
    remove_id: Vec<KeyId>,
    /// How many must sign from then on [default: as many as before]
    #[arg(long, value_name = "N")]
    threshold: Option<usize>,
    #[command(flatten)]
    term: TermArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Renewed {
    Root,
    Targets,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RenewArguments {
    /// The repository
    directory: PathBuf,
    /// What to renew
    #[arg(long, value_enum)]
    role: Renewed,
    #[command(flatten)]
    term: TermArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AllowArguments {
    /// The repository
    directory: PathBuf,
    /// The bundle, signed
    bundle: PathBuf,
    /// Certificate (PEM or DER) of the key that signed it
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    #[command(flatten)]
    term: TermArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArguments {
    /// The repository
    directory: PathBuf,
    /// The bundle, whose module the repository allows
    bundle: PathBuf,
    /// The proof that it is in a transparency log, from `livepatch-server log prove`, for hosts with the key of that log
    #[arg(long, value_name = "FILE")]
    logged: Option<PathBuf>,
    /// File to write instead of the bundle's own
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KernelChange {
    /// The repository
    directory: PathBuf,
    /// The livepatch
    version: PatchVersion,
    /// Build-id of the kernel
    #[arg(long, value_name = "BUILD-ID")]
    kernel: BuildId,
    #[command(flatten)]
    term: TermArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LookArguments {
    /// The repository
    directory: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl From<TrustError> for Shown {
    fn from(error: TrustError) -> Self {
        let hint = error.hint();
        let code = match &error {
            TrustError::File(_) => ExitCode::Environment,
            TrustError::Asked(_) => ExitCode::Usage,
            _ => ExitCode::Signing,
        };
        Self { hint, code, ..signing_error(error, "") }
    }
}

/// Runs a command.
pub(crate) fn run(command: &TrustCommand, clock: &dyn Clock) -> Result<String, Shown> {
    match command {
        TrustCommand::Keygen { directory, name } => {
            let (public, [private_path, public_path]) = key::generate(directory, name)?;
            Ok(format!(
                "wrote {} (keep it secret) and {}\n  key id  {}\n",
                private_path.display(),
                public_path.display(),
                public.id()
            ))
        }
        TrustCommand::Init(arguments) => init(arguments, clock),
        TrustCommand::Sign(arguments) => sign(arguments),
        TrustCommand::Release(arguments) => {
            let key = arguments.signer.open()?;
            let repository = Repository::open(&arguments.directory)?;
            let released = repository.release(key.as_ref(), arguments.term.term(clock))?;
            let released = if released.is_empty() { "nothing new".to_owned() } else { released.join(", ") };
            Ok(format!("released {released}\n"))
        }
        TrustCommand::Rotate(arguments) => rotate(arguments, clock),
        TrustCommand::Renew(arguments) => renew(arguments, clock),
        TrustCommand::Allow(arguments) => allow(arguments, clock),
        TrustCommand::Withdraw(change) => change_kernel(change, clock, edit::withdraw),
        TrustCommand::Lowest(change) => {
            change_kernel(change, clock, |allowance, version| allowance.lowest = Some(version))
        }
        TrustCommand::Attach(arguments) => attach(arguments, clock),
        TrustCommand::Verify(arguments) => verify(arguments, clock),
        TrustCommand::Show(arguments) => {
            let shown = show::Shown::of(&Repository::open(&arguments.directory)?, clock.now())?;
            Ok(if arguments.format == Format::Json { json(&shown) } else { shown.text() })
        }
    }
}

fn publics(paths: &[PathBuf]) -> Result<Vec<livepatch_trust::PublicKey>, TrustError> {
    paths.iter().map(|path| key::read_public(path)).collect()
}

fn init(arguments: &InitArguments, clock: &dyn Clock) -> Result<String, Shown> {
    let term = arguments.term.term(clock);
    let mut roles = vec![(Role::Root, publics(&arguments.root_key)?, arguments.root_threshold)];
    match arguments.kind {
        KindChoice::Vendor => {
            roles.push((Role::Targets, publics(&arguments.targets_key)?, arguments.targets_threshold));
            roles.push((Role::Snapshot, publics(&arguments.release_key)?, 1));
            roles.push((Role::Timestamp, publics(&arguments.release_key)?, 1));
        }
        KindChoice::Operator => {
            roles.push((Role::Documents, publics(&arguments.documents_key)?, 1));
            roles.push((Role::Assignments, publics(&arguments.assignments_key)?, 1));
        }
    }
    let root = edit::first_root(arguments.name.clone(), roles, term)?;
    let repository = Repository::init(&arguments.directory, &root, term)?;
    let mut text = format!("made {}\n", arguments.directory.display());
    text.push_str(&staged_text(&repository, Role::Root));
    if root.kind() == Kind::Vendor {
        text.push_str(&staged_text(&repository, Role::Targets));
    }
    Ok(text)
}

fn staged_text(repository: &Repository, role: Role) -> String {
    format!("staged {}; next: livepatch-build trust sign\n", repository.staged_path(role).display())
}

fn sign(arguments: &SignArguments) -> Result<String, Shown> {
    let key = arguments.signer.open()?;
    let key = key.ok_or_else(|| TrustError::Asked("it is not said which key signs".into()))?;
    // The largest cap: which role it is stands inside.
    let mut file = repository::read_file(&arguments.file, Role::Targets)?;
    let (role, header) = repository::role_of(&file)?;
    match role {
        Role::Root => {
            repository::content::<livepatch_trust::Root>(&file, role)?.check().map_err(TrustError::from)?
        }
        Role::Targets => repository::content::<Targets>(&file, role)?.check().map_err(TrustError::from)?,
        _ => return Err(TrustError::Asked(format!("{role} metadata is signed by `trust release`")).into()),
    }
    key.sign(&mut file)?;
    write(&arguments.file, &file.to_bytes())?;
    let digest = file.content_sha256().map_err(TrustError::from)?;
    Ok(format!(
        "signed {role} version {} of {}, expires {}\n  key id   {}\n  content  {digest}\n",
        header.version,
        header.issued,
        header.expires,
        key.public().id()
    ))
}

fn rotate(arguments: &RotateArguments, clock: &dyn Clock) -> Result<String, Shown> {
    let repository = Repository::open(&arguments.directory)?;
    let mut root = repository.root_to_change(arguments.term.term(clock))?;
    let mut remove = arguments.remove_id.clone();
    remove.extend(publics(&arguments.remove)?.iter().map(livepatch_trust::PublicKey::id));
    let (role, threshold) = (arguments.role.into(), arguments.threshold);
    edit::rotate(&mut root, &Rotation { role, add: publics(&arguments.add)?, remove, threshold })?;
    repository.check_revoked(&root)?;
    repository.stage(Role::Root, &root)?;
    Ok(staged_text(&repository, Role::Root))
}

fn renew(arguments: &RenewArguments, clock: &dyn Clock) -> Result<String, Shown> {
    let repository = Repository::open(&arguments.directory)?;
    let term = arguments.term.term(clock);
    let role = match arguments.role {
        Renewed::Root => {
            repository.stage(Role::Root, &repository.root_to_change(term)?)?;
            Role::Root
        }
        Renewed::Targets => {
            repository.stage(Role::Targets, &repository.targets_to_change(term)?)?;
            Role::Targets
        }
    };
    Ok(staged_text(&repository, role))
}

fn allow(arguments: &AllowArguments, clock: &dyn Clock) -> Result<String, Shown> {
    let bundle = parse_bundle(&arguments.bundle)?;
    let certificate = read_certificate(&arguments.certificate)
        .map_err(|error| signing_error(error, "give the certificate of the key that signed the bundle"))?;
    let sign = "sign the bundle first: livepatch-build sign";
    let trusted = std::slice::from_ref(&certificate);
    verify_module(&bundle.module, trusted).map_err(|error| signing_error(error, sign))?;
    let signature = bundle.signature.as_deref().unwrap_or_default();
    verify_detached(&bundle.manifest_bytes, signature, trusted)
        .map_err(|error| signing_error(error, sign))?;

    let repository = Repository::open(&arguments.directory)?;
    let mut targets = repository.targets_to_change(arguments.term.term(clock))?;
    let kernel = bundle.manifest.kernel.clone();
    let name = TargetName::of_kernel(kernel.architecture, &kernel.build_id);
    let known = repository.allowance(&targets, &name)?;
    let mut allowance = known.unwrap_or_else(|| KernelAllowance::empty(kernel));
    edit::allow(&mut allowance, &bundle, &certificate.key_id_hex())?;
    stage_allowance(&repository, &mut targets, &allowance)
}

fn attach(arguments: &AttachArguments, clock: &dyn Clock) -> Result<String, Shown> {
    let bundle = parse_bundle(&arguments.bundle)?;
    let (version, kernel) = (bundle.manifest.version, bundle.manifest.kernel.clone());
    let (vendor, carried) = Repository::open(&arguments.directory)?.files_for(&kernel)?;
    // What no host would take is not handed out.
    let allowed = carried.allowance.listed(&kernel, version);
    allowed.and_then(|patch| patch.module.check(&bundle.module, "the module")).map_err(TrustError::from)?;
    vendor.check_time(clock.now()).map_err(TrustError::from)?;
    let until = vendor.expiries().into_iter().map(|(_, expires)| expires).min();
    let files = VendorFiles::new(carried.files);
    let bundle = files.and_then(|files| bundle.with_vendor(&files)).map_err(|error| {
        let smaller = "the metadata does not go into a bundle: give the hosts a server, or a newer root";
        signing_error(error, smaller)
    })?;
    let bundle = match &arguments.logged {
        Some(file) => with_logged(bundle, file)?,
        None => bundle,
    };
    let output = arguments.output.as_ref().unwrap_or(&arguments.bundle);
    write(output, &bundle.to_bytes())?;
    let until = until.map(|until| format!(", until {until}")).unwrap_or_default();
    Ok(format!(
        "wrote {}: livepatch {version} with what {} says of {}{until}\n",
        output.display(),
        vendor.state().root().repository,
        kernel.release
    ))
}

/// The bundle with its proof, which must speak of it. Whose log it is, is for hosts to verify.
fn with_logged(bundle: Bundle, file: &Path) -> Result<Bundle, Shown> {
    let again = "make it anew: livepatch-server log prove";
    let bytes = read(file)?;
    let proof = LoggedProof::parse(&bytes);
    let spoken_of =
        proof.and_then(|proof| Entry::parse(&proof.entry)?.check_bundle(proof.index, &published(&bundle)));
    spoken_of.map_err(|error| signing_error(error, again))?;
    bundle.with_logged(bytes).map_err(|error| signing_error(error, again))
}

/// What stands in the log of a bundle.
fn published(bundle: &Bundle) -> BundleEvent {
    let manifest = &bundle.manifest;
    BundleEvent {
        name: manifest.version.module_name().to_string(),
        version: manifest.version,
        kernel: manifest.kernel.clone(),
        manifest_sha256: sha256(&bundle.manifest_bytes),
        module_sha256: manifest.module.sha256,
    }
}

fn change_kernel(
    change: &KernelChange,
    clock: &dyn Clock,
    edit: impl FnOnce(&mut KernelAllowance, PatchVersion),
) -> Result<String, Shown> {
    let repository = Repository::open(&change.directory)?;
    let mut targets = repository.targets_to_change(change.term.term(clock))?;
    let name = TargetName::of_kernel(Architecture::Amd64, &change.kernel);
    let allowance = repository.allowance(&targets, &name)?;
    let mut allowance = allowance
        .ok_or_else(|| TrustError::Asked(format!("nothing is said about the kernel {}", change.kernel)))?;
    edit(&mut allowance, change.version);
    stage_allowance(&repository, &mut targets, &allowance)
}

fn stage_allowance(
    repository: &Repository,
    targets: &mut Targets,
    allowance: &KernelAllowance,
) -> Result<String, Shown> {
    let (name, bytes) = edit::set_allowance(targets, allowance);
    repository.write_target(targets, &name, &bytes)?;
    repository.stage(Role::Targets, targets)?;
    Ok(staged_text(repository, Role::Targets))
}

fn verify(arguments: &LookArguments, clock: &dyn Clock) -> Result<String, Shown> {
    let repository = Repository::open(&arguments.directory)?;
    let (what, time, versions, kernels) = match repository.verify()? {
        Verified::Vendor(vendor, kernels) => {
            let versions = vendor.expiries().map(|(role, _)| (role, vendor.state().seen(role))).to_vec();
            (
                vendor.state().root().repository.clone(),
                vendor.check_time(clock.now()),
                versions,
                kernels.len(),
            )
        }
        Verified::Operator(state) => {
            let versions = vec![(Role::Root, state.seen(Role::Root))];
            (state.root().repository.clone(), state.check_time(clock.now()), versions, 0)
        }
    };
    time.map_err(TrustError::from)?;
    let versions: Vec<_> = versions.iter().map(|(role, version)| format!("{role} {version}")).collect();
    Ok(match arguments.format {
        Format::Json => {
            json(&serde_json::json!({ "repository": what, "versions": versions, "kernels": kernels }))
        }
        Format::Text => {
            format!("{what} is right: {}; {}\n", versions.join(", "), plural(kernels, "kernel", "kernels"))
        }
    })
}
