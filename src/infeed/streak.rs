//! The refusal breaker's counter: the same 5xx on 50 recipients in a row over ten domains or more is no
//! judgement on recipients but a setting that is wrong ("relay access denied").
//!
//! Pure. A refusal is provisional ([`Streak::Hold`]) until the streak that it belongs to has ended
//! ([`Streak::Release`]) or tripped ([`Streak::Trip`]). Recipients refused in a tripped streak stay pending.

use std::collections::HashSet;

use super::transaction::Said;

/// Recipients in a row that trip the breaker.
pub const STREAK_RECIPIENTS_MIN: usize = 50;
/// Domains that they must be spread over.
pub const STREAK_DOMAINS_MIN: usize = 10;
/// Refusals held back at most: a list of one domain must not hold a whole job in memory.
pub const STREAK_HELD_MAX: usize = 1_000;

const _: () = assert!(STREAK_DOMAINS_MIN <= STREAK_RECIPIENTS_MIN && STREAK_RECIPIENTS_MIN < STREAK_HELD_MAX);

/// What to do with refusals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streak {
    /// This refusal is provisional, like those held before it.
    Hold,
    /// The refusals held before are final. Where this answers a refusal, that one is held.
    Release,
    /// Pause the job with this text; what was held, and this one, stay pending.
    Trip { text: String },
}

/// When the breaker trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreakLimits {
    /// Recipients in a row.
    pub recipients_min: usize,
    /// Domains that they must be spread over.
    pub domains_min: usize,
}

impl Default for StreakLimits {
    fn default() -> Self {
        Self { recipients_min: STREAK_RECIPIENTS_MIN, domains_min: STREAK_DOMAINS_MIN }
    }
}

/// One a job. Feed it every final reply on a recipient, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct RefusalStreak {
    limits: StreakLimits,
    code: u16,
    /// The text with everything blanked out that differs from recipient to recipient.
    blanked: String,
    length: usize,
    held: usize,
    /// Lower case; at most `domains_min`, more say nothing new.
    domains: HashSet<String>,
}

impl RefusalStreak {
    pub fn new(limits: StreakLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// An acceptance: ends the streak.
    pub fn on_accepted(&mut self) -> Streak {
        *self = Self::new(self.limits);
        Streak::Release
    }

    /// A 5xx to `address`.
    pub fn on_refused(&mut self, address: &str, said: &Said) -> Streak {
        let blanked = blank(address, &said.text);
        let same = self.length > 0 && self.code == said.code && self.blanked == blanked;
        let mut released = false;
        if !same {
            released = self.length > 0;
            *self = Self { code: said.code, blanked, ..Self::new(self.limits) };
        }
        self.length += 1;
        self.held += 1;
        if self.domains.len() < self.limits.domains_min {
            self.domains.insert(domain(address).to_lowercase());
        }
        let limits = self.limits;
        if self.length >= limits.recipients_min && self.domains.len() >= limits.domains_min {
            *self = Self::new(limits);
            return Streak::Trip { text: format!("{} {}", said.code, said.text) };
        }
        if self.held > STREAK_HELD_MAX.max(limits.recipients_min) {
            self.held = 1;
            released = true;
        }
        if released { Streak::Release } else { Streak::Hold }
    }
}

fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// Blanks out the recipient's own address and domain, `<…>`, numbers, and words that look like a queue id or
/// a host: six or more octets with a digit among them.
fn blank(address: &str, text: &str) -> String {
    let mut text = text.to_lowercase();
    let address = address.to_lowercase();
    if !address.is_empty() {
        text = text.replace(&address, "*");
    }
    let domain = domain(&address);
    if !domain.is_empty() {
        text = text.replace(domain, "*");
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('<') {
        push_words(&mut out, before);
        out.push_str("<*>");
        rest = after.split_once('>').map_or("", |(_, after)| after);
    }
    push_words(&mut out, rest);
    out
}

fn push_words(out: &mut String, text: &str) {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        let id = word.len() >= 6 && word.bytes().any(|b| b.is_ascii_digit());
        let number = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        out.push_str(if id || number { "*" } else { word });
        let next = rest[end..].find(inside).map_or(rest.len(), |at| end + at);
        out.push_str(&rest[end..next]);
        rest = &rest[next..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, text: impl Into<String>) -> Said {
        Said { code, text: text.into() }
    }

    fn denied(i: usize) -> (String, Said) {
        let address = format!("User{i}@d{}.example", i % 10);
        let text = format!("5.7.1 <{address}>: Relay access denied (d{}.example) in 4XyZ{i:06}", i % 10);
        (address, said(554, text))
    }

    fn feed(streak: &mut RefusalStreak, n: usize) -> Vec<Streak> {
        (0..n).map(denied).map(|(a, s)| streak.on_refused(&a, &s)).collect()
    }

    #[test]
    fn the_fiftieth_same_refusal_over_ten_domains_trips() {
        let mut streak = RefusalStreak::default();
        let answers = feed(&mut streak, 50);
        assert!(answers[..49].iter().all(|a| *a == Streak::Hold), "{answers:?}");
        let Streak::Trip { text } = &answers[49] else { panic!("{answers:?}") };
        assert!(text.starts_with("554 5.7.1 ") && text.contains("Relay access denied"));
    }

    #[test]
    fn an_acceptance_releases_and_the_count_begins_anew() {
        let mut streak = RefusalStreak::default();
        feed(&mut streak, 49);
        assert_eq!(streak.on_accepted(), Streak::Release);
        assert!(feed(&mut streak, 49).iter().all(|a| *a == Streak::Hold));
    }

    #[test]
    fn a_different_refusal_releases_those_before_and_is_itself_held() {
        let mut streak = RefusalStreak::default();
        feed(&mut streak, 49);
        assert_eq!(streak.on_refused("a@d1.example", &said(550, "5.1.1 unknown")), Streak::Release);
        assert!(feed(&mut streak, 49).iter().skip(1).all(|a| *a == Streak::Hold));
    }

    #[test]
    fn one_domain_never_trips_and_never_holds_more_than_its_bound() {
        let mut streak = RefusalStreak::default();
        let mut held = 0;
        for i in 0..5_000 {
            match streak.on_refused(&format!("u{i}@one.example"), &said(550, "5.1.1 no")) {
                Streak::Hold => held += 1,
                Streak::Release => held = 1,
                Streak::Trip { .. } => panic!("nine domains are missing"),
            }
            assert!(held <= STREAK_HELD_MAX);
        }
    }

    #[test]
    fn what_differs_from_recipient_to_recipient_is_blanked_and_nothing_else() {
        let a = blank("bob@a.example", "5.1.1 <bob@a.example>: no such user at a.example, id 3F1A2B9C");
        let b = blank("Eve@b.example", "5.1.1 <x@y>: no such user at B.example, id 4XyZ12abcDz");
        assert_eq!(a, b);
        assert_ne!(blank("a@b", "5.1.1 unknown"), blank("a@b", "5.2.2 full"));
    }

    #[test]
    fn personalised_messages_of_different_sizes_over_the_limit_are_one_streak() {
        let mut streak = RefusalStreak::default();
        let trips = (0..50).any(|i| {
            let text = format!("5.3.4 the content has {} octets and the MTA takes 2000", 9_995 + i);
            matches!(streak.on_refused(&format!("u@d{i}.example"), &said(552, text)), Streak::Trip { .. })
        });
        assert!(trips);
    }
}
