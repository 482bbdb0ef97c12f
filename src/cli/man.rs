//! `man`: the manual pages, made from the command line and from the table of settings: `infeed.1`, a page
//! for each subcommand (`infeed-job-show.1`), and `infeed.toml.5`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::exit::{self, ExitCode};
use super::help;
use super::session::print;

mod settings;

/// What the pages belong to, in their footer.
const MANUAL: &str = "infeed manual";

/// Print the manual page, or write all of them
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Write every page into this folder, such as /usr/local/share/man: NAME.1 into its man1, NAME.5 into man5
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// A manual page.
struct Page {
    /// Its name, without the section.
    name: String,
    section: &'static str,
    text: Vec<u8>,
}

/// Runs `man`.
///
/// # Errors
/// A folder or page that can't be made (73); output that can't be written.
pub fn run(args: &ManArgs) -> anyhow::Result<u8> {
    let pages = pages()?;
    match &args.output {
        Some(folder) => {
            for page in &pages {
                write(page, folder)?;
            }
        }
        None => {
            let first = pages.first().map(|page| String::from_utf8_lossy(&page.text).into_owned());
            print(&first.unwrap_or_default())?;
        }
    }
    Ok(exit::DONE)
}

fn write(page: &Page, folder: &Path) -> anyhow::Result<()> {
    let folder = folder.join(format!("man{}", page.section));
    fs::create_dir_all(&folder)
        .with_context(|| format!("{}: can't be created", folder.display()))
        .exit_code(exit::CANT_CREATE)?;
    let path = folder.join(format!("{}.{}", page.name, page.section));
    fs::write(&path, &page.text)
        .with_context(|| format!("{}: can't be written", path.display()))
        .exit_code(exit::CANT_CREATE)
}

/// All pages, that of infeed itself first.
fn pages() -> io::Result<Vec<Page>> {
    let mut command = help::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages)?;
    pages.push(Page { name: "infeed.toml".to_owned(), section: "5", text: ascii(&settings::page()?) });
    Ok(pages)
}

fn add_pages(command: &Command, pages: &mut Vec<Page>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    pages.push(Page { name, section: "1", text: ascii(&page(command)?) });
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        add_pages(sub, pages)?;
    }
    Ok(())
}

/// The page with all that is not ASCII as groff and mandoc name it, for those that are told no encoding.
fn ascii(page: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(page.len());
    for c in String::from_utf8_lossy(page).chars() {
        if c.is_ascii() { out.push(c) } else { out.push_str(&format!("\\[u{:04X}]", u32::from(c))) }
    }
    out.into_bytes()
}

fn source() -> String {
    format!("infeed {}", env!("CARGO_PKG_VERSION"))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let man = Man::new(command.clone()).source(source()).manual(MANUAL);
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    let mut roff = Roff::default();
    synopsis(&mut roff, command);
    roff.to_writer(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let is_whole = command.get_name() == "infeed";
    let mut roff = Roff::default();
    after_help(&mut roff, command, is_whole);
    if is_whole {
        exit_status(&mut roff);
        files(&mut roff);
    }
    see_also(&mut roff, command, is_whole);
    roff.to_writer(&mut out)?;
    Ok(out)
}

/// As in the help: the options have a section of their own.
fn synopsis(roff: &mut Roff, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    roff.control("SH", ["SYNOPSIS"]);
    verbatim(roff, usage.trim_start_matches("Usage:").trim());
}

/// The paragraphs after the options, each under the heading that it wants.
fn after_help(roff: &mut Roff, command: &Command, is_whole: bool) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            if !is_whole {
                roff.control("SH", ["EXIT STATUS"]);
                roff.text([roman(codes.replace('\n', " "))]);
                roff.text([roman("The others are those of "), bold("infeed"), roman("(1).")]);
            }
        } else if first.starts_with("Example") {
            roff.control("SH", ["EXAMPLES"]);
            verbatim(roff, rest);
        } else {
            roff.control("SH", ["NOTES"]);
            roff.text([roman(first)]);
            verbatim(roff, rest);
        }
    }
}

/// Lines that are not filled, without the indentation that the help has.
fn verbatim(roff: &mut Roff, lines: &str) {
    roff.control("PP", []);
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, means) in exit::MEANINGS {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(*means)]);
    }
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    let files = [
        ("/etc/infeed/infeed.toml", "The configuration, where --config and $INFEED_CONFIG name no other."),
        ("/var/spool/infeed", "The queue, where it is ours to write and no other is set."),
    ];
    for (path, what) in files {
        roff.control("TP", []);
        roff.text([italic(path)]);
        roff.text([roman(what)]);
    }
}

fn see_also(roff: &mut Roff, command: &Command, is_whole: bool) {
    roff.control("SH", ["SEE ALSO"]);
    let mut pages: Vec<(String, &str)> = Vec::new();
    if !is_whole {
        pages.push(("infeed".to_owned(), "1"));
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages.push((sub.get_display_name().unwrap_or(sub.get_name()).to_owned(), "1"));
    }
    pages.push(("infeed.toml".to_owned(), "5"));
    references(roff, &pages);
}

/// `infeed(1), infeed.toml(5)`.
fn references(roff: &mut Roff, pages: &[(String, &str)]) {
    let last = pages.len().saturating_sub(1);
    for (i, (name, section)) in pages.iter().enumerate() {
        let end = if i == last { "" } else { "," };
        roff.text([bold(name.as_str()), roman(format!("({section}){end}"))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command_and_every_setting_is_in_one() {
        let pages = pages().expect("made");
        let names: Vec<String> = pages.iter().map(|p| format!("{}.{}", p.name, p.section)).collect();
        for name in ["infeed.1", "infeed-send.1", "infeed-job-show.1", "infeed-make-list.1", "infeed.toml.5"]
        {
            assert!(names.iter().any(|found| found == name), "{name} of {names:?}");
        }
        assert_eq!(names[0], "infeed.1");
        let toml = pages.last().map(|page| String::from_utf8_lossy(&page.text).into_owned()).expect("one");
        for setting in crate::config::table() {
            assert!(toml.contains(&setting.name.replace('-', "\\-")), "{}", setting.full_name());
        }
    }
}
