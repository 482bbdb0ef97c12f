//! Misbehaviour by address: `refuse-550@…`, `defer-451-2x@…`. The grammar is in docs/sink.md.

use std::collections::HashMap;
use std::sync::Mutex;

use super::settings::failure_code;

/// What an address asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conduct {
    pub act: Act,
    /// Only the first so many attempts; `None`: always.
    pub times: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// This code to RCPT.
    Rcpt(u16),
    /// This code to RCPT, then closed.
    Close(u16),
    /// This code to MAIL; read from the sender's address.
    Mail(u16),
    /// This code to DATA.
    Data(u16),
    /// This code to the final dot.
    Content(u16),
    DropBeforeDot,
    DropAfterDot,
    /// RCPT's reply comes so many ms late.
    Slow(u64),
}

/// An hour: longer than any reply timeout, so that a typing error doesn't make a session immortal.
const SLOW_MS_MAX: u64 = 3_600_000;

impl Conduct {
    /// Reads the local part up to its first `+` or `.`; `None` for an ordinary address.
    pub fn of(address: &str) -> Option<Self> {
        let local = address.rsplit_once('@')?.0;
        let head = local.split(['+', '.']).next()?;
        let (head, times) = match head.rsplit_once('-') {
            Some((before, last)) => match last.strip_suffix('x').map(str::parse) {
                Some(Ok(times)) => (before, Some(times)),
                _ => (head, None),
            },
            None => return None,
        };
        let (verb, rest) = head.split_once('-')?;
        let code = || failure_code(rest);
        let act = match verb {
            "refuse" => Act::Rcpt(code().filter(|c| *c >= 500)?),
            "defer" => Act::Rcpt(code().filter(|c| *c < 500)?),
            "close" => Act::Close(code()?),
            "mail" => Act::Mail(code()?),
            "data" => Act::Data(code()?),
            "content" => Act::Content(code()?),
            "drop" if rest == "before-dot" => Act::DropBeforeDot,
            "drop" if rest == "after-dot" => Act::DropAfterDot,
            "slow" => Act::Slow(rest.strip_suffix("ms")?.parse().ok().filter(|ms| *ms <= SLOW_MS_MAX)?),
            _ => return None,
        };
        Some(Self { act, times })
    }
}

/// How often addresses with a count have had their way. Grows by one entry for each such address.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<String, u32>>);

impl Attempts {
    /// Whether the conduct applies this time, and counts it.
    pub fn applies(&self, address: &str, conduct: Conduct) -> bool {
        let Some(times) = conduct.times else { return true };
        let mut counts = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match counts.get_mut(address) {
            Some(count) if *count >= times => false,
            Some(count) => {
                *count += 1;
                true
            }
            None => {
                if times > 0 {
                    counts.insert(address.to_owned(), 1);
                }
                times > 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_part_says_what_happens() {
        let of = |local: &str| Conduct::of(&format!("{local}@example.org"));
        let always = |act| Some(Conduct { act, times: None });
        assert_eq!(of("refuse-550"), always(Act::Rcpt(550)));
        assert_eq!(of("refuse-550.17"), always(Act::Rcpt(550)));
        assert_eq!(of("defer-451-2x+a.b"), Some(Conduct { act: Act::Rcpt(451), times: Some(2) }));
        assert_eq!(of("content-451-2x"), Some(Conduct { act: Act::Content(451), times: Some(2) }));
        assert_eq!(of("mail-550"), always(Act::Mail(550)));
        assert_eq!(of("data-421"), always(Act::Data(421)));
        assert_eq!(of("drop-before-dot"), always(Act::DropBeforeDot));
        assert_eq!(of("drop-after-dot-1x"), Some(Conduct { act: Act::DropAfterDot, times: Some(1) }));
        assert_eq!(of("slow-500ms.9"), always(Act::Slow(500)));
        assert_eq!(of("close-421"), always(Act::Close(421)));
    }

    #[test]
    fn what_only_looks_alike_is_ordinary() {
        for local in [
            "anna",
            "refuse",
            "refuse-250",
            "refuse-451",
            "defer-550",
            "slow-5",
            "drop-dot",
            "x-1x",
            "a+refuse-550",
        ] {
            assert_eq!(Conduct::of(&format!("{local}@example.org")), None, "{local}");
        }
        assert_eq!(Conduct::of("refuse-550"), None);
    }

    #[test]
    fn a_count_is_kept_for_each_address() {
        let attempts = Attempts::default();
        let twice = Conduct { act: Act::Rcpt(451), times: Some(2) };
        let run = |address| (0..4).map(|_| attempts.applies(address, twice)).collect::<Vec<_>>();
        assert_eq!(run("a"), [true, true, false, false]);
        assert_eq!(run("b"), [true, true, false, false]);
        assert!(!attempts.applies("c", Conduct { act: Act::Rcpt(451), times: Some(0) }));
    }
}
