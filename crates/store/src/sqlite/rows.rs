//! Rows to values. What does not fit is [`StoreError::Corrupt`]: no other program writes this database.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use livepatch_api::server::Report;
use livepatch_manifest::{Coverage, PatchManifest};
use livepatch_types::{Architecture, KernelIdentity, PatchVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::{MachineRecord, ReceivedReport, StoreError, StoredDocument, TokenRecord};

type Result<T> = std::result::Result<T, StoreError>;

pub(super) fn corrupt(error: impl Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

/// A text column through the checking constructor of its type.
pub(super) fn value<T: FromStr<Err: Display>>(row: &SqliteRow, column: &str) -> Result<T> {
    row.try_get::<&str, _>(column)?.parse().map_err(corrupt)
}

pub(super) fn value_if_any<T: FromStr<Err: Display>>(row: &SqliteRow, column: &str) -> Result<Option<T>> {
    row.try_get::<Option<&str>, _>(column)?.map(str::parse).transpose().map_err(corrupt)
}

pub(super) fn unsigned<T: TryFrom<i64, Error: Display>>(row: &SqliteRow, column: &str) -> Result<T> {
    row.try_get::<i64, _>(column)?.try_into().map_err(corrupt)
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Timestamp> {
    Timestamp::from_second(row.try_get(column)?).map_err(corrupt)
}

pub(super) fn time_if_any(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>> {
    row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_second).transpose().map_err(corrupt)
}

/// The word that serde has for a variant, as it stands in a text column.
pub(super) fn to_word<T: Serialize>(variant: &T) -> Result<String> {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(corrupt("a variant has no word")),
    }
}

pub(super) fn from_word<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(row.try_get(column)?)).map_err(corrupt)
}

pub(super) fn version(row: &SqliteRow) -> Result<PatchVersion> {
    let (major, minor): (i64, i64) = (row.try_get("major")?, row.try_get("minor")?);
    PatchVersion::parse(&format!("{major}.{minor}")).map_err(corrupt)
}

pub(super) fn manifest(row: &SqliteRow) -> Result<PatchManifest> {
    serde_json::from_str(row.try_get("manifest")?).map_err(corrupt)
}

pub(super) fn kernel(row: &SqliteRow) -> Result<KernelIdentity> {
    Ok(KernelIdentity {
        architecture: from_word::<Architecture>(row, "architecture")?,
        release: value(row, "release")?,
        build_id: value(row, "build_id")?,
    })
}

pub(super) fn token(row: &SqliteRow) -> Result<TokenRecord> {
    Ok(TokenRecord {
        name: row.try_get("name")?,
        tier: value(row, "tier")?,
        created: time(row, "created")?,
        expires: time_if_any(row, "expires")?,
        use_limit: row
            .try_get::<Option<i64>, _>("use_limit")?
            .map(u32::try_from)
            .transpose()
            .map_err(corrupt)?,
        uses: unsigned(row, "uses")?,
        revoked: time_if_any(row, "revoked")?,
    })
}

pub(super) fn machine(row: &SqliteRow) -> Result<MachineRecord> {
    let report = match time_if_any(row, "received")? {
        None => None,
        Some(received) => Some(ReceivedReport { received, report: report(row)? }),
    };
    Ok(MachineRecord {
        machine: value(row, "machine")?,
        tier: value(row, "tier")?,
        cohort: value_if_any(row, "cohort")?,
        enrolled: time(row, "enrolled")?,
        report,
    })
}

/// A row of `report_history`.
/// A cover in a column of JSON, if there is one.
pub(super) fn coverage(row: &SqliteRow, column: &str) -> Result<Option<Coverage>> {
    let body = row.try_get::<Option<&str>, _>(column)?;
    body.map(|body| serde_json::from_str(body).map_err(corrupt)).transpose()
}

pub(super) fn received_report(row: &SqliteRow) -> Result<ReceivedReport> {
    let report = serde_json::from_str(row.try_get("body")?).map_err(corrupt)?;
    Ok(ReceivedReport { received: time(row, "received")?, report })
}

fn report(row: &SqliteRow) -> Result<Report> {
    if let Some(body) = row.try_get::<Option<&str>, _>("body")? {
        return serde_json::from_str(body).map_err(corrupt);
    }
    Ok(Report {
        kernel: kernel(row)?,
        client_version: row.try_get("client_version")?,
        at: time(row, "at")?,
        check_state: from_word(row, "check_state")?,
        patch_state: from_word(row, "patch_state")?,
        patch_version: row
            .try_get::<Option<&str>, _>("patch_version")?
            .map(PatchVersion::parse)
            .transpose()
            .map_err(corrupt)?,
        error: row.try_get("error")?,
        event: None,
        machine: None,
    })
}

/// A row of `documents` joined with its kernel.
pub(super) fn document(row: &SqliteRow) -> Result<StoredDocument> {
    Ok(StoredDocument {
        kernel: kernel(row)?,
        tier: value(row, "tier")?,
        version: unsigned(row, "version")?,
        revision: unsigned(row, "document_revision")?,
        content_sha256: value(row, "content_sha256")?,
        issued: time(row, "issued")?,
        expires: time(row, "expires")?,
        body: row.try_get("body")?,
    })
}
