//! The signature of `InRelease`, by `gpgv` and the distribution's own keyring, as apt verifies it.
//!
//! `gpgv` and not a library: it is on every Debian system, apt trusts it with the same file, and OpenPGP is too large to have
//! a second opinion on it. It gets a file whose frame was checked, and what is read afterwards is what it wrote as signed.

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_archive::clear_signed::{FrameError, MAX_BYTES, check_frame};

use super::program::{Bounds, ProgramError, last_words, run};

/// A signature takes no longer.
const MOST_SECONDS: u32 = 60;

/// Why a text is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature, or more than that.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The file with the keys is not here.
    #[error("the keyring {0} is not here")]
    NoKeyring(PathBuf),
    /// Somebody else signed.
    #[error("no key of {0} has signed it")]
    OtherKey(PathBuf),
    /// The text is not what was signed.
    #[error("its signature is wrong: it was changed after it was signed")]
    Wrong,
    /// A key or signature that is not to be used any more.
    #[error("{0}")]
    Retired(&'static str),
    /// `gpgv` itself.
    #[error("gpgv cannot verify it: {0}")]
    Gpgv(String),
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// A signed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// What was signed.
    pub text: String,
    /// Fingerprints of the primary keys whose signatures are right.
    pub signed_by: Vec<String>,
}

/// Verifies a clear-signed file; one right signature is enough, one that is wrong too many.
pub fn verify(file: &[u8], keyring: &Path) -> Result<SignedText, SignatureError> {
    check_frame(file)?;
    // gpgv takes a name without a slash for one in its home directory.
    let keyring = keyring.canonicalize().map_err(|_| SignatureError::NoKeyring(keyring.to_owned()))?;
    let io = |error: std::io::Error| SignatureError::Gpgv(error.to_string());
    let directory = tempfile::tempdir().map_err(io)?;
    let (from, to) = (directory.path().join("signed"), directory.path().join("text"));
    fs::write(&from, file).map_err(io)?;
    let mut arguments =
        vec!["--homedir".as_ref(), directory.path().as_os_str(), "--keyring".as_ref(), keyring.as_os_str()];
    arguments.extend(["--weak-digest", "SHA1", "--status-fd", "1", "--output"].map(std::ffi::OsStr::new));
    arguments.extend([to.as_os_str(), from.as_os_str()]);
    let output = run("gpgv", arguments, Bounds { seconds: MOST_SECONDS, file_bytes: MAX_BYTES })?;
    let signed_by = match judge(&String::from_utf8_lossy(&output.stdout)) {
        Judgement::Signed(keys) => keys,
        Judgement::Wrong => return Err(SignatureError::Wrong),
        Judgement::Retired(why) => return Err(SignatureError::Retired(why)),
        Judgement::OtherKey => return Err(SignatureError::OtherKey(keyring)),
        Judgement::NoSignature => return Err(SignatureError::Gpgv(last_words(&output))),
    };
    let text = fs::read_to_string(&to).map_err(io)?;
    Ok(SignedText { text, signed_by })
}

/// What `gpgv` found.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Signed(Vec<String>),
    Wrong,
    Retired(&'static str),
    OtherKey,
    NoSignature,
}

/// Reads the status lines of `gpgv` (doc/DETAILS of GnuPG, "Format of the --status-fd output"). Its exit code does not tell a
/// signature of an unknown key beside a good one, which is how archives change their keys, from a wrong one.
fn judge(status: &str) -> Judgement {
    let (mut keys, mut good, mut unknown, mut retired) = (Vec::new(), false, false, None);
    for line in status.lines() {
        let mut words = line.strip_prefix("[GNUPG:] ").unwrap_or_default().split(' ');
        match words.next().unwrap_or_default() {
            "NEWSIG" => good = false,
            "GOODSIG" => good = true,
            // Of every signature that is right by calculation, also of an expired key: the last word is the primary key.
            "VALIDSIG" if good => keys.extend(words.next_back().map(str::to_owned)),
            "BADSIG" => return Judgement::Wrong,
            "EXPSIG" => retired = Some("its signature has expired"),
            "EXPKEYSIG" => retired = Some("the key that signed it has expired"),
            "REVKEYSIG" => retired = Some("the key that signed it was revoked"),
            "ERRSIG" => unknown = true,
            _ => {}
        }
    }
    match retired {
        _ if !keys.is_empty() => Judgement::Signed(keys),
        Some(why) => Judgement::Retired(why),
        None if unknown => Judgement::OtherKey,
        None => Judgement::NoSignature,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_right_signature_and_no_wrong_one() {
        let status = |words: &[&str]| {
            let line = |word: &&str| match *word {
                "VALIDSIG" => "[GNUPG:] VALIDSIG AA 2026-11-26 1795727016 0 4 0 1 8 01 BB\n".to_owned(),
                word => format!("[GNUPG:] {word} x y\n"),
            };
            judge(&words.iter().map(line).collect::<String>())
        };
        let signed = || Judgement::Signed(vec!["BB".into()]);
        for (words, expected) in [
            (&["NEWSIG", "GOODSIG", "VALIDSIG"][..], signed()),
            (&["NEWSIG", "GOODSIG", "VALIDSIG", "NEWSIG", "ERRSIG", "NO_PUBKEY"], signed()),
            (&["NEWSIG", "EXPKEYSIG", "VALIDSIG", "NEWSIG", "GOODSIG", "VALIDSIG"], signed()),
            (&["NEWSIG", "GOODSIG", "VALIDSIG", "NEWSIG", "BADSIG"], Judgement::Wrong),
            (
                &["NEWSIG", "GOODSIG", "NEWSIG", "EXPKEYSIG", "VALIDSIG"],
                Judgement::Retired("the key that signed it has expired"),
            ),
            (&["NEWSIG", "REVKEYSIG", "VALIDSIG"], Judgement::Retired("the key that signed it was revoked")),
            (&["NEWSIG", "EXPSIG", "VALIDSIG"], Judgement::Retired("its signature has expired")),
            (&["NEWSIG", "ERRSIG", "NO_PUBKEY"], Judgement::OtherKey),
            (&["NODATA"], Judgement::NoSignature),
            (&[], Judgement::NoSignature),
        ] {
            assert_eq!(status(words), expected, "{words:?}");
        }
    }
}
