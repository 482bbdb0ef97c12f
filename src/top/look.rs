//! What a terminal can show, as its environment says: `TERM`, `NO_COLOR`, the locale.
//!
//! No meaning is in a colour alone: what is red is said in words, too.

use ratatui::style::{Color, Modifier, Style};

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The terminal has colours, and nobody said `NO_COLOR`.
    pub colours: bool,
    /// Nothing but ASCII: the locale isn't UTF-8.
    pub ascii: bool,
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
    Selected,
}

impl Look {
    /// Of the environment that `variable` looks up.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        let colours = set("NO_COLOR").is_none() && (set("COLORTERM").is_some() || has_colours(&term));
        // the first that is set counts, as setlocale(3) has it
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Self { colours, ascii: !(locale.contains("utf-8") || locale.contains("utf8")) }
    }

    /// Whether a terminal can be drawn on at all.
    pub fn is_dumb(variable: impl Fn(&str) -> Option<String>) -> bool {
        matches!(variable("TERM").as_deref(), None | Some("" | "dumb" | "unknown"))
    }

    /// How text of this kind looks.
    pub fn style(self, tone: Tone) -> Style {
        let (modifier, colour) = match tone {
            Tone::Plain => (Modifier::empty(), None),
            Tone::Strong => (Modifier::BOLD, None),
            Tone::Faint => (Modifier::DIM, None),
            Tone::Good => (Modifier::empty(), Some(Color::Green)),
            Tone::Warn => (Modifier::BOLD, Some(Color::Yellow)),
            Tone::Bad => (Modifier::BOLD, Some(Color::Red)),
            Tone::Selected => (Modifier::REVERSED, None),
        };
        let style = Style::new().add_modifier(modifier);
        colour.filter(|_| self.colours).map_or(style, |colour| style.fg(colour))
    }

    /// What stands for the end of a text that is too long.
    pub fn ellipsis(self) -> char {
        if self.ascii { '~' } else { '…' }
    }

    /// Text as this terminal can show it.
    pub fn text(self, text: &str) -> String {
        if !self.ascii {
            return text.to_owned();
        }
        text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
    }

    /// A bar of so many columns, filled by this part.
    pub fn bar(self, part: f64, columns: usize) -> String {
        let (full, empty) = if self.ascii { ('#', '-') } else { ('█', '░') };
        let filled = (part.clamp(0.0, 1.0) * columns as f64) as usize;
        (0..columns).map(|i| if i < filled { full } else { empty }).collect()
    }
}

/// The old terminals that have none, and terminals whose name says so.
fn has_colours(term: &str) -> bool {
    !(term.is_empty()
        || term == "dumb"
        || ["vt1", "vt2", "vt3", "vt4", "vt5", "sun"].iter().any(|old| term.starts_with(old))
        || term.ends_with("-m")
        || term.ends_with("-mono"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Look {
        Look::of(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn colours_are_for_terminals_that_have_them_and_people_who_want_them() {
        assert!(of(&[("TERM", "xterm-256color")]).colours);
        assert!(of(&[("TERM", "screen"), ("NO_COLOR", "")]).colours);
        assert!(!of(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]).colours);
        assert!(!of(&[("TERM", "vt220")]).colours);
        assert!(!of(&[]).colours);
    }

    #[test]
    fn a_locale_without_utf_8_gets_ascii_alone() {
        assert!(of(&[("LANG", "C")]).ascii);
        assert!(of(&[]).ascii);
        assert!(of(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")]).ascii);
        assert!(!of(&[("LANG", "C"), ("LC_ALL", "C.utf8")]).ascii);
        assert!(!of(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "")]).ascii);
        let look = Look { colours: true, ascii: true };
        assert_eq!((look.text("naïve"), look.bar(0.5, 4)), ("na?ve".to_owned(), "##--".to_owned()));
    }

    #[test]
    fn what_has_a_colour_and_matters_stands_out_without_one() {
        let look = Look { colours: false, ascii: true };
        for tone in [Tone::Warn, Tone::Bad, Tone::Selected] {
            assert_eq!(look.style(tone).fg, None);
            assert_ne!(look.style(tone), look.style(Tone::Plain), "{tone:?}");
        }
    }

    #[test]
    fn a_terminal_without_a_name_is_dumb() {
        for (term, dumb) in [(None, true), (Some("dumb"), true), (Some("xterm"), false)] {
            assert_eq!(Look::is_dumb(|_| term.map(str::to_owned)), dumb);
        }
    }
}
