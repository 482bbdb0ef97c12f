//! SMTP command lines (RFC 5321 §4.1.1), strictly: what a lenient MTA would let pass is told here.

use super::parameters::Parameters;

/// Octets of a command line, CRLF included: Postfix's `line_length_limit`, which leaves room for what
/// MAIL and RCPT parameters add to RFC 5321's 512.
pub(super) const LINE_OCTETS_MAX: usize = 2048;

/// A command line, understood.
#[derive(Debug, PartialEq)]
pub(super) enum Command<'a> {
    Helo,
    Ehlo,
    Mail { sender: &'a str, parameters: Parameters<'a> },
    Rcpt { recipient: &'a str, parameters: Parameters<'a> },
    Data,
    Bdat(Chunk),
    Rset,
    Noop,
    Vrfy,
    Quit,
}

/// RFC 3030 §2: so many octets of content follow the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub octets: u64,
    pub last: bool,
    /// What follows the size is no `LAST`: 501, but the octets come all the same.
    pub junk: bool,
}

/// Why a line is no command that can be obeyed: the reply to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Complaint {
    pub code: u16,
    pub enhanced: &'static str,
    pub text: &'static str,
}

impl Complaint {
    pub const fn new(code: u16, enhanced: &'static str, text: &'static str) -> Self {
        Self { code, enhanced, text }
    }
}

const UNKNOWN: Complaint = Complaint::new(500, "5.5.2", "Error: command not recognized");
pub(super) const NOT_IMPLEMENTED: Complaint = Complaint::new(502, "5.5.1", "Error: command not implemented");
const BARE_LF: Complaint = Complaint::new(500, "5.5.2", "Error: bare <LF> received; end lines with <CR><LF>");
const NOT_UTF8: Complaint = Complaint::new(500, "5.5.2", "Error: not UTF-8, or control characters");
const NO_ARGUMENT: Complaint = Complaint::new(501, "5.5.4", "Syntax: this command takes no argument");
const HELO_SYNTAX: Complaint = Complaint::new(501, "5.5.4", "Syntax: EHLO hostname");
const MAIL_SYNTAX: Complaint = Complaint::new(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]");
const RCPT_SYNTAX: Complaint = Complaint::new(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]");
const VRFY_SYNTAX: Complaint = Complaint::new(501, "5.5.4", "Syntax: VRFY address");
pub(super) const BDAT_SYNTAX: Complaint = Complaint::new(501, "5.5.4", "Syntax: BDAT count [LAST]");
const BAD_SENDER: Complaint = Complaint::new(501, "5.1.7", "Bad sender address syntax");
const BAD_RECIPIENT: Complaint = Complaint::new(501, "5.1.3", "Bad recipient address syntax");

impl<'a> Command<'a> {
    /// Parses one line, its line end included.
    pub fn parse(line: &'a [u8]) -> Result<Self, Complaint> {
        let line = line.strip_suffix(b"\r\n").ok_or(BARE_LF)?;
        let line = std::str::from_utf8(line).map_err(|_| NOT_UTF8)?;
        if line.bytes().any(|octet| octet < b' ' || octet == 0x7f) {
            return Err(NOT_UTF8);
        }
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let argument = argument.trim_end_matches(' ');
        let is = |name: &str| verb.eq_ignore_ascii_case(name);
        let bare = |command| if argument.is_empty() { Ok(command) } else { Err(NO_ARGUMENT) };
        if is("MAIL") {
            let (sender, rest) = path(argument, "FROM:").ok_or(MAIL_SYNTAX)?;
            if !sender.is_empty() && !is_address(sender) {
                return Err(BAD_SENDER);
            }
            Ok(Self::Mail { sender, parameters: Parameters::new(rest) })
        } else if is("RCPT") {
            let (recipient, rest) = path(argument, "TO:").ok_or(RCPT_SYNTAX)?;
            if !is_address(recipient) && !recipient.eq_ignore_ascii_case("postmaster") {
                return Err(BAD_RECIPIENT);
            }
            Ok(Self::Rcpt { recipient, parameters: Parameters::new(rest) })
        } else if is("DATA") {
            bare(Self::Data)
        } else if is("BDAT") {
            Chunk::parse(argument).map(Self::Bdat).ok_or(BDAT_SYNTAX)
        } else if is("EHLO") || is("HELO") {
            match argument {
                "" => Err(HELO_SYNTAX),
                name if name.contains(' ') => Err(HELO_SYNTAX),
                _ if is("EHLO") => Ok(Self::Ehlo),
                _ => Ok(Self::Helo),
            }
        } else if is("RSET") {
            bare(Self::Rset)
        } else if is("QUIT") {
            bare(Self::Quit)
        } else if is("NOOP") {
            Ok(Self::Noop)
        } else if is("VRFY") {
            if argument.is_empty() { Err(VRFY_SYNTAX) } else { Ok(Self::Vrfy) }
        } else if ["HELP", "EXPN", "STARTTLS", "AUTH"].into_iter().any(is) {
            Err(NOT_IMPLEMENTED)
        } else {
            Err(UNKNOWN)
        }
    }

    /// RFC 2920 §3.1: the last command of its group; the client must wait for the reply. Exim holds
    /// RSET, VRFY and NOOP to the same rule. BDAT may be followed by more (RFC 3030 §4.2).
    pub fn must_end_its_group(&self) -> bool {
        !matches!(self, Self::Mail { .. } | Self::Rcpt { .. } | Self::Bdat(_))
    }
}

impl Chunk {
    /// `None`: the size is absent, no number, or beyond `i64`; then nobody knows where the chunk ends.
    fn parse(argument: &str) -> Option<Self> {
        let (size, end) = argument.split_once(' ').unwrap_or((argument, ""));
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let octets = size.parse().ok().filter(|octets| i64::try_from(*octets).is_ok())?;
        let last = end.eq_ignore_ascii_case("LAST");
        Some(Self { octets, last, junk: !last && !end.is_empty() })
    }
}

/// The path between `<` and `>`, and what follows it.
fn path<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    let inside = rest.strip_prefix('<').filter(|_| head.eq_ignore_ascii_case(keyword))?;
    let close = closing(inside)?;
    let after = &inside[close + 1..];
    if after.is_empty() {
        return Some((&inside[..close], ""));
    }
    Some((&inside[..close], after.strip_prefix(' ')?))
}

/// Where the `>` stands that is not within a quoted string.
fn closing(inside: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (i, octet) in inside.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(i),
            _ => {}
        }
    }
    None
}

/// `local@domain`, by shape: a dot-atom or a quoted local part, and a domain or address literal without
/// spaces, brackets or empty labels. Source routes are refused (RFC 5321 §4.1.1.3 lets us).
fn is_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let plain = |c: char| !matches!(c, ' ' | '"' | '<' | '>' | '@' | ',' | ';' | ':' | '\\' | '(' | ')');
    let local_fine = quoted || (!local.is_empty() && local.chars().all(|c| plain(c) && c != '[' && c != ']'));
    let literal = domain.len() > 2 && domain.starts_with('[') && domain.ends_with(']');
    local_fine
        && (literal || domain.split('.').all(|l| !l.is_empty() && l.chars().all(|c| plain(c) && c != '[')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> u16 {
        Command::parse(line.as_bytes()).map_or_else(|c| c.code, |_| 250)
    }

    #[test]
    fn addresses_come_out_as_written() {
        for (line, want) in [
            ("MAIL FROM:<>\r\n", ""),
            ("mail from:<a@b.example>\r\n", "a@b.example"),
            ("MAIL FROM:<\"a > \\\" b\"@[127.0.0.1]> SIZE=1\r\n", "\"a > \\\" b\"@[127.0.0.1]"),
            ("MAIL FROM:<žluť@háčky.example> SMTPUTF8\r\n", "žluť@háčky.example"),
        ] {
            match Command::parse(line.as_bytes()) {
                Ok(Command::Mail { sender, .. }) => assert_eq!(sender, want),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_chunk_whose_size_is_known_is_told_even_when_junk_follows_it() {
        fn parse(line: &str) -> Result<Command<'_>, Complaint> {
            Command::parse(line.as_bytes())
        }
        let chunk = |octets, last, junk| Ok(Command::Bdat(Chunk { octets, last, junk }));
        assert_eq!(parse("BDAT 0\r\n"), chunk(0, false, false));
        assert_eq!(parse("bdat 86 last\r\n"), chunk(86, true, false));
        assert_eq!(parse("BDAT 86 FIRST\r\n"), chunk(86, false, true));
        assert_eq!(parse("BDAT 9223372036854775807\r\n"), chunk(i64::MAX as u64, false, false));
        for bad in ["BDAT", "BDAT LAST", "BDAT -1", "BDAT 1x", "BDAT 9223372036854775808 LAST", "BDAT  1"] {
            assert_eq!(parse(&format!("{bad}\r\n")), Err(BDAT_SYNTAX), "{bad}");
        }
    }

    #[test]
    fn syntax_errors_are_501_and_unknown_commands_500() {
        for bad in [
            "MAIL FROM: <a@b>\r\n",
            "MAIL <a@b>\r\n",
            "MAIL FROM:<a@b>SIZE=1\r\n",
            "MAIL FROM:<a@b\r\n",
            "MAIL FROM:<a b@c>\r\n",
            "MAIL FROM:<@x,@y:a@b>\r\n",
            "RCPT TO:<>\r\n",
            "RCPT TO:<a>\r\n",
            "RCPT TO:<a@b..c>\r\n",
            "RCPT TO:\r\n",
            "DATA now\r\n",
            "EHLO\r\n",
            "EHLO a b\r\n",
            "VRFY\r\n",
        ] {
            assert_eq!(code(bad), 501, "{bad}");
        }
        for bad in ["XYZZY\r\n", "\r\n", "NOOP\n", "NOOP \0\r\n", "MAILFROM:<a@b>\r\n"] {
            assert_eq!(code(bad), 500, "{bad}");
        }
        assert_eq!(code("STARTTLS\r\n"), 502);
        assert_eq!(code("RCPT TO:<Postmaster>\r\n"), 250);
    }
}
