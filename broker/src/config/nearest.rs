//! Which known name was probably meant.

/// The known name closest to a mistaken one, if it is close enough to be worth suggesting: at
/// most a third of its letters differ. Case does not count, nor does `-` for `_`.
pub(crate) fn nearest<'a>(mistaken: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer text is no slip of the finger, and comparing it would cost time.
    if mistaken.len() > 64 {
        return None;
    }
    let mistaken = mistaken.to_lowercase().replace('-', "_");
    let closest = known.into_iter().map(|name| (distance(&mistaken, &name.replace('-', "_")), name)).min();
    closest.filter(|(steps, name)| steps * 3 <= name.len()).map(|(_, name)| name)
}

/// How many letters must be put in, taken out or replaced to make one text of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let known = ["send_within", "lease_ttl", "weight"];
        assert_eq!(nearest("wieght", known), Some("weight"));
        assert_eq!(nearest("Lease-TTL", known), Some("lease_ttl"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"weight".repeat(20), known), None);
    }
}
