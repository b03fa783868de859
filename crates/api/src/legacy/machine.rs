use jiff::Timestamp;

/// What the kernel and the system say of a machine, as they say it; empty where there is nothing.
#[derive(Debug, Clone, Default)]
pub struct MachineTexts {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/proc/cpuinfo`.
    pub cpuinfo: String,
    /// `/proc/stat`.
    pub stat: String,
    /// `/proc/uptime`.
    pub uptime: String,
    /// `/proc/version_signature`, which Ubuntu's kernels have.
    pub version_signature: String,
    /// `/proc/sys/kernel/osrelease`.
    pub osrelease: String,
    /// Names of the files in `/boot`.
    pub boot_files: Vec<String>,
}

/// Facts of a machine that the daemon's status does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The machine id: 32 hexadecimal digits, or empty.
    pub machine_id: String,
    /// Model of the first processor, or empty.
    pub cpu_model: String,
    /// When the kernel was booted.
    pub boot_time: Option<Timestamp>,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// The running kernel: the second word of its version signature, otherwise its release.
    pub kernel: String,
    /// Packages of the installed kernels, in order.
    pub installed_kernels: Vec<String>,
}

impl Machine {
    /// Reads the facts out of the texts.
    pub fn parse(texts: &MachineTexts) -> Self {
        let id = texts.machine_id.trim();
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let signed = texts.version_signature.split_whitespace().nth(1);
        let mut installed: Vec<String> = texts
            .boot_files
            .iter()
            .filter_map(|name| name.strip_prefix("vmlinuz-"))
            .map(|release| format!("linux-image-{release}"))
            .collect();
        installed.sort();
        Self {
            machine_id: if is_id { id.to_owned() } else { String::new() },
            cpu_model: cpu_model(&texts.cpuinfo).unwrap_or_default().to_owned(),
            boot_time: boot_time(&texts.stat),
            uptime_seconds: uptime_seconds(&texts.uptime).unwrap_or_default(),
            kernel: signed.unwrap_or(texts.osrelease.trim()).to_owned(),
            installed_kernels: installed,
        }
    }
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then_some(value.trim())
    })
}

fn boot_time(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

fn uptime_seconds(uptime: &str) -> Option<u64> {
    uptime.split(['.', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_an_ubuntu() {
        let machine = Machine::parse(&MachineTexts {
            machine_id: "0123456789abcdef0123456789abcdef\n".into(),
            cpuinfo: "processor\t: 0\nmodel\t\t: 85\nmodel name\t: A Processor: fast\n\nmodel name\t: B\n"
                .into(),
            stat: "cpu  1 2\nbtime 1790448771\nprocesses 5\n".into(),
            uptime: "46.99 170.20\n".into(),
            version_signature: "Ubuntu 5.15.0-107.117-generic 5.15.149\n".into(),
            osrelease: "5.15.0-107-generic\n".into(),
            boot_files: [
                "vmlinuz-6.1.0-9-amd64",
                "config-6.1.0-9-amd64",
                "vmlinuz-5.15.0-107-generic",
                "vmlinuz",
            ]
            .map(str::to_owned)
            .into(),
        });
        assert_eq!(machine.machine_id, "0123456789abcdef0123456789abcdef");
        assert_eq!(machine.cpu_model, "A Processor: fast");
        assert_eq!(machine.boot_time.map(Timestamp::as_second), Some(1_790_448_771));
        assert_eq!(machine.uptime_seconds, 46);
        assert_eq!(machine.kernel, "5.15.0-107.117-generic");
        assert_eq!(
            machine.installed_kernels,
            ["linux-image-5.15.0-107-generic", "linux-image-6.1.0-9-amd64"]
        );
    }

    #[test]
    fn without_a_signature_the_kernel_is_its_release() {
        let texts = MachineTexts { osrelease: "6.1.0-50-cloud-amd64\n".into(), ..MachineTexts::default() };
        assert_eq!(Machine::parse(&texts).kernel, "6.1.0-50-cloud-amd64");
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_empty() {
        let empty = Machine::parse(&MachineTexts::default());
        let odd = Machine::parse(&MachineTexts {
            machine_id: "uninitialized".into(),
            cpuinfo: "model name".into(),
            stat: "btime soon\n".into(),
            uptime: "-3".into(),
            version_signature: "Ubuntu".into(),
            osrelease: String::new(),
            boot_files: vec!["vmlinuz".into()],
        });
        assert_eq!(odd, empty);
        assert_eq!((empty.boot_time, empty.uptime_seconds), (None, 0));
    }
}
