//! The transparency log: the loader says which module it wants a proof for, this fetches it, and the hashes between the
//! head that the loader knows and the one of the proof. The loader verifies.

use std::sync::Arc;

use livepatch_loader_api::{AgentRequest, LogView, Logged, View};
use livepatch_transparency::{LogKey, LoggedProof, MAX_PROOF_BYTES, Tiles, consistency_ranges};
use livepatch_types::Sha256Digest;

use crate::{Agent, Problem};

impl Agent {
    /// Brings the loader a proof that what is offered is in the log, if it wants one.
    pub(crate) async fn update_log(self: &Arc<Self>, server: &str, view: View) -> Result<View, Problem> {
        let Some(log) = &view.log else { return Ok(view) };
        let Some(module) = log.wants else { return Ok(view) };
        let path = format!("v1/log/proofs/{module}");
        let proof = self.server()?.log_file(server, &path, MAX_PROOF_BYTES).await?.ok_or_else(not_proven)?;
        let consistency = self.between(server, log, &proof).await?;
        let proof = String::from_utf8_lossy(&proof).into_owned();
        let body = serde_json::to_vec(&Logged { proof, consistency })
            .map_err(|error| Problem::new("log-bad-proof", error, WATCHERS))?;
        self.ask(AgentRequest::Logged, body).await
    }

    /// The hashes between the head that the loader knows and that of the proof. What is wrong with the proof is for the
    /// loader to say.
    async fn between(
        self: &Arc<Self>,
        server: &str,
        log: &LogView,
        proof: &[u8],
    ) -> Result<Vec<Sha256Digest>, Problem> {
        let keys = log.keys.iter().filter_map(|key| LogKey::parse(key).ok());
        let proof = LoggedProof::parse(proof).ok();
        let proven = proof.and_then(|proof| keys.into_iter().find_map(|key| proof.verify(&key).ok()));
        let Some(size) = proven.map(|proven| proven.checkpoint.size).filter(|size| *size > log.size) else {
            return Ok(vec![]);
        };
        if log.size == 0 {
            return Ok(vec![]);
        }
        let ranges = consistency_ranges(log.size, size);
        let mut tiles = Tiles::new(size);
        for tile in tiles.wanted(&ranges) {
            let bytes = self.server()?.log_file(server, &tile.to_string(), tile.size_bytes()).await?;
            let bytes = bytes.ok_or_else(|| not_served(&tile.to_string()))?;
            tiles.insert(tile, &bytes).map_err(inconsistent)?;
        }
        tiles.hashes(&ranges).map_err(inconsistent)
    }
}

const WATCHERS: &str = "tell the server's operator and those who watch the log";

pub(crate) fn not_proven() -> Problem {
    let message = "the server has no proof that what it offers is in its transparency log";
    Problem::new("log-not-proven", message, WATCHERS)
}

pub(crate) fn not_served(tile: &str) -> Problem {
    let message = format!("the server does not have {tile} of its transparency log");
    Problem::new("log-not-served", message, WATCHERS)
}

#[expect(clippy::needless_pass_by_value, reason = "its callers map errors with it")]
pub(crate) fn inconsistent(refusal: livepatch_transparency::Refusal) -> Problem {
    let message = format!("the transparency log: {refusal}");
    Problem::new("log-inconsistent", message, WATCHERS)
}
