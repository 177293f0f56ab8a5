//! The circumstances of one request, by condition key.

use std::collections::BTreeMap;

/// Condition keys and their values, like `iot:Delete` = `true`.
///
/// Keys are compared without regard to case. A key without a value here is absent from the request,
/// which is not the same as empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    values: BTreeMap<String, Vec<String>>,
}

impl Conditions {
    /// No key at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a key of one value, which replaces what the key had.
    #[must_use]
    pub fn with(self, key: &str, value: impl Into<String>) -> Self {
        self.with_all(key, [value])
    }

    /// With a key of several values, for `ForAnyValue:` and `ForAllValues:`; of none, the key is absent.
    #[must_use]
    pub fn with_all<V: Into<String>>(
        mut self,
        key: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.insert_all(key, values);
        self
    }

    /// Like [`with_all`](Self::with_all), in place.
    pub fn insert_all<V: Into<String>>(&mut self, key: &str, values: impl IntoIterator<Item = V>) {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        let key = key.to_ascii_lowercase();
        if values.is_empty() {
            self.values.remove(&key);
        } else {
            self.values.insert(key, values);
        }
    }

    /// The values of a key; none when it is absent.
    pub fn values(&self, key: &str) -> &[String] {
        self.values
            .get(&key.to_ascii_lowercase())
            .map_or(&[], Vec::as_slice)
    }
}
