//! What happens in the demo once the host is up: each step is seen in the guest, not believed.

use super::VERSIONS;
use super::host::{Host, Server};
use super::machine::{GuestFile, Machine};
use super::report::Verdict;
use super::repositories::{Operator, Vendor};
use super::session::Session;
use crate::config::Fix;
use crate::error::Error;

/// All who are not the host.
pub(crate) struct Site<'a> {
    pub(crate) host: &'a Host<'a>,
    pub(crate) vendor: Vendor,
    pub(crate) operator: Operator,
    pub(crate) server: Server,
}

/// What happened in the guest.
pub(crate) struct Story {
    /// What the checks said before, with the first livepatch, while the second was not allowed, with the second, without, with
    /// it again, when the host left its server, and with it from a bundle.
    pub(crate) verdicts: [Vec<Verdict>; 8],
    /// The bundle that was carried.
    pub(crate) carried: Vec<u8>,
    pub(crate) applying: f64,
    pub(crate) republishing: f64,
    pub(crate) upgrading: f64,
}

impl Site<'_> {
    /// What the guest has of it.
    pub(crate) fn guest_files(&self, token: &str) -> Result<Vec<GuestFile>, Error> {
        self.host.guest_files(self.server.port, &self.vendor, &self.operator, token)
    }

    /// Lets it happen.
    pub(crate) fn story(
        &mut self,
        machine: &Machine,
        last: &Fix,
        session: &mut Session,
    ) -> Result<Story, Error> {
        let [first, second] = VERSIONS;
        let all_but_last = |fix: &Fix| if fix.cve == last.cve { Verdict::Vulnerable } else { Verdict::Fixed };
        let before = machine.check(|_| Verdict::Vulnerable, session)?;
        let applying = machine.livepatch("enable --token-file /root/token", Some(first), session)?;
        let with_first = machine.check(all_but_last, session)?;
        machine.is_well(session)?;

        let what = format!("publish {second}, which fixes {} too; the vendor has not allowed it", last.cve);
        let ((), republishing) = session.step(&what, |_| self.host.publish(second))?;
        machine.refuses("vendor-not-allowed", first, session)?;
        let refused = machine.check(all_but_last, session)?;
        session.step("the vendor allows it", |_| self.host.allow(second, &self.vendor))?;
        let upgrading = machine.livepatch("refresh", Some(second), session)?;
        let applied = machine.check(|_| Verdict::Fixed, session)?;
        machine.is_well(session)?;
        machine.status(session)?;

        machine.livepatch("revert", None, session)?;
        let reverted = machine.check(|_| Verdict::Vulnerable, session)?;
        machine.livepatch("apply", Some(second), session)?;
        let reapplied = machine.check(|_| Verdict::Fixed, session)?;

        session.step("the server's key is exchanged: the operator's root names another one", |_| {
            self.host.exchange_key(&self.operator)?;
            self.server.stop();
            self.server = self.host.serve(self.server.port)?;
            Ok(())
        })?;
        machine.livepatch("refresh", Some(second), session)?;
        machine.trust(session)?;
        let (log, _) = session
            .step("the server's log is compared with all that it speaks of", |_| self.host.verify_log())?;
        session.say(&log);

        machine.leave(session)?;
        let left = machine.check(|_| Verdict::Vulnerable, session)?;
        let what = "the bundle gets what a host without a server needs, and is carried there";
        let (carried, _) = session.step(what, |_| {
            let carried = self.host.carried(second, &self.vendor)?;
            machine.put("/root/carried.lpb", &carried)?;
            Ok(carried)
        })?;
        machine.livepatch("apply --bundle /root/carried.lpb", Some(second), session)?;
        let from_bundle = machine.check(|_| Verdict::Fixed, session)?;
        machine.is_well(session)?;
        let verdicts = [before, with_first, refused, applied, reverted, reapplied, left, from_bundle];
        Ok(Story { verdicts, carried, applying, republishing, upgrading })
    }
}
