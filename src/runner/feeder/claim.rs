//! Taking a chunk in hand: its job's message compiled, its recipients in order, the suppressed left out.

use std::sync::Arc;

use super::super::hand::Hand;
use super::super::limits::lanes_within;
use super::super::mixing::Mixer;
use super::super::pack::Rendering;
use super::super::supply::{JobRun, JobStop, State};
use super::Feeder;
use crate::clock;
use crate::infeed::{Dsn, RefusalStreak};
use crate::intake::SuppressionList;
use crate::message::{CompileOptions, Template, xtext};
use crate::spool::{Claim, Claimed, JobDue, JobMeta, Outcome, Owner, Settled, SpoolError};

impl<O: Owner> Feeder<O> {
    pub(super) async fn claim(&mut self, due: &JobDue, group: usize) -> Result<bool, SpoolError> {
        let job = &due.job;
        if let Err(why) = self.prepare(due, group).await? {
            let known = self.supply.lock().left_alone.insert(job.clone(), why.clone());
            if known.as_ref() != Some(&why) {
                tracing::error!("job {job} is left alone: {why}");
            }
            self.due.remove(job);
            if let Some(run) = self.supply.lock().jobs.get_mut(job) {
                run.stop.get_or_insert(JobStop::LeftAlone);
            }
            return Ok(false);
        }
        let owner = &self.supply.owner;
        let class = self.supply.lock().jobs.get(job).and_then(|run| run.mixer.want()).map(|(class, _)| class);
        let name = class.and_then(|class| owner.next_due_of(job, class));
        let Some(name) = name.or_else(|| owner.next_due(job)) else { return Ok(false) };
        match self.supply.owner.claim(job, name).await? {
            Claim::Claimed(claimed) => {
                self.take_in_hand(claimed, due);
                Ok(true)
            }
            Claim::PutAside => {
                if !self.supply.lock().hands.values().any(|h| h.job == *job) {
                    self.let_go(job).await?;
                }
                Ok(true)
            }
            Claim::Gone => {
                if !self.supply.lock().hands.values().any(|h| h.job == *job) {
                    self.forget(job);
                }
                self.due.remove(job);
                Ok(false)
            }
        }
    }

    /// Compiles the job's message and reads its suppression list; the reason when it can't be drained.
    async fn prepare(&mut self, due: &JobDue, group: usize) -> Result<Result<(), String>, SpoolError> {
        let job = &due.job;
        if let Some(path) = &due.meta.suppress {
            let (known, path) = (self.suppress.remove(job), path.clone());
            // it may be long: read aside, so that commands are obeyed meanwhile
            let read = tokio::task::spawn_blocking(move || match known {
                Some(mut list) if list.path() == std::path::Path::new(&path) => {
                    list.reload_if_changed().map(|_| list)
                }
                _ => SuppressionList::load(path),
            });
            let list = match read.await {
                Ok(list) => list,
                Err(e) => std::panic::resume_unwind(e.into_panic()),
            };
            match list {
                Ok(list) => drop(self.suppress.insert(job.clone(), list)),
                Err(e) => return Ok(Err(e.to_string())),
            }
        }
        if self.supply.lock().jobs.contains_key(job) {
            return Ok(Ok(()));
        }
        let template = match self.rendering(due).await? {
            Ok(rendering) => Arc::new(rendering),
            Err(why) => return Ok(Err(why)),
        };
        let first_left = self.first_left_of(due).await?;
        let mut mixer = Mixer::default();
        mixer.set_waiting(self.supply.owner.waiting(job));
        let mut state = self.supply.lock();
        let serial = state.next_serial;
        state.next_serial += 1;
        let recorder = &self.supply.progress.recorder;
        if !state.met.contains_key(job) {
            recorder.met(due.meta.submitted_us, due.meta.recipients);
        }
        let limiter = state.limits.of_job(job, due.messages_per_second);
        let run = JobRun {
            series: recorder.job(job.as_str()),
            lead_us: due.lead_us,
            group,
            serial,
            place: None,
            primed: false,
            exhausted: false,
            start: 0,
            mixer,
            solo: Default::default(),
            feed_asked: false,
            meta: due.meta.clone(),
            template,
            dsn: dsn_of(&due.meta),
            accept_refusals: due.accept_refusals,
            streak: RefusalStreak::new(state.breaker),
            held: Vec::new(),
            stop: None,
            in_flight: 0,
            counts: state.progress_of(job),
            first_left,
            limiter,
            windows: self.windows.get(job).map(|(_, windows)| windows.clone()).unwrap_or_default(),
        };
        state.left_alone.remove(job);
        state.jobs.insert(job.clone(), run);
        state.serials.insert(serial, job.clone());
        Ok(Ok(()))
    }

    /// What the job's own `--first` leaves. A drain with a `--first` of its own goes by that; and one that
    /// begins once so many were tried was begun for the rest.
    async fn first_left_of(&self, due: &JobDue) -> Result<Option<u64>, SpoolError> {
        if due.meta.first.is_none() || self.supply.lock().first_left.is_some() {
            return Ok(None);
        }
        let left = self.supply.owner.first_left(&due.job).await?;
        Ok(left.filter(|left| self.forever || *left > 0))
    }

    /// What makes the job's messages; the reason when it can't.
    async fn rendering(&self, due: &JobDue) -> Result<Result<Rendering, String>, SpoolError> {
        let owner = &self.supply.owner;
        if due.meta.pack.is_some() {
            return match owner.pack_content(&due.job).await {
                Ok(content) => Ok(Ok(Rendering::pack(due.job.clone(), due.meta.clone(), content))),
                // it is that pack's damage alone
                Err(e @ SpoolError::Damaged { .. }) => Ok(Err(e.to_string())),
                Err(e) => Err(e),
            };
        }
        let raw = match owner.message(&due.job).await {
            Err(e @ SpoolError::Damaged { .. }) => return Ok(Err(e.to_string())),
            raw => raw?,
        };
        let template = compile(&raw, &due.meta);
        Ok(template
            .map(|t| Rendering::Job(Box::new(t)))
            .map_err(|e| format!("its message can't be compiled: {e}")))
    }

    fn take_in_hand(&self, claimed: Claimed, due: &JobDue) {
        let now = clock::now_us();
        let list = self.suppress.get(&due.job);
        let mut unreadable_or_suppressed: Vec<(u16, Settled)> = Vec::new();
        let mut wanted: Vec<(u16, &str)> = Vec::with_capacity(claimed.chunk.len());
        for i in 0..claimed.chunk.len() {
            let index = i as u16;
            match claimed.chunk.address(i) {
                Err(reason) => {
                    unreadable_or_suppressed
                        .push((index, Settled::local(Outcome::Quarantined, 0, now, reason)));
                }
                Ok(address) if list.is_some_and(|l| l.contains(address)) => {
                    let said = "it is in the suppression list";
                    let s = Settled::local(Outcome::Suppressed, claimed.chunk.state(i).attempts, now, said);
                    unreadable_or_suppressed.push((index, s));
                }
                Ok(address) => wanted.push((index, address)),
            }
        }
        let handle = claimed.handle;
        let mut state = self.supply.lock();
        let recipients_max = state.recipients_max();
        let senders_by_mta = state.mtas.iter().any(|turn| turn.mta.may_make_senders());
        state.claims += 1;
        let claims = state.claims;
        state.claimed_last.insert(due.job.clone(), claims);
        let State { jobs, hands, groups, line, finished, limits, .. } = &mut *state;
        let Some(run) = jobs.get_mut(&due.job) else { panic!("job {} is not in hand", due.job) };
        let indices = wanted.iter().map(|w| w.0);
        let hand = Hand::new(due.job.clone(), claimed.chunk.clone(), claimed.solo, indices);
        if claimed.solo {
            run.solo.push_back(handle);
        } else {
            let many = run.shares_transactions() || senders_by_mta && run.leaves_senders_to_mta();
            let piece_max = if many { recipients_max } else { 1 };
            let (recipients, mixer) = (wanted.iter().copied(), &run.mixer);
            let lanes = lanes_within(limits, &due.meta, recipients, piece_max, |domain| mixer.holds(domain));
            run.mixer.add(handle, lanes);
        }
        run.mixer.set_waiting(self.supply.owner.waiting(&due.job));
        run.primed |= !run.mixer.want().is_some_and(|(_, needed)| needed);
        run.counts.outcomes += unreadable_or_suppressed.len() as u64;
        for (_, s) in &unreadable_or_suppressed {
            self.supply.progress.count(&run.series, None, s.outcome, 1);
        }
        if !unreadable_or_suppressed.is_empty() {
            self.supply.owner.record(handle, unreadable_or_suppressed);
        }
        groups[run.group].add(run.meta.priority, hand.queued());
        if hand.queued() > 0 {
            run.enter(line);
        } else {
            finished.push(handle);
        }
        hands.insert(handle, hand);
        drop(state);
        self.supply.ready.notify_waiters();
    }
}

fn compile(raw: &[u8], meta: &JobMeta) -> Result<Template, crate::message::MessageError> {
    let domain = meta.sender.rsplit_once('@').map_or("localhost", |(_, d)| d);
    Template::compile(
        raw,
        &CompileOptions {
            merge: meta.merge,
            columns: &meta.columns,
            job: &meta.id,
            submitted_us: meta.submitted_us,
            message_id_domain: domain,
            verp: meta.verp.as_deref(),
            sender: Some(&meta.sender),
            allow_placeholders: meta.literal,
        },
    )
}

fn dsn_of(meta: &JobMeta) -> Option<Dsn> {
    (meta.notify.is_some() || meta.ret.is_some()).then(|| Dsn {
        ret: meta.ret.clone(),
        envid: Some(xtext(&meta.id)),
        notify: meta.notify.clone(),
    })
}
