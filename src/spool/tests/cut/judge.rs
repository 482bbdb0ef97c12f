//! After a cut: the spool is opened, recovered and drained to the end, and held against what was known.

use std::collections::BTreeMap;
use std::path::Path;

use super::actor::{Actor, settings};
use super::known::{Known, KnownJob, Mark};
use crate::spool::check::Checked;
use crate::spool::dir::DirSpool;
use crate::spool::disk::{Disk, Survives, lay_out};
use crate::spool::error::SpoolError;
use crate::spool::id::{JobId, Outcome};
use crate::spool::layout::JobState;
use crate::spool::recorder::{Moment, Recorder};
use crate::spool::state::Change;
use crate::spool::tests::report;

/// Everybody's outcome, and whether it is marked.
type Report = BTreeMap<String, (Outcome, bool)>;

/// What a cut left.
pub struct Left {
    /// All of it is there, certain or not.
    pub disk: Disk,
    pub known: Known,
    /// Starts of the machine so far.
    pub boot: usize,
    /// The bound on how many are sent to twice, over all cuts.
    pub repeats_max: usize,
}

/// Recovers, drains to the end, and judges; gives the log of it, for a cut in the middle of that.
pub fn judge(left: &Left) -> Vec<Moment<Mark>> {
    let dir = folder();
    lay_out(&left.disk.image(&Survives::All), dir.path());
    let recorder = Recorder::new(dir.path(), &left.disk);
    let actor = Actor::start(&recorder, &dir.path().join("spool"), left.boot, settings()).unwrap();
    let spool = &actor.spool;
    let known = &left.known;

    // one whose submission never got its answer, and whose id nobody knows
    for (job, _) in spool.list_jobs().unwrap() {
        if !known.jobs.contains_key(&job) {
            let recipients = spool.view(&job).unwrap().meta.recipients;
            recorder.mark(Mark::Begun(job, recipients as usize));
        }
    }
    // as it lies there, before anybody repairs anything
    assert_places(spool, known);
    // a torn end of a journal is what a cut leaves; nothing else is damaged
    assert_sound(&spool.check(&mut |_| {}).unwrap(), &spool.layout.journal());
    let before = reports(spool);
    assert_honoured(&before, known);

    let owner = actor.own();
    assert_places(spool, known);
    assert_eq!(reports(spool), before, "recovery changed a report");
    assert_eq!(spool.names(&spool.layout.incoming()).unwrap(), Vec::<String>::new());

    // to the end
    for job in spool.paused().unwrap() {
        actor.change(&job, &Change::Resume { accept_refusals: false });
    }
    for job in spool.list_state(JobState::Active).unwrap() {
        drain_to_the_end(&actor, &owner, &job);
    }
    owner.close().unwrap();
    let moments = recorder.take();
    let mut known = known.clone();
    moments.iter().for_each(|m| known.learn(m));
    let checked = spool.check(&mut |_| {}).unwrap();
    assert_sound(&checked, Path::new("nowhere"));
    assert_eq!(spool.names(&spool.layout.quarantine()).unwrap(), Vec::<String>::new());
    assert_eq!(spool.segments().unwrap(), []);
    for (job, lines) in reports(spool) {
        assert_ended(&job, &lines, known.jobs.get(&job));
    }
    let repeats = known.repeats();
    assert!(repeats <= left.repeats_max, "{repeats} were sent to twice, of at most {}", left.repeats_max);
    moments
}

/// In memory where there is such a place: thousands of spools are laid out.
pub fn folder() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap()
}

fn drain_to_the_end(actor: &Actor, owner: &crate::spool::owner::DirOwner, job: &JobId) {
    let spool = &actor.spool;
    while actor.drain(owner, job, 1) > 0 {}
    // what somebody asked for before the cut is carried out, as a runner does
    if spool.layout.job(JobState::Active, job).request().exists() {
        actor.asked(job, Some(JobState::Paused));
        actor.asked(job, Some(JobState::Cancelled));
    }
    if spool.carry_out_request(job).unwrap() && spool.state_of(job).unwrap() == JobState::Paused {
        actor.change(job, &Change::Resume { accept_refusals: false });
        while actor.drain(owner, job, 1) > 0 {}
    }
    if spool.state_of(job).unwrap() == JobState::Active {
        actor.complete(job);
    }
}

fn reports(spool: &DirSpool) -> BTreeMap<JobId, Report> {
    let jobs = spool.list_jobs().unwrap();
    jobs.into_iter().map(|(job, _)| (job.clone(), report(spool, &job))).collect()
}

fn assert_places(spool: &DirSpool, known: &Known) {
    for (job, of) in &known.jobs {
        let place = match spool.find(job) {
            Ok((state, _)) => Some(state),
            Err(SpoolError::NoSuchJob(_)) => None,
            Err(e) => panic!("{job}: {e}"),
        };
        assert!(of.places.contains(&place), "{job} is {place:?}, and should be one of {:?}", of.places);
        assert!(place.is_some() || !of.submitted || of.places.contains(&None), "{job} was lost");
    }
}

fn assert_sound(checked: &Checked, except: &Path) {
    let damage: Vec<_> = checked.findings.iter().filter(|f| f.damage).collect();
    let other: Vec<_> = damage.iter().filter(|f| !Path::new(&f.path).starts_with(except)).collect();
    assert!(other.is_empty(), "{other:?}");
}

/// No outcome that was synced is forgotten, and nobody is missing.
fn assert_honoured(reports: &BTreeMap<JobId, Report>, known: &Known) {
    for (job, of) in &known.jobs {
        let Some(lines) = reports.get(job) else {
            assert!(of.sent.is_empty() || of.places.contains(&None) && of.submitted, "{job}: sent, and gone");
            continue;
        };
        assert_eq!(lines.len(), of.recipients, "{job}");
        for (address, durable) in &of.durable {
            let (outcome, _) = lines[address];
            let is_kept = match durable {
                Outcome::Deferred => outcome != Outcome::Pending,
                durable => outcome == *durable,
            };
            assert!(is_kept, "{job}: {address} was {durable:?} on disk, and is {outcome:?}");
        }
        for (address, times) in &of.sent {
            let (outcome, marked) = lines[address];
            let is_told = outcome == Outcome::Accepted || outcome == Outcome::InDoubt || marked;
            assert!(is_told, "{job}: {address} went out {times} times, is {outcome:?} and not marked");
        }
    }
}

fn assert_ended(job: &JobId, lines: &Report, known: Option<&KnownJob>) {
    let none = KnownJob::default();
    let known = known.unwrap_or(&none);
    for (address, (outcome, marked)) in lines {
        let sent = known.sent.get(address).copied().unwrap_or(0);
        assert!(sent <= 1 || *marked, "{job}: {address} went out {sent} times and is not marked");
        match outcome {
            Outcome::Accepted => assert!(sent >= 1, "{job}: {address} was lost"),
            // cancelled once it was known that it may have gone out
            Outcome::Cancelled => {
                assert!(sent == 0 || *marked, "{job}: {address} went out, and is forgotten")
            }
            Outcome::InDoubt => {
                assert!(known.places.contains(&Some(JobState::Cancelled)), "{job}: {address}")
            }
            other => panic!("{job}: {address} is {other:?} at the end"),
        }
    }
}
