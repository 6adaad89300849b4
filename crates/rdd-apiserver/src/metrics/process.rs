//! Figures about the process, as far as Linux tells them.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::exposition::Exposition;

/// Clock ticks per second in `/proc`: the kernel's `USER_HZ`, 100 on every architecture
/// that we build for.
const TICKS: f64 = 100.0;

/// What `/proc/self/status` calls kB.
const KIB: u64 = 1024;

pub(super) fn render(out: &mut Exposition, started: SystemTime) {
    let since = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    };
    let mut gauge = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            let kind = if name == "process_cpu_seconds_total" {
                "counter"
            } else {
                "gauge"
            };
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        kibibytes(&status, "VmRSS:"),
    );
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        kibibytes(&status, "VmSize:"),
    );
    let open = fs::read_dir("/proc/self/fd").ok();
    gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        // Reading the folder takes one itself.
        open.map(|open| open.count().saturating_sub(1) as f64),
    );
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        field(&limits, "Max open files"),
    );
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    gauge(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        cpu_seconds(&stat),
    );
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        Some(since(started)),
    );
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, name: &str) -> Option<f64> {
    field(status, name).map(|kib| kib * KIB as f64)
}

/// The fields 14 and 15 of `/proc/[pid]/stat` (proc(5)); the second one, the name, may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11);
    let user: f64 = ticks.next()?.parse().ok()?;
    let system: f64 = ticks.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_as_linux_writes_them() {
        let status = "Name:\trdd\nVmSize:\t  2048 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(12_288.0));
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 9 1 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024.0));
    }
}
