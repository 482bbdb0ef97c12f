//! Duplicates within a job, found in at most 16 bytes a row.
//!
//! A row is remembered as one slot of 8 bytes: 32 bits of a keyed hash of its address, and its ordinal. A
//! match of hashes is only a suspicion: the caller, who can read the earlier row back, confirms it on the
//! address. So nothing is dropped for a collision, and the addresses needn't stay in memory.
//!
//! The slots are in 4,096 tables with open addressing, chosen by other bits of the hash. Each grows by a
//! quarter when it is four fifths full, by itself, so that at any moment only 1/4,096 of the slots stand there
//! twice; and each starts at a size of its own, so that they don't all grow at once: about 11 bytes a row
//! throughout, never above 12.5 (and the constant of empty tables).
//!
//! Errors: those of the caller's confirmation; [`IntakeError::TooManyRecipients`] from [`ordinal`].

use std::hash::{BuildHasher, Hasher, RandomState};

use super::error::IntakeError;

/// Rows of one job: an ordinal is below this, and a slot holds it plus one.
pub const ROWS_MAX: u64 = u32::MAX as u64 - 1;

const TABLE_BITS: u32 = 12;
const TABLES: usize = 1 << TABLE_BITS;
/// Slots of a table's first allocation, which differs by table: at least this many …
const SLOTS_FIRST_MIN: usize = 16;
/// … and less than this: one step of growth more.
const SLOTS_FIRST_MAX: usize = 20;
/// A table grows to 5/4 …
const fn grown(slots: usize) -> usize {
    slots + slots / 4
}
/// … before a row would fill more than 4/5 of it.
const fn rows_max(slots: usize) -> usize {
    slots - slots / 5
}
const _: () = assert!(grown(SLOTS_FIRST_MIN) == SLOTS_FIRST_MAX);
const _: () = assert!(rows_max(SLOTS_FIRST_MIN) < SLOTS_FIRST_MIN, "a probe ends at an empty slot");

/// The ordinal of row `row` (from 0) as a slot holds it.
///
/// # Errors
/// [`IntakeError::TooManyRecipients`] beyond [`ROWS_MAX`].
pub fn ordinal(row: u64) -> Result<u32, IntakeError> {
    if row < ROWS_MAX { Ok(row as u32) } else { Err(IntakeError::TooManyRecipients { max: ROWS_MAX }) }
}

/// Finds addresses that were there before. See the module's description.
pub struct DuplicateFinder {
    tables: Vec<Table>,
    key: RandomState,
    /// Bits of the hash that count; all of them but in tests, which force collisions.
    hash_mask: u64,
    rows: u64,
    slots: u64,
}

#[derive(Default)]
struct Table {
    /// 0: empty; else the fingerprint in the upper half, the ordinal plus one in the lower.
    slots: Box<[u64]>,
    rows: usize,
}

impl Default for DuplicateFinder {
    fn default() -> Self {
        DuplicateFinder::new()
    }
}

impl DuplicateFinder {
    /// Empty, with a hash key of its own, so that no list can be made to collide.
    pub fn new() -> DuplicateFinder {
        DuplicateFinder::with_hash_mask(u64::MAX)
    }

    fn with_hash_mask(hash_mask: u64) -> DuplicateFinder {
        let mut tables = Vec::new();
        tables.resize_with(TABLES, Table::default);
        DuplicateFinder { tables, key: RandomState::new(), hash_mask, rows: 0, slots: 0 }
    }

    /// Whether a row with this address is known; when none is, this one now is, as `ordinal`.
    ///
    /// `address_key` is the canonical form (`address::canonical_key`). `same(earlier)` says whether the row
    /// `earlier` truly has the same one; it is asked for every duplicate, and otherwise about once in 2^44
    /// pairs of rows.
    ///
    /// # Errors
    /// Only those of `same`; the row is then not remembered.
    pub fn insert<E>(
        &mut self,
        address_key: &[u8],
        ordinal: u32,
        mut same: impl FnMut(u32) -> Result<bool, E>,
    ) -> Result<bool, E> {
        assert!(u64::from(ordinal) < ROWS_MAX, "an ordinal comes from `ordinal`");
        let mut hasher = self.key.build_hasher();
        hasher.write(address_key);
        let hash = hasher.finish() & self.hash_mask;
        let table = (hash & (TABLES as u64 - 1)) as usize;
        let fingerprint = (hash >> 32) as u32;
        let first_slots = SLOTS_FIRST_MIN + table % (SLOTS_FIRST_MAX - SLOTS_FIRST_MIN);

        let table = &mut self.tables[table];
        if let Some(mut at) = table.home(fingerprint) {
            while table.slots[at] != 0 {
                let slot = table.slots[at];
                if (slot >> 32) as u32 == fingerprint && same(slot as u32 - 1)? {
                    return Ok(true);
                }
                at = table.after(at);
            }
        }
        if table.rows >= rows_max(table.slots.len()) {
            let before = table.slots.len();
            table.grow(first_slots);
            self.slots += (table.slots.len() - before) as u64;
        }
        table.place(u64::from(fingerprint) << 32 | u64::from(ordinal + 1));
        table.rows += 1;
        self.rows += 1;
        Ok(false)
    }

    /// Rows remembered: duplicates aside.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that are held now. A table that grows has, for that moment, its old slots beside its new ones:
    /// 1/4,096 of it more.
    pub fn memory_bytes(&self) -> u64 {
        self.slots * size_of::<u64>() as u64
            + (self.tables.capacity() * size_of::<Table>()) as u64
            + size_of::<DuplicateFinder>() as u64
    }
}

impl Table {
    /// Where a fingerprint is looked for first: in proportion to its value, so that any size will do.
    fn home(&self, fingerprint: u32) -> Option<usize> {
        let slots = self.slots.len() as u64;
        (slots > 0).then(|| ((u64::from(fingerprint) * slots) >> 32) as usize)
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    fn grow(&mut self, first_slots: usize) {
        let slots = match self.slots.len() {
            0 => first_slots,
            slots => grown(slots),
        };
        let before = std::mem::replace(&mut self.slots, vec![0; slots].into_boxed_slice());
        for slot in before {
            if slot != 0 {
                self.place(slot);
            }
        }
    }

    /// Puts `slot` into the first empty place; there always is one.
    fn place(&mut self, slot: u64) {
        let mut at = self.home((slot >> 32) as u32).unwrap_or_default();
        while self.slots[at] != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::convert::Infallible;

    /// Inserts each key with the confirmation that reads back what was accepted; returns what was dropped.
    fn dropped(finder: &mut DuplicateFinder, keys: &[Vec<u8>]) -> Vec<usize> {
        let mut accepted: Vec<&[u8]> = Vec::new();
        let mut dropped = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let ordinal = ordinal(accepted.len() as u64).expect("few rows");
            let same = |earlier: u32| Ok::<_, Infallible>(accepted[earlier as usize] == key.as_slice());
            match finder.insert(key, ordinal, same) {
                Ok(true) => dropped.push(i),
                Ok(false) => accepted.push(key),
                Err(never) => match never {},
            }
        }
        dropped
    }

    fn dropped_by_a_set(keys: &[Vec<u8>]) -> Vec<usize> {
        let mut seen = HashSet::new();
        (0..keys.len()).filter(|&i| !seen.insert(&keys[i])).collect()
    }

    proptest! {
        #[test]
        fn finds_what_a_hash_set_finds(keys in proptest::collection::vec("[a-c]{0,4}".prop_map(String::into_bytes), 0..400)) {
            prop_assert_eq!(dropped(&mut DuplicateFinder::new(), &keys), dropped_by_a_set(&keys));
        }

        #[test]
        fn a_collision_of_hashes_drops_no_row(
            keys in proptest::collection::vec("[a-d]{0,4}".prop_map(String::into_bytes), 0..400),
            mask in prop_oneof![Just(0), Just(u64::from(u32::MAX)), Just(1 << 63), Just(3 << 40 | 1), Just(u64::MAX << 32)],
        ) {
            let mut finder = DuplicateFinder::with_hash_mask(mask);
            prop_assert_eq!(dropped(&mut finder, &keys), dropped_by_a_set(&keys));
        }
    }

    #[test]
    fn memory_stays_below_16_bytes_a_row_at_every_step() {
        const ROWS: u32 = 3_000_000;
        let mut finder = DuplicateFinder::new();
        let empty_bytes = finder.memory_bytes();
        assert!(empty_bytes < 128 * 1024, "{empty_bytes}");
        // A table's old slots, while it grows: twice the mean is more than any has.
        for row in 0..ROWS {
            let seen = finder.insert(&row.to_le_bytes(), row, |_| Ok::<_, Infallible>(false));
            assert_eq!(seen, Ok(false));
            let growing = finder.memory_bytes() / TABLES as u64 * 2;
            let held = finder.memory_bytes() + growing;
            let constant = empty_bytes + (TABLES * SLOTS_FIRST_MAX * 8) as u64;
            assert!(held <= 16 * u64::from(row) + constant, "{held} bytes at {row} rows");
            if row >= 200_000 {
                assert!(held * 2 <= 25 * u64::from(row) + 2 * empty_bytes, "{held} bytes at {row} rows");
            }
        }
        assert_eq!(finder.rows(), u64::from(ROWS));
        let counted: usize = finder.tables.iter().map(|table| table.slots.len()).sum();
        assert_eq!(finder.slots, counted as u64);
    }

    #[test]
    fn a_failed_confirmation_leaves_the_row_unknown() {
        let mut finder = DuplicateFinder::new();
        assert_eq!(finder.insert(b"a", 0, |_| Err("unasked")), Ok(false));
        assert_eq!(finder.insert(b"a", 1, |_| Err("can't read back")), Err("can't read back"));
        assert_eq!(finder.rows(), 1);
        assert_eq!(finder.insert(b"a", 1, |earlier| Ok::<_, &str>(earlier == 0)), Ok(true));
    }

    #[test]
    fn one_row_more_than_an_ordinal_can_say_is_an_error() {
        assert_eq!(ordinal(ROWS_MAX - 1).ok(), Some(u32::MAX - 2));
        assert!(matches!(ordinal(ROWS_MAX), Err(IntakeError::TooManyRecipients { .. })));
    }
}
