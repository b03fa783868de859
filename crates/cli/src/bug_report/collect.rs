//! What of this machine goes into a report, as it is: [`super::redact`] comes afterwards.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::redact::{Private, is_name};

const MAX_FILE_BYTES: u64 = 64 << 10;
const MAX_LOG_BYTES: u64 = 1 << 20;
/// The journal may be large and its disk slow: it is asked first, and has until then while all else is looked at.
const LOG_DEADLINE: Duration = Duration::from_millis(800);
const LOG_LINES: &str = "100";
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Sections with their texts, in order.
pub(super) fn sections(log: Log, status: String, config_file: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("status", status),
        ("kernel", files(&["/proc/version", "/proc/cmdline", "/proc/sys/kernel/tainted"])),
        ("livepatches", livepatches()),
        ("os-release", file("/etc/os-release".as_ref())),
        ("configuration", without_proxies(&file(config_file))),
        ("keys", keys()),
        (
            "lockdown",
            files(&["/sys/kernel/security/lockdown", "/sys/module/module/parameters/sig_enforce"])
                + &secure_boot(std::fs::read(SECURE_BOOT).ok().as_deref()),
        ),
        ("log", log.text()),
    ]
}

/// The names of this machine, of those who use it, and of the machines that its configuration speaks of: these come up in
/// errors, too.
pub(super) fn private(config_file: &Path) -> Private {
    let mut hosts = configured_hosts(&read(config_file).unwrap_or_default());
    for path in ["/proc/sys/kernel/hostname", "/etc/hostname", "/etc/mailname"] {
        let text = read(path.as_ref()).unwrap_or_default();
        let name = text.trim().to_owned();
        hosts.extend(name.split_once('.').map(|(short, _)| short.to_owned()));
        hosts.push(name);
    }
    hosts.retain(|name| !name.is_empty() && name != "localhost");
    let people = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        (1000..65534).contains(&uid).then(|| name.to_owned())
    };
    let passwd = read("/etc/passwd".as_ref()).unwrap_or_default();
    let mut users: Vec<String> = passwd.lines().filter_map(people).collect();
    users.extend(["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok()));
    users.retain(|name| name != "root");
    Private { hosts, users }
}

/// The hosts and domains in a configuration, also in one that is none: what is behind `://`, what stands in `no-proxy`, and all
/// else that ends as names do.
fn configured_hosts(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let hosts = lines.flat_map(|line| {
        let is_list = line.starts_with("no-proxy");
        let words = line.split(|c: char| c.is_whitespace() || "\"'=,[]".contains(c)).skip(1);
        words.filter_map(move |word| {
            let url = word.split_once("://").map(|(_, rest)| rest);
            // A password may hold what would end the name of a machine.
            let rest = url.unwrap_or(word).rsplit('@').next().unwrap_or_default();
            let host = rest[..rest.find(['/', '?', '#', ':']).unwrap_or(rest.len())].trim();
            let host = host.trim_start_matches("*.").trim_matches('.');
            (url.is_some() || is_list || is_name(host)).then(|| host.to_owned())
        })
    });
    // A number or a letter alone would take too much with it; addresses go anyhow.
    hosts.filter(|host| host.len() > 2 && host.contains(|c: char| c.is_ascii_alphabetic())).collect()
}

/// A configuration without the values of its proxies, also of those that are commented out: a password may hold any character,
/// so that nothing tells where it ends.
fn without_proxies(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    // What ends a value of several lines.
    let mut open: Option<&str> = None;
    for line in text.lines() {
        if let Some(end) = open {
            open = open.filter(|_| !line.contains(end));
            continue;
        }
        match proxy(line) {
            Some((name, value)) => {
                shown.push_str(&format!("{name}= \"[secret]\"\n"));
                let begins =
                    |quotes: &&str| value.strip_prefix(*quotes).is_some_and(|v| !v.contains(*quotes));
                open = ["\"\"\"", "'''"].into_iter().find(begins);
            }
            None => shown.push_str(&format!("{line}\n")),
        }
    }
    shown
}

/// What stands before the value of a proxy, and the value, if this line sets one.
fn proxy(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(['=', ':'])?;
    let key = name.trim_matches(|c: char| c.is_whitespace() || "#\"'".contains(c)).to_ascii_lowercase();
    let kind = key.strip_suffix("proxy")?.strip_suffix(['-', '_'])?;
    let value = value.trim();
    (kind != "no" && !["", "\"\"", "''"].contains(&value)).then_some((name, value))
}

/// The beginning of a file.
fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).map_err(|error| error.to_string())
}

/// A file's text, or why there is none.
fn file(path: &Path) -> String {
    read(path).unwrap_or_else(|why| format!("{}: {why}\n", path.display()))
}

fn files(paths: &[&str]) -> String {
    paths
        .iter()
        .map(|path| format!("{path}: {}\n", read(path.as_ref()).unwrap_or_else(|why| why).trim()))
        .collect()
}

/// What the kernel has, ours and others', and whether it is in use.
fn livepatches() -> String {
    names("/sys/kernel/livepatch")
        .into_iter()
        .map(|name| {
            let path = format!("/sys/kernel/livepatch/{name}");
            files(&[&format!("{path}/enabled"), &format!("{path}/transition")])
        })
        .collect()
}

/// Files with keys, and the keyrings that the kernel shows.
fn keys() -> String {
    let mut text = String::new();
    for directory in ["/etc/livepatch/trust", "/usr/share/livepatch/keys"] {
        text.push_str(&format!("{directory}: {}\n", names(directory).join(" ")));
    }
    let keyrings = read("/proc/keys".as_ref()).unwrap_or_default();
    let certificates =
        keyrings.lines().filter(|line| line.contains("asymmetri") || line.contains("keyring   ."));
    certificates.for_each(|line| text.push_str(&format!("{line}\n")));
    text
}

/// The firmware's variable: four bytes of attributes, then 1 for on.
fn secure_boot(variable: Option<&[u8]>) -> String {
    let state = match variable.and_then(|bytes| bytes.get(4)) {
        Some(1) => "on",
        Some(_) => "off",
        None => "not known (no UEFI, or its variables are not shown)",
    };
    format!("secure boot: {state}\n")
}

fn names(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The last lines of the daemons' log, on their way.
pub(super) struct Log {
    began: Instant,
    /// The program and what it says; or why it could not be started.
    journal: std::io::Result<(Child, Receiver<std::io::Result<Vec<u8>>>)>,
}

impl Log {
    /// Asks for them, where there is a journal that answers.
    pub(super) fn ask() -> Self {
        let mut journalctl = Command::new("journalctl");
        journalctl.args([
            "--unit=livepatchd.service",
            "--unit=livepatch-loader.service",
            "--unit=livepatch-observer.service",
            "--no-pager",
            "--no-hostname",
            "--output=short-iso",
            "--lines",
            LOG_LINES,
        ]);
        journalctl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let journal = journalctl.spawn().and_then(|mut child| {
            let (sender, receiver) = mpsc::sync_channel(1);
            if let Some(out) = child.stdout.take() {
                let reading = std::thread::Builder::new().spawn(move || {
                    let mut bytes = Vec::new();
                    let read = out.take(MAX_LOG_BYTES).read_to_end(&mut bytes);
                    // The receiver is gone when the deadline is over.
                    let _ = sender.send(read.map(|_| bytes));
                });
                if let Err(error) = reading {
                    end(&mut child);
                    return Err(error);
                }
            }
            Ok((child, receiver))
        });
        Self { began: Instant::now(), journal }
    }

    /// What came of it.
    fn text(self) -> String {
        let (mut child, receiver) = match self.journal {
            Ok(journal) => journal,
            Err(error) => return log_text(Some(Err(error))),
        };
        let text = log_text(receiver.recv_timeout(LOG_DEADLINE.saturating_sub(self.began.elapsed())).ok());
        // It has said all, or too much, or nothing in time.
        end(&mut child);
        text
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// What the journal said; none: nothing in time.
fn log_text(said: Option<std::io::Result<Vec<u8>>>) -> String {
    match said {
        Some(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some(Err(error)) => format!("journalctl: {error}\n"),
        None => format!(
            "journalctl: no answer within {} ms; `journalctl -u 'livepatch*' -n {LOG_LINES}` takes its time\n",
            LOG_DEADLINE.as_millis()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_a_configuration() {
        let text = "# server = \"https://example.com\"\nserver = \"https://patches.lan:8443/v1\"\nmirrors = [\n  \"https://m1\",\n]\n\
            https-proxy = \"http://me:pw@proxy.corp\"\nno-proxy = \"localhost,.inner.corp,intranet,10.0.0.0/8\"\n\
            ca-file = \"/etc/livepatch/ca.pem\"\ncheck-interval = \"60m\"\n";
        assert_eq!(
            configured_hosts(text),
            ["patches.lan", "proxy.corp", "localhost", "inner.corp", "intranet"]
        );
    }

    #[test]
    fn proxies_are_not_shown_whatever_is_in_them() {
        let text = r#"https-proxy = "http://u:pa)s!t@proxy" # ours
  "http-proxy"='socks5://u:pa"s@proxy'
# https-proxy = "http://old:o?l#d <x>@proxy"
HTTPS_PROXY: http://u:p w@proxy
https-proxy = '''
http://u:hidden@proxy
''' # ours
http-proxy = """http://u:p@proxy"""
http-proxy = ""
no-proxy = "localhost" # a proxy: none
"#;
        insta::assert_snapshot!(without_proxies(text), @r#"
        https-proxy = "[secret]"
          "http-proxy"= "[secret]"
        # https-proxy = "[secret]"
        HTTPS_PROXY= "[secret]"
        https-proxy = "[secret]"
        http-proxy = "[secret]"
        http-proxy = ""
        no-proxy = "localhost" # a proxy: none
        "#);
        assert_eq!(configured_hosts("https-proxy = \"http://u:a?b/c)d@proxy.corp:3128/\""), ["proxy.corp"]);
    }

    #[test]
    fn what_is_said_where_there_is_nothing_to_show() {
        let logs = [None, Some(Err(std::io::Error::other("so it is")))].map(log_text);
        let boot = [None, Some(&[6, 0, 0, 0, 0][..]), Some(&[6, 0, 0, 0, 1])].map(secure_boot);
        insta::assert_snapshot!([logs.concat(), boot.concat()].concat(), @"
        journalctl: no answer within 800 ms; `journalctl -u 'livepatch*' -n 100` takes its time
        journalctl: so it is
        secure boot: not known (no UEFI, or its variables are not shown)
        secure boot: off
        secure boot: on
        ");
    }
}
