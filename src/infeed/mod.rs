pub mod transaction;
pub use transaction::{
    Capabilities, Dsn, JobFault, NoRecord, Rcpt, RcptResult, Said, Settlement, Stage, Transaction, Work,
};
