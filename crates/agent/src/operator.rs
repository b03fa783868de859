//! The operator's root: the loader follows it from one to the next, this fetches the next. What is in it is not looked at
//! here.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use livepatch_loader_api::{AgentRequest, View};

use crate::{Agent, Problem};

/// How many new roots are followed at a time.
const MOST_ROOTS: usize = 256;
/// More bytes than this no root has: 64 KiB.
const MOST_BYTES: usize = 64 << 10;
/// How long before its end a root is asked for its successor with each check.
const RENEWAL: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Agent {
    /// Has the loader take note of a document. One of a key that it does not know may be that of the operator's next root.
    pub(crate) async fn note(
        self: &Arc<Self>,
        server: &str,
        view: &View,
        envelope: Vec<u8>,
    ) -> Result<View, Problem> {
        if is_to_be_renewed(view, self.now()) || is_ahead(view) {
            self.update_operator(server, view).await?;
        }
        match self.ask(AgentRequest::Note, envelope.clone()).await {
            Err(problem) if problem.code == "document-wrong-signer" && view.operator.is_some() => {
                if self.update_operator(server, view).await? {
                    return self.ask(AgentRequest::Note, envelope).await;
                }
                Err(problem)
            }
            other => other,
        }
    }

    /// Brings the loader the operator's next roots, one after another, if there are any; whether there were.
    pub(crate) async fn update_operator(
        self: &Arc<Self>,
        server: &str,
        view: &View,
    ) -> Result<bool, Problem> {
        let mut known = view.operator.as_ref().map(|operator| operator.root);
        let mut followed = false;
        let client = self.server()?;
        for _ in 0..MOST_ROOTS {
            let Some(version) = known else { break };
            let path = format!("metadata/{}.root.json", version.saturating_add(1));
            let Some(root) = client.operator_file(server, &path, MOST_BYTES).await? else { break };
            let view = self.ask(AgentRequest::OperatorRoot, root).await?;
            tracing::info!("the loader has the operator's next root");
            followed = true;
            known = view.operator.map(|operator| operator.root);
        }
        Ok(followed)
    }
}

/// Whether a newer root is pinned than the loader can follow to without those in between.
fn is_ahead(view: &View) -> bool {
    view.operator_problem.as_ref().is_some_and(|problem| problem.code == "operator-root-newer-pinned")
}

fn is_to_be_renewed(view: &View, now: Timestamp) -> bool {
    view.operator.as_ref().is_some_and(|operator| operator.expires.duration_since(now) < RENEWAL)
}
