//! `livepatch apply --bundle`, for a host without a server, and `livepatch inspect`. The loader verifies; here the file is only
//! read.

use std::io::{Read as _, Write};
use std::path::Path;

use livepatch_loader_api::{Request as _, RootRequest, View};
use livepatch_manifest::{Bundle, BundleError};
use livepatch_types::{CveCoverage, plural};

use crate::act::Daemons;
use crate::command::Format;
use crate::{CliError, Exit};

/// Hands a bundle to the loader and says what came of it.
pub(crate) fn apply(daemons: &Daemons<'_>, path: &Path, out: &mut dyn Write) -> Result<Exit, CliError> {
    let view = daemons.apply_bundle(&read(path)?)?;
    out.write_all(text(&view).as_bytes())?;
    Ok(Exit::Ok)
}

/// Shows what a bundle holds. Nobody is asked, and no signature is verified.
pub(crate) fn inspect(path: &Path, format: Format, out: &mut dyn Write) -> Result<Exit, CliError> {
    let wrong = |error: BundleError| CliError::Bundle { path: path.to_owned(), why: error.to_string() };
    let bundle = Bundle::parse(&read(path)?).map_err(wrong)?;
    let inspected = livepatch_inspect::inspect(&bundle).map_err(wrong)?;
    let text = match format {
        Format::Text => inspected.text(),
        Format::Json => {
            let json = serde_json::to_string_pretty(&inspected);
            json.map_err(|error| CliError::Answer(error.to_string()))? + "\n"
        }
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Ok)
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let unreadable = |why: String| CliError::Bundle { path: path.to_owned(), why };
    let most = u64::from(RootRequest::ApplyBundle.max_body_bytes());
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(unreadable(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

fn text(view: &View) -> String {
    let Some(applied) = &view.applied else { return "The livepatch is applied.\n".into() };
    let whole = applied.target.cves.iter().filter(|cve| cve.coverage == CveCoverage::Whole).count();
    let version = applied.target.version;
    format!(
        "Livepatch {version} is applied: {} fixed. It comes back after a reboot.\n",
        plural(whole, "CVE", "CVEs")
    )
}
