//! Changing a setting by the name of the original.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use livepatch_modsig::pem_certificates;
use toml_edit::{DocumentMut, value};

use super::config::{Meaning, meaning};
use crate::CliError;
use crate::file::replace_file;

const YEAR_SECONDS: u64 = 366 * 86400;
/// The file for `ca-certs`, beside the configuration.
const CERTIFICATES: &str = "ca-certs.pem";

/// Certificates that alone are believed for the server, and where they go.
#[derive(Debug)]
pub(crate) struct Certificates {
    path: PathBuf,
    pem: String,
}

impl Certificates {
    fn beside(configuration: &Path, pem: &str) -> Result<Self, String> {
        pem_certificates(pem.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Self { path: configuration.with_file_name(CERTIFICATES), pem: format!("{pem}\n") })
    }

    /// Whether they are there already.
    pub(crate) fn are_there(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|there| there == self.pem)
    }

    /// Everybody may read them: livepatchd is not root.
    pub(crate) fn write(&self) -> Result<(), CliError> {
        replace_file(&self.path, &self.pem)
    }
}

/// Sets a key, or clears it with an empty value; certificates are still to be written to the file beside the
/// configuration in `path` that the document names now. The error says why not.
pub(crate) fn change(
    document: &mut DocumentMut,
    key: &str,
    new: &str,
    path: &Path,
    now: Timestamp,
) -> Result<Option<Certificates>, String> {
    let refuse = |why: &str| Err(why.to_owned());
    let meaning = meaning(key)?;
    let (name, text) = match meaning {
        Meaning::Fixed(only) if new == only || new.is_empty() => return Ok(None),
        Meaning::Fixed(_) => return refuse("this client does not have it"),
        Meaning::Text(name)
        | Meaning::Proxy(name)
        | Meaning::List(name)
        | Meaning::Time(name)
        | Meaning::Delay(name)
        | Meaning::Instant(name)
        | Meaning::Level(name)
        | Meaning::FileText(name)
        | Meaning::Minutes(name)
            if new.is_empty() =>
        {
            document.remove(name);
            return Ok(None);
        }
        Meaning::FileText(name) => {
            let certificates = Certificates::beside(path, new)?;
            document[name] = value(certificates.path.display().to_string());
            return Ok(Some(certificates));
        }
        Meaning::Level(name) => (name, new.to_owned()),
        Meaning::Text(name) => (name, new.to_owned()),
        Meaning::Proxy(name) => {
            let schemes = ["http://", "https://", "socks5://", "socks5h://"];
            let host = schemes.iter().find_map(|scheme| new.strip_prefix(scheme)).unwrap_or_default();
            if host.is_empty() || new.contains(char::is_whitespace) {
                return refuse("it is not a URL that begins with http://, https://, socks5:// or socks5h://");
            }
            (name, new.to_owned())
        }
        Meaning::List(name) => (name, new.to_owned()),
        Meaning::Time(name) => match seconds(new) {
            Some(1..) => (name, new.to_owned()),
            _ => return refuse("it is not a time of a second or more, such as 12s, 5m or 1h"),
        },
        Meaning::Delay(name) if new == "0" => {
            document.remove(name);
            return Ok(None);
        }
        Meaning::Delay(name) => match seconds(new) {
            Some(0..=YEAR_SECONDS) => (name, new.to_owned()),
            _ => return refuse("it is neither 0 nor a time such as 30m, 12h, 3d or 2w, at most a year"),
        },
        Meaning::Instant(name) => match new.parse::<Timestamp>() {
            Ok(at) if at > now => return refuse("it is still to come: a cutoff date is in the past"),
            Ok(_) => (name, new.to_owned()),
            Err(_) => return refuse("it is not a time in RFC 3339, such as 2026-01-31T00:00:00Z"),
        },
        Meaning::Minutes(name) => match new.parse::<u32>() {
            Ok(minutes) if minutes == 0 || (60..=366 * 1440).contains(&minutes) => {
                (name, format!("{minutes}m"))
            }
            _ => return refuse("it is neither 0 nor a number of minutes from 60 to a year"),
        },
    };
    document[name] = value(text);
    Ok(None)
}

/// Of a number with s, m, h, d or w.
pub(super) fn seconds(text: &str) -> Option<u64> {
    [("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("w", 7 * 86400)].into_iter().find_map(
        |(unit, seconds)| {
            let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
            Some(u64::from(number) * seconds)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::config::parse;
    use super::*;

    fn now() -> Timestamp {
        "2026-11-29T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn changes_keep_comments_and_what_is_refused_says_why() {
        let text = "# ours\nserver = \"https://a\" # here\n";
        let changed = |key: &str, value: &str| {
            let mut document = parse(text).unwrap();
            let changed = change(&mut document, key, value, "/etc/livepatch.toml".as_ref(), now());
            changed.map(|_| document.to_string())
        };
        assert!(changed("remote-server", "https://b").unwrap().starts_with("# ours\nserver = \"https://b\""));
        assert_eq!(changed("check-interval", "120").unwrap(), format!("{text}check-interval = \"120m\"\n"));
        let proxy = "socks5://proxy:1080";
        assert_eq!(changed("https-proxy", proxy).unwrap(), format!("{text}https-proxy = \"{proxy}\"\n"));
        assert_eq!(changed("check-interval", "0").unwrap(), format!("{text}check-interval = \"0m\"\n"));
        assert!(!changed("remote-server", "").unwrap().contains("server"));
        assert_eq!(changed("patch-delay", "3d").unwrap(), format!("{text}patch-delay = \"3d\"\n"));
        let cutoff = "2026-01-01T00:00:00Z";
        assert_eq!(changed("cutoff-date", cutoff).unwrap(), format!("{text}cutoff-date = \"{cutoff}\"\n"));
        for same in
            [("http-proxy", ""), ("tls-patch-download", "true"), ("patch-delay", "0"), ("dial-timeout", "")]
        {
            assert_eq!(changed(same.0, same.1).unwrap(), text);
        }
        for (key, value) in [
            ("dial-timeout", "0s"),
            ("dial-timeout", "12"),
            ("check-interval", "59"),
            ("check-interval", "60m"),
            ("http-proxy", "proxy:3128"),
            ("https-proxy", "https://"),
            ("tls-patch-download", "false"),
            ("cutoff-date", "2026-01-01"),
            ("cutoff-date", "2026-11-29T00:00:01Z"),
            ("patch-delay", "-1d"),
            ("patch-delay", "2y"),
            ("patch-delay", "9999w"),
            ("ca-certs", "-----BEGIN CERTIFICATE-----"),
            ("other", "1"),
        ] {
            let error = changed(key, value).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{key} {error}");
        }
    }
}
