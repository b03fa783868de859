//! What machines said: the latest as columns, by which machines are counted, and the last ones as they were sent.

use jiff::Timestamp;
use livepatch_api::server::Report;
use livepatch_types::Sha256Digest;
use sqlx::query;
use sqlx::sqlite::SqliteConnection;

use super::{Result, rows};
use crate::{MAX_REPORTS_OF_A_MACHINE, MachineRecord, ReceivedReport, SavedReport};

pub(super) async fn save(
    connection: &mut SqliteConnection,
    machine: &Sha256Digest,
    report: &Report,
    received: Timestamp,
) -> Result<SavedReport> {
    let body = serde_json::to_string(report).map_err(rows::corrupt)?;
    let added = query(
        "INSERT INTO report_history (machine, id, received, body) VALUES (?, ?, ?, ?)
         ON CONFLICT (machine, id) DO NOTHING",
    )
    .bind(machine.to_string())
    .bind(report.event.as_ref().map(|event| event.id.to_string()))
    .bind(received.as_second())
    .bind(&body)
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(SavedReport::Known);
    }
    query(
        "DELETE FROM report_history WHERE machine = ?1 AND number <=
             (SELECT number FROM report_history WHERE machine = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(machine.to_string())
    .bind(MAX_REPORTS_OF_A_MACHINE)
    .execute(&mut *connection)
    .await?;
    query(
        "INSERT INTO reports (machine, received, architecture, release, build_id, client_version, at,
             check_state, patch_state, patch_version, error, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (machine) DO UPDATE SET received = excluded.received, architecture = excluded.architecture,
             release = excluded.release, build_id = excluded.build_id, client_version = excluded.client_version,
             at = excluded.at, check_state = excluded.check_state, patch_state = excluded.patch_state,
             patch_version = excluded.patch_version, error = excluded.error, body = excluded.body",
    )
    .bind(machine.to_string())
    .bind(received.as_second())
    .bind(rows::to_word(&report.kernel.architecture)?)
    .bind(report.kernel.release.as_str())
    .bind(report.kernel.build_id.to_string())
    .bind(&report.client_version)
    .bind(report.at.as_second())
    .bind(rows::to_word(&report.check_state)?)
    .bind(rows::to_word(&report.patch_state)?)
    .bind(report.patch_version.map(|version| version.to_string()))
    .bind(&report.error)
    .bind(&body)
    .execute(&mut *connection)
    .await?;
    Ok(SavedReport::New)
}

pub(super) async fn of_machine(
    connection: &mut SqliteConnection,
    machine: &Sha256Digest,
) -> Result<Vec<ReceivedReport>> {
    let rows = query("SELECT received, body FROM report_history WHERE machine = ? ORDER BY number DESC")
        .bind(machine.to_string())
        .fetch_all(connection)
        .await?;
    rows.iter().map(rows::received_report).collect()
}

pub(super) async fn machines(connection: &mut SqliteConnection) -> Result<Vec<MachineRecord>> {
    let rows = query(
        "SELECT m.machine, m.tier, m.cohort, m.enrolled, r.received, r.architecture, r.release, r.build_id,
                r.client_version, r.at, r.check_state, r.patch_state, r.patch_version, r.error, r.body
         FROM machines m LEFT JOIN reports r USING (machine) ORDER BY m.machine",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(rows::machine).collect()
}
