//! What a process that confined itself can still do: this test program runs itself again, as each of the three.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use livepatch_confine::{Files, Outcome, Process, confine};
use rustix::io::Errno;

const ROLE: &str = "LIVEPATCH_CONFINE_TEST_ROLE";
const DIRECTORY: &str = "LIVEPATCH_CONFINE_TEST_DIRECTORY";

/// What a child tries, and what each process gets; of the files, where there is Landlock.
fn attempts(directory: &Path) -> Vec<(&'static str, std::io::Result<()>)> {
    let write = |path: PathBuf| std::fs::write(path, "x");
    vec![
        ("tcp", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("connect", std::net::TcpStream::connect("127.0.0.1:9").map(drop)),
        ("unix", UnixListener::bind(directory.join("mine/socket")).map(drop)),
        ("exec", Command::new("/bin/true").status().map(drop)),
        ("thread", std::thread::Builder::new().spawn(|| ()).map(drop)),
        ("read", std::fs::read(directory.join("mine/file")).map(drop)),
        ("read-other", std::fs::read(directory.join("other/file")).map(drop)),
        ("write", write(directory.join("mine/new"))),
        ("write-other", write(directory.join("other/new"))),
        ("rename", std::fs::rename(directory.join("mine/file"), directory.join("mine/renamed"))),
    ]
}

#[test]
fn a_confined_process_can_do_what_it_must_and_nothing_else() {
    if let Ok(role) = std::env::var(ROLE) {
        return child(&role, &PathBuf::from(std::env::var_os(DIRECTORY).unwrap()));
    }
    for (role, refused) in [
        ("none", ""),
        ("agent", "tcp exec read-other write-other"),
        ("loader", "tcp connect exec read-other write-other"),
        // All files are read, none is written.
        ("observer", "tcp connect unix exec write write-other rename"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        for place in ["mine", "other"] {
            std::fs::create_dir(directory.path().join(place)).unwrap();
            std::fs::write(directory.path().join(place).join("file"), "x").unwrap();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--nocapture", "--test-threads", "1"]);
        let output = command.env(ROLE, role).env(DIRECTORY, directory.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> =
            said.lines().filter_map(|line| line.split_once("GOT ")).map(|(_, got)| got).collect();
        let landlock = lines.contains(&"landlock");
        for (attempt, _) in attempts(Path::new("/no/such/directory")) {
            // Landlock alone keeps from files and, from Linux 6.7 on, ports; without it the unit does.
            let by_landlock = attempt.ends_with("-other") || (role == "agent" && attempt == "tcp");
            let may_differ = by_landlock && role != "observer" && (attempt == "tcp" || !landlock);
            let expected = refused.split(' ').any(|name| name == attempt);
            let got = lines.contains(&format!("refused {attempt}").as_str());
            assert!(got == expected || may_differ, "{role} {attempt}: {said}");
            assert!(got || lines.contains(&format!("tried {attempt}").as_str()), "{role} {attempt}: {said}");
        }
    }
}

fn child(role: &str, directory: &Path) {
    let process = match role {
        "agent" => Some(Process::Agent),
        "loader" => Some(Process::Loader),
        "observer" => Some(Process::Observer),
        _ => None,
    };
    let mine = directory.join("mine");
    let read = ["/usr", "/lib", "/lib64", "/etc", "/proc"].map(PathBuf::from).into();
    let files = Files { read, change: vec![mine], write: Vec::new() };
    if let Some(confined) = process.map(|process| confine(process, &files)) {
        assert_eq!(confined.syscalls, Outcome::Whole);
        if matches!(confined.files, Outcome::Whole | Outcome::Partly) {
            println!("GOT landlock");
        }
    }
    for (attempt, result) in attempts(directory) {
        let errno = result.err().and_then(|error| Errno::from_io_error(&error));
        let refused = matches!(errno, Some(Errno::PERM | Errno::ACCESS));
        println!("GOT {} {attempt}", if refused { "refused" } else { "tried" });
    }
}
