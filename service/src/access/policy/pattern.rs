//! Texts with wildcards and variables.

use std::borrow::Cow;

use super::conditions::Conditions;

/// A text of a policy, to compare others with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// Whether the texts to compare are in lower case, as the parts are: so have to be the values of variables.
    lowercase: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// These characters. Never empty.
    Text(String),
    /// `?`: any one character.
    One,
    /// `*`: any characters, also none. Never two in a row.
    Any,
    /// `${key}`: the value that the request has for the key, in lower case. Never a wildcard itself.
    Variable(String),
}

/// What is special in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) wildcards: bool,
    pub(super) variables: bool,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidVariable;

impl Pattern {
    pub(super) fn everything() -> Self {
        Self {
            parts: vec![Part::Any],
            lowercase: false,
        }
    }

    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self, InvalidVariable> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if syntax.variables && rest.starts_with("${") {
                let (name, behind) = rest[2..].split_once('}').ok_or(InvalidVariable)?;
                push(&mut parts, variable(name)?);
                rest = behind;
                continue;
            }
            let part = match first {
                '*' if syntax.wildcards => Part::Any,
                '?' if syntax.wildcards => Part::One,
                other => Part::Text(other.to_string()),
            };
            push(&mut parts, part);
            rest = &rest[first.len_utf8()..];
        }
        Ok(Self {
            parts,
            lowercase: false,
        })
    }

    /// Without regard to case from here on, if the texts to compare are in lower case.
    pub(super) fn into_lowercase(mut self) -> Self {
        for part in &mut self.parts {
            if let Part::Text(text) = part {
                text.make_ascii_lowercase();
            }
        }
        self.lowercase = true;
        self
    }

    /// Whether the whole text fits. A variable without exactly one value fits nothing.
    pub(super) fn matches(&self, text: &str, conditions: &Conditions) -> bool {
        let Some(parts) = self.resolve(conditions) else {
            return false;
        };
        fits(&parts, text)
    }

    /// The keys of all variables, in lower case.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(key) => Some(key.as_str()),
            Part::Text(_) | Part::One | Part::Any => None,
        })
    }

    fn resolve<'a>(&'a self, conditions: &'a Conditions) -> Option<Cow<'a, [Part]>> {
        if self.variables().next().is_none() {
            return Some(Cow::Borrowed(&self.parts));
        }
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let Part::Variable(key) = part else {
                push(&mut parts, part.clone());
                continue;
            };
            let [value] = conditions.values(key) else {
                return None;
            };
            let value = match self.lowercase {
                true => value.to_ascii_lowercase(),
                false => value.clone(),
            };
            if !value.is_empty() {
                push(&mut parts, Part::Text(value));
            }
        }
        Some(Cow::Owned(parts))
    }
}

fn variable(name: &str) -> Result<Part, InvalidVariable> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-.@+=".contains(&byte);
    match name {
        "*" | "?" | "$" => Ok(Part::Text(name.to_owned())),
        key if key.contains(':') && key.bytes().all(allowed) => {
            Ok(Part::Variable(key.to_ascii_lowercase()))
        }
        _ => Err(InvalidVariable),
    }
}

fn push(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Text(text)), Part::Text(more)) => text.push_str(&more),
        (Some(Part::Any), Part::Any) => {}
        (_, part) => parts.push(part),
    }
}

/// Only the last `*` is ever tried again, so this takes no more than pattern times text.
fn fits(parts: &[Part], text: &str) -> bool {
    let (mut at, mut rest) = (0, text);
    // Where to go on when the parts since the last `*` do not fit: behind it, one character later.
    let mut retry: Option<(usize, &str)> = None;
    loop {
        let step = match parts.get(at) {
            None if rest.is_empty() => return true,
            None => None,
            Some(Part::Any) => {
                retry = Some((at + 1, rest));
                Some(rest)
            }
            Some(Part::One) => skip_one(rest),
            Some(Part::Text(wanted)) => rest.strip_prefix(wanted.as_str()),
            // None is left after `resolve`.
            Some(Part::Variable(_)) => None,
        };
        if let Some(behind) = step {
            (at, rest) = (at + 1, behind);
            continue;
        }
        let Some((behind_star, from)) = retry else {
            return false;
        };
        let Some(later) = skip_one(from) else {
            return false;
        };
        retry = Some((behind_star, later));
        (at, rest) = (behind_star, later);
    }
}

fn skip_one(text: &str) -> Option<&str> {
    let mut characters = text.chars();
    characters.next()?;
    Some(characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Syntax = Syntax {
        wildcards: true,
        variables: true,
    };

    fn matches(pattern: &str, text: &str) -> bool {
        let conditions = Conditions::new()
            .with("k:name", "a*")
            .with("k:empty", "")
            .with_all("k:several", ["a", "b"]);
        Pattern::parse(pattern, ALL)
            .unwrap()
            .matches(text, &conditions)
    }

    #[test]
    fn wildcards() {
        for (pattern, good, bad) in [
            ("", &[""][..], &["a"][..]),
            ("a", &["a"], &["", "b", "aa", "A"]),
            ("*", &["", "a", "a/b:c", "é"], &[]),
            ("a*", &["a", "ab"], &["", "ba"]),
            ("*a", &["a", "ba", "aa"], &["", "ab"]),
            ("a?c", &["abc", "aéc", "a?c"], &["ac", "abbc"]),
            ("a**b", &["ab", "axb"], &["a", "b"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
            ("a*bc", &["abcbc", "abc"], &["abcb"]),
            ("?*", &["a", "abc"], &[""]),
        ] {
            for text in good {
                assert!(matches(pattern, text), "{pattern} has {text}");
            }
            for text in bad {
                assert!(!matches(pattern, text), "{pattern} has not {text}");
            }
        }
    }

    #[test]
    fn variables_stand_for_themselves_only() {
        for (pattern, text, good) in [
            ("x/${k:name}", "x/a*", true),
            ("x/${K:NAME}", "x/a*", true),
            ("x/${k:name}", "x/ab", false),
            ("x/${k:name}*", "x/a*b", true),
            ("x/${k:empty}y", "x/y", true),
            ("x/${k:several}", "x/a", false),
            ("x/${k:absent}", "x/", false),
            ("x/${k:absent}", "x/${k:absent}", false),
            ("${*}${?}${$}", "*?$", true),
            ("${*}", "a", false),
            ("$x}", "$x}", true),
        ] {
            assert_eq!(matches(pattern, text), good, "{pattern} {text}");
        }
        for bad in ["${", "${a", "${}", "${a:b c}", "${k:name, 'x'}", "${name}"] {
            assert_eq!(Pattern::parse(bad, ALL), Err(InvalidVariable), "{bad}");
        }
        let plain = Syntax {
            wildcards: false,
            variables: false,
        };
        let pattern = Pattern::parse("${*?", plain).unwrap();
        assert!(pattern.matches("${*?", &Conditions::new()));
    }

    /// Backtracking over every star would take longer than the universe is old.
    #[test]
    fn many_stars_end() {
        let pattern = "a*".repeat(2_000) + "b";
        assert!(!matches(&pattern, &"a".repeat(3_000)));
    }
}
