//! Making a data directory.

use std::fs::{DirBuilder, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use livepatch_manifest::VerifyingKey;
use livepatch_store::{SqliteStore, TransparencyLog as _};
use livepatch_transparency::LogKey;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::DnsName;

use crate::data_dir::write_new;
use crate::{DataDir, Exit, Failure, OperatorKey, log};

/// How long the certificates of `init` are valid. The authority's key is thrown away, so that nobody can make
/// certificates for other names with it; a new certificate means a new authority.
const CERTIFICATE_YEARS: i16 = 10;

/// The names of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ip: Vec<IpAddr>,
}

struct Certificates {
    ca_pem: String,
    chain_pem: String,
    key_pem: String,
}

/// Makes a data directory, with certificates if there are names for them, and a log under this name, or under one that no
/// other log has. A directory that has something in it is
/// refused. Whatever fails, a directory without `operator.key` is all that can be left behind.
pub async fn init(
    data: &DataDir,
    names: Option<&Names>,
    log_name: Option<&str>,
    now: Timestamp,
) -> Result<VerifyingKey, Failure> {
    // Everything that can go wrong without touching the disk comes first.
    let certificates = names
        .map(|names| certificates(names, now))
        .transpose()
        .map_err(|error| Failure::new(Exit::Refused, error).hint("check the names after --dns and --ip"))?;
    let (key, pem) = OperatorKey::generate()
        .map_err(|error| Failure::new(Exit::Failed, error.context("cannot make a signing key")))?;
    let public = key.public().clone();
    let log_name = log_name.map_or_else(|| log::default_name(&key), str::to_owned);
    let log_key = LogKey::new(&log_name, *public.as_bytes())
        .map_err(|error| Failure::new(Exit::Refused, error).hint("check the name after --log-name"))?;

    make_empty_directory(data)?;
    let store = SqliteStore::create(&data.database()).await?;
    store.log_key(&log::operator_key_event(&log_key), now).await?;
    store.close().await;
    write_new(&data.log_key(), format!("{}\n", log_key.to_text()).as_bytes())?;
    if let Some(certificates) = certificates {
        write_new(&data.tls_key(), certificates.key_pem.as_bytes())?;
        write_new(&data.tls_certificate(), certificates.chain_pem.as_bytes())?;
        write_new(&data.ca(), certificates.ca_pem.as_bytes())?;
    }
    write_new(&data.operator_public_key(), format!("{}\n", public.to_text()).as_bytes())?;
    write_new(&data.operator_key(), pem.expose().as_bytes())?;
    Ok(public)
}

fn make_empty_directory(data: &DataDir) -> Result<(), Failure> {
    let root = data.root();
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Setup, error).context(format!("cannot make the data directory {}", root.display()))
    };
    if let Ok(mut entries) = std::fs::read_dir(root)
        && entries.next().is_some()
    {
        return Err(Failure::new(Exit::Setup, anyhow::anyhow!("{} is not empty", root.display()))
            .hint("an existing data directory is never overwritten; take another, or remove it yourself"));
    }
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(root).map_err(failed)?;
    std::fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(failed)?;
    private.create(data.objects_dir()).map_err(failed)?;
    private.create(data.vendor_dir()).map_err(failed)
}

fn certificates(names: &Names, now: Timestamp) -> anyhow::Result<Certificates> {
    // From yesterday, so that a host whose clock is a little behind can connect.
    let start =
        now.checked_sub(jiff::SignedDuration::from_hours(24))?.to_zoned_datetime(TimeZone::UTC).date();
    let date = |years: i16| -> anyhow::Result<_> {
        let (month, day) = (u8::try_from(start.month())?, u8::try_from(start.day())?.min(28));
        Ok(rcgen::date_time_ymd(i32::from(start.year() + years), month, day))
    };
    let valid = |mut params: CertificateParams, name: &str| -> anyhow::Result<CertificateParams> {
        params.not_before = date(0)?;
        params.not_after = date(CERTIFICATE_YEARS)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params)
    };
    let mut ca = valid(CertificateParams::default(), "livepatch-server authority")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;

    for name in &names.dns {
        DnsName::try_from(name.as_str()).map_err(|_| anyhow::anyhow!("{name:?} is not a DNS name"))?;
    }
    let mut all: Vec<String> = names.dns.clone();
    all.extend(names.ip.iter().map(IpAddr::to_string));
    let mut params = valid(
        CertificateParams::new(all).context("a name cannot stand in a certificate")?,
        "livepatch-server",
    )?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key))?;
    Ok(Certificates {
        ca_pem: ca_certificate.pem(),
        chain_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}
