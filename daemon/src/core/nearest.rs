//! Finds the known word that a misspelled word most likely stands for.

/// The known word with the fewest edits, if they are at most `max`. Case is ignored.
pub(crate) fn nearest<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str>,
    max: usize,
) -> Option<&'a str> {
    let with_distance = known.map(|known| (distance(known, word), known));
    let (distance, known) = with_distance.min_by_key(|(distance, _)| *distance)?;
    (distance <= max).then_some(known)
}

/// The edit distance (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (count, letter) in one.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(count + 1);
        for (position, same) in other.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let replaced = get(&row, position) + usize::from(*same != letter.to_ascii_lowercase());
            let least = replaced.min(get(&row, position + 1) + 1);
            next.push(least.min(get(&next, position) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_word_with_the_fewest_edits_up_to_the_limit() {
        let nearest = |word, max| nearest(word, ["Service", "Secret", "Node"].into_iter(), max);
        assert_eq!(nearest("servise", 1), Some("Service"));
        assert_eq!(nearest("Sercet", 2), Some("Secret"));
        assert_eq!(nearest("Servises", 1), None);
        assert_eq!(nearest("", 4), Some("Node"));
    }
}
