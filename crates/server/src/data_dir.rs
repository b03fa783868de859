use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use livepatch_store::{ObjectStore, SqliteStore};

use crate::{Exit, Failure, KnownKernels, OperatorKey, Repositories, Support};

/// What is where in a data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Speaks of a directory without looking at it.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A directory that `init` has finished.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let data = Self::new(root);
        match std::fs::metadata(data.operator_key()) {
            Ok(_) => Ok(data),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let path = root.display();
                Err(Failure::new(Exit::Setup, anyhow::anyhow!("{path} is not a data directory"))
                    .hint(format!("make one with `livepatch-server init --data {path}`")))
            }
            Err(error) => Err(Failure::new(Exit::Setup, error)
                .context(format!("cannot open the data directory {}", root.display()))
                .hint("run as the user that the data directory belongs to")),
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("server.sqlite")
    }
    /// Module files.
    pub fn objects_dir(&self) -> PathBuf {
        self.root.join("objects")
    }
    /// Certificates of trusted vendors.
    pub fn vendor_dir(&self) -> PathBuf {
        self.root.join("vendors")
    }
    /// Copies of vendors' repositories, by name, and of the operator's root.
    pub fn repositories_dir(&self) -> PathBuf {
        self.root.join("repositories")
    }
    /// The private key that signs documents (PKCS#8 PEM). It is there last: with it the directory is complete.
    pub fn operator_key(&self) -> PathBuf {
        self.root.join("operator.key")
    }
    /// Its public half, for hosts.
    pub fn operator_public_key(&self) -> PathBuf {
        self.root.join("operator.pub")
    }
    /// The key that takes the place of the signing key when a root of the operator's names it.
    pub fn next_operator_key(&self) -> PathBuf {
        self.root.join("operator-next.key")
    }
    /// Its public half, for the root.
    pub fn next_operator_public_key(&self) -> PathBuf {
        self.root.join("operator-next.pub")
    }
    /// The log's name and key, for those who verify what the log says.
    pub fn log_key(&self) -> PathBuf {
        self.root.join("log.vkey")
    }
    /// The certificate authority that `init` made, for hosts.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca.pem")
    }
    /// The server's certificate.
    pub fn tls_certificate(&self) -> PathBuf {
        self.root.join("tls.crt")
    }
    /// Its private key.
    pub fn tls_key(&self) -> PathBuf {
        self.root.join("tls.key")
    }

    /// The index of kernels.
    pub fn known_kernels_file(&self) -> PathBuf {
        self.root.join("kernels.json")
    }

    /// What the operator covers, if that was said here.
    pub fn support_file(&self) -> PathBuf {
        self.root.join("support.json")
    }

    /// Opens the database. Who opens it closes it.
    pub async fn store(&self) -> Result<SqliteStore, Failure> {
        Ok(SqliteStore::open(&self.database()).await?)
    }

    /// Opens the database for some work and closes it after, whatever came of the work: a process that ends with the
    /// database open can leave a write-ahead log, and who then copies the one file copies half of what was written.
    pub async fn with_store<T>(
        &self,
        work: impl AsyncFnOnce(&SqliteStore) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let store = self.store().await?;
        let done = work(&store).await;
        store.close().await;
        done
    }
    /// The module files.
    pub fn objects(&self) -> ObjectStore {
        ObjectStore::new(&self.objects_dir())
    }
    /// The repositories that are served.
    pub fn repositories(&self) -> Repositories {
        Repositories::new(&self.repositories_dir())
    }
    /// Where kernels were published.
    pub fn known_kernels(&self) -> KnownKernels {
        KnownKernels::new(self.known_kernels_file())
    }
    /// What the operator covers.
    pub fn support(&self) -> Support {
        Support::new(self.support_file())
    }
    /// Reads the signing key.
    pub fn key(&self) -> Result<OperatorKey, Failure> {
        read_key(&self.operator_key())
    }
    /// Reads the key that is to take its place, if there is one.
    pub fn next_key(&self) -> Result<Option<OperatorKey>, Failure> {
        let path = self.next_operator_key();
        if path.exists() { read_key(&path).map(Some) } else { Ok(None) }
    }
}

fn read_key(path: &Path) -> Result<OperatorKey, Failure> {
    OperatorKey::read(path).map_err(|error| {
        Failure::new(Exit::Setup, error)
            .context(format!("cannot use {}", path.display()))
            .hint("the file must be an Ed25519 key that this program made, with mode 600")
    })
}

/// Reads a file that has `limit` bytes at most.
pub(crate) fn read_capped(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let named = |failure: Failure| failure.context(format!("cannot read {}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| named(Failure::new(Exit::Refused, error)))?;
    if bytes.len() as u64 > limit {
        return Err(named(Failure::refused(format!("it is longer than the {limit} bytes that it may have"))));
    }
    Ok(bytes)
}

/// The directory of a file; the current one of a bare name.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file wholly or not at all, in place of what was there.
pub(crate) fn write_over(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let directory = directory_of(path);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| {
        Failure::new(Exit::Failed, error).context(format!("cannot write {}", path.display()))
    })
}

/// Writes a file that was not there, wholly or not at all, readable by its owner alone.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let directory = directory_of(path);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| {
        Failure::new(Exit::Failed, error).context(format!("cannot write {}", path.display()))
    })
}
