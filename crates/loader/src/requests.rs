//! What each request does: the whole of what the agent and root can make the loader do.

use std::io::Read;

use livepatch_loader_api::{AgentRequest, Answer, Head, RootRequest};

use crate::{Loader, Problem};

/// A request of the agent's. Nothing in it is believed but what is signed.
pub fn answer_agent(loader: &Loader, head: Head<AgentRequest>, body: &mut dyn Read) -> Answer {
    let done = match head.request {
        AgentRequest::Status => Ok(()),
        AgentRequest::Note => read_exactly(body, head.body_bytes).and_then(|bytes| loader.note(&bytes)),
        AgentRequest::Converge => loader.converge(),
        AgentRequest::Apply => loader.apply(head.body_bytes.into(), body),
        AgentRequest::Update => loader.begin_update(),
        AgentRequest::Metadata => loader.take_metadata(head.body_bytes, body),
        AgentRequest::Logged => {
            read_exactly(body, head.body_bytes).and_then(|bytes| loader.take_logged(&bytes))
        }
        AgentRequest::Support => {
            read_exactly(body, head.body_bytes).and_then(|bytes| loader.take_support(&bytes))
        }
        AgentRequest::OperatorRoot => {
            read_exactly(body, head.body_bytes).and_then(|bytes| loader.take_operator_root(&bytes))
        }
        AgentRequest::Assign => {
            read_exactly(body, head.body_bytes).and_then(|bytes| loader.take_assignment(&bytes))
        }
    };
    answer(loader, &format!("{:?}", head.request), done)
}

/// A command of root's.
pub fn answer_root(loader: &Loader, head: Head<RootRequest>, body: &mut dyn Read) -> Answer {
    let done = match head.request {
        RootRequest::Status => Ok(()),
        RootRequest::Enable => loader.enable(),
        RootRequest::Revert => loader.revert(),
        RootRequest::Clear => loader.clear(),
        RootRequest::Disable => loader.disable(),
        RootRequest::ResetTrust => loader.reset_trust(),
        RootRequest::PrepareImage => loader.prepare_image(),
        RootRequest::ApplyBundle => loader.apply_bundle(head.body_bytes, body),
    };
    answer(loader, &format!("root's {:?}", head.request), done)
}

fn answer(loader: &Loader, request: &str, done: Result<(), Problem>) -> Answer {
    if let Err(problem) = &done {
        tracing::warn!(request, code = problem.code, "refused or failed: {problem}");
    }
    Answer { failure: done.err().map(|problem| problem.to_failure()), view: Some(loader.view()) }
}

pub(crate) fn read_exactly(body: &mut dyn Read, bytes: u32) -> Result<Vec<u8>, Problem> {
    let mut read = Vec::new();
    let ended = body.take(bytes.into()).read_to_end(&mut read).err().map(|error| error.to_string());
    if read.len() == bytes as usize {
        return Ok(read);
    }
    let why = ended.unwrap_or_else(|| format!("it ends after {} of {bytes} bytes", read.len()));
    let hint = "say it again; client and loader may differ in version: restart both";
    Err(Problem::new("bad-request", format!("the request cannot be read: {why}"), hint))
}
