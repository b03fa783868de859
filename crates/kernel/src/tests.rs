use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use livepatch_types::{Architecture, ModuleName};
use proptest::prelude::*;
use rustix::io::Errno;

use crate::error::Signed;
use crate::*;

fn note(kind: u32, name: &[u8], descriptor: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [name.len() as u32, descriptor.len() as u32, kind] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    for part in [name, descriptor] {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut notes = note(6, b"Xen\0", b"linux");
    notes.extend(note(3, b"GNU\0", &[0xab; 20]));
    write(root.path(), "sys/kernel/notes", notes);
    write(root.path(), "proc/sys/kernel/osrelease", "6.1.0-50-cloud-amd64\n");
    write(root.path(), "proc/sys/kernel/random/boot_id", "a-b-c\n");
    write(root.path(), "proc/uptime", "350735.47 234388.90\n");
    write(root.path(), "proc/sys/kernel/modules_disabled", "0\n");
    write(root.path(), "proc/sys/kernel/ftrace_enabled", "1\n");
    write(root.path(), "proc/sys/kernel/tainted", "12288\n");
    write(root.path(), "sys/module/module/parameters/sig_enforce", "Y\n");
    write(root.path(), "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    write(root.path(), "proc/modules", "veth 12 0 - Live 0x0\nlivepatch_1_1 1 1 - Live 0x0 (OEK)\n");
    write(root.path(), "sys/module/veth/notes/.note.gnu.build-id", note(3, b"GNU\0", &[1; 20]));
    for (name, enabled, transition) in [("livepatch_1_1", "1\n", "0\n"), ("kpatch_x", "0\n", "1\n")] {
        write(root.path(), &format!("sys/kernel/livepatch/{name}/enabled"), enabled);
        write(root.path(), &format!("sys/kernel/livepatch/{name}/transition"), transition);
    }
    root
}

fn name(text: &str) -> ModuleName {
    ModuleName::parse(text).unwrap()
}

#[test]
fn a_tree_is_read() {
    let root = tree();
    let kernel = LinuxKernel::at(root.path());
    let identity = kernel.identity().unwrap();
    assert_eq!(identity.architecture, Architecture::Amd64);
    assert_eq!(identity.release.as_str(), "6.1.0-50-cloud-amd64");
    assert_eq!(identity.build_id.as_bytes(), [0xab; 20]);
    assert_eq!(kernel.boot_id().unwrap(), "a-b-c");
    assert_eq!(kernel.since_boot().unwrap().as_secs(), 350_735);
    let patches = kernel.livepatches().unwrap();
    assert_eq!(
        patches,
        [
            Livepatch { name: name("kpatch_x"), enabled: false, in_transition: true },
            Livepatch { name: name("livepatch_1_1"), enabled: true, in_transition: false },
        ]
    );
    let modules = kernel.modules().unwrap();
    assert_eq!(modules[0], LoadedModule { name: name("livepatch_1_1"), build_id: None });
    assert_eq!(modules[1].build_id.as_ref().unwrap().as_bytes(), [1; 20]);
    assert_eq!(
        kernel.facts(),
        LoadFacts {
            livepatch_support: Some(true),
            modules_disabled: Some(false),
            signatures_enforced: Some(true),
            lockdown: Some(Lockdown::Integrity),
            ftrace_enabled: Some(true),
            taint: Some(12288),
        }
    );
}

#[test]
fn a_tree_is_written_where_it_should_be_and_nowhere_else() {
    let root = tree();
    let kernel = LinuxKernel::at(root.path());
    kernel.set_enabled(&name("livepatch_1_1"), false).unwrap();
    let text =
        std::fs::read_to_string(root.path().join("sys/kernel/livepatch/livepatch_1_1/enabled")).unwrap();
    assert!(text.starts_with('0'));
    assert!(matches!(kernel.set_enabled(&name("other"), false), Err(KernelError::NoSuchLivepatch(_))));
    assert!(!root.path().join("sys/kernel/livepatch/other").exists());
    assert!(matches!(kernel.unload(&name("veth")), Err(KernelError::OnlyATree)));
    let module = SealedModule::from_reader(&b"x"[..], 1).unwrap();
    assert!(matches!(kernel.load(&module), Err(LoadError::Kernel(KernelError::OnlyATree))));
}

#[test]
fn what_is_missing_or_odd_is_said() {
    let root = tempfile::tempdir().unwrap();
    let kernel = LinuxKernel::at(root.path());
    assert!(kernel.identity().unwrap_err().to_string().starts_with("cannot read "));
    assert!(matches!(kernel.livepatches(), Err(KernelError::NoLivepatching)));
    assert_eq!(kernel.facts(), LoadFacts { livepatch_support: Some(false), ..LoadFacts::default() });
    write(root.path(), "proc/sys/kernel/osrelease", "../../etc\n");
    assert!(matches!(kernel.identity(), Err(KernelError::Content { .. })));
    write(root.path(), "proc/sys/kernel/osrelease", "6.1.0\n");
    write(root.path(), "sys/kernel/notes", note(3, b"GNU\0", &[1; 4]));
    assert!(matches!(kernel.identity(), Err(KernelError::Content { .. })));
    write(root.path(), "sys/kernel/livepatch/a/enabled", "maybe\n");
    assert!(matches!(kernel.livepatches(), Err(KernelError::Content { .. })));
    write(root.path(), "sys/kernel/livepatch/a/enabled", "1\n");
    assert_eq!(kernel.livepatches().unwrap(), [], "an entry that goes away while it is read");
    assert!(parse::architecture("aarch64").is_none());
}

#[test]
fn every_errno_of_the_table_has_its_meaning() {
    let facts = LoadFacts::default();
    let disabled = LoadFacts { modules_disabled: Some(true), ..LoadFacts::default() };
    let locked = LoadFacts { lockdown: Some(Lockdown::Integrity), ..LoadFacts::default() };
    let enforced = LoadFacts { signatures_enforced: Some(true), ..LoadFacts::default() };
    let rows = [
        (Errno::KEYREJECTED, &enforced, Signed::Yes, LoadRefusal::UntrustedKey),
        (Errno::KEYREJECTED, &enforced, Signed::No, LoadRefusal::Unsigned),
        // Locked down without enforcing: the key is known.
        (Errno::KEYREJECTED, &locked, Signed::Yes, LoadRefusal::SignatureMismatch),
        (Errno::KEYREJECTED, &facts, Signed::Yes, LoadRefusal::SignatureMismatch),
        (Errno::PERM, &disabled, Signed::Yes, LoadRefusal::ModulesDisabled),
        (Errno::PERM, &disabled, Signed::No, LoadRefusal::ModulesDisabled),
        (Errno::PERM, &locked, Signed::Yes, LoadRefusal::LockedDown),
        (Errno::PERM, &locked, Signed::No, LoadRefusal::Unsigned),
        (Errno::PERM, &facts, Signed::No, LoadRefusal::NotPermitted),
        (Errno::NOEXEC, &facts, Signed::Yes, LoadRefusal::NotAModule),
        (Errno::EXIST, &facts, Signed::Yes, LoadRefusal::AlreadyLoaded),
        (Errno::BUSY, &facts, Signed::Yes, LoadRefusal::Busy),
        (Errno::INVAL, &facts, Signed::Yes, LoadRefusal::DoesNotFit),
        (Errno::NOENT, &facts, Signed::Yes, LoadRefusal::UnknownSymbol),
        (Errno::NOMEM, &facts, Signed::Yes, LoadRefusal::NoMemory),
        (Errno::BADMSG, &facts, Signed::Yes, LoadRefusal::BadSignatureFormat),
        (Errno::TXTBSY, &facts, Signed::Yes, LoadRefusal::OpenForWriting),
    ];
    let (mut codes, mut hints) = (BTreeSet::new(), BTreeSet::new());
    for (errno, facts, signed, expected) in rows {
        let LoadError::Refused(refusal) = LoadError::from_errno(errno, facts, signed) else {
            panic!("{errno}")
        };
        assert_eq!(refusal, expected, "{errno} {signed:?}");
        assert!(!refusal.hint().is_empty() && !refusal.to_string().contains('\n'));
        codes.insert(refusal.code());
        hints.insert(refusal.hint());
    }
    assert_eq!((codes.len(), hints.len()), (14, 14), "a word and a hint each");
    let other = LoadError::from_errno(Errno::IO, &facts, Signed::Yes);
    assert!(matches!(other, LoadError::Unexpected(Errno::IO)));
    let signed = [&b"ELF"[..], b"~Module signature appended~\n"].concat();
    assert_eq!(
        (Signed::of(&signed), Signed::of(b"ELF"), Signed::of(b"")),
        (Signed::Yes, Signed::No, Signed::No)
    );
}

#[test]
fn sealed_bytes_cannot_change() {
    let module = SealedModule::from_reader(&b"module"[..], 6).unwrap();
    assert_eq!(module.bytes(), b"module");
    let mut file = std::fs::File::from(std::os::fd::AsFd::as_fd(&module).try_clone_to_owned().unwrap());
    assert_eq!(file.write(b"x").unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert!(file.set_len(0).is_err() && file.set_len(100).is_err());
    let unsealed = rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::FUTURE_WRITE);
    assert_eq!(unsealed, Err(Errno::PERM), "the seals themselves are sealed");
    assert!(matches!(SealedModule::from_reader(&b"module"[..], 5), Err(SealError::TooLong(5))));
}

#[test]
fn lockdown_texts() {
    assert_eq!(parse::lockdown("[none] integrity confidentiality\n"), Some(Lockdown::Off));
    assert_eq!(parse::lockdown("none integrity [confidentiality]\n"), Some(Lockdown::Confidentiality));
    assert_eq!(parse::lockdown(""), None);
    assert_eq!(parse::lockdown("[other]"), None);
}

proptest! {
    #[test]
    fn no_notes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse::gnu_build_id(&bytes);
    }

    #[test]
    fn notes_with_any_sizes_do_not_panic(sizes in any::<[u32; 3]>(), rest in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut bytes: Vec<u8> = sizes.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(rest);
        let _ = parse::gnu_build_id(&bytes);
    }

    #[test]
    fn a_build_id_is_found_after_other_notes(others in proptest::collection::vec((4u32..9, "[A-Za-z]{0,7}", proptest::collection::vec(any::<u8>(), 0..30)), 0..5), id: [u8; 20]) {
        let mut notes: Vec<u8> = others.iter().flat_map(|(kind, name, descriptor)| note(*kind, name.as_bytes(), descriptor)).collect();
        notes.extend(note(3, b"GNU\0", &id));
        let found = parse::gnu_build_id(&notes).unwrap();
        prop_assert_eq!(found.as_bytes(), &id);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = (parse::module_names(&text), parse::lockdown(&text), parse::switch(&text));
    }
}

#[test]
fn the_file_of_a_module_is_what_modprobe_takes() {
    let root = tree();
    let list = "updates/dkms/cls-u32.ko.xz:\nkernel/net/sched/cls_u32.ko: kernel/a.ko\nkernel/drivers/net/veth.ko:\n";
    write(root.path(), "lib/modules/6.1.0-50-cloud-amd64/modules.dep", list);
    let kernel = LinuxKernel::at(root.path());
    let file = |name| kernel.module_file(&ModuleName::parse(name).unwrap());
    assert_eq!(file("cls_u32").as_deref(), Some("updates/dkms/cls-u32.ko.xz"), "the first one");
    assert_eq!(file("veth").as_deref(), Some("kernel/drivers/net/veth.ko"));
    assert_eq!(file("vet"), None);
    std::fs::remove_dir_all(root.path().join("lib")).unwrap();
    assert_eq!(file("veth"), None);
}
