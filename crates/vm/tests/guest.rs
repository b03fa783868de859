//! Boots real guests. Needs `cargo xtask setup` and `cargo xtask fetch`; says so loudly when they are missing.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use livepatch_vm::{BootSpec, Command, Forward, Guest, Initramfs, Network, Saving, VmError, testing};

const KERNEL: &str = "debian-12-cloud-6.1";
const SHORT: Duration = Duration::from_secs(300);

type TestResult = Result<(), Box<dyn std::error::Error>>;

#[test]
fn commands_files_daemons_and_shutdown() -> TestResult {
    let Some(kernel) = testing::kernel(KERNEL)? else { return Ok(()) };
    let initramfs = Initramfs::with_network(&kernel.tree)?;
    let clock = Some("1970-01-01T00:00:00".to_owned());
    let guest = Guest::boot(&BootSpec { clock, ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build()) })?;
    println!("boot time {:?}", guest.boot_time());
    assert!(guest.check(&Command::new("date").arg("+%s"), SHORT)?.parse::<u64>()? < 3600);
    assert_eq!(guest.check(&Command::new("uname").arg("-r"), SHORT)?, kernel.tree.release());
    assert_eq!(guest.kernel_problems()?, []);

    // Every byte that an argument can have arrives.
    let all: Vec<u8> = (1..=255).collect();
    let output = guest.run(&Command::new("printf").args([b"%s".as_slice(), &all, b"\n"]), SHORT)?;
    assert_eq!(output.stdout, [all.as_slice(), b"\n"].concat());

    // Status, both streams, standard input, environment.
    let script = "cat; echo \"$V\" >&2; exit 7";
    let output = guest.run(&Command::shell(script).env("V", "a 'b'").stdin("in\0put"), SHORT)?;
    assert_eq!((output.status, output.stdout.as_slice()), (7, b"in\0put".as_slice()));
    assert_eq!(output.stderr, b"a 'b'\n");

    // The user.
    let output = guest.run(&Command::new("id").arg("-u").as_user(), SHORT)?;
    assert_eq!(output.text(), "1000");
    let output = guest.run(&Command::new("printf").args(["%s|", "it's", "", "$x\n"]).as_user(), SHORT)?;
    assert_eq!(output.stdout, b"it's||$x\n|");

    // Files larger than what the wire buffers.
    let large: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes())
        .take(700_000)
        .collect();
    let started = std::time::Instant::now();
    guest.write_file("/tmp/large", 0o640, &large)?;
    let written = started.elapsed();
    assert!(guest.read_file("/tmp/large")? == large);
    println!("wrote in {written:?}, read in {:?}", started.elapsed() - written);
    assert_eq!(guest.check(&Command::new("stat").args(["-c", "%a", "/tmp/large"]), SHORT)?, "640");

    // A daemon and waiting for a state.
    let started = std::time::Instant::now();
    for _ in 0..10 {
        guest.check(&Command::new("true"), SHORT)?;
    }
    println!("a command takes {:?}", started.elapsed() / 10);
    guest.spawn(
        "clock",
        &Command::shell("echo up; sleep 1; echo done >/tmp/state; exec sleep 1000").as_user(),
    )?;
    guest.wait_for(&Command::new("cat").arg("/tmp/state"), "done", SHORT)?;
    assert_eq!(guest.read_file("/run/log/clock")?, b"up\n");
    let error = guest.wait_for(&Command::new("echo").arg("no"), "yes", Duration::from_secs(5)).unwrap_err();
    assert!(error.to_string().ends_with("in the guest; it says \"no\""), "{error}");

    // A time-out kills the command and keeps the guest.
    let error = guest.run(&Command::new("sleep").arg("1000"), Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, VmError::TimedOut { .. }), "{error}");
    assert!(error.transcript().is_some_and(Path::exists));

    // The console.
    let mark = guest.mark()?;
    guest.check(&Command::shell("echo '<3>BUG: made up' >/dev/kmsg"), SHORT)?;
    let problems = guest.kernel_problems()?;
    assert_eq!(problems.iter().map(|p| p.kind).collect::<Vec<_>>(), ["bug"]);
    assert!(guest.console_since(mark)?.contains("made up"));

    let error = guest.check(&Command::shell("echo why >&2; exit 3"), SHORT).unwrap_err();
    assert!(error.to_string().ends_with("failed in the guest with status 3: why"), "{error}");
    let transcript = guest.keep_transcript();
    guest.shutdown()?;
    fs::remove_file(transcript)?;
    Ok(())
}

#[test]
fn a_saved_machine_goes_on_where_it_was() -> TestResult {
    let Some(kernel) = testing::kernel(KERNEL)? else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let (state, disk) = (directory.path().join("state"), directory.path().join("disk"));
    fs::write(&disk, vec![0; 1 << 20])?;
    let mut initramfs = Initramfs::new()?;
    initramfs.kernel_modules(&kernel.tree, &["virtio_pci", "virtio_blk"])?;
    let mut spec = BootSpec::new(kernel.tree.vmlinuz(), initramfs.build());
    spec.disks = vec![disk.clone()];
    let error = Guest::boot(&spec)?.save(&state).unwrap_err();
    assert_eq!(error.to_string(), "this machine was started as one that cannot be saved");

    spec.saving = Saving::Possible;
    let guest = Guest::boot(&spec)?;
    let booted = guest.boot_time();
    guest
        .check(&Command::shell("echo here >/run/there; printf before | dd of=/dev/vda conv=fsync"), SHORT)?;
    let boot_id = guest.read_file("/proc/sys/kernel/random/boot_id")?;
    guest.save(&state)?;
    assert!(fs::read(&disk)?.starts_with(b"before"));

    // Twice, because a state is there to be used again.
    for text in ["after", "again"] {
        fs::write(&disk, [text.as_bytes(), &vec![0; 1 << 20][text.len()..]].concat())?;
        let guest = Guest::resume(&spec, &state)?;
        println!("booted in {booted:?}, resumed in {:?}", guest.boot_time());
        assert_eq!(guest.read_file("/run/there")?, b"here\n");
        assert_eq!(guest.read_file("/proc/sys/kernel/random/boot_id")?, boot_id);
        let read = Command::shell("dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null");
        let read = guest.run(&read, SHORT)?;
        assert!(read.stdout.starts_with(text.as_bytes()), "{}", read.text());
        assert_eq!(guest.kernel_problems()?, []);
        guest.shutdown()?;
    }

    // What is no state is an error, and no guest that hangs.
    fs::write(&state, b"not this")?;
    let error = Guest::resume(&spec, &state).map(drop).unwrap_err();
    assert!(matches!(error, VmError::Gone { .. }), "{error}");
    Ok(())
}

#[test]
fn the_network_leads_to_the_host_and_back() -> TestResult {
    let Some(kernel) = testing::kernel(KERNEL)? else { return Ok(()) };
    let initramfs = Initramfs::with_network(&kernel.tree)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server_port = listener.local_addr()?.port();
    // One that no outgoing connection gets until the guest has it.
    let start = 18_000 + u16::try_from(std::process::id() % 1_000)?;
    let host_port = (start..20_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let host_port = host_port.ok_or("no free port")?;
    let network = Network::User { forwards: vec![Forward { host_port, guest_port: 80 }] };
    let spec = BootSpec { network, ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build()) };
    let guest = Guest::boot(&spec)?;

    let nc = Command::shell("echo hello | nc -w 300 10.0.2.2 \"$0\"").arg(server_port.to_string());
    guest.spawn("nc", &nc)?;
    let established = format!("netstat -tn | grep '10.0.2.2:{server_port} ' | grep -vc SYN_SENT");
    guest.wait_for(&Command::shell(established), "1", SHORT)?;
    listener.set_nonblocking(true)?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SHORT))?;
    let mut hello = [0; 6];
    stream.read_exact(&mut hello)?;
    assert_eq!(&hello, b"hello\n");

    guest.spawn("server", &Command::new("nc").args(["-l", "-p", "80", "-e", "echo", "hi"]))?;
    guest.wait_for(&Command::shell("netstat -ltn | grep -c ':80 '"), "1", SHORT)?;
    let mut answer = String::new();
    let mut stream = TcpStream::connect(("127.0.0.1", host_port))?;
    stream.set_read_timeout(Some(SHORT))?;
    stream.read_to_string(&mut answer)?;
    assert_eq!(answer, "hi\n");
    guest.power_cut();
    Ok(())
}

#[test]
fn a_guest_that_does_not_boot_says_why() -> TestResult {
    let Some(kernel) = testing::kernel(KERNEL)? else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let initrd = Initramfs::new()?.build();

    let garbage = directory.path().join("vmlinuz");
    fs::write(&garbage, vec![b'x'; 100_000])?;
    let transcript = Some(directory.path().join("transcript"));
    let spec = BootSpec {
        network: Network::None,
        transcript: transcript.clone(),
        ..BootSpec::new(&garbage, initrd.clone())
    };
    let spec = BootSpec { boot_timeout: Duration::from_secs(3), ..spec };
    let error = Guest::boot(&spec).err().ok_or("it booted")?;
    println!("{error}\n{:?}", error.last_lines());
    assert!(error.to_string().starts_with("guest does not boot: "), "{error}");

    let spec = BootSpec {
        network: Network::None,
        transcript,
        kernel_args: vec!["rdinit=/nonexistent".into()],
        ..BootSpec::new(kernel.tree.vmlinuz(), initrd)
    };
    let error = Guest::boot(&spec).err().ok_or("it booted")?;
    println!("{error}\n{:?}", error.last_lines());
    assert!(
        error.to_string().contains("Kernel panic - not syncing: VFS: Unable to mount root fs"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_guest_that_dies_is_noticed() -> TestResult {
    let Some(kernel) = testing::kernel(KERNEL)? else { return Ok(()) };
    let spec = BootSpec {
        network: Network::None,
        ..BootSpec::new(kernel.tree.vmlinuz(), Initramfs::new()?.build())
    };
    let guest = Guest::boot(&spec)?;
    let error = guest.run(&Command::shell("echo c >/proc/sysrq-trigger; sleep 100"), SHORT).unwrap_err();
    assert!(error.to_string().contains("Kernel panic - not syncing: sysrq triggered crash"), "{error}");
    assert!(matches!(guest.run(&Command::new("true"), SHORT), Err(VmError::Gone { .. })));
    let transcript = guest.keep_transcript();
    drop(guest);
    assert!(fs::read_to_string(&transcript)?.contains("sysrq"));
    fs::remove_file(transcript)?;
    Ok(())
}
