//! The two files of AWS's tools, `credentials` and `config`: the same lines, named differently.
//!
//! ```text
//! [default]                     [profile dev]  (config)    [dev]  (credentials)
//! aws_access_key_id = AK…       services = lab
//! aws_secret_access_key = …     region = eu-west-1     # behind white space: a comment
//!
//! [services lab]
//! iotsecuretunneling =
//!   endpoint_url = https://…    indented below a key without a value: nested
//! ```
//!
//! Names of keys are not case-sensitive, sections may come several times and the later line wins, `[profile
//! default]` replaces `[default]`, and what nobody here knows is passed over.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// Which of the two a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Profiles are `[default]` and `[profile NAME]`; there are other sections.
    Config,
    /// Every section is a profile.
    Credentials,
}

/// A file, read.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    profiles: BTreeMap<String, Section>,
    services: BTreeMap<String, Section>,
    /// Sections of a `config` file that look like profiles and lack the word.
    bare: Vec<String>,
}

/// One section. `Debug` shows no value.
#[derive(Default)]
pub(crate) struct Section(BTreeMap<String, Property>);

#[derive(Default)]
struct Property {
    value: Zeroizing<String>,
    nested: BTreeMap<String, Zeroizing<String>>,
}

/// A line that is none of what such a file has. The line is not repeated: it may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {problem}")]
pub(crate) struct BadLine {
    line: usize,
    problem: &'static str,
}

impl Profiles {
    /// Reads the text of a file.
    pub(crate) fn parse(text: &str, kind: Kind) -> Result<Self, BadLine> {
        let mut reader = Reader::new(kind);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let read = reader.line(line);
            read.map_err(|problem| BadLine {
                line: index + 1,
                problem,
            })?;
        }
        Ok(reader.file)
    }

    /// A profile.
    pub(crate) fn profile(&self, name: &str) -> Option<&Section> {
        self.profiles.get(name)
    }

    /// What a profile calls its `services`.
    pub(crate) fn services(&self, name: &str) -> Option<&Section> {
        self.services.get(name)
    }

    /// The names of all profiles, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// Whether there is a section of this name that would be a profile with the word in front.
    pub(crate) fn lacks_the_word(&self, name: &str) -> bool {
        self.bare.iter().any(|bare| bare == name)
    }
}

impl Section {
    /// The value of a key; empty ones count as missing.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.value.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// The value of a key below another.
    pub(crate) fn nested(&self, outer: &str, key: &str) -> Option<&str> {
        let value = self.0.get(outer)?.nested.get(key)?.as_str();
        (!value.is_empty()).then_some(value)
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where the next line goes.
enum Place {
    /// Before the first section.
    Nowhere,
    /// A section that nobody here needs.
    Ignored,
    Profile(String),
    Services(String),
}

struct Reader {
    kind: Kind,
    file: Profiles,
    place: Place,
    /// The last key, under which indented lines belong.
    key: Option<String>,
    /// `[profile default]` was seen: it replaces `[default]`, whatever the order.
    has_named_default: bool,
}

impl Reader {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            file: Profiles::default(),
            place: Place::Nowhere,
            key: None,
            has_named_default: false,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        let text = line.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            return Ok(());
        }
        let is_indented = line.starts_with([' ', '\t']);
        if text.starts_with('[') && !is_indented {
            self.key = None;
            self.place = self.section(text)?;
            return Ok(());
        }
        if matches!(self.place, Place::Nowhere) {
            return Err("there is no [section] above this line");
        }
        match (is_indented, self.key.clone()) {
            (true, Some(outer)) => self.nested(&outer, text),
            (true, None) | (false, _) => self.property(text),
        }
    }

    fn section(&mut self, text: &str) -> Result<Place, &'static str> {
        let unclosed = "the bracket of the section is not closed";
        let (name, behind) = text[1..].split_once(']').ok_or(unclosed)?;
        let behind = behind.trim();
        if !behind.is_empty() && !behind.starts_with(['#', ';']) {
            return Err("only a comment goes behind a section");
        }
        let name = name.trim();
        let (word, rest) = name.split_once([' ', '\t']).unwrap_or((name, ""));
        let rest = unquoted(rest.trim());
        Ok(match (self.kind, word, rest) {
            (_, "", _) => return Err("the section has no name"),
            (Kind::Credentials, name, "") => self.profile(name),
            (Kind::Credentials, ..) => Place::Ignored,
            (Kind::Config, "default", "") if self.has_named_default => Place::Ignored,
            (Kind::Config, "default", "") => self.profile("default"),
            (Kind::Config, "profile", "default") => {
                if !std::mem::replace(&mut self.has_named_default, true) {
                    self.file.profiles.remove("default");
                }
                self.profile("default")
            }
            (Kind::Config, "profile" | "services", "") => return Err("the section has no name"),
            (Kind::Config, "profile", name) => self.profile(name),
            (Kind::Config, "services", name) => {
                self.file.services.entry(name.to_owned()).or_default();
                Place::Services(name.to_owned())
            }
            (Kind::Config, name, "") => {
                self.file.bare.push(unquoted(name).to_owned());
                Place::Ignored
            }
            (Kind::Config, ..) => Place::Ignored,
        })
    }

    fn profile(&mut self, name: &str) -> Place {
        let name = unquoted(name);
        self.file.profiles.entry(name.to_owned()).or_default();
        Place::Profile(name.to_owned())
    }

    fn property(&mut self, text: &str) -> Result<(), &'static str> {
        let (key, value) = split(text).ok_or("neither [section] nor key = value")?;
        self.key = Some(key.clone());
        if let Some(section) = self.current() {
            let value = Zeroizing::new(value.to_owned());
            let nested = BTreeMap::new();
            section.0.insert(key, Property { value, nested });
        }
        Ok(())
    }

    /// Below a key that has a value, an indented line goes on with that value; no key that counts here
    /// has more than one line.
    fn nested(&mut self, outer: &str, text: &str) -> Result<(), &'static str> {
        let Some(property) = self.current().and_then(|section| section.0.get_mut(outer)) else {
            return Ok(());
        };
        if !property.value.is_empty() {
            return Ok(());
        }
        let (key, value) = split(text).ok_or("an indented line is not key = value")?;
        property
            .nested
            .insert(key, Zeroizing::new(value.to_owned()));
        Ok(())
    }

    fn current(&mut self) -> Option<&mut Section> {
        match &self.place {
            Place::Profile(name) => self.file.profiles.get_mut(name),
            Place::Services(name) => self.file.services.get_mut(name),
            Place::Nowhere | Place::Ignored => None,
        }
    }
}

/// Key in lower case, and value without a comment.
fn split(text: &str) -> Option<(String, &str)> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim();
    if key.is_empty() {
        return None;
    }
    let comment = |(at, character): &(usize, char)| {
        matches!(character, '#' | ';')
            && value[..*at]
                .chars()
                .next_back()
                .is_none_or(char::is_whitespace)
    };
    let end = value
        .char_indices()
        .find(comment)
        .map_or(value.len(), |(at, _)| at);
    Some((key.to_ascii_lowercase(), value[..end].trim()))
}

fn unquoted(name: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = name
            .strip_prefix(quote)
            .and_then(|name| name.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    name
}

/// Reads both kinds of files from any bytes; no complaint repeats what a line holds.
pub fn fuzz_profiles(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for kind in [Kind::Config, Kind::Credentials] {
        match Profiles::parse(&text, kind) {
            Ok(file) => {
                let names: Vec<&str> = file.names().collect();
                assert!(names.is_sorted());
                for name in names {
                    let section = file.profile(name).expect("it was named");
                    let value = section.value("region");
                    assert!(value.is_none_or(|value| text.contains(value)));
                    section.nested("s3", "endpoint_url");
                }
                assert!(!format!("{file:?}").is_empty());
                file.services(&text);
                file.lacks_the_word(&text);
            }
            Err(bad) => {
                assert!((1..=text.lines().count()).contains(&bad.line));
                assert!(!bad.to_string().contains(char::is_control));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Profiles {
        Profiles::parse(text, Kind::Config).unwrap()
    }

    #[test]
    fn profiles_are_named_differently_in_the_two_files() {
        let text = "[default]\nregion = a\n[profile dev]\nregion=b\n[dev]\nregion = c\n";
        let file = config(text);
        assert_eq!(file.profile("default").unwrap().value("region"), Some("a"));
        assert_eq!(file.profile("dev").unwrap().value("region"), Some("b"));
        assert!(file.lacks_the_word("dev") && !file.lacks_the_word("default"));
        let file = Profiles::parse(text, Kind::Credentials).unwrap();
        assert_eq!(file.profile("dev").unwrap().value("region"), Some("c"));
        assert_eq!(file.names().collect::<Vec<_>>(), ["default", "dev"]);
    }

    #[test]
    fn odd_forms_of_aws_are_read() {
        let file = config(
            "\u{feff}# comment\r\n  ; another\r\n[ profile  \"two words\" ] # why\r\n\
             AWS_Access_Key_ID = AK # mine\r\naws_secret_access_key=a/b+c=#d;e\r\nempty =\r\n\
             s3 =\r\n  max = 1\r\n\tother=2 ;x\r\nregion = eu-west-1\r\n   continued\r\n\
             [sso-session x]\r\nsso_region = y\r\n[profile 'q']\n[plugins]\nnot = ours\n",
        );
        let section = file.profile("two words").unwrap();
        assert_eq!(section.value("aws_access_key_id"), Some("AK"));
        assert_eq!(section.value("aws_secret_access_key"), Some("a/b+c=#d;e"));
        assert_eq!(section.value("empty"), None);
        assert_eq!(section.value("region"), Some("eu-west-1"));
        assert_eq!(section.nested("s3", "other"), Some("2"));
        assert_eq!(section.value("sso_region"), None);
        assert!(file.profile("q").is_some() && file.lacks_the_word("plugins"));
    }

    #[test]
    fn endpoints_of_services_are_nested() {
        let file = config(
            "[profile lab]\nservices = here\n[services here]\niotsecuretunneling =\n  endpoint_url = https://h:1\n\
             iot = \n  endpoint_url=https://h:2\n",
        );
        let services = file.services(file.profile("lab").unwrap().value("services").unwrap());
        let services = services.unwrap();
        let url = services.nested("iotsecuretunneling", "endpoint_url");
        assert_eq!(url, Some("https://h:1"));
        assert_eq!(services.nested("iot", "endpoint_url"), Some("https://h:2"));
        assert_eq!(services.nested("s3", "endpoint_url"), None);
    }

    #[test]
    fn the_later_line_wins_and_the_named_default_wins_over_the_other() {
        let file = config("[profile a]\nk = 1\n[profile b]\n[profile a]\nk = 2\nj = 3\n");
        let a = file.profile("a").unwrap();
        assert_eq!((a.value("k"), a.value("j")), (Some("2"), Some("3")));
        for text in [
            "[default]\nk=1\nj=1\n[profile default]\nk=2\n",
            "[profile default]\nk=2\n[default]\nk=1\nj=1\n",
        ] {
            let file = config(text);
            let section = file.profile("default").unwrap();
            assert_eq!((section.value("k"), section.value("j")), (Some("2"), None));
        }
    }

    #[test]
    fn bad_lines_are_numbered_and_not_repeated() {
        for (text, line, problem) in [
            ("key = v\n", 1, "no [section] above"),
            ("[a]\n\ncanary\n", 3, "neither"),
            ("[a]\n= canary\n", 2, "neither"),
            ("[a\n", 1, "not closed"),
            ("[a] canary\n", 1, "only a comment"),
            ("[]\n", 1, "no name"),
            ("[profile ]\n", 1, "no name"),
            ("[profile a]\nk =\n  canary\n", 3, "indented"),
        ] {
            let fault = Profiles::parse(text, Kind::Config).unwrap_err().to_string();
            assert!(fault.starts_with(&format!("{line}: ")), "{text}: {fault}");
            assert!(
                fault.contains(problem) && !fault.contains("canary"),
                "{text}: {fault}"
            );
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let file = config("[default]\naws_secret_access_key = canary\ns3 =\n k = canary\n");
        assert!(!format!("{file:?}").contains("canary"));
    }
}
