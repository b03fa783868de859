//! Which kernels this server's operator covers: what came with the program, or what the operator gave in its place. It is
//! signed whenever it is asked for; the same rows make the same bytes.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use livepatch_manifest::support::MAX_SUPPORT_BYTES;
use livepatch_manifest::{SupportMatrix, SupportRow};
use serde::{Deserialize, Serialize};

use crate::data_dir::{read_capped, write_over};
use crate::{Exit, Failure};

/// What the program comes with.
pub(crate) const SHIPPED: &str = include_str!("../data/support.toml");
/// When that was written down: what an operator gives later is newer.
const SHIPPED_AT: i64 = 1_795_824_000;
/// Largest file, in bytes. In an envelope it is a third longer.
const MAX_FILE_BYTES: u64 = MAX_SUPPORT_BYTES as u64 / 2;

/// What helps who writes a file.
const BEGIN: &str = "begin with what `livepatch-server support shipped` prints";

/// The members of a row.
const MEMBERS: [&str; 9] = [
    "distribution",
    "release",
    "name",
    "architecture",
    "series",
    "line",
    "window-months",
    "until",
    "flavour",
];

/// The matrix as operators write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SupportFile {
    schema: u32,
    #[serde(rename = "row")]
    rows: Vec<SupportRow>,
}

/// What a data directory has of it: when it was given, and the rows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    given: Timestamp,
    rows: Vec<SupportRow>,
}

/// The matrix of a data directory.
#[derive(Debug, Clone)]
pub struct Support {
    path: PathBuf,
}

impl Support {
    /// Speaks of a file that need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is covered now. Reads a file: not for a thread that must not wait.
    pub fn matrix(&self) -> Result<SupportMatrix, Failure> {
        if !self.path.exists() {
            let at = Timestamp::from_second(SHIPPED_AT).unwrap_or(Timestamp::UNIX_EPOCH);
            return matrix(at, parse(SHIPPED)?);
        }
        let bytes = read_capped(&self.path, MAX_FILE_BYTES * 2)?;
        let given: Given = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Exit::Setup, error)
                .context(format!("cannot use {}", self.path.display()))
                .hint("give the file again: `livepatch-server support import FILE`")
        })?;
        matrix(given.given, given.rows)
    }

    /// Takes a file in place of what was covered before.
    pub fn import(&self, file: &Path, now: Timestamp) -> Result<SupportMatrix, Failure> {
        let named = |failure: Failure| failure.context(format!("cannot use {}", file.display())).hint(BEGIN);
        let bytes = read_capped(file, MAX_FILE_BYTES).map_err(|failure| failure.hint(BEGIN))?;
        let text = String::from_utf8(bytes).map_err(|_| named(Failure::refused("it is not text")))?;
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let matrix = parse(&text).and_then(|rows| matrix(now, rows)).map_err(named)?;
        let given = Given { given: now, rows: matrix.rows.clone() };
        write_over(&self.path, &serde_json::to_vec_pretty(&given).unwrap_or_default())?;
        Ok(matrix)
    }
}

fn matrix(at: Timestamp, rows: Vec<SupportRow>) -> Result<SupportMatrix, Failure> {
    let version = u64::try_from(at.as_second()).unwrap_or(0);
    let matrix = SupportMatrix { schema: 1, critical: vec![], version, issued: at, rows };
    matrix.check().map_err(|error| Failure::new(Exit::Refused, error))?;
    Ok(matrix)
}

fn parse(text: &str) -> Result<Vec<SupportRow>, Failure> {
    let wrong = |error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or_else(String::new, |before| {
            format!("line {}: ", before.bytes().filter(|byte| *byte == b'\n').count() + 1)
        });
        Failure::refused(format!("{line}{}", error.message()))
    };
    let file: SupportFile = toml::from_str(text).map_err(wrong)?;
    if file.schema != 1 {
        return Err(Failure::refused(format!("its schema is {}, and this program reads 1", file.schema)));
    }
    // Hosts ignore members that they do not know; of who writes a file they are slips.
    let table: toml::Table = toml::from_str(text).map_err(wrong)?;
    let rows = table.get("row").and_then(toml::Value::as_array).into_iter().flatten();
    let mut members = rows.filter_map(toml::Value::as_table).flat_map(toml::Table::keys);
    match members.find(|member| !MEMBERS.contains(&member.as_str())) {
        Some(member) => Err(Failure::refused(format!("a row has the member {member:?}, which is none"))),
        None => Ok(file.rows),
    }
}

#[cfg(test)]
mod tests {
    use livepatch_manifest::HostSystem;
    use livepatch_types::Architecture;

    use super::*;

    /// The seed's table and Debian 12, row by row: every flavour is led to its own package, however its kernel is called.
    #[test]
    fn every_row_leads_a_host_to_its_package() {
        let directory = tempfile::tempdir().unwrap();
        let matrix = Support::new(directory.path().join("support.json")).matrix().unwrap();
        let expected = [
            ("ubuntu", "20.04", "5.4", "GA", "generic lowlatency aws azure oem gcp gke gkeop"),
            ("ubuntu", "18.04", "5.4", "HWE", "generic lowlatency gke gkeop"),
            ("ubuntu", "18.04", "4.15", "GA", "generic lowlatency aws oem fips azure-fips gke"),
            ("ubuntu", "16.04", "4.15", "HWE", "generic lowlatency azure fips"),
            ("ubuntu", "16.04", "4.4", "GA", "generic lowlatency aws fips"),
            ("ubuntu", "14.04", "4.4", "HWE", "generic lowlatency"),
            ("debian", "12", "6.1", "stable", "amd64 cloud-amd64 rt-amd64"),
            ("debian", "12", "6.12", "LTS", "amd64 cloud-amd64 rt-amd64"),
        ];
        assert_eq!(matrix.rows.len(), expected.len());
        for (row, (distribution, release, series, line, flavours)) in matrix.rows.iter().zip(expected) {
            let names: Vec<&str> = row.flavours.iter().map(|flavour| flavour.name.as_str()).collect();
            assert_eq!(
                (&*row.distribution, &*row.release, &*row.series, &*row.line, names.join(" ").as_str()),
                (distribution, release, series, line, flavours)
            );
            for flavour in &row.flavours {
                // An old build of the very row, before its end.
                let kernel = format!("{series}.0-5-{}", flavour.name);
                let architecture = Architecture::Amd64;
                let host = HostSystem { distribution, release, architecture, kernel: &kernel };
                let found = matrix.kernels_for(host, "2024-01-01".parse().unwrap());
                assert_eq!(found[0], (row, flavour), "{kernel}");
                assert_ne!(flavour.package, flavour.name);
            }
            let architecture = Architecture::Amd64;
            let host = HostSystem { distribution, release, architecture, kernel: "own" };
            let ended = matrix.kernels_for(host, "2100-01-01".parse().unwrap());
            assert!(ended.iter().all(|(row, _)| row.until.is_none()), "what has ended is not recommended");
        }
    }

    /// The dates and packages that were looked up, with the sources that the file names.
    #[test]
    fn what_was_looked_up() {
        let rows = parse(SHIPPED).unwrap();
        let debian: Vec<_> = rows.iter().filter(|row| row.distribution == "debian").collect();
        assert!(debian.iter().all(|row| row.until == "2028-06-30".parse().ok()), "the end of its LTS");
        let packages = debian.iter().flat_map(|row| row.flavours.iter().map(|f| f.package.as_str()));
        let packages: Vec<_> = packages.collect();
        assert_eq!(packages.len(), 6);
        assert!(packages.iter().all(|package| !package.contains('/')), "no suite that one must add first");
        for source in
            ["wiki.ubuntu.com/Kernel/Livepatch", "ubuntu.com/about/release-cycle", "wiki.debian.org/LTS"]
        {
            assert!(SHIPPED.contains(source), "{source}");
        }
    }

    #[test]
    fn an_operator_gives_another() {
        let directory = tempfile::tempdir().unwrap();
        let support = Support::new(directory.path().join("support.json"));
        let file = directory.path().join("mine.toml");
        let shipped = support.matrix().unwrap();
        let (head, row) = SHIPPED.rsplit_once("[[row]]").unwrap();
        std::fs::write(&file, format!("schema = 1\n[[row]]{row}")).unwrap();
        let now: Timestamp = "2026-11-29T00:00:00.5Z".parse().unwrap();
        let given = support.import(&file, now).unwrap();
        assert_eq!(given.rows, shipped.rows[shipped.rows.len() - 1..]);
        assert!(given.version > shipped.version);
        assert_eq!(support.matrix().unwrap(), given);
        for wrong in [
            head.replace("schema = 1", "schema = 2"),
            "schema = 1\n".to_owned(),
            format!("{SHIPPED}\nmore = 1"),
            SHIPPED.replace("\"linux-image-generic\"", "\"x; reboot\""),
        ] {
            std::fs::write(&file, wrong).unwrap();
            assert!(support.import(&file, now).is_err());
        }
        assert_eq!(support.matrix().unwrap(), given, "what was there stays");
    }
}
