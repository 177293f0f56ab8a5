//! What a figure was measured on. Read from the kernel's files; what is not there stays unknown.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine, as far as it bears on figures. It names no host and no user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Architecture this program was built for.
    pub architecture: String,
    /// Model of the processor.
    pub cpu_model: Option<String>,
    /// Cores that this process may use.
    pub cores_usable: u32,
    /// Cores that are on line.
    pub cores_online: Option<u32>,
    /// Whether the processor says that it is a virtual one.
    pub is_virtual: Option<bool>,
    /// How the clock rate is chosen, where the kernel can choose.
    pub cpu_governor: Option<String>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Congestion control of new sockets, in this network namespace.
    pub congestion_control: Option<String>,
    /// Those that can be asked for.
    pub congestion_controls_available: Vec<String>,
    /// Largest receive and send buffers that TCP grows to, bytes.
    pub tcp_rmem_max: Option<u64>,
    /// See `tcp_rmem_max`.
    pub tcp_wmem_max: Option<u64>,
    /// Descriptors this process may have.
    pub descriptors_max: Option<u64>,
    /// Runnable processes, averaged over 1, 5 and 15 minutes, when the run began.
    pub load_average: Option<[f64; 3]>,
    /// The clock that timestamps come from.
    pub clock_source: Option<String>,
}

impl Machine {
    /// Reads all of it now.
    #[must_use]
    pub fn read() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu_model: after(&cpu, "model name"),
            cores_usable: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            cores_online: line("/sys/devices/system/cpu/online").and_then(|list| count(&list)),
            is_virtual: after(&cpu, "flags")
                .map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            cpu_governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_bytes: after(&memory, "MemTotal").and_then(|text| kibibytes(&text)),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            congestion_controls_available: words(
                "/proc/sys/net/ipv4/tcp_available_congestion_control",
            ),
            tcp_rmem_max: last_number("/proc/sys/net/ipv4/tcp_rmem"),
            tcp_wmem_max: last_number("/proc/sys/net/ipv4/tcp_wmem"),
            descriptors_max: descriptors(&limits),
            load_average: line("/proc/loadavg").and_then(|text| load_average(&text)),
            clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }

    /// One line for people: `Linux 6.18.1 x86_64, 2 cores (virtual), 8.0 GiB`.
    #[must_use]
    pub fn one_line(&self) -> String {
        let cores = if self.cores_usable == 1 {
            "core"
        } else {
            "cores"
        };
        let mut text = format!(
            "Linux {} {}, {} {cores}",
            self.kernel, self.architecture, self.cores_usable
        );
        if let Some(online) = self
            .cores_online
            .filter(|online| *online != self.cores_usable)
        {
            text += &format!(" of {online}");
        }
        if self.is_virtual == Some(true) {
            text += " (virtual)";
        }
        if let Some(bytes) = self.memory_bytes {
            text += &format!(", {:.1} GiB", bytes as f64 / f64::from(1 << 30));
        }
        if let Some([one, ..]) = self.load_average {
            text += &format!(", load {one:.2}");
        }
        text
    }
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn words(path: &str) -> Vec<String> {
    let line = line(path).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

fn last_number(path: &str) -> Option<u64> {
    words(path).last()?.parse().ok()
}

/// What follows `name` and a colon, of the first line that begins with it.
fn after(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim_end() == name).then(|| value.trim().to_owned())
    })
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Numbers in a list such as `0-3,7`.
fn count(list: &str) -> Option<u32> {
    let mut total = 0;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        total += last.checked_sub(first)? + 1;
    }
    Some(total)
}

fn descriptors(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn load_average(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split(' ').map(|word| word.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        assert_eq!(count("0-3,7"), Some(5));
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("3-1"), None);
        assert_eq!(count("x"), None);
    }

    #[test]
    fn the_kernels_files_are_understood() {
        assert_eq!(
            after("processor\t: 0\nmodel name\t: A: B\n", "model name").as_deref(),
            Some("A: B")
        );
        assert_eq!(kibibytes("8000 kB"), Some(8_192_000));
        let limits = "Limit  Soft  Hard  Units\nMax open files            20000                20000                files\n";
        assert_eq!(descriptors(limits), Some(20_000));
        assert_eq!(load_average("0.10 2.00 3.5 1/100 5"), Some([0.1, 2.0, 3.5]));
        assert_eq!(load_average("0.10 x"), None);
    }

    #[test]
    fn this_machine_can_be_told() {
        let machine = Machine::read();
        assert!(machine.cores_usable >= 1);
        assert_ne!(machine.kernel, "unknown");
        assert!(machine.memory_bytes > Some(0));
        assert!(machine.one_line().starts_with("Linux "));
        let json = serde_json::to_string(&machine).expect("json");
        assert_eq!(
            serde_json::from_str::<Machine>(&json).expect("read back"),
            machine
        );
    }
}
