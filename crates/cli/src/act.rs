//! Commands of root's, and what only the loader knows. What changes the kernel is said to the loader, by root itself: the agent passes on nothing in
//! root's name. Then the agent goes on from there.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use livepatch_api::daemon::{EnableRequest, Status};
use livepatch_loader_api::{AskError, ROOT_SOCKET, RootRequest, View};
use livepatch_types::{PatchState, Redacted};

use crate::CliError;
use crate::client::{ask, no_thread, request};
use crate::error::Daemon;
use crate::status::{READ_DEADLINE, ask_daemon};
use crate::text::note_text;

/// Commands wait for the network and for the kernel's transition.
const ACT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Whom commands go to.
pub(crate) struct Daemons<'a> {
    /// Where the agent's sockets are.
    pub(crate) agent: &'a Path,
    /// Where the loader's sockets are.
    pub(crate) loader: &'a Path,
}

/// What came of a command that did what it was asked for.
pub(crate) struct Done {
    /// How the host is then, without what is noted; none: it was done, and the agent does not say.
    pub(crate) status: Option<Status>,
    /// What is wrong besides, for stderr: a line and hints.
    pub(crate) note: Option<String>,
}

impl Done {
    /// What is wrong with the host is not what is wrong with the command.
    pub(crate) fn of(mut status: Status) -> Self {
        let note = status.problem.take().map(|problem| note_text(&problem));
        Self { status: Some(status), note }
    }
}

impl Daemons<'_> {
    /// Enrols this host.
    pub(crate) fn enable(&self, token: Redacted<String>) -> Result<Status, CliError> {
        let body = serde_json::to_string(&EnableRequest { token });
        let body = body.map_err(|error| CliError::Token(error.to_string()))?;
        self.loader(RootRequest::Enable)?;
        self.agent("/enable", &body)
    }

    /// Reverts what is applied and forgets the enrolment.
    pub(crate) fn disable(&self) -> Result<(), CliError> {
        // A host that has a bundle and no server is not enrolled. A loader that does not say keeps nobody from leaving.
        let has_livepatch = self
            .view()
            .is_ok_and(|view| view.comes_back || view.applied.is_some() || view.in_progress.is_some());
        self.loader(RootRequest::Disable)?;
        match self.agent("/disable", "") {
            Err(CliError::Refused(failure)) if has_livepatch && failure.code == "not-enabled" => {
                // It is reverted; what the agent shows is its own affair.
                let _ = self.agent("/look", "");
                Ok(())
            }
            done => done.map(drop),
        }
    }

    /// Forgets all that is of this machine.
    pub(crate) fn prepare_image(&self) -> Result<Status, CliError> {
        self.loader(RootRequest::PrepareImage)?;
        self.agent("/prepare-image", "")
    }

    /// Asks the server now.
    pub(crate) fn refresh(&self) -> Result<Status, CliError> {
        self.agent("/refresh", "")
    }

    /// Reverts what is applied, and holds it back.
    pub(crate) fn revert(&self) -> Result<Done, CliError> {
        self.loader(RootRequest::Revert)?;
        // That is all that was asked for: the agent only tells.
        Ok(match self.agent("/look", "") {
            Ok(status) => Done::of(status),
            Err(error) => Done { status: None, note: Some(error.to_note()) },
        })
    }

    /// Clears what holds a livepatch back, and asks the server. Without the server it is done if what is offered is in force.
    pub(crate) fn apply(&self) -> Result<Done, CliError> {
        self.loader(RootRequest::Clear)?;
        match self.refresh() {
            Err(CliError::Refused(failure)) => match self.in_force() {
                Some(status) => Ok(Done {
                    status: Some(Status { problem: None, ..status }),
                    note: Some(note_text(&failure)),
                }),
                None => Err(CliError::Refused(failure)),
            },
            refreshed => refreshed.map(Done::of),
        }
    }

    /// The status, if the livepatch that the operator offers, by the last document that was believed, is in force.
    fn in_force(&self) -> Option<Status> {
        let offered = self.view().ok()?.document?.target?.version;
        let status = ask_daemon(self.agent).ok()?;
        let patch = &status.patch;
        (patch.state == PatchState::Applied && patch.version == Some(offered)).then_some(status)
    }

    /// Applies the livepatch of a bundle; how the loader sees the host then. The agent is told to look, if there is one.
    pub(crate) fn apply_bundle(&self, bundle: &[u8]) -> Result<View, CliError> {
        let view = self.say(RootRequest::ApplyBundle, bundle, ACT_DEADLINE)?;
        // A host without a server may do without the agent.
        let _ = self.agent("/look", "");
        Ok(view)
    }

    fn agent(&self, path: &str, body: &str) -> Result<Status, CliError> {
        ask(&self.agent.join("livepatchd-priv.sock"), request("POST", path, body), ACT_DEADLINE)
    }

    /// How the loader sees the host. It changes nothing, and does not wait for long.
    pub(crate) fn view(&self) -> Result<View, CliError> {
        self.say(RootRequest::Status, &[], READ_DEADLINE)
    }

    /// Has the loader do something; how it sees the host then.
    pub(crate) fn loader(&self, request: RootRequest) -> Result<View, CliError> {
        self.say(request, &[], ACT_DEADLINE)
    }

    /// After `deadline` the command goes on without an answer, even when the loader sends its answer byte by byte.
    fn say(&self, request: RootRequest, body: &[u8], deadline: Duration) -> Result<View, CliError> {
        let socket = self.loader.join(ROOT_SOCKET);
        let (sender, receiver) = mpsc::sync_channel(1);
        let (path, body) = (socket.clone(), body.to_owned());
        let unreachable = |socket, why| CliError::Unreachable { daemon: Daemon::Loader, socket, why };
        let asking = std::thread::Builder::new().spawn(move || {
            // The receiver is gone when the deadline is over.
            let _ = sender.send(livepatch_loader_api::ask(&path, request, &body, deadline));
        });
        if let Err(error) = asking {
            return Err(unreachable(socket, no_thread(&error)));
        }
        let late = || format!("no answer within {} ms", deadline.as_millis());
        let answer = match receiver.recv_timeout(deadline) {
            Err(_) => return Err(unreachable(socket, late())),
            Ok(Ok(answer)) => answer,
            Ok(Err(AskError::Answer(why))) => return Err(CliError::Answer(why)),
            Ok(Err(AskError::Unreachable(error))) => {
                return Err(match error.kind() {
                    ErrorKind::PermissionDenied => CliError::NotPermitted,
                    // The same, seen first by the socket's own bound.
                    ErrorKind::WouldBlock => unreachable(socket, late()),
                    _ => unreachable(socket, error.to_string()),
                });
            }
        };
        match answer.failure {
            Some(failure) => Err(CliError::Refused(failure)),
            None => Ok(answer.view.unwrap_or_default()),
        }
    }
}
