//! Watching a log from elsewhere: its head is remembered, the next one must have grown out of it, and every entry in
//! between is read. Everything comes from a server that is not believed.

use std::path::Path;
use std::time::Duration;

use livepatch_transparency::{
    Checkpoint, Frontier, LogKey, MAX_ENTRIES_BYTES, MAX_NOTE_BYTES, Refusal, RememberedHead, Resource, Tile,
    Tiles, leaf_hash, read_entries,
};
use reqwest::StatusCode;

use super::commands::{print_entries, read_key};
use crate::arguments::Watch;
use crate::data_dir::{read_capped, write_over};
use crate::{Exit, Failure};

/// Most bytes of entries that are taken at a time.
const MAX_NEW_BYTES: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks once: prints the entries since the last time and remembers the head.
pub(crate) async fn watch(how: Watch) -> Result<(), Failure> {
    let key = read_key(&how.key)?;
    let former = how.former_key.as_deref().map(read_key).transpose()?;
    let remembered = remembered(&how.state, &key, former.as_ref())?;
    let log = RemoteLog::new(&how.url, how.ca.as_deref())?;
    let note = log.get("checkpoint", MAX_NOTE_BYTES).await?;
    let offered = RememberedHead::open(&note, &key).map_err(|refusal| refused(refusal, None))?;
    let against = |refusal| refused(refusal, Some((how.state.as_path(), note.as_slice())));
    let size = offered.checkpoint().size;

    let mut tiles = Tiles::new(size);
    let mut seen = 0;
    let accepted = match &remembered {
        None => offered,
        Some(known) => {
            seen = known.checkpoint().size;
            // A size that went back wants no tiles, and is refused below.
            let mut ranges = known.wanted(size);
            ranges.extend((size > seen).then_some(0..seen));
            for tile in tiles.wanted(&ranges) {
                let bytes = log.get(&tile.to_string(), tile.size_bytes()).await?;
                tiles.insert(tile, &bytes).map_err(against)?;
            }
            let proof = tiles.hashes(&known.wanted(size)).map_err(against)?;
            known.accept(offered, &proof).map_err(against)?
        }
    };
    let edge = if size > seen { tiles.subtree_hashes(0..seen).map_err(against)? } else { vec![] };
    let entries = if size > seen {
        new_entries(&log, seen, edge, accepted.checkpoint(), &against).await?
    } else {
        vec![]
    };
    // Remembered when everything was read and right, else it is read again the next time.
    print_entries(how.list.format, (seen..).zip(entries))?;
    write_over(&how.state, accepted.note())
}

fn remembered(path: &Path, key: &LogKey, former: Option<&LogKey>) -> Result<Option<RememberedHead>, Failure> {
    if !path.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let note = read_capped(path, MAX_NOTE_BYTES as u64)?;
    let opened = match (RememberedHead::open(&note, key), former) {
        (Err(Refusal::OtherSigner { .. }), Some(former)) => RememberedHead::open(&note, former),
        (opened, _) => opened,
    };
    opened.map(Some).map_err(|refusal| {
        Failure::new(Exit::Setup, refusal)
            .context(format!("cannot use the remembered head {}", path.display()))
            .hint("restore it: without it nobody sees whether the log took something back")
            .hint("when the operator's key was replaced, give the log.vkey from before as --former-key")
    })
}

/// The entries from `seen` on. With the edge of the tree that they come after, they must make the root of the head.
async fn new_entries(
    log: &RemoteLog,
    seen: u64,
    edge: Vec<livepatch_types::Sha256Digest>,
    head: &Checkpoint,
    refused: &impl Fn(Refusal) -> Failure,
) -> Result<Vec<Vec<u8>>, Failure> {
    let inconsistent = || refused(Refusal::Inconsistent { seen, offered: head.size });
    let mut frontier = Frontier::new(seen, edge).map_err(|_| inconsistent())?;
    let (mut entries, mut total) = (Vec::new(), 0);
    while frontier.size() < head.size {
        let next = frontier.size();
        let tile = Tile::in_tree(0, next / 256, head.size).ok_or_else(inconsistent)?;
        let bytes = log.get(&Resource::Entries(tile).to_string(), MAX_ENTRIES_BYTES).await?;
        let read = read_entries(&bytes, tile.width()).map_err(refused)?;
        for entry in read.into_iter().skip((next - tile.first()) as usize) {
            frontier.append(leaf_hash(entry));
            total += entry.len();
            entries.push(entry.to_vec());
        }
        if total > MAX_NEW_BYTES {
            return Err(Failure::refused(format!(
                "the log has more than {MAX_NEW_BYTES} bytes of new entries"
            ))
            .hint("no log of livepatches has: its operator fills it; ask them why"));
        }
    }
    if frontier.root() == head.root { Ok(entries) } else { Err(inconsistent()) }
}

/// A refusal, with the second of the two heads as evidence beside the first when they contradict each other.
fn refused(refusal: Refusal, evidence: Option<(&Path, &[u8])>) -> Failure {
    let contradiction =
        matches!(refusal, Refusal::Shrunk { .. } | Refusal::SplitView(_) | Refusal::Inconsistent { .. });
    let hint = refusal.hint();
    let failure = Failure::new(Exit::Refused, refusal).hint(hint);
    let Some((state, note)) = evidence.filter(|_| contradiction) else { return failure };
    let beside = state.with_extension("contradiction");
    match write_over(&beside, note) {
        Ok(()) => failure.hint(format!("the two are {} and {}", state.display(), beside.display())),
        Err(_) => failure,
    }
}

/// A log at an address.
struct RemoteLog {
    http: reqwest::Client,
    prefix: String,
}

impl RemoteLog {
    fn new(url: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        // Fails when it was done before, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let setup = |error: reqwest::Error| {
            Failure::new(Exit::Setup, error)
                .context("cannot set TLS up")
                .hint("install the system's CA certificates, or give --ca the server's ca.pem")
        };
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("livepatch-server/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca {
            let pem = read_capped(path, 1 << 20)?;
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(setup)?);
        }
        let http = builder.build().map_err(setup)?;
        Ok(Self { http, prefix: url.trim_end_matches('/').to_owned() })
    }

    /// The bytes at a path: `limit` at most.
    async fn get(&self, path: &str, limit: usize) -> Result<Vec<u8>, Failure> {
        let failed = |error: reqwest::Error| {
            Failure::new(Exit::Failed, error)
                .context(format!("cannot get {}/{path}", self.prefix))
                .hint("nothing was learned about the log; ask again later")
        };
        let mut response = self.http.get(format!("{}/{path}", self.prefix)).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(Failure::refused(format!("{}/{path} answers {status}", self.prefix))
                .hint("a log serves all of its tiles; an older server, or another program, has none"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                return Err(Failure::refused(format!(
                    "{}/{path} answers more than {limit} bytes",
                    self.prefix
                ))
                .hint("something on the way, or the server, is not what it should be"));
            }
        }
        Ok(bytes)
    }
}
