//! What a mistyped word was probably meant to be.

/// The known word that takes the fewest changes, if these are few enough to be a slip.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    if word.len() > WORD_SIZE_MAX {
        return None;
    }
    if word.len() >= PREFIX_SIZE_MIN
        && let Some(longer) = known.iter().find(|known| known.starts_with(&word))
    {
        return Some(longer);
    }
    let close = known.iter().map(|known| (distance(&word, known), *known));
    let (changes, found) = close.min_by_key(|(changes, _)| *changes)?;
    // A third of the word, so that a short one is not taken for any other.
    (changes <= found.len() / 3).then_some(found)
}

/// Insertions, deletions and replacements from one to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, character) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (at, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// Shorter ones begin too many words.
const PREFIX_SIZE_MIN: usize = 3;

/// Longer words are no slip of a key; bounds the work.
const WORD_SIZE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["endpoint", "certificate", "key", "ca", "tunnel_endpoint"];

    #[test]
    fn a_slip_finds_its_word() {
        for (word, known) in [
            ("endpont", "endpoint"),
            ("Endpoint", "endpoint"),
            ("certificat", "certificate"),
            ("cert", "certificate"),
            ("keys", "key"),
            ("tunnel-endpoint", "tunnel_endpoint"),
        ] {
            assert_eq!(nearest(word, &KNOWN), Some(known), "{word}");
        }
    }

    #[test]
    fn a_foreign_word_finds_nothing() {
        for word in ["broker", "xy", "password", &"e".repeat(65)] {
            assert_eq!(nearest(word, &KNOWN), None, "{word}");
        }
    }

    #[test]
    fn distances_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), count);
        }
    }
}
