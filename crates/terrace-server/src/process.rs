//! What does the system say of this process, for Prometheus?
//!
//! 1. It is read from `/proc` when somebody asks, a few small files and no more: files that are open are counted up to [`OPEN_COUNTED_MAX`].
//! 2. What cannot be read is left out; no figure is made up. So on other systems than Linux there are none.
//! 3. Names and meanings are those that Prometheus' own clients use, so boards that know these show them.

use std::fmt::Write;
use std::fs;
use std::sync::OnceLock;

/// Open files that are counted one by one, on systems too old (before Linux 6.2) to say how many there are.
const OPEN_COUNTED_MAX: usize = 65_536;
/// Linux tells programs times in hundredths of a second, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// A metric: its kind, what it says, and how its value is read.
struct Metric {
    name: &'static str,
    help: &'static str,
    read: fn(&Files) -> Option<f64>,
}

const METRICS: [Metric; 7] = [
    Metric {
        name: "process_cpu_seconds_total",
        help: "Time that the process has spent on processors, for itself and in the system.",
        read: |files| Some((files.stat(UTIME)? + files.stat(STIME)?) / TICKS_PER_SECOND),
    },
    Metric {
        name: "process_resident_memory_bytes",
        help: "Memory of the process that is in RAM.",
        read: |files| Some(files.kilobytes("VmRSS:")? * 1024.0),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        help: "Addresses that the process has reserved.",
        read: |files| Some(files.kilobytes("VmSize:")? * 1024.0),
    },
    Metric {
        name: "process_open_fds",
        help: "Files and connections that are open.",
        read: |_| open_files(OPEN_COUNTED_MAX),
    },
    Metric {
        name: "process_max_fds",
        help: "Files and connections that may be open; none if there is no limit.",
        read: |files| number(files.limits.lines().find_map(|line| line.strip_prefix("Max open files"))?, 0),
    },
    Metric { name: "process_threads", help: "Threads of the process.", read: |files| files.stat(THREADS) },
    Metric {
        name: "process_start_time_seconds",
        help: "When the process was started, in seconds since the Unix epoch.",
        read: |files| Some(booted_at()? + files.stat(STARTED)? / TICKS_PER_SECOND),
    },
];

/// Places in `/proc/self/stat`, counted from the one behind the program's name.
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const STARTED: usize = 19;

/// What was read for one answer.
#[derive(Default)]
struct Files {
    stat: String,
    status: String,
    limits: String,
}

impl Files {
    /// What cannot be read is empty.
    fn read() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self { stat: read("stat"), status: read("status"), limits: read("limits") }
    }

    /// The program's name is in brackets, and may have any in it.
    fn stat(&self, place: usize) -> Option<f64> {
        number(self.stat.rsplit_once(')')?.1, place)
    }

    fn kilobytes(&self, name: &str) -> Option<f64> {
        number(self.status.lines().find_map(|line| line.strip_prefix(name))?, 0)
    }
}

/// All there is to tell, in the format of [`METRICS_CONTENT_TYPE`](terrace::METRICS_CONTENT_TYPE), without the line that ends it.
///
/// # Cost
/// Three files of `/proc`, and the number of open files.
pub(crate) fn metrics() -> String {
    written(&Files::read())
}

fn written(files: &Files) -> String {
    let mut text = String::new();
    for Metric { name, help, read } in METRICS {
        let Some(value) = read(files) else { continue };
        let base = name.strip_suffix("_total");
        let (base, kind) = base.map_or((name, "gauge"), |base| (base, "counter"));
        // Writing to a text does not fail.
        let _ok = writeln!(text, "# HELP {base} {help}\n# TYPE {base} {kind}\n{name} {value}");
    }
    text
}

/// How many files are open; `None` if there are more than are counted.
fn open_files(counted_max: usize) -> Option<f64> {
    const OPEN: &str = "/proc/self/fd";
    match fs::metadata(OPEN).ok()?.len() {
        // Older systems do not say.
        0 => {
            let counted = fs::read_dir(OPEN).ok()?.take(counted_max + 1).count();
            // One of them is the folder itself, as it is read.
            (counted <= counted_max).then(|| counted.saturating_sub(1) as f64)
        }
        open => Some(open as f64),
    }
}

/// When the system was started, in seconds since the Unix epoch. That file can be long, so it is read once.
fn booted_at() -> Option<f64> {
    static BOOTED: OnceLock<Option<f64>> = OnceLock::new();
    *BOOTED.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        number(text.lines().find_map(|line| line.strip_prefix("btime"))?, 0)
    })
}

/// The number at a place of a line.
fn number(line: &str, place: usize) -> Option<f64> {
    line.split_ascii_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let rest = "R 1 2 3 0 -1 4194304 101 0 0 0 250 150 0 0 20 0 9 0 6000 3133440 385 1";
        Files {
            stat: format!("4464 (a) b (c) {rest}"),
            status: "Name:\ta\nVmSize:\t    3892 kB\nVmRSS:\t    2168 kB\nThreads:\t9\n".to_owned(),
            limits: "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   20000   files\n"
                .to_owned(),
        }
    }

    fn value(text: &str, name: &str) -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    #[test]
    fn figures_are_in_seconds_and_bytes_whatever_the_program_is_called() {
        let text = written(&files());
        for (name, expected) in [
            ("process_cpu_seconds_total", 4.0),
            ("process_resident_memory_bytes", 2168.0 * 1024.0),
            ("process_virtual_memory_bytes", 3892.0 * 1024.0),
            ("process_max_fds", 1024.0),
            ("process_threads", 9.0),
        ] {
            assert_eq!(value(&text, name), Some(expected), "{name} in\n{text}");
        }
        assert!(text.contains("# TYPE process_cpu_seconds counter\n"), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let limits = "Max open files   unlimited   unlimited   files\n".to_owned();
        let text = written(&Files { limits, ..Files::default() });
        let left =
            text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("process_open_fds "));
        assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_told_of_as_it_is() {
        let before = value(&metrics(), "process_open_fds").expect("it is told");
        let held: Vec<_> = (0..40).map(|_| fs::File::open("/proc/self/stat").expect("it is there")).collect();
        let text = metrics();
        let open = value(&text, "process_open_fds").expect("it is told");
        // Other tests of this process open and close files, too.
        assert!((20.0..60.0).contains(&(open - before)), "{before} {open}");
        drop(held);
        let now = terrace::Clock::system().wall().duration_since(std::time::UNIX_EPOCH).expect("after it");
        let age = now.as_secs_f64() - value(&text, "process_start_time_seconds").expect("it is told");
        assert!((-5.0..36_000.0).contains(&age), "{age}");
        assert!(value(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{text}");
    }
}
