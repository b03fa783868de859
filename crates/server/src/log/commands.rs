//! `livepatch-server log`.

use std::path::Path;

use jiff::Timestamp;
use livepatch_store::{SqliteStore, TransparencyLog as _};
use livepatch_transparency::{BundleEvent, Entry, Event, LogKey};
use serde::Serialize;
use serde_json::{Value, json};

use super::verify::verify;
use crate::arguments::{Format, Log};
use crate::output::{list, print};
use crate::{DataDir, Exit, Failure, log};

/// Entries that are read at a time.
const PAGE: u64 = 256;

/// Commands that work on the data directory.
pub(crate) async fn run(data: &DataDir, command: Log, now: Timestamp) -> Result<(), Failure> {
    data.with_store(async |store| match command {
        Log::Show { from, list } => show(store, from, list.format).await,
        Log::Verify(how) => verify_all(data, store, how.format).await,
        Log::Prove { bundle, list } => prove(data, store, &bundle, list.format, now).await,
        // These need no data directory.
        Log::Check { .. } | Log::Watch(_) => Ok(()),
    })
    .await
}

/// The word that serde has for a variant.
pub(crate) fn word(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(Value::String(word)) => word,
        _ => "-".to_owned(),
    }
}

/// Kind of an event, and what it is about, for people.
fn in_words(event: &Event) -> [String; 2] {
    match event {
        Event::Bundle(bundle) => [
            "bundle".into(),
            format!("{} for {} ({})", bundle.version, bundle.kernel.release, bundle.kernel.build_id),
        ],
        Event::Release(release) => [
            "release".into(),
            format!("{} for {} in tier {}", release.version, release.build_id, release.tier),
        ],
        Event::Withdrawal(withdrawal) => ["withdrawal".into(), withdrawal.version.to_string()],
        Event::Key(key) => {
            let version = if key.version > 0 { format!(" version {}", key.version) } else { String::new() };
            ["key".into(), format!("{} {}{version} (SHA-256 {})", word(key.purpose), key.name, key.sha256)]
        }
    }
}

/// A row and an object of a listing.
pub(crate) fn row(position: u64, bytes: &[u8]) -> (Vec<String>, Value) {
    // An entry of a later program is shown as it is.
    let value = serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
    let at = value["at"].as_str().unwrap_or("-").to_owned();
    let [kind, about] = Entry::parse(bytes).map_or_else(
        |_| ["unknown".into(), String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()],
        |entry| in_words(&entry.event),
    );
    (vec![position.to_string(), at, kind, about], json!({ "position": position, "entry": value }))
}

/// Prints entries.
pub(crate) fn print_entries(
    format: Format,
    entries: impl Iterator<Item = (u64, Vec<u8>)>,
) -> Result<(), Failure> {
    let (rows, objects): (Vec<_>, Vec<_>) = entries.map(|(position, bytes)| row(position, &bytes)).unzip();
    list(format, &["entry", "at", "event", "about"], &rows, objects)
}

async fn show(store: &SqliteStore, from: u64, format: Format) -> Result<(), Failure> {
    let size = store.log_size().await?;
    let mut entries = Vec::new();
    let mut first = from;
    while first < size {
        entries.extend((first..).zip(store.log_entries(first..first.saturating_add(PAGE)).await?));
        first = first.saturating_add(PAGE);
    }
    print_entries(format, entries.into_iter())
}

async fn verify_all(data: &DataDir, store: &SqliteStore, format: Format) -> Result<(), Failure> {
    let known = log::known_key(data)?.ok_or_else(|| {
        Failure::new(Exit::Setup, anyhow::anyhow!("this data directory is older than the log"))
            .hint("start the server once: that begins the log")
    })?;
    let key = LogKey::new(known.name(), *data.key()?.public().as_bytes())
        .map_err(|refusal| Failure::new(Exit::Setup, refusal))?;
    let verified = verify(data, store, &key).await?;
    let right = verified.findings.is_empty();
    match format {
        Format::Json => print(&format!(
            "{:#}\n",
            json!({
                "log": key.name(), "entries": verified.entries, "root": verified.root, "heads": verified.heads,
                "findings": verified.findings,
            })
        ))?,
        Format::Text if right => print(&format!(
            "the log {} is right\n  entries  {}\n  root     {}\n  heads    {} signed\n",
            key.name(),
            verified.entries,
            verified.root,
            verified.heads
        ))?,
        Format::Text => {
            print(&verified.findings.iter().map(|finding| format!("{finding}\n")).collect::<String>())?;
        }
    }
    if right {
        return Ok(());
    }
    Err(Failure::refused(format!("the log {} is not right", key.name())).hint(
        "keep a copy of the data directory as it is, and find out who changed it; do not publish meanwhile",
    ))
}

async fn prove(
    data: &DataDir,
    store: &SqliteStore,
    wanted: &str,
    format: Format,
    now: Timestamp,
) -> Result<(), Failure> {
    let events = store.logged_events().await?;
    let bundles: Vec<(u64, &BundleEvent)> = events
        .iter()
        .filter_map(|(position, entry)| match &entry.event {
            Event::Bundle(bundle) if is_named(bundle, wanted) => Some((*position, bundle)),
            _ => None,
        })
        .collect();
    let position = match bundles.as_slice() {
        [(position, _)] => *position,
        [] => {
            return Err(Failure::refused(format!("the log has no bundle {wanted:?}")).hint(
                "give a version, a name, or the SHA-256 of manifest or module; `log show` has them all",
            ));
        }
        several => {
            let refused = Failure::refused(format!("the log has {} bundles {wanted:?}", several.len()));
            return Err(several.iter().take(20).fold(refused, |refused, (_, bundle)| {
                refused.hint(format!("for {} give {}", bundle.kernel.release, bundle.module_sha256))
            }));
        }
    };
    let operator = data.key()?;
    let key = log::key(data, store, &operator, now).await?;
    let proof = log::prove(store, &operator, &key, position).await?;
    match format {
        Format::Text => print(&proof.to_text()),
        Format::Json => {
            let entry = serde_json::from_slice::<Value>(&proof.entry).unwrap_or(Value::Null);
            let object = json!({
                "entry": entry, "index": proof.index, "hashes": proof.hashes, "checkpoint": proof.note,
            });
            print(&format!("{object:#}\n"))
        }
    }
}

fn is_named(bundle: &BundleEvent, wanted: &str) -> bool {
    [
        bundle.name.clone(),
        bundle.version.to_string(),
        bundle.module_sha256.to_string(),
        bundle.manifest_sha256.to_string(),
    ]
    .iter()
    .any(|name| name == wanted)
}

/// Reads a log's key from a file.
pub(crate) fn read_key(path: &Path) -> Result<LogKey, Failure> {
    let named = |failure: Failure| {
        failure
            .context(format!("cannot use {}", path.display()))
            .hint("give the file log.vkey of the server's data directory, got by a way that you trust")
    };
    let bytes = crate::data_dir::read_capped(path, 4096).map_err(named)?;
    LogKey::parse(&String::from_utf8_lossy(&bytes))
        .map_err(|refusal| named(Failure::new(Exit::Refused, refusal)))
}
