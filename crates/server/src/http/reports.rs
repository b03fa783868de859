//! What is not a report though it parses: texts that are longer than they may be, or more than a line.

use livepatch_api::server::{
    MAX_CLIENT_VERSION_CHARS, MAX_CPU_MODEL_CHARS, MAX_DETAIL_CHARS, MAX_DETAIL_LINES, MAX_ERROR_CHARS,
    Report,
};

pub(super) fn check(report: &Report) -> Result<(), String> {
    let line = |name: &str, text: &str, most: usize| {
        let plain = text.chars().count() <= most && !text.chars().any(char::is_control);
        if plain { Ok(()) } else { Err(format!("{name} is not one line of at most {most} characters")) }
    };
    line("client_version", &report.client_version, MAX_CLIENT_VERSION_CHARS)?;
    line("error", report.error.as_deref().unwrap_or_default(), MAX_ERROR_CHARS)?;
    if let Some(machine) = &report.machine {
        line("cpu_model", &machine.cpu_model, MAX_CPU_MODEL_CHARS)?;
    }
    let detail = report.event.as_ref().map(|event| event.detail.as_slice()).unwrap_or_default();
    if detail.len() > MAX_DETAIL_LINES {
        return Err(format!("detail has more than {MAX_DETAIL_LINES} lines"));
    }
    detail.iter().try_for_each(|text| line("detail", text, MAX_DETAIL_CHARS))
}
