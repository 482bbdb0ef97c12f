//! What goodput each number of connections gave, which is the smallest that will do, and which is worth
//! a try.

/// Goodput at a number of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub connections: usize,
    pub goodput: f64,
    /// Standard error, as a share.
    pub error: f64,
}

impl Entry {
    /// Goodput a connection.
    fn each(&self) -> f64 {
        self.goodput / self.connections as f64
    }
}

/// So much of the best goodput is enough.
const ENOUGH: f64 = 0.982;
/// A number is left for a larger one only when it has less than this.
const TOO_LITTLE: f64 = 0.978;

/// How many standard errors more a larger number must have.
const DOUBT: f64 = 0.5;
/// Errors beyond this say that nothing is known; they are no reason to prefer fewer connections.
const ERROR_MAX: f64 = 0.05;

/// Entries by number of connections, ascending.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(Vec<Entry>);

impl Table {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn get(&self, connections: usize) -> Option<&Entry> {
        self.0.iter().find(|e| e.connections == connections)
    }

    /// Adds what was measured to what is known of that number, unless it contradicts it.
    pub fn add(&mut self, new: Entry) {
        let Some(old) = self.get(new.connections).copied() else { return self.put(new) };
        if (new.goodput / old.goodput.max(1e-9) - 1.0).abs() > 2.0 * (new.error + old.error) {
            return self.put(new);
        }
        // What is old counts half.
        let (weigh_old, weigh_new) = (0.5 / old.error.powi(2), 1.0 / new.error.powi(2));
        let weight = weigh_new / (weigh_old + weigh_new);
        let goodput = old.goodput + weight * (new.goodput - old.goodput);
        self.put(Entry { goodput, error: 1.0 / (weigh_old + weigh_new).sqrt(), ..new });
    }

    /// Puts an entry in the place of the one before.
    pub fn put(&mut self, entry: Entry) {
        self.0.retain(|e| e.connections != entry.connections);
        self.0.push(entry);
        self.0.sort_by_key(|e| e.connections);
    }

    pub fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.0.retain(keep);
    }

    /// The MTA is faster or slower by this factor as a whole.
    pub fn rescale(&mut self, factor: f64) {
        for entry in &mut self.0 {
            entry.goodput *= factor;
        }
    }

    pub fn below(&self, connections: usize) -> Option<&Entry> {
        self.0.iter().rev().find(|e| e.connections < connections)
    }

    pub fn above(&self, connections: usize) -> Option<&Entry> {
        self.0.iter().find(|e| e.connections > connections)
    }

    pub fn highest(&self) -> Option<&Entry> {
        self.0.last()
    }

    /// The smallest number whose goodput is enough; `current` is kept where it will do.
    pub fn choose(&self, current: usize) -> usize {
        let Some(best) = self.0.iter().max_by(|a, b| a.goodput.total_cmp(&b.goodput)) else { return current };
        // The best of several is too good by chance.
        let most = best.goodput * (1.0 - 0.3 * best.error.min(ERROR_MAX));
        let enough = self
            .0
            .iter()
            .find(|e| e.goodput * (1.0 + 0.3 * e.error.min(ERROR_MAX)) >= ENOUGH * most)
            .map_or(best.connections, |e| e.connections);
        match self.get(current) {
            Some(now) if enough > current => {
                // More connections for what may be chance would never be given back by chance alone.
                let doubt = best.error.hypot(now.error).min(ERROR_MAX);
                if now.goodput >= TOO_LITTLE * best.goodput * (1.0 - DOUBT * doubt) {
                    current
                } else {
                    enough
                }
            }
            _ => enough,
        }
    }

    /// A number between entries that is worth a measurement while `chosen` is the choice.
    pub fn between(&self, chosen: usize) -> Option<usize> {
        let c = self.get(chosen)?;
        let lower = self.below(chosen);
        // Each connection still gives what those below give: the knee is not below.
        let climbing = lower.is_none_or(|l| c.each() >= (0.97 - c.error - l.error) * l.each());
        if let Some(l) = lower.filter(|l| chosen - l.connections > 1 && !climbing) {
            let hoped = (chosen - 1) as f64 * l.each();
            let least = (ENOUGH * c.goodput / l.each()).ceil() as usize;
            if hoped > 1.03 * c.goodput || least as f64 <= 0.85 * chosen as f64 {
                let middle = middle(l.connections, chosen);
                return Some(least.max(middle).clamp(l.connections + 1, chosen - 1));
            }
        }
        let h = self.above(chosen)?;
        let gap = h.connections - chosen;
        let worth = if climbing {
            gap as f64 > 0.03 * chosen as f64
        } else {
            gap as f64 > 0.15 * chosen as f64 && h.goodput < ENOUGH * c.goodput
        };
        (gap > 1 && worth).then(|| middle(chosen, h.connections).clamp(chosen + 1, h.connections - 1))
    }
}

fn middle(a: usize, b: usize) -> usize {
    ((a * b) as f64).sqrt().round() as usize
}
