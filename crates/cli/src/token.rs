//! The enrolment token, from an argument or a file.

use std::io::Read as _;
use std::path::Path;

use livepatch_types::Redacted;

use crate::CliError;

const MAX_TOKEN_BYTES: u64 = 4096;

/// A token that somebody gave on the command line.
pub(crate) fn check(text: &str) -> Result<Redacted<String>, CliError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CliError::Token("it is empty or holds other than printable characters".into()));
    }
    Ok(Redacted::new(text.to_owned()))
}

/// A token from a file, or with `-` from standard input.
pub(crate) fn read(path: &Path) -> Result<Redacted<String>, CliError> {
    if path == Path::new("-") {
        return check(&read_capped(std::io::stdin().lock())?);
    }
    let file = std::fs::File::open(path);
    let file = file.map_err(|error| CliError::Token(format!("{}: {error}", path.display())))?;
    check(&read_capped(file)?)
}

fn read_capped(source: impl std::io::Read) -> Result<String, CliError> {
    let mut text = String::new();
    // One byte more tells a token that is cut from one that just fits.
    let mut source = source.take(MAX_TOKEN_BYTES + 1);
    source.read_to_string(&mut text).map_err(|error| CliError::Token(error.to_string()))?;
    if text.len() as u64 > MAX_TOKEN_BYTES {
        return Err(CliError::Token(format!("it has more than {MAX_TOKEN_BYTES} bytes")));
    }
    Ok(text)
}
