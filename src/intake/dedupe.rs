//! Duplicates within a job, found in at most 16 bytes a row.
