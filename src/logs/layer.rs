//! Where events become lines, and lines are written.

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;

use super::journald::{Journald, SOCKET};
use super::line::{Line, Value};
use super::repeats::Repeats;
use crate::clock::{Micros, SECOND_US};
use crate::config::LogFormat;

/// A start asks for its format twice, for the command line and for the configuration; a reload asks again.
const NO_JOURNAL_FOR_US: Micros = 5 * SECOND_US;

/// Takes every event that the level lets through. Clones share what they write to.
#[derive(Clone)]
pub struct Layer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    hasher: RandomState,
    /// Where the journal listens.
    journal: PathBuf,
    coloured: bool,
}

struct State {
    out: Box<dyn Write + Send>,
    /// When a journal was looked for in vain.
    no_journal_us: Option<Micros>,
    format: LogFormat,
    /// While it is written to.
    journald: Option<Journald>,
    repeats: Repeats<Identifier>,
}

impl Layer {
    /// Writes to standard error.
    pub(super) fn of_process(format: LogFormat) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = std::io::stderr().is_terminal() && !no_color;
        Self::new(Box::new(std::io::stderr()), format, Path::new(SOCKET), coloured)
    }

    /// Writes to `out`, or to the journal that listens at `journal`.
    pub fn new(out: Box<dyn Write + Send>, format: LogFormat, journal: &Path, coloured: bool) -> Self {
        let state = State {
            out,
            no_journal_us: None,
            format: LogFormat::Human,
            journald: None,
            repeats: Repeats::default(),
        };
        let layer = Self(Arc::new(Shared {
            state: Mutex::new(state),
            hasher: RandomState::new(),
            journal: journal.to_owned(),
            coloured,
        }));
        layer.set_format(format);
        layer
    }

    /// As it is written now.
    pub(super) fn format(&self) -> LogFormat {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).format
    }

    /// `Auto` is as good as `Human` here. A journal that is not there is told of, and standard error is used.
    pub(super) fn set_format(&self, format: LogFormat) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_us = crate::clock::now_us();
        let lately = |at_us: Micros| now_us.abs_diff(at_us) < NO_JOURNAL_FOR_US;
        let is_not_there = format == LogFormat::Journald && state.no_journal_us.is_some_and(lately);
        if state.format == format || is_not_there {
            return;
        }
        state.format = format;
        state.journald = None;
        if format != LogFormat::Journald {
            return;
        }
        match Journald::at(&self.0.journal) {
            Ok(journald) => state.journald = Some(journald),
            Err(e) => {
                (state.format, state.no_journal_us) = (LogFormat::Human, Some(now_us));
                let message = format!(
                    "no journal at {}: {e}; the log goes to standard error",
                    self.0.journal.display()
                );
                let line = Line {
                    at_us: now_us,
                    level: Level::WARN,
                    is_state: true,
                    message,
                    fields: Vec::new(),
                    file: None,
                    line: None,
                };
                state.write(&line, self.0.coloured);
            }
        }
    }
}

impl State {
    /// A log that can't be written is no reason to stop sending mail, and there is nobody left to tell.
    fn write(&mut self, line: &Line, coloured: bool) {
        if let Some(journald) = &self.journald {
            match journald.write(line) {
                Ok(()) => return,
                // it hangs: standard error leads to it as well, and would wait without end
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                Err(_) => {}
            }
        }
        let mut text = if self.format == LogFormat::Json { line.json() } else { line.human(coloured) };
        text.push('\n');
        // in one piece: other processes may write to the same terminal
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).unwrap_or_default();
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let shared = &self.0;
        let mut line = Line::of(event);
        let is_bounded = !line.is_state && line.level <= Level::INFO;
        let hash = shared.hasher.hash_one(&line.message);
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if is_bounded {
            match state.repeats.admit(event.metadata().callsite(), hash, line.at_us) {
                None => return,
                Some(0) => {}
                Some(left_out) => line.fields.push(("left_out", Value::Natural(left_out))),
            }
        }
        state.write(&line, shared.coloured);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// What is written of this.
    fn logged(format: LogFormat, journal: &Path, say: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let layer = Layer::new(Box::new(kept.clone()), format, journal, false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        kept.lines()
    }

    #[test]
    fn an_event_is_one_line_in_every_format() {
        let say = || {
            let reason = "550 no\r\n\x1b]0;forged\x07";
            tracing::warn!(target: crate::logs::STATE, job = "j", refused = 3u64, reason, "job j: {reason}");
        };
        let human = logged(LogFormat::Human, Path::new(SOCKET), say);
        assert_eq!(human.len(), 1, "{human:?}");
        assert!(human[0].ends_with(" WARN job j: 550 no\\r\\n\\u{1b}]0;forged\\u{7}"), "{human:?}");
        let json = logged(LogFormat::Json, Path::new(SOCKET), say);
        assert_eq!(json.len(), 1, "{json:?}");
        let object: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!((object["job"].as_str(), object["refused"].as_u64()), (Some("j"), Some(3)));
        assert!(!object["reason"].as_str().unwrap().contains(char::is_control));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert_eq!(logged(LogFormat::Journald, &path, say), Vec::<String>::new());
        let mut octets = [0; 4096];
        let n = journal.recv(&mut octets).unwrap();
        let text = std::str::from_utf8(&octets[..n]).unwrap();
        assert!(text.contains("\nINFEED_REASON=550 no\\r\\n\\u{1b}]0;forged\\u{7}\n"), "{text:?}");
        assert!(!text.contains('\x1b') && text.starts_with("MESSAGE=job j: "), "{text:?}");
    }

    #[test]
    fn what_repeats_is_bounded_and_changes_of_state_are_not_left_out() {
        let lines = logged(LogFormat::Human, Path::new(SOCKET), || {
            for i in 0..1000 {
                tracing::error!("the disk is full");
                tracing::info!("somebody else, number {i}");
                tracing::info!(target: crate::logs::STATE, "job {i} is done");
            }
        });
        let of = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        assert_eq!((of("disk"), of("somebody"), of("is done")), (5, 20, 1000));
    }

    #[test]
    fn without_a_journal_the_log_goes_to_standard_error_and_says_so() {
        let lines =
            logged(LogFormat::Journald, Path::new("/nowhere/socket"), || tracing::info!("still said"));
        assert!(lines[0].contains("no journal at /nowhere/socket"), "{lines:?}");
        assert!(lines[1].ends_with("still said"), "{lines:?}");
    }
}
