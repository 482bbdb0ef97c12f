//! `infeed make-list`: a list of recipients for rehearsals, as large as wanted.
//!
//! The same options give the same file, on any machine. Every domain is one that RFC 2606 reserves, so a
//! list that escapes a rehearsal reaches nobody. A few domains hold most recipients, as in real lists.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;

use words::{CITIES, FIRST_NAMES, LAST_NAMES, PLANS};

mod words;

/// The columns of the list.
pub const HEADER: &str = "email,first_name,city,plan,unsubscribe_token\n";
const DOMAINS_MAX: u32 = 100_000;

/// Make a list of recipients for rehearsals (CSV: email, first_name, city, plan, unsubscribe_token).
#[derive(Debug, Clone, clap::Args)]
pub struct MakeListArgs {
    /// Recipients of the list: valid ones, none twice
    #[arg(long, value_name = "N")]
    pub recipients: u64,
    /// The same seed gives the same list
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// Domains that the recipients are at; a few of them hold most
    #[arg(long, value_name = "K", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=DOMAINS_MAX as i64))]
    pub domains: u32,
    /// Bad lines beside the recipients, for each hundred of them
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = percent)]
    pub bad_percent: f64,
    /// Repeated lines beside the recipients, for each hundred of them
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = percent)]
    pub duplicates_percent: f64,
    /// Recipients that the sink refuses (refuse-550.N@…)
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = percent)]
    pub refuse_percent: f64,
    /// Recipients that the sink defers once (defer-451-1x.N@…)
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = percent)]
    pub defer_percent: f64,
    /// One domain after the other: the worst order for an MTA
    #[arg(long)]
    pub sorted_by_domain: bool,
    /// A new file, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a number from 0 to 100".into()),
    }
}

/// What a list holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Valid and unique; the sink's `refused` and `deferred` among them.
    pub recipients: u64,
    pub refused: u64,
    pub deferred: u64,
    /// Lines beside the recipients.
    pub bad: u64,
    /// Lines beside the recipients, of an address that came before.
    pub duplicates: u64,
}

/// Writes the list, and its counts on standard error; exit code 0.
///
/// # Errors
/// The output exists, or can't be created or written; percentages that exceed 100 together.
pub fn run(args: MakeListArgs) -> anyhow::Result<u8> {
    if args.refuse_percent + args.defer_percent > 100.0 {
        let more = "--refuse-percent and --defer-percent are more than 100 together; lower one";
        return Err(crate::cli::exit::coded(crate::cli::exit::USAGE, more.to_owned()));
    }
    let written = match &args.output {
        Some(path) => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .with_context(|| format!("{}: can't be created; choose a new file", path.display()))?;
            let mut file = BufWriter::with_capacity(256 * 1024, file);
            write_list(&args, &mut file)
                .and_then(|counts| file.flush().map(|()| counts))
                .with_context(|| format!("{}: can't be written; is there room?", path.display()))?
        }
        None => {
            let mut stdout = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
            match write_list(&args, &mut stdout).and_then(|counts| stdout.flush().map(|()| counts)) {
                // The reader has seen enough, as in `| head`.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
                written => written.context("standard output can't be written")?,
            }
        }
    };
    if args.output.is_some() || !io::stdout().is_terminal() {
        eprintln!(
            "{} recipients ({} to be refused, {} to be deferred), {} bad lines, {} duplicates",
            written.recipients, written.refused, written.deferred, written.bad, written.duplicates
        );
    }
    Ok(0)
}

/// Writes the list of `args` (its `output` aside).
///
/// # Errors
/// Those of `out`.
pub fn write_list(args: &MakeListArgs, out: &mut impl Write) -> io::Result<Counts> {
    let list = List::new(args);
    let mut counts = Counts { recipients: args.recipients, ..Counts::default() };
    let mut row = Vec::with_capacity(256);
    out.write_all(HEADER.as_bytes())?;
    let bad_below = threshold(args.bad_percent);
    let duplicate_below = threshold(args.duplicates_percent);
    for i in 0..args.recipients {
        row.clear();
        match list.push_row(i, false, &mut row) {
            Fate::Refused => counts.refused += 1,
            Fate::Deferred => counts.deferred += 1,
            Fate::Accepted => {}
        }
        let extra = mix(list.seed ^ 0xe7a5, i);
        if extra & 0xffff_ffff < bad_below {
            push_bad(counts.bad, &mut row);
            counts.bad += 1;
        }
        if extra >> 32 < duplicate_below {
            let draw = mix(extra, i);
            let earlier = list.first_of_domain(i);
            list.push_row(earlier + draw % (i - earlier + 1), draw >> 63 == 1, &mut row);
            counts.duplicates += 1;
        }
        out.write_all(&row)?;
    }
    Ok(counts)
}

/// A percentage as a bound on 32 random bits.
fn threshold(percent: f64) -> u64 {
    (percent / 100.0 * 4_294_967_296.0) as u64
}

/// SplitMix64: well mixed bits of a seed and a number.
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the sink does to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    Refused,
    Deferred,
}

/// The rows, each a pure function of the seed and its number.
struct List {
    seed: u64,
    recipients: u64,
    sorted: bool,
    domains: Vec<String>,
    /// `shares_end[d]`: the part of all recipients, in 2^-32, that the domains up to `d` hold.
    shares_end: Vec<u64>,
    refuse_below: u64,
    defer_below: u64,
}

impl List {
    fn new(args: &MakeListArgs) -> List {
        // Zipf's law: the domain of rank r has a share in proportion to 1/r.
        let weights = (1..=args.domains).map(|rank| 1.0 / f64::from(rank));
        let sum: f64 = weights.clone().sum();
        let mut shares_end = Vec::new();
        let mut total = 0.0;
        for weight in weights {
            total += weight;
            shares_end.push((total / sum * 4_294_967_296.0) as u64);
        }
        let refuse_below = threshold(args.refuse_percent);
        List {
            seed: args.seed,
            recipients: args.recipients,
            sorted: args.sorted_by_domain,
            domains: (0..args.domains as usize).map(domain).collect(),
            shares_end,
            refuse_below,
            defer_below: refuse_below + threshold(args.defer_percent),
        }
    }

    fn domain_of(&self, i: u64, draw: u64) -> usize {
        let share = if self.sorted { self.share(i) } else { draw >> 32 };
        self.shares_end.partition_point(|&end| end <= share).min(self.domains.len() - 1)
    }

    /// Where row `i` of a sorted list stands, in 2^-32.
    fn share(&self, i: u64) -> u64 {
        ((u128::from(i) << 32) / u128::from(self.recipients)) as u64
    }

    /// The first row that a repeat after row `i` may repeat: of any domain, or of the same when sorted.
    fn first_of_domain(&self, i: u64) -> u64 {
        if !self.sorted {
            return 0;
        }
        let domain = self.domain_of(i, 0);
        let (mut low, mut high) = (0, i);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.domain_of(middle, 0) < domain { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Appends row `i`; `upper`: its address in upper case, as a repeat may be written.
    fn push_row(&self, i: u64, upper: bool, row: &mut Vec<u8>) -> Fate {
        let draw = mix(self.seed, i);
        let more = mix(draw, self.seed);
        let token = mix(more, 1);
        let (name, local) = pick(FIRST_NAMES, more);
        let start = row.len();
        let fate = match token & 0xffff_ffff {
            die if die < self.refuse_below => Fate::Refused,
            die if die < self.defer_below => Fate::Deferred,
            _ => Fate::Accepted,
        };
        match fate {
            Fate::Refused => row.extend_from_slice(b"refuse-550"),
            Fate::Deferred => row.extend_from_slice(b"defer-451-1x"),
            Fate::Accepted => {
                row.extend_from_slice(local.as_bytes());
                row.push(b'.');
                row.extend_from_slice(pick(LAST_NAMES, more >> 16).as_bytes());
            }
        }
        row.push(b'.');
        push_number(i + 1, row);
        row.push(b'@');
        row.extend_from_slice(self.domains[self.domain_of(i, draw)].as_bytes());
        if upper && fate == Fate::Accepted {
            row[start..].make_ascii_uppercase();
        }
        row.push(b',');
        // One in 64 doesn't say their name.
        if draw & 0x3f != 0 {
            row.extend_from_slice(name.as_bytes());
        }
        row.push(b',');
        row.extend_from_slice(pick(CITIES, more >> 32).as_bytes());
        row.push(b',');
        row.extend_from_slice(pick(PLANS, more >> 48).as_bytes());
        row.push(b',');
        for nibble in 0..16 {
            row.push(b"0123456789abcdef"[(token >> (nibble * 4)) as usize & 15]);
        }
        row.push(b'\n');
        fate
    }
}

fn pick<T: Copy>(from: &[T], draw: u64) -> T {
    from[(draw & 0xffff) as usize % from.len()]
}

fn push_number(mut number: u64, to: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

/// The domain of a rank, from 0: only what RFC 2606 reserves.
fn domain(rank: usize) -> String {
    const FIRST: [&str; 3] = ["example.com", "example.org", "example.net"];
    const WORDS: [&str; 12] = [
        "mail", "post", "letters", "inbox", "courier", "pigeon", "harbour", "meadow", "granite", "amber",
        "north", "willow",
    ];
    const ABOVE: [&str; 5] = ["example", "test", "example.com", "example.org", "example.net"];
    let Some(rest) = rank.checked_sub(FIRST.len()) else {
        return FIRST[rank].into();
    };
    let (word, above, number) = (WORDS[rest % 12], ABOVE[rest % 5], rest / 60);
    if number == 0 { format!("{word}.{above}") } else { format!("{word}{number}.{above}") }
}

/// Appends the bad line of a number: each kind in turn.
fn push_bad(number: u64, row: &mut Vec<u8>) {
    const KINDS: [&[u8]; 8] = [
        b"no-at-sign.example.com",
        b"two..dots@example.com",
        b"a space@example.com",
        b"",
        b"brackets@<example.com>",
        b"-@-example-.com",
        b"latin1.J\xf6rg@example.com",
        b"too,many,fields@example.com",
    ];
    row.extend_from_slice(KINDS[(number % 8) as usize]);
    row.extend_from_slice(b",Bad,Nowhere,free,0000000000000000\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: MakeListArgs,
    }

    fn parse(line: &str) -> Result<MakeListArgs, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.args)
    }

    #[test]
    fn percentages_beyond_100_are_refused() {
        assert!(parse("make-list --recipients 1 --bad-percent 100").is_ok());
        for bad in ["--bad-percent 100.1", "--bad-percent -1", "--bad-percent NaN", "--domains 0"] {
            assert!(parse(&format!("make-list --recipients 1 {bad}")).is_err(), "{bad}");
        }
        let args =
            parse("make-list --recipients 1 --refuse-percent 60 --defer-percent 60").expect("each is fine");
        assert!(run(args).is_err());
    }

    #[test]
    fn an_existing_output_is_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("list.csv");
        let args =
            parse(&format!("make-list --recipients 3 --output {}", output.display())).expect("arguments");
        assert_eq!(run(args.clone()).expect("a new file"), 0);
        let before = std::fs::read_to_string(&output).expect("the list");
        assert_eq!(before.lines().count(), 4);
        let error = run(MakeListArgs { seed: 2, ..args }).expect_err("it exists").to_string();
        assert!(error.contains("choose a new file"), "{error}");
        assert_eq!(std::fs::read_to_string(&output).expect("the list"), before);
    }

    #[test]
    fn percentages_of_100_hit_every_row() {
        let args = parse(
            "make-list --recipients 50 --bad-percent 100 --duplicates-percent 100 --refuse-percent 100",
        )
        .expect("arguments");
        let counts = write_list(&args, &mut io::sink()).expect("nowhere can be written");
        assert_eq!(counts, Counts { recipients: 50, refused: 50, deferred: 0, bad: 50, duplicates: 50 });
    }
}
