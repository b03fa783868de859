//! Which kernels an operator covers, for how long, and what to install for them: signed, and looked at by hosts that are not
//! covered or not for long. It explains, and decides nothing.

use jiff::Timestamp;
use jiff::civil::Date;
use livepatch_types::Architecture;
use serde::{Deserialize, Serialize};

use crate::EnvelopeError;
use crate::envelope::{self, VerifyingKey};

/// The DSSE payload type of a support matrix.
pub const PAYLOAD_TYPE: &str = "application/vnd.livepatch.support-matrix+json";
/// Largest envelope with a matrix, in bytes.
pub const MAX_SUPPORT_BYTES: usize = 64 << 10;

/// Members that a writer may list in `critical` and this reader understands. None yet.
const UNDERSTOOD: [&str; 0] = [];
/// Most rows, and most flavours in one.
const MOST: usize = 64;
/// Longest text in it, in characters. Texts are names, packages and versions.
const MAX_TEXT_CHARS: usize = 64;

/// The kernels that get livepatches, by system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportMatrix {
    /// Version of the format: 1.
    pub schema: u32,
    /// Members that a reader must understand to make use of it.
    #[serde(default)]
    pub critical: Vec<String>,
    /// Rises with every change; a host never goes back. Servers take the second in which it was given to them.
    pub version: u64,
    /// When it was given to the server.
    pub issued: Timestamp,
    /// The rows.
    pub rows: Vec<SupportRow>,
}

/// One series of kernels on one system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SupportRow {
    /// `ID` in os-release(5): `debian`.
    pub distribution: String,
    /// `VERSION_ID` there: `12`.
    pub release: String,
    /// What people call the two: `Debian 12`.
    pub name: String,
    /// Architecture of the kernels.
    pub architecture: Architecture,
    /// The numbers that `uname -r` begins with: `6.1`.
    pub series: String,
    /// What the distribution calls the series there: `GA`, `HWE`, `stable`, `LTS`.
    pub line: String,
    /// How many months a build gets livepatches from its release on; none: no such window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_months: Option<u32>,
    /// The last day, in UTC, on which any kernel of the row gets livepatches; none: no end is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// The flavours, the most usual first.
    #[serde(rename = "flavour")]
    pub flavours: Vec<SupportFlavour>,
}

/// One flavour of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportFlavour {
    /// What `uname -r` ends with: `cloud-amd64`.
    pub name: String,
    /// The package to install, by which the newest kernel comes: `linux-image-cloud-amd64`.
    pub package: String,
}

/// A host, as far as the matrix is concerned.
#[derive(Debug, Clone, Copy)]
pub struct HostSystem<'a> {
    /// `ID` in os-release(5).
    pub distribution: &'a str,
    /// `VERSION_ID` there.
    pub release: &'a str,
    /// Architecture of the running kernel.
    pub architecture: Architecture,
    /// `uname -r`.
    pub kernel: &'a str,
}

/// Why a matrix is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SupportError {
    /// The envelope is not believed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload is not a matrix.
    #[error("the support matrix does not parse: {0}")]
    Malformed(String),
    /// A format that this reader does not know.
    #[error("support matrix schema {0} is newer than this program, which reads schema 1")]
    Schema(u64),
    /// A critical member that this reader does not know.
    #[error("the support matrix requires {0:?}, which this program does not understand")]
    Critical(String),
    /// Older than one that was seen.
    #[error("the support matrix has version {offered}, older than version {seen} seen before")]
    Rollback {
        /// The version in it.
        offered: u64,
        /// The highest version seen.
        seen: u64,
    },
}

impl SupportMatrix {
    /// The payload bytes to be signed.
    pub fn to_payload(&self) -> Vec<u8> {
        // Every field is a string, number or list of them: serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Opens and checks what arrived. `trusted` are the keys of the operator's role for documents, `seen` is the highest
    /// version that this host saw.
    pub fn open(bytes: &[u8], trusted: &[VerifyingKey], seen: u64) -> Result<Self, SupportError> {
        if bytes.len() > MAX_SUPPORT_BYTES {
            return Err(EnvelopeError::TooLarge(bytes.len()).into());
        }
        let payload = envelope::open(bytes, PAYLOAD_TYPE, trusted)?;
        let malformed = |error: serde_json::Error| SupportError::Malformed(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(&payload).map_err(malformed)?;
        // Schema and critical members come first: a later format may not parse as this one.
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if schema != 1 {
            return Err(SupportError::Schema(schema));
        }
        let matrix: Self = serde_json::from_value(value).map_err(malformed)?;
        if let Some(unknown) = matrix.critical.iter().find(|name| !UNDERSTOOD.contains(&name.as_str())) {
            return Err(SupportError::Critical(unknown.clone()));
        }
        matrix.check()?;
        if matrix.version < seen {
            return Err(SupportError::Rollback { offered: matrix.version, seen });
        }
        Ok(matrix)
    }

    /// Whether it is within its caps, and every text in it may be printed and typed: packages go into commands that people
    /// copy.
    pub fn check(&self) -> Result<(), SupportError> {
        let wrong = |why: String| Err(SupportError::Malformed(why));
        if self.rows.len() > MOST {
            return wrong(format!("it has more than {MOST} rows"));
        }
        for row in &self.rows {
            let SupportRow { distribution, release, name, series, line, flavours, .. } = row;
            if flavours.is_empty() || flavours.len() > MOST {
                return wrong(format!("the row {name:?} {series:?} has not 1 to {MOST} flavours"));
            }
            let words = [distribution, release, series].into_iter();
            let words = words.chain(flavours.iter().flat_map(|flavour| [&flavour.name, &flavour.package]));
            if let Some(word) = words.into_iter().find(|word| !is_word(word)) {
                return wrong(format!("{word:?} is not a name, version or package"));
            }
            if let Some(text) = [name, line].into_iter().find(|text| !is_text(text)) {
                return wrong(format!("{text:?} is not a short plain text"));
            }
        }
        Ok(())
    }

    /// The rows of a host's system, with the flavour of each that is closest to what it runs; best first: the same series and
    /// flavour, then the same flavour, then the order of the matrix. What has ended is left out.
    pub fn kernels_for(&self, host: HostSystem<'_>, today: Date) -> Vec<(&SupportRow, &SupportFlavour)> {
        let rows = self.rows.iter().filter(|row| {
            row.distribution == host.distribution
                && row.release == host.release
                && row.architecture == host.architecture
                && row.until.is_none_or(|until| today <= until)
        });
        let mut kernels: Vec<_> = rows
            .filter_map(|row| {
                let flavour = row.flavours.iter().find(|flavour| flavour.is_of(host.kernel));
                let flavour = flavour.or(row.flavours.first())?;
                Some((row, flavour))
            })
            .collect();
        kernels.sort_by_key(|(row, flavour)| (!flavour.is_of(host.kernel), !row.is_series_of(host.kernel)));
        kernels
    }
}

impl SupportRow {
    /// Whether a kernel is one of this row, in this flavour.
    pub fn is_of(&self, flavour: &SupportFlavour, kernel: &str) -> bool {
        self.is_series_of(kernel) && flavour.is_of(kernel)
    }

    /// Whether a kernel is of this series: `6.1` is that of `6.1.0-50-amd64`, and not of `6.12.9+bpo-amd64`.
    fn is_series_of(&self, kernel: &str) -> bool {
        kernel.strip_prefix(&self.series).is_some_and(|rest| rest.starts_with(['.', '-']))
    }
}

impl SupportFlavour {
    /// Whether a kernel is of this flavour: nothing but the numbers of a version, and for which release it was made, stands before
    /// it, so `amd64` is not that of `6.1.0-50-cloud-amd64`, but of `6.12.9+bpo-amd64` and `6.12.117+deb12-amd64`.
    fn is_of(&self, kernel: &str) -> bool {
        let version = kernel.strip_suffix(self.name.as_str()).and_then(|rest| rest.strip_suffix('-'));
        let number = |part: &str| {
            let part = part.strip_prefix("bpo").or(part.strip_prefix("deb")).unwrap_or(part);
            part.chars().all(|c| c.is_ascii_digit())
        };
        version.is_some_and(|version| version.split(['.', '-', '+']).all(number))
    }
}

/// A word without white space or anything that means something to a shell.
fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-./_:~".contains(c);
    (1..=MAX_TEXT_CHARS).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('-')
}

fn is_text(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    (1..=MAX_TEXT_CHARS).contains(&text.len()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn row(series: &str, until: &str, flavours: &[(&str, &str)]) -> SupportRow {
        let flavour = |(name, package): &(&str, &str)| SupportFlavour {
            name: (*name).to_owned(),
            package: (*package).to_owned(),
        };
        SupportRow {
            distribution: "debian".into(),
            release: "12".into(),
            name: "Debian 12".into(),
            architecture: Architecture::Amd64,
            series: series.into(),
            line: "stable".into(),
            window_months: None,
            until: (!until.is_empty()).then(|| until.parse().unwrap()),
            flavours: flavours.iter().map(flavour).collect(),
        }
    }

    fn matrix() -> SupportMatrix {
        let flavours = [("amd64", "linux-image-amd64"), ("cloud-amd64", "linux-image-cloud-amd64")];
        SupportMatrix {
            schema: 1,
            critical: vec![],
            version: 7,
            issued: Timestamp::UNIX_EPOCH,
            rows: vec![
                row("5.10", "2026-01-01", &[("amd64", "old")]),
                row("6.1", "2028-06-30", &flavours),
                row("6.12", "", &[("amd64", "linux-image-amd64/bookworm-backports")]),
            ],
        }
    }

    fn signed(matrix: &SupportMatrix, key: &Ed25519KeyPair, payload_type: &str) -> Vec<u8> {
        let payload = matrix.to_payload();
        let signature = key.sign(&envelope::signing_input(payload_type, &payload)).as_ref().to_vec();
        envelope::assemble(payload_type, &payload, &[(public(key).key_id(), signature)])
    }

    fn public(key: &Ed25519KeyPair) -> VerifyingKey {
        VerifyingKey::from_bytes(key.public_key().as_ref().try_into().unwrap())
    }

    #[test]
    fn what_is_installed_is_closest_to_what_runs() {
        let matrix = matrix();
        let today = "2026-11-24".parse().unwrap();
        let backports = "linux-image-amd64/bookworm-backports";
        for (distribution, release, kernel, packages) in [
            ("debian", "12", "6.1.0-50-amd64", vec!["linux-image-amd64", backports]),
            ("debian", "12", "6.1.0-50-cloud-amd64", vec!["linux-image-cloud-amd64", backports]),
            ("debian", "12", "6.12.9+bpo-amd64", vec![backports, "linux-image-amd64"]),
            ("debian", "12", "6.12.9+bpo1-cloud-amd64", vec!["linux-image-cloud-amd64", backports]),
            ("debian", "12", "6.12.117+deb12-amd64", vec![backports, "linux-image-amd64"]),
            ("debian", "12", "6.12.117+deb12-cloud-amd64", vec!["linux-image-cloud-amd64", backports]),
            ("debian", "12", "6.1.0-own", vec!["linux-image-amd64", backports]),
            ("debian", "13", "6.12.0-1-amd64", vec![]),
            ("ubuntu", "12", "6.1.0-50-amd64", vec![]),
        ] {
            let host = HostSystem { distribution, release, architecture: Architecture::Amd64, kernel };
            let kernels = matrix.kernels_for(host, today);
            let found: Vec<&str> = kernels.iter().map(|(_, flavour)| flavour.package.as_str()).collect();
            assert_eq!(found, packages, "{distribution} {release} {kernel}");
        }
    }

    #[test]
    fn it_is_believed_only_as_it_was_signed() {
        let [ours, theirs] = [1, 2].map(|seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap());
        let keys = [public(&ours)];
        let open =
            |matrix: &SupportMatrix| SupportMatrix::open(&signed(matrix, &ours, PAYLOAD_TYPE), &keys, 7);
        assert_eq!(open(&matrix()), Ok(matrix()));
        let stranger = SupportMatrix::open(&signed(&matrix(), &theirs, PAYLOAD_TYPE), &keys, 0);
        assert!(matches!(stranger, Err(SupportError::Envelope(EnvelopeError::UntrustedSigner(_)))));
        let other = signed(&matrix(), &ours, crate::document::PAYLOAD_TYPE);
        let other = SupportMatrix::open(&other, &keys, 0);
        assert!(matches!(other, Err(SupportError::Envelope(EnvelopeError::WrongType { .. }))));
        assert_eq!(
            open(&SupportMatrix { version: 6, ..matrix() }),
            Err(SupportError::Rollback { offered: 6, seen: 7 })
        );
        assert_eq!(open(&SupportMatrix { schema: 2, ..matrix() }), Err(SupportError::Schema(2)));
        let critical = SupportMatrix { critical: vec!["x".into()], ..matrix() };
        assert_eq!(open(&critical), Err(SupportError::Critical("x".into())));
        let long = SupportMatrix::open(&vec![b' '; MAX_SUPPORT_BYTES + 1], &keys, 0);
        assert!(matches!(long, Err(SupportError::Envelope(EnvelopeError::TooLarge(_)))));
    }

    #[test]
    fn what_people_would_copy_into_a_shell_is_plain() {
        let change = |change: &dyn Fn(&mut SupportRow)| {
            let mut matrix = matrix();
            change(&mut matrix.rows[1]);
            matrix.check()
        };
        assert_eq!(change(&|_| ()), Ok(()));
        for package in ["", "a b", "a;reboot", "$(x)", "-y", "a\u{1b}[2J", &"a".repeat(65)] {
            assert!(change(&|row| row.flavours[0].package = package.into()).is_err(), "{package:?}");
        }
        assert!(change(&|row| row.name = "Debian\n12".into()).is_err());
        assert!(change(&|row| row.flavours.clear()).is_err());
        let rows = vec![matrix().rows[0].clone(); MOST + 1];
        assert!(SupportMatrix { rows, ..matrix() }.check().is_err());
    }
}
