//! The vendor's metadata: the loader says which file it wants, this fetches it. What is in it is not looked at here.

use std::fmt::Display;
use std::sync::Arc;

use livepatch_loader_api::{AgentRequest, View};

use crate::{Agent, Problem};

/// The files of one update at most: new roots, timestamp, snapshot, targets, what is allowed for the kernel; with room.
const MOST_FILES: usize = 300;
/// More bytes than this no such file has, whatever the loader says: 2 MiB.
const MOST_BYTES: u64 = 2 << 20;

impl Agent {
    /// Brings the loader the vendor's newest metadata, when the operator's document says that there is newer.
    pub(crate) async fn update_vendor(self: &Arc<Self>, url: &str, view: View) -> Result<View, Problem> {
        let Some(vendor) = view.vendor.as_ref().filter(|vendor| vendor.behind) else { return Ok(view) };
        let repository = vendor.repository.clone();
        let client = self.server()?;
        let mut view = self.ask(AgentRequest::Update, Vec::new()).await?;
        for _ in 0..MOST_FILES {
            let Some(wanted) = view.vendor.as_ref().and_then(|vendor| vendor.wants.as_ref()) else {
                tracing::info!(%repository, "the loader has the vendor's newest metadata");
                return Ok(view);
            };
            let limit = wanted.limit_bytes.min(MOST_BYTES) as usize;
            let file = client.vendor_file(url, repository.as_str(), &wanted.path, limit).await?;
            let bytes = match file {
                // An empty body says that it is not there: an empty file is as good as none.
                Some(bytes) => bytes,
                None if wanted.may_be_absent => Vec::new(),
                None => return Err(not_served(&wanted.path, &repository)),
            };
            view = self.ask(AgentRequest::Metadata, bytes).await?;
        }
        Err(endless(&repository))
    }
}

pub(crate) fn not_served(path: &str, repository: &impl Display) -> Problem {
    let message = format!("the server does not have {path} of the vendor's repository {repository}");
    let hint = "its operator must import the vendor's repository: `livepatch-server vendor import`";
    Problem::new("vendor-not-served", message, hint)
}

pub(crate) fn endless(repository: &impl Display) -> Problem {
    let message = format!("the vendor's repository {repository} has no end of files");
    Problem::new("vendor-endless", message, "tell the server's operator")
}
