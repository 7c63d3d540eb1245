//! How fairly what there is was shared out.

/// What each gets if what there is is shared out max-min fairly: nobody gets more than it wants, and nobody who
/// wants more gets less than another.
pub fn fair_shares(wanted: &[f64], there_is: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    let mut shares = vec![0.0; wanted.len()];
    let mut left = there_is;
    for (served, &who) in order.iter().enumerate() {
        let equal = left / (wanted.len() - served) as f64;
        shares[who] = wanted[who].min(equal);
        left -= shares[who];
    }
    shares
}

/// Jain's index of what each got, relative to its fair share: 1 if all got the same part of theirs.
pub fn jain(got: &[f64], fair: &[f64]) -> f64 {
    let parts: Vec<f64> =
        got.iter().zip(fair).filter(|(_, fair)| **fair > 0.0).map(|(got, fair)| got / fair).collect();
    let sum: f64 = parts.iter().sum();
    let squares: f64 = parts.iter().map(|part| part * part).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (parts.len() as f64 * squares) }
}
