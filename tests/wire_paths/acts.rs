//! What a scenario has the MTA do, and where.

/// Where in the dialogue: messages by their number, recipients by their token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Banner,
    Ehlo,
    Mail(u64),
    /// RSET, before whichever message.
    Rset,
    Rcpt(u64),
    Data(u64),
    /// A part of the content was read, of either kind.
    Midst(u64),
    /// All of the content was read.
    End(u64),
    /// All of the content was read, and it came by BDAT, whoever's it is.
    AnyBdat,
}

/// What is done there instead of what is right.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    /// `|` separates lines.
    Say(&'static str),
    /// Says it, and closes.
    Leave(&'static str),
    /// Says it, and never reads again.
    Turn(&'static str),
    Close,
    /// Neither reads nor says any more.
    Hang,
    /// Takes the message, and closes without a word.
    TakeAndClose,
}

/// In what pieces replies go out.
#[derive(Debug, Clone, Copy, Default)]
pub enum Pieces {
    #[default]
    Whole,
    Octets,
    /// Two, the first of so many octets; shorter replies go out whole.
    Cut(usize),
}

/// How often an act is done.
pub const ALWAYS: usize = usize::MAX;

pub type Act = (At, Does, usize);
