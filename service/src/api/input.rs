//! Members of a request, read one by one and checked while read.
//!
//! A member that is `null` is absent; one that nobody asks for is ignored. A refusal carries the path
//! of the member, like `destinationConfig.services.2.member`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::constraints::{Text, check_size, check_value};
use super::error::ApiError;

/// A JSON object of a request and where it stands.
pub(crate) struct Input<'a> {
    members: &'a Map<String, Value>,
    /// Ends with a dot unless empty.
    path: String,
}

/// One element of a list and where it stands.
pub(crate) struct Element<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Input<'a> {
    pub(crate) fn new(members: &'a Map<String, Value>) -> Self {
        Self {
            members,
            path: String::new(),
        }
    }

    pub(crate) fn text(&self, name: &str, rule: &Text) -> Result<Option<&'a str>, ApiError> {
        self.element(name)
            .map(|element| element.text(rule))
            .transpose()
    }

    pub(crate) fn required_text(&self, name: &str, rule: &Text) -> Result<&'a str, ApiError> {
        self.required(name)?.text(rule)
    }

    /// One word of a fixed set.
    pub(crate) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, ApiError> {
        self.element(name)
            .map(|element| element.word(words))
            .transpose()
    }

    pub(crate) fn required_word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<T, ApiError> {
        self.required(name)?.word(words)
    }

    /// All members, as a map from names to texts.
    pub(crate) fn texts(
        &self,
        name_rule: &Text,
        rule: &Text,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let mut texts = BTreeMap::new();
        for (name, value) in self.members {
            name_rule.check(&format!("{}key", self.path), name)?;
            let path = format!("{}value", self.path);
            let text = Element { value, path }.text(rule)?;
            texts.insert(name.clone(), text.to_owned());
        }
        Ok(texts)
    }

    pub(crate) fn integer(
        &self,
        name: &str,
        allowed: &RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(element) = self.element(name) else {
            return Ok(None);
        };
        let number = element.value.as_i64();
        let number = number.ok_or_else(|| element.wrong_type("an integer"))?;
        check_value(&element.path, number, allowed)?;
        Ok(Some(number))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(element) = self.element(name) else {
            return Ok(None);
        };
        let value = element.value.as_bool();
        value
            .map(Some)
            .ok_or_else(|| element.wrong_type("a boolean"))
    }

    pub(crate) fn structure(&self, name: &str) -> Result<Option<Input<'a>>, ApiError> {
        self.element(name)
            .map(|element| element.structure())
            .transpose()
    }

    pub(crate) fn list(
        &self,
        name: &str,
        count: &RangeInclusive<usize>,
    ) -> Result<Option<Vec<Element<'a>>>, ApiError> {
        self.element(name)
            .map(|element| element.list(count))
            .transpose()
    }

    pub(crate) fn required_list(
        &self,
        name: &str,
        count: &RangeInclusive<usize>,
    ) -> Result<Vec<Element<'a>>, ApiError> {
        self.required(name)?.list(count)
    }

    fn element(&self, name: &str) -> Option<Element<'a>> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some(Element {
            value,
            path: format!("{}{name}", self.path),
        })
    }

    fn required(&self, name: &str) -> Result<Element<'a>, ApiError> {
        self.element(name).ok_or_else(|| {
            let path = format!("{}{name}", self.path);
            ApiError::constraint(&path, "Member must not be null")
        })
    }
}

impl<'a> Element<'a> {
    pub(crate) fn text(&self, rule: &Text) -> Result<&'a str, ApiError> {
        let text = self.string()?;
        rule.check(&self.path, text)?;
        Ok(text)
    }

    fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ApiError> {
        let text = self.string()?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let constraint = format!("Member must satisfy enum value set: [{}]", words.join(", "));
            self.refused(&constraint)
        })
    }

    pub(crate) fn structure(&self) -> Result<Input<'a>, ApiError> {
        let members = self.value.as_object();
        let members = members.ok_or_else(|| self.wrong_type("an object"))?;
        Ok(Input {
            members,
            path: format!("{}.", self.path),
        })
    }

    /// Refuses the element with these words.
    pub(crate) fn refused(&self, constraint: &str) -> ApiError {
        ApiError::constraint(&self.path, constraint)
    }

    fn string(&self) -> Result<&'a str, ApiError> {
        let text = self.value.as_str();
        text.ok_or_else(|| self.wrong_type("a string"))
    }

    fn list(&self, count: &RangeInclusive<usize>) -> Result<Vec<Element<'a>>, ApiError> {
        let values = self.value.as_array();
        let values = values.ok_or_else(|| self.wrong_type("a list"))?;
        check_size(&self.path, values.len(), count)?;
        let element = |(index, value)| Element {
            value,
            // Counted from one, as in AWS's own messages.
            path: format!("{}.{}.member", self.path, index + 1),
        };
        Ok(values.iter().enumerate().map(element).collect())
    }

    fn wrong_type(&self, wanted: &str) -> ApiError {
        self.refused(&format!("Member must be {wanted}"))
    }
}
