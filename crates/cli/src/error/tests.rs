use super::*;
use crate::legacy;

/// One of each, in the order of the enum.
fn each() -> Vec<CliError> {
    let (path, why) = (PathBuf::from("/the/file"), String::from("so it is"));
    let at = |daemon| CliError::Unreachable { daemon, socket: "/run/x.sock".into(), why: "so it is".into() };
    let hints = vec!["do this".into()];
    vec![
        at(Daemon::Agent),
        at(Daemon::Loader),
        CliError::NotPermitted,
        CliError::not_enabled(),
        CliError::Refused(Failure { code: "a-code".into(), message: "it is refused".into(), hints }),
        CliError::Answer(why.clone()),
        CliError::Token(why.clone()),
        CliError::Config { path: path.clone(), why: why.clone() },
        CliError::Restart(why.clone()),
        CliError::Setting { key: "a-key".into(), why: why.clone() },
        CliError::Write { path: path.clone(), why: why.clone() },
        CliError::NotConfirmed,
        CliError::Bundle { path: path.clone(), why: why.clone() },
        CliError::Import { path, why: why.clone() },
        CliError::VendorCertificate(why.clone()),
        CliError::NoUefi,
        CliError::NoMokutil,
        CliError::Mokutil(why.clone()),
        CliError::Connection(why),
        CliError::Output(std::io::Error::other("so it is")),
    ]
}

#[test]
fn what_stderr_gets() {
    let said: Vec<String> = each().iter().map(CliError::to_text).collect();
    insta::assert_snapshot!(said.join("---\n"), @"
    error: the daemon cannot be reached on /run/x.sock: so it is

    hint: `systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied
    ---
    error: the loader cannot be reached on /run/x.sock: so it is

    hint: `systemctl status livepatch-loader` says whether it runs; a livepatch that is applied stays applied
    ---
    error: only root may do this

    hint: use sudo
    ---
    error: this host is not enrolled

    hint: `livepatch enable --token-file FILE` enrols it
    ---
    error: it is refused

    hint: do this
    ---
    error: the daemon's answer is not understood: so it is

    hint: client and daemon may differ in version: restart the daemon
    ---
    error: cannot read the token: so it is

    hint: `livepatch enable --token-file FILE`, or `-` to read it from standard input
    ---
    error: cannot use /the/file: so it is

    hint: correct it there; `journalctl -u livepatchd` says what the daemon thinks of it
    ---
    error: cannot restart the daemons: so it is

    hint: the configuration is changed; `systemctl restart livepatchd`, and `journalctl -u livepatchd` says why not
    ---
    error: a-key: so it is

    hint: `canonical-livepatch config` shows every key with its value
    ---
    error: cannot write /the/file: so it is

    hint: look at the directory and whether the file is there already
    ---
    error: nothing is written: nobody said yes

    hint: answer y, or `--yes` for scripts, once the report has been read
    ---
    error: cannot read the bundle /the/file: so it is

    hint: `livepatch-build trust attach` makes it: one file, of a livepatch
    ---
    error: cannot import /the/file: so it is

    hint: it is what `canonical-livepatch config` of the original prints; set right in a copy what is refused, or take it out
    ---
    error: cannot read the certificate of who signs livepatches: so it is

    hint: put it, in PEM, as vendor.pem into /etc/livepatch/trust, readable for everybody
    ---
    error: this machine was not started by UEFI firmware, which would keep the key

    hint: without UEFI there is no Secure Boot; `livepatch secure-boot status` says what the kernel takes
    ---
    error: mokutil is not installed

    hint: `apt-get install mokutil`, then again
    ---
    error: mokutil did not import the certificate: so it is

    hint: what it printed says why; keys are enrolled only where shim starts the system (`mokutil --sb-state`)
    ---
    error: standard input is no connection: so it is

    hint: systemd starts this for each connection: `systemctl status livepatch-legacy-root.socket`
    ---
    error: cannot write the output: so it is

    hint: look at where it goes: a full disk, a pipe that nobody reads
    ");
}

/// One line in lower case, then what to do: nobody is left with an error alone.
#[test]
fn every_error_is_in_the_style_of_the_house() {
    for error in each() {
        let text = error.to_text();
        let (line, hints) = text.split_once("\n\n").unwrap_or_else(|| panic!("no hint: {text}"));
        let first = line.strip_prefix("error: ").unwrap().chars().next().unwrap();
        assert!(!first.is_uppercase() && !line.contains('\n') && !line.ends_with('.'), "{text}");
        assert!(hints.lines().all(|hint| hint.starts_with("hint: ") && !hint.ends_with('.')), "{text}");
    }
}

/// The words that programs look for in what `canonical-livepatch` says.
#[test]
fn what_the_other_name_says() {
    let refused = |code: &str| {
        let (message, hints) = ("it is refused".into(), vec!["do this".into()]);
        legacy::message(&CliError::Refused(Failure { code: code.into(), message, hints }))
    };
    let said = ["not-enabled", "already-enabled", "unknown-token", "another"].map(refused);
    insta::assert_snapshot!(said.join("---\n"), @"
    Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server.
    ---
    Machine-token already exists! Please use 'disable' to delete existing machine-token.
    ---
    Unknown Auth-Token

    hint: do this
    ---
    error: it is refused

    hint: do this
    ");
}
