use proptest::prelude::*;

use crate::clear_signed::{FrameError, check_frame};
use crate::deb::{DebError, kernel_image};
use crate::packages::{PackagesError, is_kernel_image, kernel_images, readable};
use crate::pockets::{self, PocketTable, other_suite};
use crate::release::ReleaseError;
use crate::*;

#[test]
fn only_one_signed_text_is_taken() {
    let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: x\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n";
    for (what, bytes, expected) in [
        ("as it should be", text.to_owned(), Ok(())),
        ("with line ends of another system", text.replace('\n', "\r\n"), Ok(())),
        ("plain", "Origin: x\n".to_owned(), Err(FrameError::NotSigned)),
        ("empty", String::new(), Err(FrameError::NotSigned)),
        ("text in front", format!("Origin: y\n{text}"), Err(FrameError::NotOneText)),
        ("text behind", format!("{text}Origin: y\n"), Err(FrameError::NotOneText)),
        ("two texts", format!("{text}{text}"), Err(FrameError::NotOneText)),
        ("another armor", text.replace("SIGNATURE", "MESSAGE"), Err(FrameError::NotOneText)),
        ("cut", text[..text.len() - 20].to_owned(), Err(FrameError::NotOneText)),
        ("with a zero", text.replace("Origin", "Ori\0gin"), Err(FrameError::NotOneText)),
    ] {
        assert_eq!(check_frame(bytes.as_bytes()), expected, "{what}");
    }
}

const HEX: &str = "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f";

fn release(fields: &str) -> Result<ReleaseFile, ReleaseError> {
    ReleaseFile::parse(fields)
}

#[test]
fn a_release_says_when_and_what() {
    let text = format!(
        "Origin: Debian\nSuite: oldstable\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Thu, 03 Dec 2026  1:03:35 +0000\nAcquire-By-Hash: yes\nMD5Sum:\n x 1 main/a\nSHA256:\n {HEX}  50060337 main/binary-amd64/Packages\n"
    );
    let read = release(&text).unwrap();
    assert_eq!(read.date.to_string(), "2026-07-11T10:16:37Z");
    assert_eq!(read.valid_until.unwrap().to_string(), "2026-12-03T01:03:35Z");
    assert!(read.by_hash);
    assert_eq!(read.files["main/binary-amd64/Packages"].size_bytes, 50_060_337);
    for (from, to, expected) in [
        ("Date: Sat, 11", "Day: Sat, 11", "it has no field Date"),
        ("SHA256:", "SHA1:", "it has no field SHA256"),
        ("Suite: oldstable", "Origin: Me", "it has the field origin twice"),
        (
            HEX,
            "515e",
            "its field SHA256 is not what it should be: \"515e  50060337 main/binary-amd64/Packages\"",
        ),
        ("37 UTC", "37 CEST", "its field Date is not what it should be: \"Sat, 11 Jul 2026 10:16:37 CEST\""),
        (
            "03 Dec",
            "33 Dec",
            "its field Valid-Until is not what it should be: \"Thu, 33 Dec 2026  1:03:35 +0000\"",
        ),
    ] {
        assert_eq!(release(&text.replacen(from, to, 1)).unwrap_err().to_string(), expected);
    }
    let twice = format!("{text} {HEX}  1 main/binary-amd64/Packages\n");
    assert!(matches!(release(&twice), Err(ReleaseError::Field { field: "SHA256", .. })));
}

#[test]
fn a_release_must_be_of_the_suite_that_was_asked_for() {
    let table = PocketTable::parse(pockets::SHIPPED).unwrap();
    let of = |origin: &str, suite: &str, codename: &str| {
        release(&format!("Origin: {origin}\nSuite: {suite}\nCodename: {codename}\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n"))
            .unwrap()
    };
    for (asked, release, expected) in [
        ("bookworm", of("Debian", "oldstable", "bookworm"), None),
        ("bookworm", of("Debian", "unstable", "sid"), Some("sid")),
        ("bookworm", of("Debian", "bookworm", "sid"), Some("sid")),
        ("jammy", of("Ubuntu", "jammy", "jammy"), None),
        ("jammy", of("Ubuntu", "jammy-proposed", "jammy"), Some("jammy-proposed")),
        ("jammy", of("LP-PPA-somebody", "jammy", "jammy"), None),
        ("mine", of("Me", "mine", "x"), None),
        ("mine", of("Me", "x", "mine"), None),
        ("mine", of("Me", "x", "y"), Some("y")),
    ] {
        assert_eq!(other_suite(asked, table.of_suite(asked), &release), expected, "{asked} {release:?}");
    }
}

#[test]
fn what_is_official_is_in_the_table() {
    let table = PocketTable::parse(pockets::SHIPPED).unwrap();
    for (suite, expected) in [
        ("bookworm", Some(("Debian", "release", Standing::Official))),
        ("bookworm-security", Some(("Debian", "security", Standing::Official))),
        ("bookworm-backports", Some(("Debian", "backports", Standing::Official))),
        ("bookworm-proposed-updates", Some(("Debian", "proposed-updates", Standing::NotOfficial))),
        ("jammy-infra-security", Some(("Ubuntu", "esm", Standing::Official))),
        ("jammy-proposed", Some(("Ubuntu", "proposed", Standing::NotOfficial))),
        ("elsewhere", None),
    ] {
        let pocket = table.of_suite(suite);
        let found = pocket.map(|pocket| (&*pocket.distribution, &*pocket.name, pocket.standing));
        assert_eq!(found, expected, "{suite}");
    }
    let twice = pockets::SHIPPED.replacen("\"bookworm-updates\"", "\"bookworm\"", 1);
    assert_eq!(PocketTable::parse(&twice).unwrap_err().to_string(), "the suite bookworm is in two pockets");
    let newer = pockets::SHIPPED.replacen("schema = 1", "schema = 2", 1);
    assert_eq!(
        PocketTable::parse(&newer).unwrap_err().to_string(),
        "its schema is 2, and this program reads 1"
    );
}

#[test]
fn kernels_are_told_from_other_packages() {
    for (package, expected) in [
        ("linux-image-6.1.0-50-cloud-amd64", true),
        ("linux-image-6.1.0-50-amd64-unsigned", true),
        ("linux-image-unsigned-5.15.0-91-generic", true),
        ("linux-image-6.1.0-50-amd64-dbg", false),
        ("linux-image-unsigned-5.15.0-91-generic-dbgsym", false),
        ("linux-image-amd64", false),
        ("linux-image-amd64-signed-template", false),
        ("linux-headers-6.1.0-50-amd64", false),
    ] {
        assert_eq!(is_kernel_image(package), expected, "{package}");
    }
}

#[test]
fn entries_of_kernels_are_whole_or_refused() {
    let package = "linux-image-6.1.0-50-amd64";
    let text = format!(
        "Package: vim\nVersion: 9\n\n\nPackage: {package}\nVersion: 1:6.1.176-1~x+b1\nArchitecture: amd64\nDescription: a\n Filename: x\nFilename: pool/main/l/linux/a_1.2+b~c_amd64.deb\nSize: 3\nSHA256: {HEX}\n"
    );
    let [entry] = &kernel_images(text.as_bytes()).unwrap()[..] else { panic!() };
    assert_eq!((entry.path.as_str(), entry.entry.size_bytes), ("pool/main/l/linux/a_1.2+b~c_amd64.deb", 3));
    for (from, to, expected) in [
        ("Size: 3", "Size: -3", "the entry of linux-image-6.1.0-50-amd64 has no valid Size"),
        ("SHA256", "SHA512", "the entry of linux-image-6.1.0-50-amd64 has no valid SHA256"),
        ("Version: 1:", "Version: ", ""),
        ("Version: 1:", "Version: $(", "the entry of linux-image-6.1.0-50-amd64 has no valid Version"),
        ("Size: 3", "Size: 3\nSize: 4", "the entry of linux-image-6.1.0-50-amd64 has a field twice"),
        (
            "pool/main",
            "../../main",
            "the file of linux-image-6.1.0-50-amd64 is not below the archive: \"../../main/l/linux/a_1.2+b~c_amd64.deb\"",
        ),
        (
            "pool/main",
            "/etc",
            "the file of linux-image-6.1.0-50-amd64 is not below the archive: \"/etc/l/linux/a_1.2+b~c_amd64.deb\"",
        ),
    ] {
        let refused = kernel_images(text.replacen(from, to, 1).as_bytes());
        assert_eq!(refused.err().map(|error| error.to_string()).unwrap_or_default(), expected, "{to}");
    }
    // Who has the file already does not ask where it was.
    let text = text.replace("Filename", "File");
    let all = readable(format!("{text}\n{}", text.replace("Size: 3", "Size: x")).as_bytes()).unwrap();
    let names: Vec<String> = all.iter().map(PackageEntry::file_name).collect();
    assert_eq!(names, ["linux-image-6.1.0-50-amd64_1%3a6.1.176-1~x+b1_amd64.deb"]);
    assert_eq!(kernel_images(b"\xff"), Err(PackagesError::NotText));
    for path in [
        "pool//a.deb",
        "pool/./a.deb",
        "pool/a.deb/..",
        "",
        "a",
        "pool/a b.deb",
        "pool/%2e%2e/a.deb",
        "pool/é.deb",
        "http://x/a.deb",
        "pool/a?.deb",
    ] {
        assert_eq!(PoolPath::parse(path), None, "{path}");
    }
}

#[test]
fn nothing_unpacks_to_more_than_was_said() {
    let packed = packed(&[7; 100_000]);
    assert_eq!(unpack_xz(&packed, 100_000).unwrap(), [7; 100_000]);
    assert_eq!(unpack_xz(&packed, 99_999), Err(UnpackError::TooLarge(99_999)));
    for cut in [0, 5, packed.len() - 1] {
        assert!(matches!(unpack_xz(&packed[..cut], 100_000), Err(UnpackError::Corrupt(_))), "{cut}");
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One file in a tar archive.
fn tar_entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(format!("{:011o}\0", 1_782_914_400).as_bytes());
    header[148..156].fill(b' ');
    header[156] = kind;
    let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = header.to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn deb(data_name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar.xz", b"x"), (data_name, data)] {
        out.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes(),
        );
        out.extend(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

#[test]
fn the_image_is_found_in_its_package() {
    let files = [
        tar_entry("./", b'5', b""),
        tar_entry("./boot/", b'5', b""),
        tar_entry("./boot/vmlinuz-6.1.0-49-amd64", b'2', b""),
        tar_entry("./boot/vmlinuz-", b'0', b"no release"),
        tar_entry("./boot/config-6.1.0-50-amd64", b'0', &[1; 700]),
        tar_entry("./boot/vmlinuz-6.1.0-50-amd64", b'0', b"kernel"),
        vec![0; 1024],
    ]
    .concat();
    let zst = zstd::encode_all(&files[..], 1).unwrap();
    for (name, data) in [("data.tar", files.clone()), ("data.tar.xz", packed(&files)), ("data.tar.zst", zst)]
    {
        let package = deb(name, &data);
        let image = kernel_image(&package).unwrap();
        assert_eq!((image.release.as_str(), &image.bytes[..]), ("6.1.0-50-amd64", &b"kernel"[..]), "{name}");
        assert_eq!(image.modified.to_string(), "2026-07-01T14:00:00Z");
        for cut in 0..package.len() - 1 {
            // The archive may end where it likes behind the image.
            _ = kernel_image(&package[..cut]);
        }
    }
    let without = [tar_entry("./boot/config-1", b'0', b"x"), vec![0; 1024]].concat();
    assert_eq!(kernel_image(&deb("data.tar", &without)), Err(DebError::NoImage));
    assert_eq!(kernel_image(&deb("data.tar.gz", b"")), Err(DebError::Packing("data.tar.gz".into())));
    assert_eq!(kernel_image(b"x"), Err(DebError::NotADeb("it does not begin as one")));
    let mut broken = files;
    broken[2000] ^= 1;
    assert!(matches!(kernel_image(&deb("data.tar", &broken)), Err(DebError::Damaged(_))));
}

fn row(build_id: u8, suite: &str, version: &str) -> KernelRow {
    let digest = |byte| livepatch_types::Sha256Digest::from_bytes([byte; 32]);
    KernelRow {
        architecture: livepatch_types::Architecture::Amd64,
        build_id: livepatch_types::BuildId::from_bytes(&[build_id; 20]).unwrap(),
        release: "6.1.0-50-amd64".parse().unwrap(),
        distribution: "Debian".into(),
        suite: suite.into(),
        pocket: "release".into(),
        standing: Standing::Official,
        package: "linux-image-6.1.0-50-amd64".into(),
        version: version.into(),
        builtin_keys: Some(vec!["00ff".into()]),
        image_date: "2026-07-01T14:00:00Z".parse().unwrap(),
        published_by: "2026-07-11T14:00:00Z".parse().unwrap(),
        provenance: Provenance {
            repository: "file:///srv".into(),
            signed_by: vec!["AC530D520F2F3269F5E98313A48449044AAD5C5D".into()],
            in_release: digest(1),
            packages_path: "main/binary-amd64/Packages.xz".into(),
            packages: digest(2),
            package_path: "pool/a.deb".into(),
            package: digest(build_id),
        },
    }
}

#[test]
fn an_index_keeps_what_was_known_first() {
    let mut index = KernelIndex::default();
    index.add(row(2, "bookworm", "1"));
    index.add(row(1, "bookworm", "1"));
    index.add(row(1, "bookworm-security", "1"));
    let again = KernelRow {
        published_by: "2027-01-01T00:00:00Z".parse().unwrap(),
        standing: Standing::NotOfficial,
        ..row(1, "bookworm", "1")
    };
    index.add(again);
    assert_eq!((index.kernels.len(), index.count()), (3, 2));
    let found = index.find(livepatch_types::Architecture::Amd64, &row(1, "", "").build_id);
    assert_eq!(
        found.iter().map(|row| row.suite.as_str()).collect::<Vec<_>>(),
        ["bookworm-security", "bookworm"]
    );
    assert_eq!(found[1].published_by, row(1, "", "").published_by);
    assert_eq!(found[1].standing, Standing::NotOfficial);
    let seen = |date: &str| SeenRelease {
        repository: "file:///srv".into(),
        suite: "bookworm".into(),
        date: date.parse().unwrap(),
        in_release: row(1, "", "").provenance.in_release,
    };
    index.remember(seen("2026-07-11T14:00:00Z"));
    index.remember(seen("2026-07-12T14:00:00Z"));
    assert_eq!(index.archives, [seen("2026-07-12T14:00:00Z")]);
    assert_eq!(KernelIndex::parse(&index.to_bytes()).unwrap(), index);

    let schema = include_str!("../../../docs/schema/kernel-index.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let mut value = serde_json::to_value(&index).unwrap();
    assert!(
        schema.is_valid(&value),
        "{:?}",
        schema.iter_errors(&value).map(|e| e.to_string()).collect::<Vec<_>>()
    );
    value["kernels"][0]["builtin_keys"] = serde_json::Value::Null;
    assert!(schema.is_valid(&value));
    // Each member is described, and none may be missing.
    let serde_json::Value::Object(members) = value["kernels"][0].clone() else { panic!() };
    for name in members.keys() {
        let mut without = value.clone();
        without["kernels"][0].as_object_mut().unwrap().remove(name);
        assert!(!schema.is_valid(&without), "{name}");
        assert!(
            name == "builtin_keys" || KernelIndex::parse(without.to_string().as_bytes()).is_err(),
            "{name}"
        );
    }
    value["kernels"][0]["more"] = 1.into();
    assert!(!schema.is_valid(&value));
    assert_eq!(
        KernelIndex::parse(b"{\"schema\":2,\"x\":1}").unwrap_err().to_string(),
        "its schema is 2, and this program reads 1"
    );
    assert!(KernelIndex::parse(b"{}").is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), text in "(Package: linux-image-6.1\n|Filename: |Size: 1|SHA256:|\n| |[a-z0-9/.]{0,9}){0,30}") {
        _ = check_frame(&bytes);
        _ = kernel_image(&bytes);
        _ = kernel_image(&deb("data.tar", &bytes));
        _ = kernel_images(&bytes);
        _ = kernel_images(text.as_bytes());
        _ = ReleaseFile::parse(&text);
        _ = KernelIndex::parse(&bytes);
        _ = unpack_xz(&bytes, 100);
    }
}
