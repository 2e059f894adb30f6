//! A program of its own that ends with the test, however the test ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Becomes the program; what stays behind waits for the end of a pipe that only the test holds, and then kills it.
const LAUNCH: &str = "exec 3<&0
(cat; kill -9 $$) <&3 >/dev/null 2>&1 &
exec \"$@\" 3<&- </dev/null";

pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts it. All that it prints goes to the end of a file.
    pub(crate) fn start(program: &Command, output: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&output).unwrap();
        let child = Command::new("sh")
            .args(["-c", LAUNCH, "sh"])
            .arg(program.get_program())
            .args(program.get_args())
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Process { child, output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub(crate) fn file(&self) -> &Path {
        &self.output
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        printed(&self.output)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.status().is_some()
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.child.stdin = None;
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        // There is no signal but KILL in the standard library.
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success(), "it has ended before:\n{}", self.output());
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.status() {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not end:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How it ended, if it has. The pipe goes at once: its number may soon be that of another process.
    fn status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap()?;
        self.child.stdin = None;
        Some(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program printed into a file.
pub(crate) fn printed(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}
