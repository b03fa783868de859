//! The store in a SQLite file. One connection writes, a few read; other processes may do the same at the same time
//! (WAL), so that admin commands work while the server runs.

pub(crate) mod log;
mod reports;
mod rows;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use livepatch_api::server::Report;
use livepatch_manifest::{Coverage, sha256};
use livepatch_transparency::{BundleEvent, Entry, Event, ReleaseEvent, WithdrawalEvent};
use livepatch_types::{BuildId, Cohort, HostId, KernelIdentity, PatchVersion, Sha256Digest, Tier};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row as _, SqlSafeStr as _, Transaction, query};
use subtle::ConstantTimeEq as _;

use crate::{
    DocumentFacts, DocumentState, Enrolment, KernelRecord, MachineRecord, NewPatch, NewToken, PatchRecord,
    PresentedToken, Published, ReceivedReport, Release, SavedReport, Store, StoreError, StoredDocument,
    TokenRecord,
};

type Result<T> = std::result::Result<T, StoreError>;

/// Version, name and text of each migration. Add below, never change.
const MIGRATIONS: [(i64, &str, &str); 6] = [
    (1, "initial", include_str!("../../migrations/0001_initial.sql")),
    (2, "transparency log", include_str!("../../migrations/0002_transparency_log.sql")),
    (3, "report history", include_str!("../../migrations/0003_report_history.sql")),
    (4, "coverage", include_str!("../../migrations/0004_coverage.sql")),
    (5, "cohorts", include_str!("../../migrations/0005_cohorts.sql")),
    (6, "poll hint", include_str!("../../migrations/0006_poll_hint.sql")),
];

/// How long to wait for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

/// [`Store`] in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Makes a new database.
    pub async fn create(path: &Path) -> Result<Self> {
        Self::connect(path, true).await
    }

    /// Opens a database and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        Self::connect(path, false).await
    }

    async fn connect(path: &Path, create: bool) -> Result<Self> {
        let options =
            SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
        // FULL, not NORMAL: a power cut must not take back a document version that a host has seen.
        let writing = options
            .clone()
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(writing).await?;
        Migrator::with_migrations(migrations()).run(&writer).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(options.read_only(true));
        let store = Self { writer, readers };
        log::log_what_was_before(&store).await?;
        Ok(store)
    }

    /// Closes all connections; what is in the write-ahead log goes into the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Takes the write lock at once: a transaction that reads first and writes later could fail half-way.
    async fn write(&self) -> Result<Transaction<'static, sqlx::Sqlite>> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn migrations() -> Vec<Migration> {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    MIGRATIONS.map(migration).to_vec()
}

async fn tiers(connection: &mut SqliteConnection) -> Result<Vec<Tier>> {
    let rows = query("SELECT name FROM tiers ORDER BY position").fetch_all(connection).await?;
    rows.iter().map(|row| rows::value(row, "name")).collect()
}

async fn check_tier(connection: &mut SqliteConnection, tier: &Tier) -> Result<()> {
    let known = tiers(connection).await?;
    if known.contains(tier) {
        return Ok(());
    }
    Err(StoreError::UnknownTier { tier: tier.clone(), known: known.iter().map(Tier::to_string).collect() })
}

async fn is_withdrawn(connection: &mut SqliteConnection, version: PatchVersion) -> Result<bool> {
    let row = query("SELECT 1 FROM withdrawn WHERE major = ? AND minor = ?")
        .bind(version.major())
        .bind(version.minor())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// Whether a stored digest is the presented one; takes the same time wherever they differ.
fn same_secret(row: &SqliteRow, presented: &PresentedToken) -> Result<bool> {
    let stored: Sha256Digest = rows::value(row, "token_sha256")?;
    Ok(stored.as_bytes().ct_eq(presented.sha256.as_bytes()).into())
}

/// Finds the patch or adds it; its row and whether it is new.
async fn add_patch(connection: &mut SqliteConnection, patch: &NewPatch) -> Result<(i64, bool)> {
    let NewPatch { manifest, .. } = patch;
    let (version, kernel) = (manifest.version, &manifest.kernel);
    let known = query("SELECT architecture, release, build_id FROM kernels WHERE build_id = ?")
        .bind(kernel.build_id.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    match known.as_ref().map(rows::kernel).transpose()? {
        Some(known) if known != *kernel => {
            return Err(StoreError::OtherRelease { known: known.release, stated: kernel.release.clone() });
        }
        Some(_) => {}
        None => {
            query("INSERT INTO kernels (build_id, architecture, release) VALUES (?, ?, ?)")
                .bind(kernel.build_id.to_string())
                .bind(rows::to_word(&kernel.architecture)?)
                .bind(kernel.release.as_str())
                .execute(&mut *connection)
                .await?;
        }
    }
    let there = query(
        "SELECT id, module_sha256, manifest FROM patches WHERE major = ? AND minor = ? AND build_id = ?",
    )
    .bind(version.major())
    .bind(version.minor())
    .bind(kernel.build_id.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = there {
        let other =
            |difference| StoreError::OtherPatch { version, kernel: kernel.release.clone(), difference };
        if rows::value::<Sha256Digest>(&row, "module_sha256")? != manifest.module.sha256 {
            return Err(other("another module"));
        }
        if row.try_get::<&str, _>("manifest")? != patch.manifest_text {
            return Err(other("another manifest"));
        }
        return Ok((row.try_get("id")?, false));
    }
    let size = i64::try_from(manifest.module.size_bytes)
        .map_err(|_| StoreError::Corrupt("a module is larger than any file".into()))?;
    let bundle = BundleEvent {
        name: version.module_name().to_string(),
        version,
        kernel: kernel.clone(),
        manifest_sha256: sha256(patch.manifest_text.as_bytes()),
        module_sha256: manifest.module.sha256,
    };
    let position = log::append(connection, &Entry::new(patch.at, Event::Bundle(bundle))).await?;
    let row = query(
        "INSERT INTO patches (major, minor, build_id, module_sha256, module_size_bytes, manifest, signature, published,
             log_position)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(version.major())
    .bind(version.minor())
    .bind(kernel.build_id.to_string())
    .bind(manifest.module.sha256.to_string())
    .bind(size)
    .bind(&patch.manifest_text)
    .bind(&patch.signature)
    .bind(patch.at.as_second())
    .bind(position)
    .fetch_one(connection)
    .await?;
    Ok((row.try_get("id")?, true))
}

async fn stored_document(
    connection: &mut SqliteConnection,
    build_id: &BuildId,
    tier: &Tier,
) -> Result<Option<StoredDocument>> {
    let row = query(
        "SELECT d.tier, d.version, d.revision AS document_revision, d.content_sha256, d.issued, d.expires, d.body,
                k.architecture, k.release, k.build_id
         FROM documents d JOIN kernels k USING (build_id) WHERE d.build_id = ? AND d.tier = ?",
    )
    .bind(build_id.to_string())
    .bind(tier.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(rows::document).transpose()
}

/// The kernel and the revision of its facts; none when kernel or tier are unknown.
async fn known_kernel(
    connection: &mut SqliteConnection,
    build_id: &BuildId,
    tier: &Tier,
) -> Result<Option<(KernelIdentity, u64)>> {
    let row = query(
        "SELECT k.architecture, k.release, k.build_id, k.revision
         FROM kernels k, tiers t WHERE k.build_id = ? AND t.name = ?",
    )
    .bind(build_id.to_string())
    .bind(tier.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((rows::kernel(&row)?, rows::unsigned(&row, "revision")?))).transpose()
}

async fn coverage_of(connection: &mut SqliteConnection, build_id: &BuildId) -> Result<Option<Coverage>> {
    let row = query("SELECT body FROM coverage WHERE build_id = ?")
        .bind(build_id.to_string())
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(None), |row| rows::coverage(&row, "body"))
}

async fn poll_hint_seconds(connection: &mut SqliteConnection) -> Result<Option<u32>> {
    let row = query("SELECT seconds FROM poll_hint").fetch_optional(connection).await?;
    row.map(|row| rows::unsigned(&row, "seconds")).transpose()
}

/// All documents are looked at again.
async fn touch_documents(connection: &mut SqliteConnection) -> Result<()> {
    query("UPDATE kernels SET revision = revision + 1").execute(connection).await?;
    Ok(())
}

/// SQLite's integers are signed; versions and revisions count up from 1 and never come near the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn tiers(&self) -> Result<Vec<Tier>> {
        tiers(&mut *self.readers.acquire().await?).await
    }

    async fn create_token(&self, token: &NewToken) -> Result<()> {
        let mut transaction = self.write().await?;
        check_tier(&mut transaction, &token.tier).await?;
        let added = query(
            "INSERT INTO tokens (id, name, sha256, tier, created, expires, use_limit) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(token.token.id.as_str())
        .bind(&token.name)
        .bind(token.token.sha256.to_string())
        .bind(token.tier.as_str())
        .bind(token.created.as_second())
        .bind(token.expires.map(Timestamp::as_second))
        .bind(token.use_limit)
        .execute(&mut *transaction)
        .await?;
        if added.rows_affected() == 0 {
            return Err(StoreError::TokenExists(token.name.clone()));
        }
        Ok(transaction.commit().await?)
    }

    async fn tokens(&self) -> Result<Vec<TokenRecord>> {
        let rows = query("SELECT * FROM tokens ORDER BY name").fetch_all(&self.readers).await?;
        rows.iter().map(rows::token).collect()
    }

    async fn revoke_token(&self, name: &str, at: Timestamp) -> Result<()> {
        let revoked = query("UPDATE tokens SET revoked = coalesce(revoked, ?) WHERE name = ?")
            .bind(at.as_second())
            .bind(name)
            .execute(&self.writer)
            .await?;
        if revoked.rows_affected() == 0 { Err(StoreError::UnknownToken) } else { Ok(()) }
    }

    async fn enrol(&self, enrolment: &Enrolment) -> Result<Tier> {
        let mut transaction = self.write().await?;
        let row = query("SELECT *, sha256 AS token_sha256 FROM tokens WHERE id = ?")
            .bind(enrolment.token.id.as_str())
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or(StoreError::UnknownToken)?;
        let token = rows::token(&row)?;
        if !same_secret(&row, &enrolment.token)? || token.revoked.is_some() {
            return Err(StoreError::UnknownToken);
        }
        if token.expires.is_some_and(|expires| enrolment.at >= expires) {
            return Err(StoreError::TokenExpired);
        }
        let again = query("SELECT 1 FROM machines WHERE machine = ? AND enrolled_with = ?")
            .bind(enrolment.machine.to_string())
            .bind(enrolment.token.id.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        if again.is_none() {
            if token.use_limit.is_some_and(|limit| token.uses >= limit) {
                return Err(StoreError::TokenExhausted);
            }
            query("UPDATE tokens SET uses = uses + 1 WHERE id = ?")
                .bind(enrolment.token.id.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        query(
            "INSERT INTO machines (machine, token_id, token_sha256, enrolled_with, tier, enrolled, host, cohort)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (machine) DO UPDATE SET token_id = excluded.token_id, token_sha256 = excluded.token_sha256,
                 enrolled_with = excluded.enrolled_with, tier = excluded.tier, enrolled = excluded.enrolled,
                 host = excluded.host, cohort = excluded.cohort",
        )
        .bind(enrolment.machine.to_string())
        .bind(enrolment.machine_token.id.as_str())
        .bind(enrolment.machine_token.sha256.to_string())
        .bind(enrolment.token.id.as_str())
        .bind(token.tier.as_str())
        .bind(enrolment.at.as_second())
        .bind(enrolment.host.to_string())
        .bind(enrolment.cohort.as_ref().map(Cohort::as_str))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(token.tier)
    }

    async fn set_cohort(
        &self,
        machine: &Sha256Digest,
        host: &HostId,
        cohort: Option<&Cohort>,
    ) -> Result<Tier> {
        let row = query("UPDATE machines SET cohort = ? WHERE machine = ? AND host = ? RETURNING tier")
            .bind(cohort.map(Cohort::as_str))
            .bind(machine.to_string())
            .bind(host.to_string())
            .fetch_optional(&self.writer)
            .await?;
        rows::value(&row.ok_or(StoreError::OtherHost)?, "tier")
    }

    async fn machine_of(&self, token: &PresentedToken) -> Result<Option<Sha256Digest>> {
        let row = query("SELECT machine, token_sha256 FROM machines WHERE token_id = ?")
            .bind(token.id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        match row {
            Some(row) if same_secret(&row, token)? => Ok(Some(rows::value(&row, "machine")?)),
            _ => Ok(None),
        }
    }

    async fn save_report(
        &self,
        machine: &Sha256Digest,
        report: &Report,
        received: Timestamp,
    ) -> Result<SavedReport> {
        let mut transaction = self.write().await?;
        let saved = reports::save(&mut transaction, machine, report, received).await?;
        transaction.commit().await?;
        Ok(saved)
    }

    async fn reports(&self, machine: &Sha256Digest) -> Result<Vec<ReceivedReport>> {
        reports::of_machine(&mut *self.readers.acquire().await?, machine).await
    }

    async fn machines(&self) -> Result<Vec<MachineRecord>> {
        reports::machines(&mut *self.readers.acquire().await?).await
    }

    async fn publish(&self, patch: &NewPatch) -> Result<Published> {
        let mut transaction = self.write().await?;
        check_tier(&mut transaction, &patch.tier).await?;
        if is_withdrawn(&mut transaction, patch.manifest.version).await? {
            return Err(StoreError::Withdrawn(patch.manifest.version));
        }
        let (id, new) = add_patch(&mut transaction, patch).await?;
        let there = query("SELECT 1 FROM channels WHERE tier = ? AND patch_id = ?")
            .bind(patch.tier.as_str())
            .bind(id)
            .fetch_optional(&mut *transaction)
            .await?;
        if there.is_some() {
            return Ok(Published::Unchanged);
        }
        let release = ReleaseEvent {
            version: patch.manifest.version,
            build_id: patch.manifest.kernel.build_id.clone(),
            manifest_sha256: sha256(patch.manifest_text.as_bytes()),
            tier: patch.tier.clone(),
        };
        let position = log::append(&mut transaction, &Entry::new(patch.at, Event::Release(release))).await?;
        query("INSERT INTO channels (tier, patch_id, released, log_position) VALUES (?, ?, ?, ?)")
            .bind(patch.tier.as_str())
            .bind(id)
            .bind(patch.at.as_second())
            .bind(position)
            .execute(&mut *transaction)
            .await?;
        query("UPDATE kernels SET revision = revision + 1 WHERE build_id = ?")
            .bind(patch.manifest.kernel.build_id.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(if new { Published::New } else { Published::AddedToTier })
    }

    async fn patches(&self) -> Result<Vec<PatchRecord>> {
        let mut snapshot = self.readers.begin().await?;
        let releases = query(
            "SELECT c.patch_id, c.tier, c.released FROM channels c JOIN tiers t ON t.name = c.tier ORDER BY t.position",
        )
        .fetch_all(&mut *snapshot)
        .await?;
        let mut by_patch: std::collections::HashMap<i64, Vec<Release>> = std::collections::HashMap::new();
        for row in &releases {
            let release = Release { tier: rows::value(row, "tier")?, released: rows::time(row, "released")? };
            by_patch.entry(row.try_get("patch_id")?).or_default().push(release);
        }
        let rows = query(
            "SELECT p.id, p.manifest, p.published, w.at AS withdrawn
             FROM patches p LEFT JOIN withdrawn w USING (major, minor) JOIN kernels k USING (build_id)
             ORDER BY p.major DESC, p.minor DESC, k.release, p.build_id",
        )
        .fetch_all(&mut *snapshot)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PatchRecord {
                    manifest: rows::manifest(row)?,
                    published: rows::time(row, "published")?,
                    releases: by_patch.remove(&row.try_get("id")?).unwrap_or_default(),
                    withdrawn: rows::time_if_any(row, "withdrawn")?,
                })
            })
            .collect()
    }

    async fn withdraw(&self, version: PatchVersion, at: Timestamp) -> Result<Vec<KernelIdentity>> {
        let mut transaction = self.write().await?;
        let kernels = query(
            "SELECT k.architecture, k.release, k.build_id FROM patches p JOIN kernels k USING (build_id)
             WHERE p.major = ? AND p.minor = ? ORDER BY k.release, k.build_id",
        )
        .bind(version.major())
        .bind(version.minor())
        .fetch_all(&mut *transaction)
        .await?;
        if kernels.is_empty() {
            return Err(StoreError::UnknownVersion(version));
        }
        if !is_withdrawn(&mut transaction, version).await? {
            let withdrawal = Event::Withdrawal(WithdrawalEvent { version });
            let position = log::append(&mut transaction, &Entry::new(at, withdrawal)).await?;
            query("INSERT INTO withdrawn (major, minor, at, log_position) VALUES (?, ?, ?, ?)")
                .bind(version.major())
                .bind(version.minor())
                .bind(at.as_second())
                .bind(position)
                .execute(&mut *transaction)
                .await?;
            query(
                "UPDATE kernels SET revision = revision + 1
                 WHERE build_id IN (SELECT build_id FROM patches WHERE major = ? AND minor = ?)",
            )
            .bind(version.major())
            .bind(version.minor())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        kernels.iter().map(rows::kernel).collect()
    }

    async fn kernels(&self) -> Result<Vec<KernelRecord>> {
        let mut snapshot = self.readers.begin().await?;
        // What the vendor states about a build-id counts, not what a machine says about it.
        let kernels = query(
            "WITH seen AS (
                 SELECT build_id, architecture, release FROM kernels
                 UNION ALL
                 SELECT build_id, min(architecture), min(release) FROM reports
                 WHERE build_id NOT IN (SELECT build_id FROM kernels) GROUP BY build_id
             )
             SELECT s.build_id, s.architecture, s.release,
                    (SELECT count(*) FROM reports r WHERE r.build_id = s.build_id) AS machines, c.body AS coverage
             FROM seen s LEFT JOIN coverage c USING (build_id) ORDER BY s.release, s.build_id",
        )
        .fetch_all(&mut *snapshot)
        .await?;
        let targets = query(
            "SELECT p.build_id, c.tier, p.major, p.minor
             FROM channels c JOIN patches p ON p.id = c.patch_id JOIN tiers t ON t.name = c.tier
             WHERE (p.major, p.minor) NOT IN (SELECT major, minor FROM withdrawn)
             ORDER BY p.build_id, t.position, p.major DESC, p.minor DESC",
        )
        .fetch_all(&mut *snapshot)
        .await?;
        let mut newest: std::collections::HashMap<BuildId, Vec<(Tier, PatchVersion)>> =
            std::collections::HashMap::new();
        for row in &targets {
            let (build_id, tier) = (rows::value(row, "build_id")?, rows::value(row, "tier")?);
            let of_kernel = newest.entry(build_id).or_default();
            if of_kernel.last().is_none_or(|(last, _)| *last != tier) {
                of_kernel.push((tier, rows::version(row)?));
            }
        }
        kernels
            .iter()
            .map(|row| {
                let kernel = rows::kernel(row)?;
                let targets = newest.remove(&kernel.build_id).unwrap_or_default();
                let (machines, coverage) =
                    (rows::unsigned(row, "machines")?, rows::coverage(row, "coverage")?);
                Ok(KernelRecord { kernel, machines, targets, coverage })
            })
            .collect()
    }

    async fn set_coverage(&self, build_id: &BuildId, coverage: Option<&Coverage>) -> Result<()> {
        let mut transaction = self.write().await?;
        let known = query("UPDATE kernels SET revision = revision + 1 WHERE build_id = ?")
            .bind(build_id.to_string())
            .execute(&mut *transaction)
            .await?;
        if known.rows_affected() == 0 {
            return Err(StoreError::UnknownKernel(build_id.clone()));
        }
        query("DELETE FROM coverage WHERE build_id = ?")
            .bind(build_id.to_string())
            .execute(&mut *transaction)
            .await?;
        if let Some(coverage) = coverage {
            query("INSERT INTO coverage (build_id, body) VALUES (?, ?)")
                .bind(build_id.to_string())
                .bind(serde_json::to_string(coverage).map_err(rows::corrupt)?)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn module_size_bytes(&self, module: &Sha256Digest) -> Result<Option<u64>> {
        let row = query(
            "SELECT module_size_bytes FROM patches
             WHERE module_sha256 = ? AND (major, minor) NOT IN (SELECT major, minor FROM withdrawn) LIMIT 1",
        )
        .bind(module.to_string())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| rows::unsigned(&row, "module_size_bytes")).transpose()
    }

    async fn touch_documents(&self) -> Result<()> {
        let mut transaction = self.write().await?;
        touch_documents(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn set_poll_hint(&self, seconds: Option<u32>) -> Result<()> {
        let mut transaction = self.write().await?;
        query("DELETE FROM poll_hint").execute(&mut *transaction).await?;
        if let Some(seconds) = seconds {
            query("INSERT INTO poll_hint (only, seconds) VALUES (1, ?)")
                .bind(seconds)
                .execute(&mut *transaction)
                .await?;
        }
        touch_documents(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn poll_hint_seconds(&self) -> Result<Option<u32>> {
        poll_hint_seconds(&mut *self.readers.acquire().await?).await
    }

    async fn document(&self, build_id: &BuildId, tier: &Tier) -> Result<Option<DocumentState>> {
        let mut snapshot = self.readers.begin().await?;
        let Some((_, revision)) = known_kernel(&mut snapshot, build_id, tier).await? else {
            return Ok(None);
        };
        Ok(Some(DocumentState { revision, stored: stored_document(&mut snapshot, build_id, tier).await? }))
    }

    async fn document_facts(&self, build_id: &BuildId, tier: &Tier) -> Result<Option<DocumentFacts>> {
        let mut snapshot = self.readers.begin().await?;
        let Some((kernel, revision)) = known_kernel(&mut snapshot, build_id, tier).await? else {
            return Ok(None);
        };
        let target = query(
            "SELECT p.manifest, c.released FROM channels c JOIN patches p ON p.id = c.patch_id
             WHERE c.tier = ? AND p.build_id = ? AND (p.major, p.minor) NOT IN (SELECT major, minor FROM withdrawn)
             ORDER BY p.major DESC, p.minor DESC LIMIT 1",
        )
        .bind(tier.as_str())
        .bind(build_id.to_string())
        .fetch_optional(&mut *snapshot)
        .await?;
        let target =
            target.map(|row| Ok::<_, StoreError>((rows::manifest(&row)?, rows::time(&row, "released")?)));
        let withdrawn = query(
            "SELECT major, minor FROM withdrawn JOIN patches USING (major, minor)
             WHERE build_id = ? ORDER BY major, minor",
        )
        .bind(build_id.to_string())
        .fetch_all(&mut *snapshot)
        .await?;
        Ok(Some(DocumentFacts {
            kernel,
            revision,
            target: target.transpose()?,
            withdrawn: withdrawn.iter().map(rows::version).collect::<Result<_>>()?,
            coverage: coverage_of(&mut snapshot, build_id).await?,
            poll_hint_seconds: poll_hint_seconds(&mut snapshot).await?,
            stored: stored_document(&mut snapshot, build_id, tier).await?,
        }))
    }

    async fn save_document(
        &self,
        document: &StoredDocument,
        previous: Option<&StoredDocument>,
    ) -> Result<bool> {
        let mut transaction = self.write().await?;
        let stored = stored_document(&mut transaction, &document.kernel.build_id, &document.tier).await?;
        if stored.as_ref() != previous {
            return Ok(false);
        }
        query(
            "INSERT INTO documents (build_id, tier, version, revision, content_sha256, issued, expires, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (build_id, tier) DO UPDATE SET version = excluded.version, revision = excluded.revision,
                 content_sha256 = excluded.content_sha256, issued = excluded.issued, expires = excluded.expires,
                 body = excluded.body",
        )
        .bind(document.kernel.build_id.to_string())
        .bind(document.tier.as_str())
        .bind(signed(document.version))
        .bind(signed(document.revision))
        .bind(document.content_sha256.to_string())
        .bind(document.issued.as_second())
        .bind(document.expires.as_second())
        .bind(&document.body)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }
}
