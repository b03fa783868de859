//! Lists of machines and of what they said.

use jiff::Timestamp;
use livepatch_store::{MachineRecord, ReceivedReport, Store as _};
use livepatch_types::Sha256Digest;
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::Format;
use crate::health::Health;
use crate::output::{list, or_dash};
use crate::{DataDir, Failure};

const SHORTEST_BEGINNING: usize = 4;
const LISTED: &str = "`livepatch-server machine list --format json` shows their whole names";

pub(crate) async fn list_machines(
    data: &DataDir,
    unhealthy: bool,
    format: Format,
    now: Timestamp,
) -> Result<(), Failure> {
    let machines = data.with_store(async |store| Ok(store.machines().await?)).await?;
    let machines: Vec<(MachineRecord, Health)> = machines
        .into_iter()
        .map(|machine| {
            let health = Health::of(machine.report.as_ref(), now);
            (machine, health)
        })
        .filter(|(_, health)| !unhealthy || health.is_unhealthy())
        .collect();
    let rows: Vec<_> = machines
        .iter()
        .map(|(machine, health)| {
            let said = machine.report.as_ref().map(|received| &received.report);
            vec![
                machine.machine.to_string().chars().take(12).collect(),
                machine.tier.to_string(),
                or_dash(machine.cohort.clone()),
                or_dash(said.map(|report| report.kernel.release.clone())),
                health.word().to_owned(),
                or_dash(said.map(|report| word(report.patch_state))),
                or_dash(said.and_then(|report| report.patch_version)),
                or_dash(machine.report.as_ref().map(|received| received.received)),
                or_dash(said.and_then(|report| report.error.clone())),
            ]
        })
        .collect();
    let objects = machines
        .iter()
        .map(|(machine, health)| {
            json!({
                "machine": machine.machine, "tier": machine.tier, "cohort": machine.cohort, "enrolled": machine.enrolled,
                "health": health.word(),
                "reported": machine.report.as_ref().map(|received| received.received),
                "report": machine.report.as_ref().map(|received| &received.report),
            })
        })
        .collect();
    let head = ["machine", "tier", "cohort", "kernel", "health", "state", "patch", "reported", "error"];
    list(format, &head, &rows, objects)
}

pub(crate) async fn show(data: &DataDir, beginning: &str, format: Format) -> Result<(), Failure> {
    let reports = data
        .with_store(async |store| {
            let machine = machine_that_begins_with(&store.machines().await?, beginning)?;
            Ok(store.reports(&machine).await?)
        })
        .await?;
    let row = |ReceivedReport { received, report }: &ReceivedReport| {
        vec![
            received.to_string(),
            or_dash(report.event.as_ref().map(|event| event.phase.word())),
            report.kernel.release.to_string(),
            word(report.patch_state),
            or_dash(report.patch_version),
            or_dash(report.event.as_ref().map(|event| event.dropped).filter(|dropped| *dropped > 0)),
            or_dash(report.error.clone()),
        ]
    };
    let object = |ReceivedReport { received, report }: &ReceivedReport| json!({ "received": received, "report": report });
    let rows: Vec<_> = reports.iter().map(row).collect();
    let head = ["received", "phase", "kernel", "state", "patch", "dropped", "error"];
    list(format, &head, &rows, reports.iter().map(object).collect())
}

/// The one machine that begins so.
fn machine_that_begins_with(machines: &[MachineRecord], beginning: &str) -> Result<Sha256Digest, Failure> {
    if beginning.len() < SHORTEST_BEGINNING {
        return Err(Failure::refused(format!("{beginning:?} is too short to be one machine"))
            .hint(format!("give at least {SHORTEST_BEGINNING} digits; {LISTED}")));
    }
    let mut found = machines.iter().filter(|machine| machine.machine.to_string().starts_with(beginning));
    match (found.next(), found.next()) {
        (Some(machine), None) => Ok(machine.machine),
        (None, _) => Err(Failure::refused(format!("there is no machine {beginning:?}")).hint(LISTED)),
        (Some(_), Some(_)) => {
            Err(Failure::refused(format!("more than one machine begins with {beginning}")).hint(LISTED))
        }
    }
}

/// The word that serde has for a variant.
fn word(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(Value::String(word)) => word,
        _ => "-".to_owned(),
    }
}
