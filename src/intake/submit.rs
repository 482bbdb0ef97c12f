//! Submit: a message and a list become a job, all or nothing.
//!
//! In this order: the message is read and compiled (whatever is wrong with it ends the submission before
//! anything is written), the list is streamed into the spool (bad lines to the rejects file, duplicates
//! dropped, every merged row rendered once so that what can't be rendered is rejected now), the catches
//! ask whether this is what was meant, and one rename makes it a job. Whoever dies before that leaves
//! nothing.
//!
//! [`survey()`] does the same reading without a spool, for `--dry-run`. Everything here blocks.
//!
//! Errors: [`SubmitError`].

mod error;
mod rows;
mod survey;
mod take;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use error::{SubmitError, Tally};
pub use survey::{Domain, Sample, Survey, survey};

use super::{Format, IntakeError, ListFingerprint, RecipientReader, Rejects, SuppressionList};
use crate::clock::Micros;
use crate::message::{CompileOptions, Template, check_address};
use crate::pressure::per_second::PerSecond;
use crate::spool::id::hex;
use crate::spool::submission::Begin;
use crate::spool::{DirSpool, JobId, JobMeta, JobState, OnDoubt, Submission};
use take::{AddressHashes, Destination, Rules, Taken, take};

/// What is to be submitted, and which catches apply.
#[derive(Debug, Clone)]
pub struct SubmitRequest {
    /// `-`: standard input.
    pub message: PathBuf,
    /// `-`: standard input.
    pub list: PathBuf,
    pub format: Format,
    /// The column of addresses; found by its name without.
    pub column: Option<String>,
    /// Headers and text parts are templates over the columns.
    pub merge: bool,
    /// Envelope sender in place of the address in From.
    pub sender: Option<String>,
    pub verp: Option<String>,
    /// `NEVER`, or a comma list of `SUCCESS`, `FAILURE`, `DELAY`.
    pub notify: Option<String>,
    /// `FULL` or `HDRS`.
    pub ret: Option<String>,
    pub on_doubt: OnDoubt,
    /// 0 to [`PRIORITY_MAX`](crate::spool::PRIORITY_MAX), which goes first.
    pub priority: u8,
    pub accept_refusals: bool,
    /// Meant for the sink: never goes anywhere else, and needs no confirmation.
    pub rehearsal: bool,
    /// The one MTA that it may go to.
    pub mta: Option<String>,
    /// Send so many, then pause.
    pub first: Option<u64>,
    /// Every message goes to this address: a test, which needs no confirmation.
    pub test_to: Option<String>,
    /// Of a test, as many recipients; of a survey, as many messages shown.
    pub samples: u64,
    /// Left-over placeholders are meant literally.
    pub allow_placeholders: bool,
    pub suppress: Option<PathBuf>,
    /// Messages a second, at most.
    pub messages_per_second: Option<PerSecond>,
    /// The hours in which it may be sent; always, if none.
    pub windows: Vec<String>,
    /// Where bad lines go; beside the list without.
    pub rejects: Option<PathBuf>,
    /// One bad line refuses all.
    pub strict: bool,
    pub expect_recipients: Option<u64>,
    /// Recipients above which [`Observer::confirm`] is asked.
    pub confirm_recipients_min: u64,
    /// The count needs no confirmation.
    pub yes: bool,
    /// The same submission as one lately is meant.
    pub again: bool,
    /// `--id`: a second submission of the same is harmless.
    pub key: Option<String>,
}

/// Who watches a submission, and answers for it.
pub trait Observer {
    /// The message was compiled: its envelope sender (empty: the null sender), and what to warn of.
    fn compiled(&mut self, sender: &str, warnings: &[String]);
    /// So many rows were read.
    fn rows(&mut self, rows: u64);
    /// Is this the count that was meant?
    ///
    /// # Errors
    /// [`SubmitError::Unconfirmed`], [`SubmitError::NotConfirmed`]: nothing is submitted then.
    fn confirm(&mut self, recipients: u64, min: u64) -> Result<(), SubmitError>;
}

/// A job that is committed.
#[derive(Debug, Clone)]
pub struct Submitted {
    pub job: JobId,
    /// It was there before, under the same `--id`; its state then.
    pub existed: Option<JobState>,
    pub recipients: u64,
    /// Of them, those that the suppression list holds now.
    pub suppressed: u64,
    pub tally: Tally,
    /// The file that lists the rejected lines, if there are any.
    pub rejects: Option<PathBuf>,
}

/// Submits; the job is durable when this returns.
///
/// # Errors
/// [`SubmitError`]; nothing was committed, unless it is `SpoolError::Unknown`.
pub fn submit(
    spool: &DirSpool,
    request: &SubmitRequest,
    observer: &mut dyn Observer,
) -> Result<Submitted, SubmitError> {
    let mut source = Source::open(request)?;
    let key_id = request.key.as_deref().map(JobId::from_key);
    // before anything is written: whatever is wrong with the message shows now
    let provisional = key_id.unwrap_or_else(JobId::generate);
    let template = source.compile(request, &provisional, crate::clock::now_us())?;
    observer.compiled(template.sender(), template.warnings());
    match spool.begin(request.key.as_deref())? {
        Begin::New(submission) => {
            let template = source.compile(request, submission.id(), submission.submitted_us())?;
            new_job(spool, request, source, &template, submission, observer)
        }
        Begin::Exists(job, state) => same_job(spool, request, &mut source, &template, (job, state), observer),
    }
}

fn new_job(
    spool: &DirSpool,
    request: &SubmitRequest,
    mut source: Source,
    template: &Template,
    submission: Box<Submission>,
    observer: &mut dyn Observer,
) -> Result<Submitted, SubmitError> {
    let path = list_name(&request.list);
    let mut fingerprint = source.fingerprint(request, template);
    let mut rejects = Rejects::new(rejects_path(request));
    let mut destination = Destination::Job(submission);
    let rules = Rules {
        path: path.clone(),
        strict: request.strict,
        thorough: false,
        recipients_max: request.test_to.is_some().then_some(request.samples),
        suppress: source.suppress.as_ref(),
        rejects: Some(&mut rejects),
    };
    let taken = take(
        &mut source.reader,
        template,
        &mut destination,
        &mut fingerprint,
        rules,
        &mut |rows| observer.rows(rows),
        &mut |_| {},
    )?;
    let rejects = rejects.finish()?;
    let Destination::Job(submission) = destination else { unreachable!("it was made a job above") };
    check_count(request, &path, &taken)?;
    let fingerprint = hex(&fingerprint.finish());
    if request.test_to.is_none() {
        if !request.again
            && let Some((job, at_us)) = spool.submitted_lately(&fingerprint)?
        {
            return Err(SubmitError::Again { job, at_us });
        }
        let min = request.confirm_recipients_min;
        if taken.recipients > min && !request.rehearsal && !request.yes {
            observer.confirm(taken.recipients, min)?;
        }
    }
    let meta =
        submission.commit(&source.message, |_| describe(request, &source, template, &taken, fingerprint))?;
    Ok(Submitted {
        job: meta.job_id()?,
        existed: None,
        recipients: taken.recipients,
        suppressed: taken.suppressed,
        tally: taken.tally,
        rejects,
    })
}

/// A second submission under an id that is there: the same one is harmless, another one is refused.
fn same_job(
    spool: &DirSpool,
    request: &SubmitRequest,
    source: &mut Source,
    template: &Template,
    (job, state): (JobId, JobState),
    observer: &mut dyn Observer,
) -> Result<Submitted, SubmitError> {
    let mut fingerprint = source.fingerprint(request, template);
    let rules = Rules {
        path: list_name(&request.list),
        strict: request.strict,
        thorough: false,
        recipients_max: request.test_to.is_some().then_some(request.samples),
        suppress: source.suppress.as_ref(),
        rejects: None,
    };
    let taken = take(
        &mut source.reader,
        template,
        &mut Destination::Nowhere(AddressHashes::default()),
        &mut fingerprint,
        rules,
        &mut |rows| observer.rows(rows),
        &mut |_| {},
    )?;
    check_count(request, &list_name(&request.list), &taken)?;
    let meta = spool.view(&job)?.meta;
    let suppress = source.suppress.as_ref().map(|list| list.path().to_string_lossy().into_owned());
    let same_options = meta.suppress == suppress
        && meta.notify == request.notify
        && meta.ret == request.ret
        && meta.on_doubt == request.on_doubt
        && meta.accept_refusals == request.accept_refusals;
    if !same_options || meta.fingerprint != hex(&fingerprint.finish()) {
        return Err(SubmitError::OtherSubmission { job });
    }
    Ok(Submitted {
        job,
        existed: Some(state),
        recipients: taken.recipients,
        suppressed: taken.suppressed,
        tally: taken.tally,
        rejects: None,
    })
}

/// The catches that need the count alone.
fn check_count(request: &SubmitRequest, path: &str, taken: &Taken) -> Result<(), SubmitError> {
    let (path, tally, found) = (path.to_owned(), taken.tally, taken.recipients);
    if found == 0 {
        return Err(SubmitError::NoRecipients { path, tally });
    }
    match request.expect_recipients {
        Some(expected) if expected != found && request.test_to.is_none() => {
            Err(SubmitError::Expected { path, found, expected, tally })
        }
        _ => Ok(()),
    }
}

fn describe(
    request: &SubmitRequest,
    source: &Source,
    template: &Template,
    taken: &Taken,
    fingerprint: String,
) -> JobMeta {
    JobMeta {
        submitted_by: submitter(),
        duplicates_dropped: taken.tally.duplicates_dropped,
        rejected_lines: taken.tally.rejected_lines,
        merge: request.merge,
        columns: source.reader.columns().to_vec(),
        sender: template.sender().to_owned(),
        verp: request.verp.clone(),
        notify: request.notify.clone(),
        ret: request.ret.clone(),
        on_doubt: request.on_doubt,
        accept_refusals: request.accept_refusals,
        suppress: source.suppress.as_ref().map(|list| list.path().to_string_lossy().into_owned()),
        rehearsal: request.rehearsal,
        mta: request.mta.clone(),
        first: request.first,
        test_to: request.test_to.clone(),
        literal: request.allow_placeholders,
        messages_per_second: request.messages_per_second,
        windows: request.windows.clone(),
        priority: request.priority,
        pack: None,
        fingerprint,
        // what only the spool knows, and fills in
        format: 0,
        id: String::new(),
        submitted_us: 0,
        recipients: 0,
        chunks: 0,
        message_sha1: String::new(),
        message_bytes: 0,
        manifest_crc32: 0,
    }
}

/// Message, list and suppressions of a request, open.
struct Source {
    message: Vec<u8>,
    reader: RecipientReader,
    suppress: Option<SuppressionList>,
}

impl Source {
    fn open(request: &SubmitRequest) -> Result<Self, SubmitError> {
        let stdin = Path::new("-");
        if request.message == stdin && request.list == stdin {
            return Err(SubmitError::BothFromStdin);
        }
        if let Some(address) = &request.test_to {
            check_address(address)
                .map_err(|reason| SubmitError::TestTo { address: address.clone(), reason })?;
        }
        let message = read_message(&request.message)
            .map_err(|source| SubmitError::MessageRead { path: list_name(&request.message), source })?;
        // absolute: it is read again when mail goes out, by a process that may run elsewhere
        let suppress = match &request.suppress {
            Some(path) => {
                let path = std::path::absolute(path)
                    .map_err(|source| IntakeError::Suppression { path: path.clone(), source })?;
                Some(SuppressionList::load(path)?)
            }
            None => None,
        };
        let reader = RecipientReader::open(&request.list, request.format, request.column.as_deref())?;
        Ok(Self { message, reader, suppress })
    }

    fn compile(
        &self,
        request: &SubmitRequest,
        job: &JobId,
        submitted_us: Micros,
    ) -> Result<Template, SubmitError> {
        let compile = |message_id_domain: &str| {
            let options = CompileOptions {
                merge: request.merge,
                columns: self.reader.columns(),
                job: job.as_str(),
                submitted_us,
                message_id_domain,
                verp: request.verp.as_deref(),
                sender: request.sender.as_deref(),
                allow_placeholders: request.allow_placeholders,
            };
            Template::compile(&self.message, &options)
                .map_err(|source| SubmitError::Message { path: list_name(&request.message), source })
        };
        // an added Message-ID stands in the sender's domain, as the runner will have it
        let template = compile("localhost")?;
        match template.sender().rsplit_once('@') {
            Some((_, domain)) => compile(domain),
            None => Ok(template),
        }
    }

    /// Of everything but the rows. A rehearsal or a test is another submission than the real one.
    fn fingerprint(&self, request: &SubmitRequest, template: &Template) -> ListFingerprint {
        let mut fingerprint = ListFingerprint::new();
        fingerprint.message(&self.message);
        fingerprint.option("sender", template.sender());
        fingerprint.option("verp", request.verp.as_deref().unwrap_or_default());
        fingerprint.option("merge", if request.merge { "yes" } else { "no" });
        fingerprint.option("rehearsal", if request.rehearsal { "yes" } else { "no" });
        fingerprint.option("test-to", request.test_to.as_deref().unwrap_or_default());
        fingerprint.columns(self.reader.columns());
        fingerprint
    }
}

fn read_message(path: &Path) -> std::io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut octets = Vec::new();
        std::io::stdin().lock().read_to_end(&mut octets)?;
        return Ok(octets);
    }
    std::fs::read(path)
}

/// A file as messages name it.
fn list_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// `--rejects`, else `<list>.rejects.csv` beside the list, else in the working folder where that one is
/// not ours to write.
fn rejects_path(request: &SubmitRequest) -> PathBuf {
    if let Some(path) = &request.rejects {
        return path.clone();
    }
    let list = &request.list;
    let mut name = match list.file_name() {
        Some(name) if list != Path::new("-") => name.to_owned(),
        _ => "stdin".into(),
    };
    name.push(".rejects.csv");
    let folder = match list.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    use rustix::fs::{Access, access};
    let folder = match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => folder,
        Err(_) => Path::new("."),
    };
    folder.join(name)
}

/// The user, by number, with the name that the environment gives.
pub(super) fn submitter() -> String {
    let uid = rustix::process::getuid().as_raw();
    match std::env::var("LOGNAME").or_else(|_| std::env::var("USER")) {
        Ok(name) if !name.is_empty() => format!("{name} (uid {uid})"),
        _ => format!("uid {uid}"),
    }
}
