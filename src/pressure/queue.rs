//! How much mail waits in the MTA's own queue, as far as this process may look.
//!
//! [`QueueProbe::start`] reads it four times a second, or less often where that costs, on a thread of its
//! own: names in Postfix's folders `incoming` and `active`, or in sendmail's queue folders, or, once a
//! second, what sendmail's control socket says.
//!
//! | guarantee | how |
//! | --- | --- |
//! | it takes less than 1 % of a core, however much is queued | the next reading comes after 150 times what the last one took |
//! | a queue far over its target isn't counted to its end | counting stops at four times the target |
//! | a folder that hangs holds up nothing | one reading at a time, on the probe's own thread; what is old counts as not known |
//! | no file of the queue is opened, and none is looked at | only names are read |
//!
//! It returns no errors: where nothing can be read, [`Source::None`] says why and what to do, and the law goes by
//! what the MTA says and how fast it says it.

mod find;
mod folder;
mod socket;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use find::Place;

/// The time between two readings of folders, at least: an MTA can take a thousand messages in it, and those
/// are over the target before anybody knows.
const EVERY_MIN: Duration = Duration::from_millis(250);
/// The same of a control socket: its daemon answers, which has more to do.
const EVERY_MIN_SOCKET: Duration = Duration::from_secs(1);
/// The same where nothing could be read: what stands in the way has to be mended by somebody.
const EVERY_FAILED: Duration = Duration::from_secs(10);
/// The next reading comes after so many times the CPU time of this one.
const COST_SHARE: u32 = 150;
/// The next reading comes after so many times what this one took on the clock: a slow disk is left alone.
const WALL_SHARE: u32 = 4;
/// Counting stops at so many times the target.
const TARGETS_COUNTED: u64 = 4;
/// A reading that is older than this, and than three intervals, says nothing any more.
const STALE: Duration = Duration::from_secs(10);

/// Where to look for an MTA's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The MTA's address, as the configuration has it.
    pub address: String,
    pub folder: QueueFolder,
    /// sendmail's `ControlSocketName`; goes before the folder.
    pub control_socket: Option<PathBuf>,
    /// How many messages the queue may hold; 0: it is not looked at.
    pub target: u64,
}

/// The folder of an MTA's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueFolder {
    /// Postfix's own `queue_directory`, where the MTA listens on port 25 of this host and Postfix is installed.
    Ask,
    /// It is not looked at.
    Off,
    /// Postfix's `queue_directory`, or sendmail's `QueueDirectory`, whose last part may end in `*`.
    At(PathBuf),
}

impl QueueConfig {
    /// A queue that is not looked at.
    pub fn off() -> Self {
        Self { address: String::new(), folder: QueueFolder::Off, control_socket: None, target: 0 }
    }

    /// Where counting stops; the number stands for "so many or more" there.
    fn count_max(&self) -> u64 {
        self.target.saturating_mul(TARGETS_COUNTED)
    }
}

/// Where a reading comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `incoming` and `active` in this folder.
    Postfix(PathBuf),
    /// The queue files of this folder, or of those that its `*` stands for.
    SendmailFolder(PathBuf),
    /// sendmail's control socket.
    SendmailSocket(PathBuf),
    /// Nowhere, and why.
    None(String),
}

/// What is known of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Messages; `None`: not known.
    pub messages: Option<u64>,
    /// There are so many, or more: they were not counted to the end.
    pub is_more: bool,
    /// When that was so.
    pub at: Instant,
    /// The time until the next reading.
    pub every: Duration,
    pub source: Source,
}

impl Reading {
    fn none(why: impl Into<String>, every: Duration) -> Self {
        Self { messages: None, is_more: false, at: Instant::now(), every, source: Source::None(why.into()) }
    }

    /// The same as of `now`: what is too old is not known any more.
    #[must_use]
    pub fn as_of(self, now: Instant) -> Self {
        let age = now.saturating_duration_since(self.at);
        if self.messages.is_none() || age <= STALE.max(self.every * 3) {
            return self;
        }
        let why = format!("{} has not been read for {} s: does it hang?", self.source, age.as_secs());
        Self { messages: None, source: Source::None(why), ..self }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Postfix(path) => write!(f, "Postfix's incoming and active in {}", path.display()),
            Source::SendmailFolder(path) => write!(f, "sendmail's {}", path.display()),
            Source::SendmailSocket(path) => write!(f, "sendmail's control socket {}", path.display()),
            Source::None(why) => f.write_str(why),
        }
    }
}

/// As `status` says it.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.messages {
            Some(n) if self.is_more => write!(f, "{n} messages or more ({})", self.source),
            Some(n) => write!(f, "{n} messages ({})", self.source),
            None => write!(f, "not known ({}); by its replies alone", self.source),
        }
    }
}

/// Watches the queue of one MTA, until it is dropped.
#[derive(Debug)]
pub struct QueueProbe {
    readings: watch::Receiver<Reading>,
    /// Its thread ends when this goes.
    _end: mpsc::Sender<()>,
}

impl QueueProbe {
    /// Begins to watch; needs no runtime, and returns at once.
    pub fn start(config: QueueConfig) -> Self {
        let (told, readings) = watch::channel(Reading::none("not read yet", EVERY_MIN));
        let (end, ended) = mpsc::channel();
        if let Some(why) = find::why_not(&config) {
            told.send_replace(Reading::none(why, EVERY_FAILED));
            return Self { readings, _end: end };
        }
        let watching = told.clone();
        let thread = std::thread::Builder::new().name("mta-queue".to_owned());
        // it may hang in a folder for ever: nobody waits for its end
        if let Err(e) = thread.spawn(move || watch_queue(&config, &watching, &ended)) {
            told.send_replace(Reading::none(format!("no thread to read it on: {e}"), EVERY_FAILED));
        }
        Self { readings, _end: end }
    }

    /// What is known now.
    pub fn reading(&self) -> Reading {
        self.readings.borrow().clone().as_of(Instant::now())
    }

    /// Every reading; for who waits for the next one.
    pub fn subscribe(&self) -> watch::Receiver<Reading> {
        self.readings.clone()
    }
}

/// The thread: reads, tells, and sleeps in proportion to what that took.
fn watch_queue(config: &QueueConfig, readings: &watch::Sender<Reading>, ended: &mpsc::Receiver<()>) {
    let mut asked = None;
    loop {
        let (began, cpu_began) = (Instant::now(), cpu_time());
        let found = find::place(config, &mut asked).and_then(|place| Ok((read(&place, config)?, place)));
        let cost = cpu_time().saturating_sub(cpu_began) * COST_SHARE;
        let every_min = match &found {
            Ok((_, Place::SendmailSocket(_))) => EVERY_MIN_SOCKET,
            _ => EVERY_MIN,
        };
        let every = cost.max(began.elapsed() * WALL_SHARE).max(every_min);
        let reading = match found {
            Ok((Counted { messages, is_more }, place)) => Reading {
                messages: Some(messages),
                is_more,
                at: Instant::now(),
                every,
                source: place.into_source(),
            },
            Err(error) => Reading::none(error.to_string(), every.max(EVERY_FAILED)),
        };
        let every = reading.every;
        readings.send_replace(reading);
        match ended.recv_timeout(every) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// How many messages there are, or were found before counting stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counted {
    messages: u64,
    is_more: bool,
}

fn read(place: &Place, config: &QueueConfig) -> Result<Counted, QueueError> {
    match place {
        Place::Postfix(dir) => folder::count_postfix(dir, config.count_max()),
        Place::SendmailFolder(dir) => folder::count_sendmail(dir, config.count_max()),
        Place::SendmailSocket(path) => socket::ask(path),
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Why the queue can't be read.
#[derive(Debug, thiserror::Error)]
enum QueueError {
    #[error("not readable ({}: {source}){}", path.display(), remedy(source))]
    Read { path: PathBuf, source: std::io::Error },
    #[error("no Postfix was found to ask for its queue_directory ({0}): set mta.queue_dir")]
    NoPostfix(String),
    #[error("sendmail's control socket {}: {source}", path.display())]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("sendmail's control socket {} said {said:?}, and no number of messages", path.display())]
    SocketAnswer { path: PathBuf, said: String },
    #[error("sendmail doesn't know its number of messages ({}): set SharedMemoryKey, or mta.queue_dir", path.display())]
    NoSharedMemory { path: PathBuf },
    #[error("sendmail hasn't counted its queue yet ({}): it does at each queue run (-q)", path.display())]
    NotCounted { path: PathBuf },
}

fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            ": let infeed's user read it, or set mta.queue_dir = \"none\""
        }
        _ => "",
    }
}
