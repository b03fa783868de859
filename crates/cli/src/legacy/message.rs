use crate::CliError;

/// What stderr gets for an error: where programs look for the words of the original, these, otherwise ours.
pub fn message(error: &CliError) -> String {
    let code = match error {
        CliError::Refused(failure) => failure.code.as_str(),
        _ => "",
    };
    match code {
        "not-enabled" => "Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server.\n".into(),
        "already-enabled" => {
            "Machine-token already exists! Please use 'disable' to delete existing machine-token.\n".into()
        }
        "unknown-token" => format!("Unknown Auth-Token\n\n{}", hints(error)),
        _ => error.to_text(),
    }
}

fn hints(error: &CliError) -> String {
    error.hints().into_iter().map(|hint| format!("hint: {hint}\n")).collect()
}
