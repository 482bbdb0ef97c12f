//! What the other stages see of the spool: two async traits, and no path.
//!
//! [`DirSpool`] is the spool in a folder; what blocks on the disk runs on the blocking threads. The
//! three calls of the hot path (`record`, `release`, `mark`) append to memory and to the page cache and
//! never wait.

use std::future::Future;
use std::sync::Arc;

use super::dir::DirSpool;
use super::domains::DomainKey;
use super::error::{Result, SpoolError};
use super::id::{ChunkName, JobId};
use super::index::JobDue;
use super::job::JobMeta;
use super::layout::JobState;
use super::offer::Waiting;
use super::owner::{Claim, DirOwner};
use super::pack::{Pack, PackContent};
use super::pass::PassEnd;
use super::recover::Recovered;
use super::report::ReportLine;
use super::results::Settled;
use super::standstill::Standstill;
use super::state::{Change, Pacing, Requested};
use super::submission::Begin;
use super::view::JobView;
use crate::slice::XxRange;

/// A durable queue of jobs.
pub trait Spool: Clone + Send + Sync + 'static {
    type Owner: Owner;

    /// Begins a submission; `key` makes a second one harmless.
    fn begin(&self, key: Option<String>) -> impl Future<Output = Result<Begin>> + Send;
    /// Takes a range of hash space for this process alone, and recovers what a dead owner left.
    fn own(&self, range: XxRange) -> impl Future<Output = Result<Self::Owner>> + Send;
    /// Commits many small jobs together, durably, all or nothing.
    fn commit_pack(&self, pack: Pack) -> impl Future<Output = Result<JobMeta>> + Send;
    fn view(&self, job: &JobId) -> impl Future<Output = Result<JobView>> + Send;
    /// Every job; one that can't be read is its error.
    fn views(&self) -> impl Future<Output = Result<Vec<Result<JobView>>>> + Send;
    /// Every job in one of these states.
    fn views_of(
        &self,
        states: &'static [JobState],
    ) -> impl Future<Output = Result<Vec<Result<JobView>>>> + Send;
    /// The state that a job is in now.
    fn state_of(&self, job: &JobId) -> impl Future<Output = Result<JobState>> + Send;
    /// Makes a change at once where nothing of the job is in hand, else asks whoever has it; waits for
    /// nobody.
    fn request(&self, job: &JobId, change: Change) -> impl Future<Output = Result<Requested>> + Send;
    /// How a request goes on; carries it out when the job has been let go.
    fn follow(&self, job: &JobId, to: JobState) -> impl Future<Output = Result<Requested>> + Send;
    /// Begins a standstill, and gives the one that holds now.
    fn pause_all(&self, reason: String) -> impl Future<Output = Result<Standstill>> + Send;
    /// Ends the standstill, and gives it.
    fn resume_all(&self) -> impl Future<Output = Result<Option<Standstill>>> + Send;
    /// The standstill that holds now. Costs one look at one file, and runs where it is called.
    fn standstill(&self) -> Result<Option<Standstill>>;
    fn cancel(&self, job: &JobId) -> impl Future<Output = Result<()>> + Send;
    /// A job's rate or window from now on; its state stays.
    fn set_pacing(&self, job: &JobId, pacing: Pacing) -> impl Future<Output = Result<()>> + Send;
    fn resume(&self, job: &JobId, accept_refusals: bool) -> impl Future<Output = Result<()>> + Send;
    fn pause(&self, job: &JobId, reason: String) -> impl Future<Output = Result<()>> + Send;
    fn remove(&self, job: &JobId) -> impl Future<Output = Result<()>> + Send;
    /// One line per recipient, in order of chunks; `each` runs on a blocking thread.
    fn report(
        &self,
        job: &JobId,
        each: Box<dyn FnMut(ReportLine) -> Result<()> + Send>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// The right to drain a range. Clones share it.
pub trait Owner: Clone + Send + Sync + 'static {
    /// What the recovery at the start did.
    fn recovered(&self) -> Recovered;
    /// What there is to do in the range.
    fn scan(&self) -> impl Future<Output = Result<Vec<JobDue>>> + Send;
    /// Jobs that can't be drained as they lie there, by the last scan, and why.
    fn unreadable(&self) -> Vec<(JobId, String)>;
    /// An error when retry chunks of a job are missing; for one of which nothing waits and that isn't done.
    fn find_missing(&self, job: &JobId) -> impl Future<Output = Result<()>> + Send;
    /// The longest wait before a retry, in seconds: what is due later was put off by a clock that was ahead.
    fn set_retry_delay_s_max(&self, retry_delay_s_max: u64);
    /// The next chunk of a job that is due.
    fn next_due(&self, job: &JobId) -> Option<ChunkName>;
    /// What of a job is due, by domain.
    fn waiting(&self, job: &JobId) -> Waiting;
    /// The next chunk of a job that is due, of those that hold more of one domain than of any other.
    fn next_due_of(&self, job: &JobId, class: DomainKey) -> Option<ChunkName>;
    /// Chunks of a job that wait, and those in hand.
    fn outstanding(&self, job: &JobId) -> (usize, usize);
    fn message(&self, job: &JobId) -> impl Future<Output = Result<Vec<u8>>> + Send;
    /// The members of a pack, and their messages.
    fn pack_content(&self, pack: &JobId) -> impl Future<Output = Result<PackContent>> + Send;
    /// Recipients that wait in the range, by job; those of chunks in hand are not counted.
    fn waiting_recipients(&self) -> impl Future<Output = Result<Vec<(JobId, u64)>>> + Send;
    /// The claim is durable when this returns.
    fn claim(&self, job: &JobId, name: ChunkName) -> impl Future<Output = Result<Claim>> + Send;
    /// Recorded, for recipients of these chunks, before content that can complete a delivery goes out; on
    /// `Err` nothing may be sent.
    fn hand_out(
        &self,
        parts: &[(u32, Vec<u16>)],
    ) -> impl Future<Output = std::result::Result<(), String>> + Send;
    /// The same without waiting; `Ok(false)`: too much is unsynced.
    fn try_hand_out(&self, parts: &[(u32, Vec<u16>)]) -> std::result::Result<bool, String>;
    /// What outcomes were recorded survives this process's death from now on; it does so anyhow once
    /// anybody is handed out.
    fn flush(&self);
    fn record(&self, handle: u32, outcomes: Vec<(u16, Settled)>);
    /// Nothing was delivered, for certain.
    fn release(&self, handle: u32, indices: &[u16]);
    /// May have been delivered, and is sent again.
    fn mark(&self, handle: u32, indices: &[u16]);
    /// Ends a chunk's pass; what isn't settled stays pending.
    fn finish(&self, handle: u32) -> impl Future<Output = Result<PassEnd>> + Send;
    /// `done`, when nothing of the job is left in any slice.
    fn try_complete(&self, job: &JobId) -> impl Future<Output = Result<bool>> + Send;
    /// While there is one, nothing may be handed out. Costs one look at one file.
    fn standstill(&self) -> Result<Option<Standstill>>;
    /// Pauses a job of which nothing is in hand; what a person asked for meanwhile goes before it.
    fn pause(&self, job: &JobId, reason: String) -> impl Future<Output = Result<()>> + Send;
    /// Carries out what a command asked for; nothing of the job may be in hand.
    fn carry_out_request(&self, job: &JobId) -> impl Future<Output = Result<bool>> + Send;
    /// What `--first` leaves to be tried of a job before it pauses.
    fn first_left(&self, job: &JobId) -> impl Future<Output = Result<Option<u64>>> + Send;
    fn journal_error(&self) -> Option<String>;
    /// An orderly end: nothing may be in hand, and no clone in use.
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}

/// Runs what blocks on the disk on a blocking thread; a panic there goes on here.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

impl Spool for DirSpool {
    type Owner = Arc<DirOwner>;

    async fn begin(&self, key: Option<String>) -> Result<Begin> {
        let spool = self.clone();
        blocking(move || DirSpool::begin(&spool, key.as_deref())).await
    }
    async fn own(&self, range: XxRange) -> Result<Arc<DirOwner>> {
        let spool = self.clone();
        blocking(move || DirSpool::own(&spool, range).map(Arc::new)).await
    }
    async fn commit_pack(&self, pack: Pack) -> Result<JobMeta> {
        let spool = self.clone();
        blocking(move || DirSpool::commit_pack(&spool, &pack)).await
    }
    async fn view(&self, job: &JobId) -> Result<JobView> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::view(&spool, &job)).await
    }
    async fn views(&self) -> Result<Vec<Result<JobView>>> {
        let spool = self.clone();
        blocking(move || DirSpool::views(&spool)).await
    }
    async fn views_of(&self, states: &'static [JobState]) -> Result<Vec<Result<JobView>>> {
        let spool = self.clone();
        blocking(move || DirSpool::views_of(&spool, states)).await
    }
    async fn state_of(&self, job: &JobId) -> Result<JobState> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::state_of(&spool, &job)).await
    }
    async fn request(&self, job: &JobId, change: Change) -> Result<Requested> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::request(&spool, &job, &change)).await
    }
    async fn follow(&self, job: &JobId, to: JobState) -> Result<Requested> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::follow(&spool, &job, to)).await
    }
    async fn pause_all(&self, reason: String) -> Result<Standstill> {
        let spool = self.clone();
        blocking(move || DirSpool::pause_all(&spool, &reason)).await
    }
    async fn resume_all(&self) -> Result<Option<Standstill>> {
        let spool = self.clone();
        blocking(move || DirSpool::resume_all(&spool)).await
    }
    fn standstill(&self) -> Result<Option<Standstill>> {
        DirSpool::standstill(self)
    }
    async fn cancel(&self, job: &JobId) -> Result<()> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::cancel(&spool, &job)).await
    }
    async fn set_pacing(&self, job: &JobId, pacing: Pacing) -> Result<()> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::set_pacing(&spool, &job, &pacing)).await
    }
    async fn resume(&self, job: &JobId, accept_refusals: bool) -> Result<()> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::resume(&spool, &job, accept_refusals)).await
    }
    async fn pause(&self, job: &JobId, reason: String) -> Result<()> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::pause(&spool, &job, &reason)).await
    }
    async fn remove(&self, job: &JobId) -> Result<()> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::remove(&spool, &job)).await
    }
    async fn report(
        &self,
        job: &JobId,
        mut each: Box<dyn FnMut(ReportLine) -> Result<()> + Send>,
    ) -> Result<()> {
        let (spool, job) = (self.clone(), job.clone());
        blocking(move || DirSpool::report(&spool, &job, &mut each)).await
    }
}

impl Owner for Arc<DirOwner> {
    fn recovered(&self) -> Recovered {
        self.recovered
    }
    async fn scan(&self) -> Result<Vec<JobDue>> {
        let owner = self.clone();
        blocking(move || DirOwner::scan(&owner)).await
    }
    fn unreadable(&self) -> Vec<(JobId, String)> {
        DirOwner::unreadable(self)
    }
    async fn find_missing(&self, job: &JobId) -> Result<()> {
        let (owner, job) = (self.clone(), job.clone());
        blocking(move || DirOwner::find_missing(&owner, &job)).await
    }
    fn set_retry_delay_s_max(&self, retry_delay_s_max: u64) {
        DirOwner::set_retry_delay_s_max(self, retry_delay_s_max);
    }
    fn next_due(&self, job: &JobId) -> Option<ChunkName> {
        DirOwner::next_due(self, job)
    }
    fn waiting(&self, job: &JobId) -> Waiting {
        DirOwner::waiting(self, job)
    }
    fn next_due_of(&self, job: &JobId, class: DomainKey) -> Option<ChunkName> {
        DirOwner::next_due_of(self, job, class)
    }
    fn outstanding(&self, job: &JobId) -> (usize, usize) {
        DirOwner::outstanding(self, job)
    }
    async fn message(&self, job: &JobId) -> Result<Vec<u8>> {
        let (owner, job) = (self.clone(), job.clone());
        blocking(move || DirOwner::message(&owner, &job)).await
    }
    async fn pack_content(&self, pack: &JobId) -> Result<PackContent> {
        let (owner, pack) = (self.clone(), pack.clone());
        blocking(move || DirOwner::pack_content(&owner, &pack)).await
    }
    async fn waiting_recipients(&self) -> Result<Vec<(JobId, u64)>> {
        let owner = self.clone();
        blocking(move || DirOwner::waiting_recipients(&owner)).await
    }
    async fn claim(&self, job: &JobId, name: ChunkName) -> Result<Claim> {
        let (owner, job) = (self.clone(), job.clone());
        blocking(move || DirOwner::claim(&owner, &job, name)).await
    }
    async fn hand_out(&self, parts: &[(u32, Vec<u16>)]) -> std::result::Result<(), String> {
        DirOwner::hand_out(self, parts).await
    }
    fn try_hand_out(&self, parts: &[(u32, Vec<u16>)]) -> std::result::Result<bool, String> {
        DirOwner::try_hand_out(self, parts)
    }
    fn flush(&self) {
        DirOwner::flush(self);
    }
    fn record(&self, handle: u32, outcomes: Vec<(u16, Settled)>) {
        DirOwner::record(self, handle, outcomes);
    }
    fn release(&self, handle: u32, indices: &[u16]) {
        DirOwner::release(self, handle, indices);
    }
    fn mark(&self, handle: u32, indices: &[u16]) {
        DirOwner::mark(self, handle, indices);
    }
    async fn finish(&self, handle: u32) -> Result<PassEnd> {
        let owner = self.clone();
        blocking(move || DirOwner::finish(&owner, handle)).await
    }
    async fn try_complete(&self, job: &JobId) -> Result<bool> {
        let (spool, job) = (self.spool.clone(), job.clone());
        blocking(move || DirSpool::try_complete(&spool, &job)).await
    }
    async fn pause(&self, job: &JobId, reason: String) -> Result<()> {
        let (spool, job) = (self.spool.clone(), job.clone());
        blocking(move || spool.pause_by_owner(&job, &reason)).await
    }
    fn standstill(&self) -> Result<Option<Standstill>> {
        self.spool.standstill()
    }
    async fn carry_out_request(&self, job: &JobId) -> Result<bool> {
        let (spool, job) = (self.spool.clone(), job.clone());
        blocking(move || spool.carry_out_request(&job)).await
    }
    async fn first_left(&self, job: &JobId) -> Result<Option<u64>> {
        let (spool, job) = (self.spool.clone(), job.clone());
        blocking(move || {
            let dir = spool.layout.job(JobState::Active, &job);
            spool.first_left(&job, &dir, JobState::Active)
        })
        .await
    }
    fn journal_error(&self) -> Option<String> {
        DirOwner::journal_error(self)
    }
    async fn close(self) -> Result<()> {
        match Arc::try_unwrap(self) {
            Ok(owner) => blocking(move || owner.close()).await,
            Err(owner) => Err(SpoolError::damaged(owner.spool.root(), "it is closed while in use")),
        }
    }
}
