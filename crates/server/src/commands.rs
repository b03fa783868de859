use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use livepatch_manifest::{Coverage, SupportFlavour, SupportRow, Upgrade};
use livepatch_store::{NewToken, Store as _, TransparencyLog};
use livepatch_transparency::KeyEvent;
use livepatch_types::{Clock, PatchVersion, SystemClock, Tier, plural};
use serde_json::json;

use crate::arguments::{
    Arguments, Command, Format, Kernel, Log, Machine, Operator, Patch, PollHint, Support, Token, Vendor,
};
use crate::init::{Names, init};
use crate::output::{cve, list, or_dash, print};
use crate::publish::publish;
use crate::serve::serve;
use crate::{DataDir, Exit, Failure, arguments, log, machines, operator, support, token, vendor};

/// Most characters in the name of a token.
const MAX_NAME_CHARS: usize = 64;

/// Runs a command to its end.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, error).context("cannot start threads"))?;
    runtime.block_on(dispatch(arguments, SystemClock.now()))
}

async fn dispatch(arguments: Arguments, now: Timestamp) -> Result<(), Failure> {
    let data = match &arguments.command {
        Command::Init(_) | Command::Log(Log::Check { .. } | Log::Watch(_)) => DataDir::new(&arguments.data),
        _ => DataDir::open(&arguments.data)?,
    };
    match arguments.command {
        Command::Init(how) => make(&data, how, now).await,
        Command::Log(Log::Check { bundle, proof, key, list }) => {
            log::check::check(&bundle, &proof, &key, list.format)
        }
        Command::Log(Log::Watch(how)) => log::watch::watch(how).await,
        Command::Log(command) => log::commands::run(&data, command, now).await,
        Command::Serve(how) => serve(&data, how).await,
        Command::Publish { bundle, tier, unproven } => {
            print(&publish(&data, &bundle, &tier, unproven.as_deref(), now).await?)
        }
        Command::Patch(Patch::List(how)) => list_patches(&data, how.format).await,
        Command::Patch(Patch::Withdraw { version }) => withdraw(&data, version, now).await,
        Command::Token(Token::Create { name, tier, expires, limit }) => {
            create_token(&data, name, tier, expires.as_deref(), limit, now).await
        }
        Command::Token(Token::List(how)) => list_tokens(&data, how.format, now).await,
        Command::Token(Token::Revoke { name }) => {
            data.with_store(async |store| Ok(store.revoke_token(&name, now).await?)).await?;
            print(&format!("revoked token {name}; machines that enrolled with it stay enrolled\n"))
        }
        Command::Vendor(Vendor::Add { certificate }) => add_vendor(&data, &certificate, now).await,
        Command::Vendor(Vendor::List(how)) => list_vendors(&data, how.format),
        Command::Vendor(Vendor::Import { directory }) => import_vendor(&data, &directory, now).await,
        Command::Vendor(Vendor::Repositories(how)) => list_repositories(&data, how.format),
        Command::Operator(Operator::NewKey) => print(&operator::new_key(&data)?),
        Command::Operator(Operator::Import { directory }) => {
            print(&operator::import(&data, &directory, now).await?)
        }
        Command::Machine(Machine::List(how)) => {
            machines::list_machines(&data, how.unhealthy, how.list.format, now).await
        }
        Command::Machine(Machine::Show { machine, list }) => {
            machines::show(&data, &machine, list.format).await
        }
        Command::Kernel(Kernel::List(how)) => list_kernels(&data, how.format).await,
        Command::Kernel(Kernel::Cover(how)) => cover(&data, how).await,
        Command::PollHint(PollHint::Set { seconds }) => set_poll_hint(&data, Some(seconds)).await,
        Command::PollHint(PollHint::Off) => set_poll_hint(&data, None).await,
        Command::PollHint(PollHint::Show(how)) => show_poll_hint(&data, how.format).await,
        Command::Support(Support::Show(how)) => show_support(&data, how.format).await,
        Command::Support(Support::Shipped) => print(support::SHIPPED),
        Command::Support(Support::Import { file }) => {
            let rows = data.support().import(&file, now)?.rows.len();
            print(&format!(
                "{} of systems and kernels said; hosts that are not covered learn it within a day\n",
                plural(rows, "row", "rows")
            ))
        }
        Command::Kernel(Kernel::Import { index }) => {
            let count = data.known_kernels().import(&index)?;
            print(&format!("the index has {}\n", plural(count, "kernel", "kernels")))
        }
    }
}

async fn make(data: &DataDir, how: arguments::Init, now: Timestamp) -> Result<(), Failure> {
    let mut names = Names { dns: how.dns, ip: how.ip };
    if names.dns.is_empty() && names.ip.is_empty() {
        names.dns.push("localhost".into());
        names.ip = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let names_if_any = (!how.no_certificate).then_some(&names);
    let public = init(data, names_if_any, how.log_name.as_deref(), now).await?;
    let mut text = format!(
        "made data directory {}\n  operator key  {}  ({})\n",
        data.root().display(),
        public.to_text(),
        data.operator_public_key().display()
    );
    if !how.no_certificate {
        let names: Vec<String> =
            names.dns.into_iter().chain(names.ip.iter().map(ToString::to_string)).collect();
        text.push_str(&format!("  authority     {}  (for {})\n", data.ca().display(), names.join(", ")));
    }
    text.push_str("hosts need these files; next: trust a vendor with `livepatch-server vendor add CERT`\n");
    text.push_str(&format!("who watches the transparency log needs {}\n", data.log_key().display()));
    print(&text)
}

async fn create_token(
    data: &DataDir,
    name: String,
    tier: Tier,
    expires: Option<&str>,
    use_limit: Option<u32>,
    now: Timestamp,
) -> Result<(), Failure> {
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(Failure::refused("the token's name is not one line of 1 to 64 characters"));
    }
    let expires = expires.map(|text| instant(text, now)).transpose()?;
    let made = token::Token::generate()
        .ok_or_else(|| Failure::new(Exit::Failed, anyhow::anyhow!("the system has no randomness")))?;
    let new = NewToken { token: made.stored, name, tier, created: now, expires, use_limit };
    data.with_store(async |store| Ok(store.create_token(&new).await?)).await?;
    print(&format!("{}\n", made.text.expose()))
}

/// Reads a date, an instant or a time from now that lies in the future.
fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let from_now =
        |span: jiff::Span| now.to_zoned_datetime(TimeZone::UTC).checked_add(span).map(|end| end.timestamp());
    let date = |date: jiff::civil::Date| date.to_zoned_datetime(TimeZone::UTC).map(|start| start.timestamp());
    let instant = text
        .parse::<Timestamp>()
        .or_else(|_| text.parse::<jiff::Span>().and_then(from_now))
        .or_else(|_| text.parse::<jiff::civil::Date>().and_then(date))
        .map_err(|_| {
            Failure::refused(format!("{text:?} is not a time"))
                .hint("write 2027-01-31, 2027-01-31T12:00:00Z, 30d or 12h")
        })?;
    if instant <= now {
        return Err(Failure::refused(format!("{text} is not in the future")));
    }
    Ok(instant)
}

async fn list_tokens(data: &DataDir, format: Format, now: Timestamp) -> Result<(), Failure> {
    let tokens = data.with_store(async |store| Ok(store.tokens().await?)).await?;
    let state = |token: &livepatch_store::TokenRecord| {
        if token.revoked.is_some() {
            "revoked"
        } else if token.expires.is_some_and(|expires| now >= expires) {
            "expired"
        } else if token.use_limit.is_some_and(|limit| token.uses >= limit) {
            "exhausted"
        } else {
            "valid"
        }
    };
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            vec![
                token.name.clone(),
                token.tier.to_string(),
                state(token).to_owned(),
                token
                    .use_limit
                    .map_or_else(|| token.uses.to_string(), |limit| format!("{}/{limit}", token.uses)),
                or_dash(token.expires),
            ]
        })
        .collect();
    let objects = tokens
        .iter()
        .map(|token| {
            json!({
                "name": token.name, "tier": token.tier, "state": state(token), "created": token.created,
                "expires": token.expires, "machines": token.uses, "limit": token.use_limit,
                "revoked": token.revoked,
            })
        })
        .collect();
    list(format, &["name", "tier", "state", "machines", "expires"], &rows, objects)
}

async fn list_patches(data: &DataDir, format: Format) -> Result<(), Failure> {
    let patches = data.with_store(async |store| Ok(store.patches().await?)).await?;
    let rows: Vec<_> = patches
        .iter()
        .map(|patch| {
            let tiers: Vec<_> = patch.releases.iter().map(|release| release.tier.as_str()).collect();
            let cves: Vec<_> = patch.manifest.cves.iter().map(cve).collect();
            vec![
                patch.manifest.version.to_string(),
                patch.manifest.kernel.release.to_string(),
                if patch.withdrawn.is_some() { "withdrawn".to_owned() } else { tiers.join(",") },
                patch.published.to_string(),
                if cves.is_empty() { "-".to_owned() } else { cves.join(", ") },
            ]
        })
        .collect();
    let objects = patches
        .iter()
        .map(|patch| {
            let releases: Vec<_> = patch
                .releases
                .iter()
                .map(|release| json!({ "tier": release.tier, "released": release.released }))
                .collect();
            json!({
                "version": patch.manifest.version, "kernel": patch.manifest.kernel, "module": patch.manifest.module,
                "cves": patch.manifest.cves, "published": patch.published, "tiers": releases,
                "withdrawn": patch.withdrawn,
            })
        })
        .collect();
    list(format, &["version", "kernel", "tiers", "published", "cves"], &rows, objects)
}

async fn withdraw(data: &DataDir, version: PatchVersion, now: Timestamp) -> Result<(), Failure> {
    let kernels = data.with_store(async |store| Ok(store.withdraw(version, now).await?)).await?;
    let mut text = format!("withdrew patch {version} for {}:\n", plural(kernels.len(), "kernel", "kernels"));
    for kernel in kernels {
        text.push_str(&format!("  {} (build-id {})\n", kernel.release, kernel.build_id));
    }
    text.push_str("hosts learn it with their next check; it is final\n");
    print(&text)
}

/// The log says which roots are believed before they are.
pub(crate) async fn log_roots(
    log: &dyn TransparencyLog,
    roots: &[KeyEvent],
    now: Timestamp,
) -> Result<(), Failure> {
    for root in roots {
        log.log_key(root, now).await?;
    }
    Ok(())
}

async fn add_vendor(data: &DataDir, path: &std::path::Path, now: Timestamp) -> Result<(), Failure> {
    let certificate = vendor::read_certificate(path)?;
    let (subject, key_id) = (certificate.subject(), certificate.key_id_hex());
    if data.with_store(async |store| vendor::add(data, store, &certificate, now).await).await? {
        print(&format!("trusting {subject} (key id {key_id})\n"))
    } else {
        print(&format!("{subject} (key id {key_id}) is trusted already; nothing changed\n"))
    }
}

fn list_vendors(data: &DataDir, format: Format) -> Result<(), Failure> {
    let vendors = vendor::trusted(data)?;
    let rows: Vec<_> = vendors.iter().map(|c| vec![c.key_id_hex(), c.subject().to_owned()]).collect();
    let objects =
        vendors.iter().map(|c| json!({ "key_id": c.key_id_hex(), "subject": c.subject() })).collect();
    list(format, &["key id", "subject"], &rows, objects)
}

async fn import_vendor(data: &DataDir, directory: &std::path::Path, now: Timestamp) -> Result<(), Failure> {
    let import = data.repositories().check_vendor(directory, now)?;
    let served = data
        .with_store(async |store| {
            log_roots(store, import.roots(), now).await?;
            let served = import.take()?;
            store.touch_documents().await?;
            Ok(served)
        })
        .await?;
    print(&format!(
        "serving repository {}: root {}, timestamp {}; {}\nhosts learn it with their next check\n",
        served.newest.repository,
        served.newest.root.version,
        served.newest.timestamp.version,
        plural(served.kernels.len(), "kernel", "kernels")
    ))
}

fn list_repositories(data: &DataDir, format: Format) -> Result<(), Failure> {
    let repositories = data.repositories().served();
    let rows: Vec<_> = repositories
        .iter()
        .map(|served| {
            let newest = &served.newest;
            let numbers = [newest.root.version, newest.timestamp.version, served.kernels.len() as u64];
            std::iter::once(newest.repository.clone())
                .chain(numbers.iter().map(ToString::to_string))
                .chain([served.expires.to_string()])
                .collect()
        })
        .collect();
    let objects = repositories.iter().map(|served| json!(served)).collect();
    list(format, &["repository", "root", "timestamp", "kernels", "expires"], &rows, objects)
}

async fn cover(data: &DataDir, how: arguments::Cover) -> Result<(), Failure> {
    let arguments::Cover { build_id, until, series_until, upgrade_for, notice } = how;
    let upgrade = upgrade_for.map(|cve| Upgrade { cve, notice });
    let coverage = Coverage { until, series_until, upgrade };
    let said = Some(&coverage).filter(|coverage| **coverage != Coverage::default());
    data.with_store(async |store| Ok(store.set_coverage(&build_id, said).await?)).await?;
    let what = said.map_or_else(|| "nothing is said of its cover any more".to_owned(), covered);
    print(&format!("kernel {build_id}: {what}\nhosts learn it with their next check\n"))
}

/// A cover in a few words.
fn covered(coverage: &Coverage) -> String {
    let until = coverage.until.map(|date| format!("until {date}"));
    let series = coverage.series_until.map(|date| format!("series until {date}"));
    let upgrade = coverage.upgrade.as_ref().map(|upgrade| match upgrade.notice {
        Some(notice) => format!("upgrade for {} ({notice})", upgrade.cve),
        None => format!("upgrade for {}", upgrade.cve),
    });
    upgrade.into_iter().chain(until).chain(series).collect::<Vec<_>>().join(", ")
}

async fn set_poll_hint(data: &DataDir, seconds: Option<u32>) -> Result<(), Failure> {
    data.with_store(async |store| Ok(store.set_poll_hint(seconds).await?)).await?;
    let what = match seconds {
        Some(seconds) => format!("hosts ask every {seconds} s, or as often as they do by themselves"),
        None => "hosts ask as often as they do by themselves".to_owned(),
    };
    print(&format!("{what}\nthey learn it with their next check\n"))
}

async fn show_poll_hint(data: &DataDir, format: Format) -> Result<(), Failure> {
    let seconds = data.with_store(async |store| Ok(store.poll_hint_seconds().await?)).await?;
    let rows = [vec![or_dash(seconds)]];
    list(format, &["poll hint in seconds"], &rows, vec![json!({ "poll_hint_seconds": seconds })])
}

/// The matrix, and how many kernels of each flavour this server has livepatches for: what is said should be so.
async fn show_support(data: &DataDir, format: Format) -> Result<(), Failure> {
    let matrix = data.support().matrix()?;
    let kernels = data.with_store(async |store| Ok(store.kernels().await?)).await?;
    let known = |row: &SupportRow, flavour: &SupportFlavour| {
        let with = kernels.iter().filter(|record| !record.targets.is_empty());
        with.filter(|record| row.is_of(flavour, record.kernel.release.as_str())).count()
    };
    let flavours =
        || matrix.rows.iter().flat_map(|row| row.flavours.iter().map(move |flavour| (row, flavour)));
    let rows: Vec<_> = flavours()
        .map(|(row, flavour)| {
            vec![
                row.name.clone(),
                format!("{} {}", row.series, row.line),
                flavour.name.clone(),
                flavour.package.clone(),
                or_dash(row.until),
                known(row, flavour).to_string(),
            ]
        })
        .collect();
    let objects = flavours()
        .map(|(row, flavour)| {
            json!({
                "distribution": row.distribution, "release": row.release, "name": row.name,
                "architecture": row.architecture, "series": row.series, "line": row.line,
                "flavour": flavour.name, "package": flavour.package, "window_months": row.window_months,
                "until": row.until, "kernels": known(row, flavour),
            })
        })
        .collect();
    list(format, &["system", "series", "flavour", "package", "until", "kernels"], &rows, objects)
}

async fn list_kernels(data: &DataDir, format: Format) -> Result<(), Failure> {
    let kernels = data.with_store(async |store| Ok(store.kernels().await?)).await?;
    let rows: Vec<_> = kernels
        .iter()
        .map(|record| {
            let targets: Vec<_> =
                record.targets.iter().map(|(tier, version)| format!("{tier}={version}")).collect();
            vec![
                record.kernel.release.to_string(),
                record.kernel.build_id.to_string(),
                record.machines.to_string(),
                if targets.is_empty() { "-".to_owned() } else { targets.join(" ") },
                or_dash(record.coverage.as_ref().map(covered)),
            ]
        })
        .collect();
    let objects = kernels
        .iter()
        .map(|record| {
            let targets: Vec<_> = record
                .targets
                .iter()
                .map(|(tier, version)| json!({ "tier": tier, "version": version }))
                .collect();
            json!({
                "kernel": record.kernel, "machines": record.machines, "targets": targets,
                "coverage": record.coverage,
            })
        })
        .collect();
    list(format, &["kernel", "build-id", "machines", "patches", "cover"], &rows, objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_three_forms() {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let read = |text: &str| instant(text, now).map(|t| t.to_string()).map_err(|f| f.to_string());
        assert_eq!(read("2027-01-31").unwrap(), "2027-01-31T00:00:00Z");
        assert_eq!(read("2027-01-31T12:00:00Z").unwrap(), "2027-01-31T12:00:00Z");
        assert_eq!(read("30d").unwrap(), "2026-12-24T10:00:00Z");
        assert_eq!(read("12h").unwrap(), "2026-11-24T22:00:00Z");
        assert!(read("soon").unwrap_err().contains("hint: write 2027-01-31"));
        assert!(read("2026-11-24").unwrap_err().contains("not in the future"));
    }
}
