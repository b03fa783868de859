//! `livepatch cves`: which CVEs are fixed in the running kernel, by what its livepatch says.

use livepatch_api::daemon::Status;
use livepatch_types::{CveCoverage, CveId, PatchState, Rating};
use serde::Serialize;

use crate::Exit;
use crate::text::{plain, rating};

/// Whether a CVE is fixed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// By the livepatch that is applied.
    Fixed,
    /// The livepatch that fixes it is not applied.
    NotFixed,
    /// The livepatch holds a part of the fix.
    NotWholly,
    /// No livepatch of this kernel speaks of it: the kernel may have the fix, not need one, or be exposed.
    NotKnown,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::NotFixed => "not fixed",
            Self::NotWholly => "not wholly",
            Self::NotKnown => "not known",
        }
    }
}

/// CVEs with their standing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CveList {
    /// Version of this format: 1.
    schema: u32,
    cves: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    id: CveId,
    standing: Standing,
    rating: Option<Rating>,
    title: Option<String>,
}

/// Those that were asked for, in that order; without any, all that the livepatch of this kernel speaks of.
pub fn cves(status: &Status, asked: &[CveId]) -> CveList {
    let known = status.patch.cves.iter().map(|cve| {
        let standing = match (cve.patched, cve.coverage) {
            (true, _) => Standing::Fixed,
            (false, CveCoverage::Partial) if status.patch.state == PatchState::Applied => Standing::NotWholly,
            (false, _) => Standing::NotFixed,
        };
        Row { id: cve.id, standing, rating: Some(cve.rating), title: Some(plain(&cve.title)) }
    });
    let known: Vec<Row> = known.collect();
    let find = |id: &CveId| {
        let unknown = Row { id: *id, standing: Standing::NotKnown, rating: None, title: None };
        known.iter().find(|row| row.id == *id).cloned().unwrap_or(unknown)
    };
    let rows = if asked.is_empty() { known.clone() } else { asked.iter().map(find).collect() };
    CveList { schema: 1, cves: rows }
}

impl CveList {
    /// 0 when all are fixed, 1 when one is not, otherwise 6 when nothing is known of one.
    pub fn exit(&self) -> Exit {
        let has = |standing| self.cves.iter().any(|row| row.standing == standing);
        if has(Standing::NotFixed) || has(Standing::NotWholly) {
            Exit::Failed
        } else if has(Standing::NotKnown) {
            Exit::NotKnown
        } else {
            Exit::Ok
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let row = |row: &Row| {
            let standing = row.standing.word();
            let title = row.title.as_deref().unwrap_or("no livepatch for this kernel speaks of it");
            let line = format!("{:<20}{standing:<12}{:<12}{title}", row.id, row.rating.map_or("", rating));
            line.trim_end().to_owned() + "\n"
        };
        self.cves.iter().map(row).collect()
    }
}
