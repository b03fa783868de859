//! The cohort of this host: its owner asks for one in the settings, the operator signs it, and the loader takes it.

use std::sync::Arc;

use livepatch_loader_api::{AgentRequest, View};
use livepatch_types::{Cohort, HostId};

use crate::state::Enrolment;
use crate::{Agent, Problem};

/// What to do about a server, or an enrolment, of before there were cohorts.
const ENROL_ANEW: &str = "the server is of an earlier version, or one enrolled this host: upgrade it, and enrol this host anew with `livepatch disable` and `livepatch enable`";

impl Agent {
    /// Has the operator assign this host anew when its settings ask for another cohort than the one that was signed. What
    /// goes wrong keeps nothing else back: until then the one counts that was signed.
    pub(crate) async fn update_cohort(self: &Arc<Self>, enrolment: &Enrolment) {
        let view = self.live().view.clone();
        // One that was not assigned at all has another problem, which is told.
        let Some(host) = view.host.filter(|_| view.channel.is_some()) else { return };
        let wanted = self.config().policy.cohort.clone();
        let asked = if view.cohort == wanted {
            Ok(())
        } else {
            self.ask_for_cohort(enrolment, host, wanted.clone()).await
        };
        match &asked {
            Ok(()) if view.cohort != wanted => {
                tracing::info!("the operator assigned this host to {}", word(wanted.as_ref()))
            }
            Ok(()) => {}
            Err(problem) => tracing::warn!(code = %problem.code, "the cohort is not changed: {problem}"),
        }
        self.live().cohort_problem = asked.err();
    }

    async fn ask_for_cohort(
        self: &Arc<Self>,
        enrolment: &Enrolment,
        host: HostId,
        wanted: Option<Cohort>,
    ) -> Result<(), Problem> {
        let answer = self.server()?.assignment(enrolment, host, wanted).await?;
        self.ask(AgentRequest::Assign, answer.assignment.into_bytes()).await.map(drop)
    }
}

fn word(cohort: Option<&Cohort>) -> String {
    cohort.map_or_else(|| "no cohort".into(), |cohort| format!("cohort {cohort}"))
}

/// That the settings ask for another cohort than the one that the operator signed, and why that is so, if it was tried.
pub(crate) fn not_assigned(view: &View, wanted: Option<&Cohort>, why: Option<&Problem>) -> Option<Problem> {
    // Of a host that root has not enabled, and of a loader that was not heard, nothing is said.
    if !view.enabled || view.cohort.as_ref() == wanted {
        return None;
    }
    let why_not = why.map(|problem| format!(": {problem}")).unwrap_or_default();
    let message = format!(
        "this host is in {} until the operator assigns it to {}{why_not}",
        word(view.cohort.as_ref()),
        word(wanted)
    );
    let refresh = "`livepatch refresh` asks the server for it now";
    let hints = match why {
        _ if view.host.is_none() => vec![ENROL_ANEW.into()],
        Some(problem) if problem.code == "server-refused" => vec![ENROL_ANEW.into()],
        Some(problem) => problem.hints.clone(),
        None => vec![refresh.into()],
    };
    Some(Problem { hints, ..Problem::new("cohort-not-assigned", message, refresh) })
}

/// What to do about an enrolment that was refused, when it asked for a cohort.
pub(crate) fn refused_with_cohort(problem: Problem) -> Problem {
    let hint = "a server of an earlier version knows no cohorts: upgrade it, or take `cohort` out of /etc/livepatch/livepatch.toml, and restart the daemon";
    match problem.code.as_ref() {
        "server-refused" => Problem { hints: vec![hint.into()], ..problem },
        _ => problem,
    }
}
