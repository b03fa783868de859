//! Attacks with livepatches that the vendor does not allow, or not here.

use livepatch_trust::{Candidate, FileMeta, KernelAllowance, Refusal};
use livepatch_types::{BuildId, ModuleName, PatchVersion};

use crate::repository::*;

fn candidate<'a>(kernel: &'a livepatch_types::KernelIdentity, text: &str) -> Candidate<'a> {
    Candidate { kernel, version: version(text), module: MODULE, signer: SIGNER, modules_here: &[] }
}

/// What hosts of the repository are allowed, verified on the way.
fn trusted() -> KernelAllowance {
    let files = files((1, 1, 1));
    let vendor = update(&pinned(), &files).unwrap();
    let allowance = allowed(&vendor, &files).unwrap();
    let kernel = kernel(1);
    assert_eq!(allowance.install(&candidate(&kernel, "3.1")).map(|patch| patch.version), Ok(version("3.1")));
    allowance
}

#[test]
fn attack_bundle_of_another_kernel() {
    let (here, there) = (kernel(2), kernel(1));
    let refusal = trusted().install(&candidate(&here, "3.1")).unwrap_err();
    let text = |kernel: &livepatch_types::KernelIdentity| format!("{} (amd64)", kernel.build_id);
    assert_eq!(refusal, Refusal::WrongKernel { expected: text(&here), actual: text(&there) });
    // A server that points to the allowance of the other kernel finds no target of that name.
    let vendor = update(&pinned(), &files((1, 1, 1))).unwrap();
    let refusal = vendor.kernel_file(&here).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownKernel(Box::new(here)));
}

#[test]
fn attack_bundle_of_another_architecture() {
    let text = String::from_utf8(trusted().to_bytes()).unwrap();
    let other = text.replace("\"amd64\"", "\"arm64\"");
    assert_ne!(other, text);
    let Refusal::Malformed { what, why } = KernelAllowance::parse(other.as_bytes()).unwrap_err() else {
        panic!("not malformed")
    };
    assert_eq!(what, "what is allowed for the kernel");
    assert!(why.contains("unknown variant `arm64`"), "{why}");
}

#[test]
fn attack_sequence_below_the_lowest() {
    let mut allowance = trusted();
    allowance.lowest = Some(version("4.1"));
    let refusal = allowance.install(&candidate(&kernel(1), "3.1")).unwrap_err();
    assert_eq!(refusal, Refusal::BelowLowest { version: version("3.1"), lowest: version("4.1") });
    // What runs since before is applied again after a reboot.
    assert_eq!(allowance.apply_again(&kernel(1), version("3.1")), Ok(()));
}

#[test]
fn attack_withdrawn_sequence() {
    let mut allowance = trusted();
    allowance.withdrawn.push(version("3.1"));
    let withdrawn = Refusal::Withdrawn(version("3.1"));
    assert_eq!(allowance.install(&candidate(&kernel(1), "3.1")).unwrap_err(), withdrawn);
    assert_eq!(allowance.apply_again(&kernel(1), version("3.1")), Err(withdrawn));
}

#[test]
fn attack_sequence_that_the_vendor_does_not_list() {
    let unlisted: PatchVersion = version("3.2");
    let refusal = trusted().install(&candidate(&kernel(1), "3.2")).unwrap_err();
    assert_eq!(refusal, Refusal::NotAllowed(unlisted));
}

#[test]
fn attack_another_module_under_an_allowed_version() {
    let allowance = trusted();
    let kernel = kernel(1);
    let longer = [MODULE, b"!"].concat();
    let refusal = allowance.install(&Candidate { module: &longer, ..candidate(&kernel, "3.1") }).unwrap_err();
    let (expected, actual) = (MODULE.len() as u64, MODULE.len() as u64 + 1);
    assert_eq!(refusal, Refusal::WrongLength { what: "the module".into(), expected, actual });
    let mut other = MODULE.to_vec();
    other[0] ^= 1;
    let refusal = allowance.install(&Candidate { module: &other, ..candidate(&kernel, "3.1") }).unwrap_err();
    let digest = |bytes: &[u8]| FileMeta::of(bytes).hashes.sha256;
    assert_eq!(
        refusal,
        Refusal::WrongHash { what: "the module".into(), expected: digest(MODULE), actual: digest(&other) }
    );
}

#[test]
fn attack_signer_that_the_vendor_does_not_name() {
    let kernel = kernel(1);
    let other = Candidate { signer: "ff", ..candidate(&kernel, "3.1") };
    let refusal = trusted().install(&other).unwrap_err();
    assert_eq!(refusal, Refusal::Signer { expected: SIGNER.into(), actual: "ff".into() });
}

#[test]
fn attack_namesake_of_a_patched_module() {
    let (kernel, name) = (kernel(1), ModuleName::parse("nf_tables").unwrap());
    let build_id = |byte: u8| BuildId::from_bytes(&[byte; 20]).unwrap();
    let here = |byte: u8| [(name.clone(), build_id(byte))];
    let allowance = trusted();
    let (shipped, foreign) = (here(8), here(9));
    assert!(allowance.install(&Candidate { modules_here: &shipped, ..candidate(&kernel, "3.1") }).is_ok());
    let refusal = allowance.install(&Candidate { modules_here: &foreign, ..candidate(&kernel, "3.1") });
    let (expected, actual) = (build_id(8), build_id(9));
    assert_eq!(refusal.unwrap_err(), Refusal::ForeignModule { name, expected, actual });
}

#[test]
fn attack_allowance_with_a_critical_member() {
    let mut allowance = trusted();
    allowance.critical = vec!["half_moon".into()];
    let refusal = KernelAllowance::parse(&allowance.to_bytes()).unwrap_err();
    assert_eq!(refusal, Refusal::Critical("half_moon".into()));
}

/// Thirty days without a network, and a clock at 1970: what was installed is applied again.
#[test]
fn applying_again_asks_no_clock() {
    let files = files((1, 1, 1));
    let vendor = update(&pinned(), &files).unwrap();
    assert!(vendor.check_time(jiff::Timestamp::UNIX_EPOCH).is_err());
    assert_eq!(allowed(&vendor, &files).unwrap().apply_again(&kernel(1), version("3.1")), Ok(()));
}
