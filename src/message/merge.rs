//! The template engine of a merged message: minijinja with our columns, filters and bounds.
//!
//! Two environments: one for headers, whose output says which characters a value brought
//! ([`super::header::Run`]), one for text parts, which escapes in HTML. Both are strict: an undefined
//! name is an error of the recipient, an endless loop runs out of fuel, and output is bounded. Nothing
//! in a template reads files, clocks or chance: the same recipient renders the same every time.
//!
//! Beyond minijinja: `default` (`d`) also stands in for an empty cell, because CSV has no other way to
//! leave one out; `urlencode` escapes all but RFC 3986 unreserved characters.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Rest, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::columns::{BUILT_IN, missing, nearest};
use super::error::{MessageError, RenderError};
use super::header::Run;
use super::plain::Plain;
use super::template::RecipientView;

/// Instructions that one template may take for one recipient; a newsletter takes some hundreds.
const FUEL_MAX: u64 = 100_000;
/// Octets that one part may render to.
pub(super) const RENDERED_OCTETS_MAX: usize = 32 * 1024 * 1024;
/// Nested macro calls.
const RECURSION_MAX: usize = 64;
/// Around what a value brought. Noncharacters, which no text has a use for; a value's own are dropped.
const VALUE_OPEN: char = '\u{FDD0}';
const VALUE_CLOSE: char = '\u{FDD1}';

/// What the templates of one job are rendered with.
#[derive(Debug)]
pub struct Merge {
    headers: Environment<'static>,
    parts: Environment<'static>,
    columns: Arc<Columns>,
    column_names: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct Columns {
    index: HashMap<String, usize>,
    job: String,
}

/// A compiled template; it names itself in errors.
#[derive(Debug, Clone)]
pub struct TemplateId {
    name: String,
    pub place: String,
    /// The same without the engine, where it is that simple.
    plain: Option<Plain>,
    html: bool,
}

#[cfg(test)]
impl TemplateId {
    /// The same, rendered by the engine in any case.
    pub fn without_plain(self) -> Self {
        Self { plain: None, ..self }
    }
}

/// One recipient, as the templates see it.
#[derive(Debug)]
pub struct Context<'a> {
    merge: &'a Merge,
    recipient: RecipientView<'a>,
    /// For the engine; made when it is first asked.
    row: OnceCell<Value>,
}

impl Context<'_> {
    fn row(&self) -> &Value {
        self.row.get_or_init(|| {
            Value::from_object(Row {
                columns: self.merge.columns.clone(),
                values: self.recipient.values.iter().map(|&value| Value::from(value)).collect(),
                address: Value::from(self.recipient.address),
            })
        })
    }
}

impl Merge {
    pub fn new(columns: &[String], job: &str) -> Merge {
        let mut headers = environment();
        headers.set_auto_escape_callback(|_| AutoEscape::None);
        headers.set_formatter(|out, _, value| {
            if value.is_undefined() {
                return Err(Error::from(ErrorKind::UndefinedError));
            }
            let owned;
            let text = match value.as_str() {
                Some(text) => text,
                None => {
                    owned = value.to_string();
                    &owned
                }
            };
            out.write_char(VALUE_OPEN)?;
            if text.contains([VALUE_OPEN, VALUE_CLOSE]) {
                // From a captured block, or a column's own: all of it counts as a value.
                out.write_str(&text.replace([VALUE_OPEN, VALUE_CLOSE], ""))?;
            } else {
                out.write_str(text)?;
            }
            out.write_char(VALUE_CLOSE)?;
            Ok(())
        });
        let mut parts = environment();
        parts.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        // The first of two columns of one name counts.
        let index = columns.iter().enumerate().rev().map(|(i, name)| (name.clone(), i)).collect();
        Merge {
            headers,
            parts,
            columns: Arc::new(Columns { index, job: job.to_owned() }),
            column_names: columns.to_vec(),
            warnings: Vec::new(),
        }
    }

    /// Compiles a header's value.
    pub fn add_header(&mut self, place: &str, source: String) -> Result<TemplateId, MessageError> {
        let plain = Plain::parse(&source, &self.columns.index);
        let id = TemplateId { name: format!("{place}.header"), place: place.to_owned(), plain, html: false };
        if source.contains([VALUE_OPEN, VALUE_CLOSE]) {
            let reason = "U+FDD0 and U+FDD1 are not characters; remove them".to_owned();
            return Err(MessageError::Template { place: place.to_owned(), reason });
        }
        self.check(&id, &source, true)?;
        Ok(id)
    }

    /// Compiles a text part.
    pub fn add_part(&mut self, place: &str, html: bool, source: String) -> Result<TemplateId, MessageError> {
        let extension = if html { "html" } else { "txt" };
        let plain = Plain::parse(&source, &self.columns.index);
        let id = TemplateId { name: format!("{place}.{extension}"), place: place.to_owned(), plain, html };
        self.check(&id, &source, false)?;
        Ok(id)
    }

    /// Compiles a stretch of a part that was compiled as a whole, and so is known to be sound.
    pub fn add_stretch(
        &mut self,
        whole: &TemplateId,
        number: usize,
        source: &str,
    ) -> Result<TemplateId, MessageError> {
        // the whole's name last: its ending says how values are escaped
        let name = format!("{number} of {}", whole.name);
        let plain = Plain::parse(source, &self.columns.index);
        let id = TemplateId { name, place: whole.place.clone(), plain, html: whole.html };
        self.parts
            .add_template_owned(id.name.clone(), source.to_owned())
            .map_err(|e| MessageError::Template { place: id.place.clone(), reason: describe(&e) })?;
        Ok(id)
    }

    fn check(&mut self, id: &TemplateId, source: &str, header: bool) -> Result<(), MessageError> {
        let env = if header { &mut self.headers } else { &mut self.parts };
        let wrong = |e: &Error| MessageError::Template { place: id.place.clone(), reason: describe(e) };
        env.add_template_owned(id.name.clone(), source.to_owned()).map_err(|e| {
            let mut reason = describe(&e);
            if source.contains("{#") {
                reason.push_str("; `{#` starts a comment up to `#}`: in a style sheet write `{ #`");
            }
            MessageError::Template { place: id.place.clone(), reason }
        })?;
        let undeclared = env.get_template(&id.name).map_err(|e| wrong(&e))?.undeclared_variables(false);
        let globals: HashSet<String> = env.globals().map(|(name, _)| name.to_owned()).collect();
        for name in missing(source, &undeclared, &globals, &self.column_names) {
            if name.guarded {
                self.warnings.push(format!(
                    "{}: no column {:?} in the recipients; all of them get what the template has for that case",
                    id.place, name.name
                ));
                continue;
            }
            let mut columns = self.column_names.clone();
            columns.extend(BUILT_IN[..3].iter().map(|&name| name.to_owned()));
            columns.dedup();
            return Err(MessageError::UnknownColumn {
                place: id.place.clone(),
                nearest: nearest(&name.name, &columns).cloned(),
                name: name.name,
                columns,
            });
        }
        Ok(())
    }

    pub fn column_names(&self) -> &[String] {
        &self.column_names
    }

    /// The recipient as the templates see it.
    pub fn context<'a>(&'a self, recipient: &RecipientView<'a>) -> Context<'a> {
        Context { merge: self, recipient: *recipient, row: OnceCell::new() }
    }

    /// A header's value; `buffer` is scratch.
    pub fn header<'b>(
        &'b self,
        id: &'b TemplateId,
        context: &'b Context<'b>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Vec<Run<'b>>, RenderError> {
        let plain = id.plain.as_ref().and_then(|plain| plain.runs(&context.recipient, &self.columns.job));
        if let Some(runs) = plain
            && !runs.iter().any(|run| run.from_value && run.text.contains([VALUE_OPEN, VALUE_CLOSE]))
        {
            return Ok(runs);
        }
        let text = render(&self.headers, id, context.row(), buffer)?;
        let mut runs = Vec::new();
        let mut from_value = false;
        for run in text.split([VALUE_OPEN, VALUE_CLOSE]) {
            if !run.is_empty() || from_value {
                runs.push(Run { text: run, from_value });
            }
            from_value = !from_value;
        }
        Ok(runs)
    }

    /// A part's text; `buffer` is scratch.
    pub fn part<'b>(
        &self,
        id: &TemplateId,
        context: &Context<'_>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b str, RenderError> {
        buffer.clear();
        if let Some(plain) = &id.plain
            && plain.render(&context.recipient, &self.columns.job, id.html, buffer)
        {
            return text(id, buffer);
        }
        render(&self.parts, id, context.row(), buffer)
    }
}

fn render<'b>(
    env: &Environment<'static>,
    id: &TemplateId,
    context: &Value,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b str, RenderError> {
    let wrong = |e: &Error| RenderError::Template { place: id.place.clone(), reason: describe(e) };
    buffer.clear();
    let template = env.get_template(&id.name).map_err(|e| wrong(&e))?;
    template.render_captured_to(context.clone(), Bounded { buffer }).map_err(|e| wrong(&e))?;
    if memchr::memchr(0, buffer).is_some() {
        return Err(RenderError::Control { place: id.place.clone(), code: 0 });
    }
    text(id, buffer)
}

fn text<'b>(id: &TemplateId, octets: &'b [u8]) -> Result<&'b str, RenderError> {
    std::str::from_utf8(octets)
        .map_err(|e| RenderError::Template { place: id.place.clone(), reason: e.to_string() })
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL_MAX));
    env.set_recursion_limit(RECURSION_MAX);
    // Debug info would copy the template and the recipient's columns into each error.
    env.set_debug(false);
    env.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("urlencode", urlencode);
    env
}

/// One line without control characters, bounded; never the template's or the recipient's data at length.
fn describe(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("it takes more than {FUEL_MAX} steps; look for a loop without end");
    }
    let line = error.line().map_or_else(String::new, |line| format!(", in its line {line}"));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    let text: String = format!("{}{detail}", error.kind())
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    format!("{text}{line}")
}

/// `{{ x | default("y") }}`: y where x is absent, none, or an empty cell.
fn default(value: &Value, other: Rest<Value>) -> Value {
    let empty =
        value.is_undefined() || value.is_none() || value.as_str().is_some_and(|s| s.trim().is_empty());
    if empty { other.first().cloned().unwrap_or_else(|| Value::from("")) } else { value.clone() }
}

/// Percent-encoding of all but RFC 3986 unreserved characters.
fn urlencode(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let text = value.to_string();
    let mut out = String::with_capacity(text.len() + 16);
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            super::address::push_hex(&mut out, '%', b);
        }
    }
    Ok(out)
}

/// A sink that says no beyond [`RENDERED_OCTETS_MAX`].
struct Bounded<'a> {
    buffer: &'a mut Vec<u8>,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + octets.len() > RENDERED_OCTETS_MAX {
            return Err(io::Error::other(format!("it renders to more than {RENDERED_OCTETS_MAX} octets")));
        }
        self.buffer.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One recipient's columns by name.
#[derive(Debug)]
struct Row {
    columns: Arc<Columns>,
    values: Vec<Value>,
    address: Value,
}

impl Row {
    fn column(&self, name: &str) -> Option<Value> {
        self.columns.index.get(name).and_then(|&i| self.values.get(i)).cloned()
    }
}

impl Object for Row {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.column(key).or_else(|| match key {
            "address" | "email" => Some(self.address.clone()),
            "job" => Some(Value::from(self.columns.job.as_str())),
            "row" => Some(Value::from_object(WholeRow(self.clone()))),
            _ => None,
        })
    }
}

/// `row["First Name"]`: columns whose names are no identifiers.
#[derive(Debug)]
struct WholeRow(Arc<Row>);

impl Object for WholeRow {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.column(key.as_str()?)
    }
}
