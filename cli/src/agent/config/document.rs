//! A TOML file on its way to settings: every complaint has file, line and key.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use adit_engine::tunnel::endpoint::Excerpt;
use adit_proto::escape::Escaped;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use crate::fault::BadInput;
use crate::world::{FILE_SIZE_MAX, read_text};

/// The text of a configuration file.
pub(super) struct Document {
    /// As the user named it, escaped.
    name: String,
    /// Relative paths in the file start here.
    directory: PathBuf,
    text: String,
}

impl Document {
    /// Reads a file.
    pub(super) fn read(shown: &str, path: &Path) -> Result<Self, BadInput> {
        let text = read_text(path, FILE_SIZE_MAX).map_err(|error| {
            let message = format!("--config: `{}`: {error}", Escaped(shown));
            BadInput::fatal(message, "give a file that this user can read").in_file()
        })?;
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self::new(shown, directory, text))
    }

    /// Takes a text for the content of a file.
    pub(super) fn new(shown: &str, directory: PathBuf, text: String) -> Self {
        Self {
            name: Escaped(shown).to_string(),
            directory,
            text,
        }
    }

    /// The outermost table, whose keys are these and no others.
    pub(super) fn root(&self, known: &[&str]) -> Result<Table<'_>, BadInput> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            let place = self.place(error.span().map_or(0, |span| span.start));
            // Its first line is the sentence, the rest a picture of the place.
            let sentence = error.message().lines().next().unwrap_or_default();
            let message = format!("{place}: not TOML: {}", Escaped(sentence));
            BadInput::fatal(message, "write `key = \"value\"`; texts stand in quotes").in_file()
        })?;
        Table::open(self, String::new(), table.into_inner(), Some(known))
    }

    /// A mistake that is no single line's.
    pub(super) fn fault(&self, problem: impl Display, hint: impl Into<String>) -> BadInput {
        BadInput::fatal(format!("{}: {problem}", self.name), hint).in_file()
    }

    /// A path that starts at the file's directory, unless it is absolute.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// `file:line`.
    fn place(&self, offset: usize) -> String {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        format!("{}:{line}", self.name)
    }
}

/// A table of a document.
pub(super) struct Table<'a> {
    document: &'a Document,
    /// In front of each key in a message: empty, or `limits.`.
    prefix: String,
    entries: Vec<Entry<'a>>,
}

impl<'a> Table<'a> {
    fn open(
        document: &'a Document,
        prefix: String,
        table: DeTable<'a>,
        known: Option<&[&str]>,
    ) -> Result<Self, BadInput> {
        let entries = table.into_iter().map(|(key, value)| Entry {
            document,
            name: format!("{prefix}{}", Escaped(key.get_ref())),
            key: key.get_ref().clone().into_owned(),
            offset: key.span().start,
            value: value.into_inner(),
        });
        let entries: Vec<Entry<'a>> = entries.collect();
        let known = known.unwrap_or_default();
        let is_unknown = |entry: &&Entry<'_>| !known.contains(&entry.key.as_str());
        match entries.iter().find(is_unknown) {
            Some(entry) if !known.is_empty() => Err(entry.unknown(&prefix, known)),
            _ => Ok(Self {
                document,
                prefix,
                entries,
            }),
        }
    }

    /// Takes out what stands for a key.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.swap_remove(index))
    }

    /// The same, for a key that has to be there, with an example of what might stand there.
    pub(super) fn need(&mut self, (key, example): (&str, &str)) -> Result<Entry<'a>, BadInput> {
        self.take(key).ok_or_else(|| {
            let problem = format!("{}{key} is missing", self.prefix);
            self.document
                .fault(problem, format!("add a line like {key} = {example}"))
        })
    }

    /// All that is left, in the order of the keys.
    pub(super) fn rest(self) -> Vec<Entry<'a>> {
        self.entries
    }
}

/// One `key = value`.
pub(super) struct Entry<'a> {
    document: &'a Document,
    /// With the tables around it, escaped.
    name: String,
    key: String,
    offset: usize,
    value: DeValue<'a>,
}

impl<'a> Entry<'a> {
    /// The key alone.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// A mistake in this line.
    pub(super) fn fault(&self, problem: impl Display, hint: impl Into<String>) -> BadInput {
        let place = self.document.place(self.offset);
        BadInput::fatal(format!("{place}: {}: {problem}", self.name), hint).in_file()
    }

    /// A text; empty ones are refused.
    pub(super) fn text(&self) -> Result<&str, BadInput> {
        match &self.value {
            DeValue::String(text) if text.is_empty() => {
                Err(self.fault("the text is empty", "give a value, or leave the line out"))
            }
            DeValue::String(text) => Ok(text),
            other => Err(self.wrong_type(other, "a text", "write it in quotes")),
        }
    }

    /// A text, or a number as its digits: ports are written either way.
    pub(super) fn text_or_number(&self) -> Result<&str, BadInput> {
        match &self.value {
            DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str()),
            _ => self.text(),
        }
    }

    /// A path, as seen from the file's directory.
    pub(super) fn path(&self) -> Result<PathBuf, BadInput> {
        let text = self.text()?;
        if text.contains('\0') {
            return Err(self.fault("the path has a NUL byte", "give a path"));
        }
        Ok(self.beside(text))
    }

    /// A path that starts at the file's directory, unless it is absolute.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.document.beside(path)
    }

    /// A number in a range.
    pub(super) fn number(&self, range: &RangeInclusive<u32>) -> Result<u32, BadInput> {
        let DeValue::Integer(number) = &self.value else {
            return Err(self.wrong_type(&self.value, "a number", "write it without quotes"));
        };
        let value = u32::from_str_radix(number.as_str(), number.radix());
        match value {
            Ok(value) if range.contains(&value) => Ok(value),
            Ok(_) | Err(_) => Err(self.fault(
                format_args!("{} is out of range", Excerpt(number.as_str())),
                format!("allowed are {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// A table whose keys are these, or any.
    pub(super) fn table(self, known: Option<&[&str]>) -> Result<Table<'a>, BadInput> {
        if !matches!(self.value, DeValue::Table(_)) {
            let hint = format!("write [{}] on a line of its own", self.name);
            return Err(self.wrong_type(&self.value, "a table", &hint));
        }
        let prefix = format!("{}.", self.name);
        match self.value {
            DeValue::Table(table) => Table::open(self.document, prefix, table, known),
            _ => Table::open(self.document, prefix, DeTable::new(), known),
        }
    }

    fn wrong_type(&self, value: &DeValue<'_>, wanted: &str, hint: &str) -> BadInput {
        let given = match value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(format_args!("{wanted} is wanted, not {given}"), hint)
    }

    fn unknown(&self, prefix: &str, known: &[&str]) -> BadInput {
        let place = self.document.place(self.offset);
        let message = format!("{place}: there is no key `{}`", Excerpt(&self.name));
        let hint = match nearest(&self.key, known) {
            Some(known) => format!("did you mean `{prefix}{known}`?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        BadInput::fatal(message, hint).in_file()
    }
}
