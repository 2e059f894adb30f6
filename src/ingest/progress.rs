//! How far it is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Shows how far it is, on standard error.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    read: Arc<AtomicU64>,
    total: u64,
    rows: u64,
    begun: Instant,
    said: Instant,
}

#[derive(Debug)]
enum Shown {
    Nowhere,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    fn new(shown: Shown) -> Self {
        let now = Instant::now();
        Progress { shown, read: Default::default(), total: 0, rows: 0, begun: now, said: now }
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Progress::new(Shown::Nowhere)
    }

    /// A bar if standard error is a terminal, else lines.
    pub fn stderr() -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress::new(Shown::Lines);
        }
        let bar = ProgressBar::new(0);
        let template = "{bar:30} {percent:>3}%  {bytes}/{total_bytes}  {msg}  {eta} left  {prefix}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress::new(Shown::Bar(bar))
    }

    /// Counts bytes read, for those who read.
    pub(super) fn read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// `bytes` in all.
    pub(super) fn begin(&mut self, bytes: u64) {
        self.total = bytes;
        if let Shown::Bar(bar) = &self.shown {
            bar.set_length(bytes);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// Another file; `before` bytes of the files before it are done.
    pub(super) fn file(&self, url: &str, before: u64) {
        self.read.store(before, Ordering::Relaxed);
        if let Shown::Bar(bar) = &self.shown {
            bar.set_prefix(url.rsplit('/').next().unwrap_or(url).to_owned());
        }
    }

    /// More rows are on their way into the table.
    pub(super) fn rows(&mut self, rows: u64) {
        self.rows += rows;
        let read = self.read.load(Ordering::Relaxed).min(self.total);
        match &self.shown {
            Shown::Nowhere => {}
            Shown::Bar(bar) => {
                bar.set_position(read);
                bar.set_message(format!("{} rows, {}/s", HumanCount(self.rows), HumanCount(self.rate())));
            }
            Shown::Lines if self.said.elapsed() < EVERY => {}
            Shown::Lines => {
                self.said = Instant::now();
                let share = read as f64 / self.total.max(1) as f64;
                let left = self.begun.elapsed().as_secs_f64() * (1.0 / share.max(1e-6) - 1.0);
                eprintln!(
                    "{} of {}, {} rows, {} rows/s, {left:.0} s left",
                    HumanBytes(read),
                    HumanBytes(self.total),
                    HumanCount(self.rows),
                    HumanCount(self.rate())
                );
            }
        }
    }

    /// Rows a second since the beginning.
    fn rate(&self) -> u64 {
        (self.rows as f64 / self.begun.elapsed().as_secs_f64().max(1e-3)) as u64
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
