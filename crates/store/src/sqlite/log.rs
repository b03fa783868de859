//! The transparency log in SQLite.

use std::ops::Range;

use jiff::Timestamp;
use livepatch_manifest::sha256;
use livepatch_transparency::{
    BundleEvent, Entry, Event, Frontier, KeyEvent, ReleaseEvent, WithdrawalEvent, leaf_hash, subtrees,
};
use livepatch_types::Sha256Digest;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, query};

use super::{Result, SqliteStore, rows, signed};
use crate::{SignedHead, TransparencyLog};

/// A row as the entry about it.
type AsEntry = fn(&SqliteRow) -> Result<Entry>;

/// Events as their tables have them, with `log_position`.
const BUNDLES: &str =
    "SELECT p.id, p.log_position, p.major, p.minor, p.manifest, p.module_sha256, p.published,
    k.architecture, k.release, k.build_id FROM patches p JOIN kernels k USING (build_id)";
const RELEASES: &str =
    "SELECT c.rowid AS id, c.log_position, c.tier, c.released, p.major, p.minor, p.manifest, p.build_id
    FROM channels c JOIN patches p ON p.id = c.patch_id JOIN tiers t ON t.name = c.tier";
const WITHDRAWALS: &str = "SELECT w.rowid AS id, w.log_position, w.major, w.minor, w.at FROM withdrawn w";
const KEYS: &str =
    "SELECT k.id, k.log_position, k.purpose, k.name, k.version, k.sha256, k.believed FROM keys k";

fn bundle(row: &SqliteRow) -> Result<Entry> {
    let version = rows::version(row)?;
    let bundle = BundleEvent {
        name: version.module_name().to_string(),
        version,
        kernel: rows::kernel(row)?,
        manifest_sha256: sha256(row.try_get::<&str, _>("manifest")?.as_bytes()),
        module_sha256: rows::value(row, "module_sha256")?,
    };
    Ok(Entry::new(rows::time(row, "published")?, Event::Bundle(bundle)))
}

fn release(row: &SqliteRow) -> Result<Entry> {
    let release = ReleaseEvent {
        version: rows::version(row)?,
        build_id: rows::value(row, "build_id")?,
        manifest_sha256: sha256(row.try_get::<&str, _>("manifest")?.as_bytes()),
        tier: rows::value(row, "tier")?,
    };
    Ok(Entry::new(rows::time(row, "released")?, Event::Release(release)))
}

fn withdrawal(row: &SqliteRow) -> Result<Entry> {
    let withdrawal = WithdrawalEvent { version: rows::version(row)? };
    Ok(Entry::new(rows::time(row, "at")?, Event::Withdrawal(withdrawal)))
}

fn key(row: &SqliteRow) -> Result<Entry> {
    let key = KeyEvent {
        purpose: rows::from_word(row, "purpose")?,
        name: row.try_get("name")?,
        version: rows::unsigned(row, "version")?,
        sha256: rows::value(row, "sha256")?,
    };
    Ok(Entry::new(rows::time(row, "believed")?, Event::Key(key)))
}

fn hash(row: &SqliteRow) -> Result<Sha256Digest> {
    let bytes = <[u8; 32]>::try_from(row.try_get::<&[u8], _>("sha256")?);
    Ok(Sha256Digest::from_bytes(bytes.map_err(rows::corrupt)?))
}

async fn size(connection: &mut SqliteConnection) -> Result<u64> {
    let row =
        query("SELECT coalesce(max(position) + 1, 0) AS size FROM log_entries").fetch_one(connection).await?;
    rows::unsigned(&row, "size")
}

async fn hashes(
    connection: &mut SqliteConnection,
    height: u8,
    range: Range<u64>,
) -> Result<Vec<Sha256Digest>> {
    let rows = query(
        "SELECT sha256 FROM log_hashes WHERE height = ? AND position >= ? AND position < ? ORDER BY position",
    )
    .bind(i64::from(height))
    .bind(signed(range.start))
    .bind(signed(range.end))
    .fetch_all(connection)
    .await?;
    rows.iter().map(hash).collect()
}

/// Adds an entry at the end; where it is. The caller's transaction holds the event, too.
pub(super) async fn append(connection: &mut SqliteConnection, entry: &Entry) -> Result<i64> {
    let bytes = entry.to_bytes().map_err(rows::corrupt)?;
    let size = size(connection).await?;
    let mut edge = Vec::new();
    for part in subtrees(0..size) {
        edge.extend(hashes(connection, part.height, part.index..part.index + 1).await?);
    }
    let mut frontier = Frontier::new(size, edge).map_err(rows::corrupt)?;
    query("INSERT INTO log_entries (position, entry) VALUES (?, ?)")
        .bind(signed(size))
        .bind(&bytes)
        .execute(&mut *connection)
        .await?;
    for (part, hash) in frontier.append(leaf_hash(&bytes)) {
        query("INSERT INTO log_hashes (height, position, sha256) VALUES (?, ?, ?)")
            .bind(i64::from(part.height))
            .bind(signed(part.index))
            .bind(hash.as_bytes().as_slice())
            .execute(&mut *connection)
            .await?;
    }
    Ok(signed(size))
}

/// Events of tables that are older than the log get their entries, once.
pub(super) async fn log_what_was_before(store: &SqliteStore) -> Result<()> {
    let older = query(
        "SELECT 1 FROM (SELECT log_position FROM patches UNION ALL SELECT log_position FROM channels
             UNION ALL SELECT log_position FROM withdrawn) WHERE log_position IS NULL LIMIT 1",
    );
    if older.fetch_optional(&store.writer).await?.is_none() {
        return Ok(());
    }
    let mut transaction = store.write().await?;
    let older: [(&str, &str, &str, AsEntry); 3] = [
        (
            BUNDLES,
            "p.log_position IS NULL ORDER BY p.published, p.id",
            "patches SET log_position = ? WHERE id",
            bundle,
        ),
        (
            RELEASES,
            "c.log_position IS NULL ORDER BY c.released, c.patch_id, t.position",
            "channels SET log_position = ? WHERE rowid",
            release,
        ),
        (
            WITHDRAWALS,
            "w.log_position IS NULL ORDER BY w.at, w.major, w.minor",
            "withdrawn SET log_position = ? WHERE rowid",
            withdrawal,
        ),
    ];
    for (select, condition, update, entry) in older {
        let select = sqlx::AssertSqlSafe(format!("{select} WHERE {condition}"));
        for row in query(select).fetch_all(&mut *transaction).await? {
            let position = append(&mut transaction, &entry(&row)?).await?;
            query(sqlx::AssertSqlSafe(format!("UPDATE {update} = ?")))
                .bind(position)
                .bind(row.try_get::<i64, _>("id")?)
                .execute(&mut *transaction)
                .await?;
        }
    }
    Ok(transaction.commit().await?)
}

#[async_trait::async_trait]
impl TransparencyLog for SqliteStore {
    async fn log_key(&self, key: &KeyEvent, at: Timestamp) -> Result<bool> {
        let mut transaction = self.write().await?;
        let purpose = rows::to_word(&key.purpose)?;
        let last =
            query("SELECT version, sha256 FROM keys WHERE purpose = ? AND name = ? ORDER BY id DESC LIMIT 1")
                .bind(&purpose)
                .bind(&key.name)
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some(row) = last
            && rows::unsigned::<u64>(&row, "version")? == key.version
            && rows::value::<Sha256Digest>(&row, "sha256")? == key.sha256
        {
            return Ok(false);
        }
        let position = append(&mut transaction, &Entry::new(at, Event::Key(key.clone()))).await?;
        query(
            "INSERT INTO keys (purpose, name, version, sha256, believed, log_position) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&purpose)
        .bind(&key.name)
        .bind(signed(key.version))
        .bind(key.sha256.to_string())
        .bind(at.as_second())
        .bind(position)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn log_size(&self) -> Result<u64> {
        size(&mut *self.readers.acquire().await?).await
    }

    async fn log_entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>> {
        let rows =
            query("SELECT entry FROM log_entries WHERE position >= ? AND position < ? ORDER BY position")
                .bind(signed(range.start))
                .bind(signed(range.end))
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(|row| Ok(row.try_get("entry")?)).collect()
    }

    async fn log_hashes(&self, height: u8, range: Range<u64>) -> Result<Vec<Sha256Digest>> {
        hashes(&mut *self.readers.acquire().await?, height, range).await
    }

    async fn bundle_position(&self, module: &Sha256Digest) -> Result<Option<u64>> {
        let row = query(
            "SELECT log_position FROM patches WHERE module_sha256 = ? ORDER BY log_position DESC LIMIT 1",
        )
        .bind(module.to_string())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| rows::unsigned(&row, "log_position")).transpose()
    }

    async fn logged_events(&self) -> Result<Vec<(u64, Entry)>> {
        let mut snapshot = self.readers.begin().await?;
        let mut events = Vec::new();
        let tables: [(&str, AsEntry); 4] =
            [(BUNDLES, bundle), (RELEASES, release), (WITHDRAWALS, withdrawal), (KEYS, key)];
        for (select, entry) in tables {
            for row in &query(select).fetch_all(&mut *snapshot).await? {
                events.push((rows::unsigned(row, "log_position")?, entry(row)?));
            }
        }
        events.sort_by_key(|(position, _)| *position);
        Ok(events)
    }

    async fn last_head(&self) -> Result<Option<SignedHead>> {
        let row = query("SELECT size, root, note FROM log_heads ORDER BY size DESC, rowid DESC LIMIT 1")
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(head).transpose()
    }

    async fn heads(&self) -> Result<Vec<SignedHead>> {
        let rows = query("SELECT size, root, note FROM log_heads ORDER BY size, rowid")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(head).collect()
    }

    async fn save_head(&self, head: &SignedHead) -> Result<()> {
        query("INSERT INTO log_heads (size, root, note) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(signed(head.size))
            .bind(head.root.to_string())
            .bind(&head.note)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

fn head(row: &SqliteRow) -> Result<SignedHead> {
    Ok(SignedHead {
        size: rows::unsigned(row, "size")?,
        root: rows::value(row, "root")?,
        note: row.try_get("note")?,
    })
}

/// Changes a database as somebody does who can write its file: without foreign keys and triggers.
#[cfg(any(test, feature = "stories"))]
pub(crate) async fn change_database(path: &std::path::Path, statements: &str) -> Result<()> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).foreign_keys(false);
    let pool = sqlx::SqlitePool::connect_with(options).await?;
    for row in query("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetch_all(&pool).await? {
        let name: String = row.try_get("name")?;
        query(sqlx::AssertSqlSafe(format!("DROP TRIGGER {name}"))).execute(&pool).await?;
    }
    for statement in statements.split(';') {
        query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await?;
    }
    pool.close().await;
    Ok(())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
