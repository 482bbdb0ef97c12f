//! What is known of the spool, what is selected, what was asked and what was answered. It changes by what
//! comes in: a status, a turn of the view, an answer.

use super::history::History;
use super::text::{cleaned, count, printable};
use crate::clock::{Micros, SECOND_US};
use crate::config::Connections;
use crate::control::{JobLine, PausedLine, Status};

/// What is asked of the owners, or done to the spool where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    PauseJob {
        job: String,
    },
    ResumeJob {
        job: String,
    },
    /// How many are left: before [`Ask::CancelJob`], which the answer leads to.
    LookAtJob {
        job: String,
    },
    CancelJob {
        job: String,
        left: u64,
    },
    PauseAll,
    ResumeAll,
    Connections {
        mta: String,
        connections: Connections,
    },
}

impl Ask {
    /// What it does, in words.
    pub fn words(&self) -> String {
        match self {
            Ask::PauseJob { job } => format!("pause {job}"),
            Ask::ResumeJob { job } => format!("resume {job}"),
            Ask::LookAtJob { job } => format!("look at {job}"),
            Ask::CancelJob { job, .. } => format!("cancel {job}"),
            Ask::PauseAll => "pause everything".to_owned(),
            Ask::ResumeAll => "resume everything".to_owned(),
            Ask::Connections { mta, connections } => format!("{connections} connections to {mta}"),
        }
    }

    /// The question before it is done; `None`: it is done at once.
    pub fn question(&self) -> Option<String> {
        match self {
            Ask::CancelJob { job, left } => Some(format!(
                "cancel {job}? {} recipients of it are left, and will never get it (y/n)",
                count(*left)
            )),
            Ask::PauseAll => Some("pause everything? nothing is sent then, of any job (y/n)".to_owned()),
            Ask::ResumeAll => {
                Some("resume everything? jobs that are paused by themselves stay so (y/n)".to_owned())
            }
            _ => None,
        }
    }
}

/// What a key changes in the view alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// So many jobs down, or up.
    Jobs(isize),
    /// So many MTAs on, or back; round and round.
    Mtas(isize),
    Sort,
    Help(bool),
    DropQuestion,
}

/// The order of the active jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Left,
    Rate,
    Name,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Sort::Left => Sort::Rate,
            Sort::Rate => Sort::Name,
            Sort::Name => Sort::Left,
        }
    }

    /// The column that it goes by.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Left => "left",
            Sort::Rate => "rate",
            Sort::Name => "name",
        }
    }
}

/// A line of the job list.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    pub job: String,
    pub what: JobWhat,
}

#[derive(Debug, Clone, PartialEq)]
pub enum JobWhat {
    Active {
        line: JobLine,
        /// Accepted a second, of late.
        rate: Option<f64>,
        /// Why nothing of it goes.
        note: Option<String>,
    },
    /// It stands still: `paused`, or `left alone` by the owner.
    Still { word: &'static str, reason: String, since_us: Option<Micros> },
}

/// An answer, or its lack, for the line at the bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub text: String,
    pub is_error: bool,
}

/// What was heard of the spool.
#[derive(Debug, Clone)]
pub enum Heard {
    Status(Box<Status>),
    NoSpool,
    /// In words.
    Trouble(String),
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The spool's folder.
    pub spool: String,
    /// The last one, cleaned.
    pub status: Option<Status>,
    pub no_spool: bool,
    /// Why there is no newer status.
    pub trouble: Option<String>,
    /// When the last status came, by the clock of [`Model::now`].
    heard_at: Micros,
    /// A clock that nobody sets.
    now: Micros,
    /// How old a status may be before that is worth a word.
    stale_us: Micros,
    pub history: History,
    pub rows: Vec<JobRow>,
    job: Option<String>,
    mta: Option<String>,
    asked_number: Option<AskedNumber>,
    pub sort: Sort,
    pub question: Option<Ask>,
    pub said: Option<Said>,
    pub help: bool,
}

/// The number of connections that was asked for last, until a status shows what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AskedNumber {
    mta: String,
    connections: usize,
    answered: bool,
}

impl Model {
    /// Nothing is known yet. `interval_us`: how often a status is asked for.
    pub fn new(spool: &str, interval_us: Micros, now: Micros) -> Self {
        Self {
            spool: printable(spool),
            status: None,
            no_spool: false,
            trouble: None,
            heard_at: now,
            now,
            stale_us: 2 * interval_us + 3 * SECOND_US,
            history: History::default(),
            rows: Vec::new(),
            job: None,
            mta: None,
            asked_number: None,
            sort: Sort::default(),
            question: None,
            said: None,
            help: false,
        }
    }

    /// Time goes by.
    pub fn tick(&mut self, now: Micros) {
        self.now = self.now.max(now);
    }

    /// Takes what was heard of the spool.
    pub fn hear(&mut self, heard: Heard, now: Micros) {
        self.tick(now);
        match heard {
            Heard::Trouble(text) => self.trouble = Some(printable(&text)),
            Heard::NoSpool => {
                (self.status, self.no_spool, self.trouble) = (None, true, None);
                self.heard_at = now;
                self.arrange();
            }
            Heard::Status(status) => match cleaned(&status) {
                Ok(status) => {
                    self.history.take(&status, now);
                    if self.asked_number.as_ref().is_some_and(|asked| asked.answered) {
                        self.asked_number = None;
                    }
                    (self.status, self.no_spool, self.trouble) = (Some(status), false, None);
                    self.heard_at = now;
                    self.arrange();
                }
                Err(e) => self.trouble = Some(format!("the status can't be read: {e}")),
            },
        }
    }

    /// How old the figures are, once that is worth a word; in seconds.
    pub fn stale_s(&self) -> Option<u64> {
        let age = self.now.saturating_sub(self.heard_at);
        (age > self.stale_us).then_some(age / SECOND_US)
    }

    /// Whether somebody drains; `None`: not known.
    pub fn is_drained(&self) -> Option<bool> {
        self.status.as_ref().map(|status| !status.owners.is_empty())
    }

    /// Seconds until what is due is gone, at the rate of late; `None`: nothing is due, or nothing moves.
    pub fn eta_s(&self) -> Option<u64> {
        let status = self.status.as_ref()?;
        super::plain::eta_s(status)
    }

    /// The selected job, and where it stands in the list.
    pub fn selected_job(&self) -> Option<(usize, &JobRow)> {
        let job = self.job.as_deref()?;
        self.rows.iter().enumerate().find(|(_, row)| row.job == job)
    }

    /// The number of the selected MTA.
    pub fn selected_mta(&self) -> Option<usize> {
        let (mtas, name) = (&self.status.as_ref()?.mtas, self.mta.as_deref()?);
        mtas.iter().position(|mta| mta.name == name)
    }

    /// The name of the selected MTA, and the number of connections that it has or was asked to have.
    pub fn number(&self) -> Option<(&str, usize)> {
        let mta = self.status.as_ref()?.mtas.get(self.selected_mta()?)?;
        let asked = self.asked_number.as_ref().filter(|asked| asked.mta == mta.name);
        Some((&mta.name, asked.map_or(mta.connections, |asked| asked.connections)))
    }

    /// Turns the view.
    pub fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Jobs(by) => {
                let at = self.selected_job().map_or(0, |(at, _)| at);
                let last = self.rows.len().saturating_sub(1);
                let row = self.rows.get(at.saturating_add_signed(by).min(last));
                self.job = row.map(|row| row.job.clone());
            }
            Turn::Mtas(by) => {
                let Some(status) = &self.status else { return };
                let (at, n) = (self.selected_mta().unwrap_or(0) as isize, status.mtas.len() as isize);
                let next = (n > 0).then(|| (at + by).rem_euclid(n));
                let mta = next.and_then(|next| status.mtas.get(next as usize));
                self.mta = mta.map(|mta| mta.name.clone());
            }
            Turn::Sort => {
                self.sort = self.sort.next();
                self.arrange();
            }
            Turn::Help(shown) => self.help = shown,
            Turn::DropQuestion => {
                let dropped = self.question.take().map(|ask| format!("not done: {}", ask.words()));
                self.say(dropped.unwrap_or_default(), false);
            }
        }
    }

    /// Something is being asked.
    pub fn asks(&mut self, ask: &Ask) {
        self.question = None;
        if let Ask::Connections { mta, connections } = ask {
            self.asked_number = match connections {
                Connections::Fixed(n) => {
                    Some(AskedNumber { mta: mta.clone(), connections: *n, answered: false })
                }
                Connections::Auto => None,
            };
        }
        self.say(format!("asked: {}, no answer yet", ask.words()), false);
    }

    /// An answer has come: in words; of [`Ask::LookAtJob`], what to ask the person next.
    pub fn answered(&mut self, ask: &Ask, answer: Result<Answer, String>) {
        if let (Ask::Connections { connections, .. }, Some(asked)) = (ask, &mut self.asked_number)
            && *connections == Connections::Fixed(asked.connections)
        {
            asked.answered = true;
        }
        match answer {
            // a person who is being asked something isn't asked something else
            Ok(Answer::Left(_)) if self.question.is_some() => {}
            Ok(Answer::Left(left)) => {
                if let Ask::LookAtJob { job } = ask {
                    self.question = Some(Ask::CancelJob { job: job.clone(), left });
                }
            }
            Ok(Answer::Text(text)) => self.say(text, false),
            Err(text) => self.say(format!("{}: {text}", ask.words()), true),
        }
    }

    /// Puts a line at the bottom.
    pub fn say(&mut self, text: String, is_error: bool) {
        self.said = Some(Said { text: printable(&text), is_error }).filter(|said| !said.text.is_empty());
    }

    /// The job list anew: what was selected stays so, or what stands in its place now is.
    fn arrange(&mut self) {
        let at = self.selected_job().map_or(0, |(at, _)| at);
        self.rows =
            self.status.as_ref().map(|status| rows(status, &self.history, self.sort)).unwrap_or_default();
        if self.selected_job().is_none() {
            let row = self.rows.get(at.min(self.rows.len().saturating_sub(1)));
            self.job = row.map(|row| row.job.clone());
        }
        if self.selected_mta().is_none() {
            let first = self.status.as_ref().and_then(|status| status.mtas.first());
            self.mta = first.map(|mta| mta.name.clone()).or_else(|| self.mta.take());
        }
    }
}

/// What an owner said to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Text(String),
    /// Recipients that a job has left.
    Left(u64),
}

/// The active jobs in this order, then the paused ones.
fn rows(status: &Status, history: &History, sort: Sort) -> Vec<JobRow> {
    let mut rows: Vec<JobRow> = Vec::new();
    for line in &status.active {
        let left_alone = status.left_alone.iter().find(|left| left.job == line.job);
        let left_alone = left_alone.map(|left| left.reason.clone());
        let note = left_alone.or_else(|| line.waits_for_window.clone());
        let rate = history.job_rate(&line.job);
        rows.push(JobRow { job: line.job.clone(), what: JobWhat::Active { line: line.clone(), rate, note } });
    }
    // those with the most left come first as they are
    match sort {
        Sort::Left => {}
        Sort::Rate => rows.sort_by(|a, b| rate_of(b).total_cmp(&rate_of(a))),
        Sort::Name => rows.sort_by(|a, b| a.job.cmp(&b.job)),
    }
    let is_listed = |left: &&PausedLine| status.active.iter().any(|line| line.job == left.job);
    let still = status.paused.iter().map(|line| ("paused", line));
    let unlisted = status.left_alone.iter().filter(|left| !is_listed(left)).map(|line| ("left alone", line));
    for (word, PausedLine { job, reason, since_us }) in still.chain(unlisted) {
        let what = JobWhat::Still { word, reason: reason.clone(), since_us: *since_us };
        rows.push(JobRow { job: job.clone(), what });
    }
    rows
}

fn rate_of(row: &JobRow) -> f64 {
    match &row.what {
        JobWhat::Active { rate, .. } => rate.unwrap_or(0.0),
        JobWhat::Still { .. } => -1.0,
    }
}

#[cfg(test)]
mod tests;
