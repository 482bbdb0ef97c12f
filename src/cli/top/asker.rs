//! Who asks the owners for `top`: a thread that looks again and again, and one for each job or MTA that a
//! person wants changed, so that neither waits for the other nor the keys for either. What is wanted of one job,
//! or of one MTA, is done in the order of the keys.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use tracing::subscriber::NoSubscriber;

use super::super::session::Session;
use super::super::{exit, jobs, pause, status};
use super::live::Event;
use crate::spool::JobId;
use crate::top::{Answer, Ask, Heard, count};

/// The shortest pause between two looks, however long one takes.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Asks for whom `top` is run.
pub struct Asker {
    hand: Hand,
    /// By what they change.
    lanes: HashMap<String, Sender<Ask>>,
}

/// Who carries out what is asked, and tells.
#[derive(Clone)]
struct Hand {
    session: Session,
    events: Sender<Event>,
    look_now: SyncSender<()>,
}

impl Asker {
    /// Begins to look, each interval; what is heard goes to `events`.
    pub fn start(session: &Session, interval: Duration, events: Sender<Event>) -> Self {
        let (look_now, looks) = sync_channel(1);
        let (of_thread, to) = (session.clone(), events.clone());
        std::thread::spawn(move || silently(|| look(&of_thread, interval, &to, &looks)));
        Self { hand: Hand { session: session.clone(), events, look_now }, lanes: HashMap::new() }
    }

    /// Does what is asked, after what was asked of the same before; the answer goes to `events`.
    pub fn ask(&mut self, ask: Ask) {
        let lane = self.lanes.entry(subject(&ask)).or_insert_with(|| {
            let (lane, asks) = channel();
            let hand = self.hand.clone();
            std::thread::spawn(move || silently(|| hand.work(&asks)));
            lane
        });
        // a lane ends only when nobody hears its answers any more
        if let Err(e) = lane.send(ask) {
            tracing::debug!("not asked: {e}");
        }
    }
}

/// What it changes.
fn subject(ask: &Ask) -> String {
    match ask {
        Ask::PauseJob { job }
        | Ask::ResumeJob { job }
        | Ask::LookAtJob { job }
        | Ask::CancelJob { job, .. } => {
            format!("job {job}")
        }
        Ask::PauseAll | Ask::ResumeAll => "all".to_owned(),
        Ask::Connections { mta, .. } => format!("MTA {mta}"),
    }
}

impl Hand {
    /// One after the other, until nobody listens.
    fn work(&self, asks: &Receiver<Ask>) {
        while let Ok(ask) = asks.recv() {
            let answer = self.act(&ask).map_err(|error| exit::describe(&error));
            if self.events.send(Event::Answered(ask, answer)).is_err() {
                return;
            }
            self.look_now();
        }
    }

    /// Looks before the interval is over.
    fn look_now(&self) {
        // one that waits is as good as two
        if let Err(e) = self.look_now.try_send(()) {
            tracing::trace!("it looks anyway: {e}");
        }
    }

    fn act(&self, ask: &Ask) -> anyhow::Result<Answer> {
        let session = &self.session;
        let text = match ask {
            Ask::LookAtJob { job } => {
                return Ok(Answer::Left(jobs::show(session, &id(job)?)?.counts.unfinished()));
            }
            Ask::PauseJob { job } => {
                jobs::pause(session, &id(job)?, None)?;
                format!("{job} is paused: r goes on")
            }
            Ask::ResumeJob { job } => {
                let (_, served) = jobs::resume(session, &id(job)?, false)?;
                let next = if served { "and goes on" } else { "but nobody drains now" };
                format!("{job} is active, {next}")
            }
            Ask::CancelJob { job, .. } => {
                let (view, _) = jobs::cancel(session, &id(job)?)?;
                let cancelled = view.counts.of(crate::spool::Outcome::Cancelled);
                format!("{job} is cancelled: {} recipients will not get it", count(cancelled))
            }
            Ask::PauseAll => {
                let all = pause::pause_all(session, None)?;
                let in_flight: u64 = all.went.iter().map(|went| went.in_flight).sum();
                format!("everything is paused, {} in flight end first: R resumes", count(in_flight))
            }
            Ask::ResumeAll => match pause::resume_all(session)?.0.changed {
                true => "everything goes on".to_owned(),
                false => "nothing was paused with P (`infeed pause --all`)".to_owned(),
            },
            Ask::Connections { mta, connections } => {
                status::ask_connections(session, Some(mta.clone()), *connections)?;
                format!("{connections} connections to {mta}, until a reload")
            }
        };
        Ok(Answer::Text(text))
    }
}

fn id(job: &str) -> anyhow::Result<JobId> {
    Ok(job.parse()?)
}

/// Looks until nobody listens.
fn look(session: &Session, interval: Duration, events: &Sender<Event>, looks: &Receiver<()>) {
    loop {
        let began = Instant::now();
        let heard = match status::current(session) {
            Ok(Some(status)) => Heard::Status(Box::new(status)),
            Ok(None) => Heard::NoSpool,
            Err(error) => Heard::Trouble(exit::describe(&error)),
        };
        if events.send(Event::Heard(heard)).is_err() {
            return;
        }
        match looks.recv_timeout(interval.saturating_sub(began.elapsed()).max(PAUSE_MIN)) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Without log lines, which would go across the screen.
fn silently(act: impl FnOnce()) {
    tracing::subscriber::with_default(NoSubscriber::default(), act);
}
