//! The smallest schedule that still fails.

use anyhow::Result;

use super::fault::Step;

/// Leaves faults out one after another, as long as what is left fails and there are attempts left.
///
/// # Errors
/// If `fails` does.
pub(super) fn shrink(
    schedule: &[Step],
    mut attempts: u32,
    mut fails: impl FnMut(&[Step]) -> Result<bool>,
) -> Result<Vec<Step>> {
    let mut smallest = schedule.to_vec();
    // What comes behind the fault that is to blame goes first, and whole.
    let mut piece = smallest.len() / 2;
    while piece > 0 {
        let mut end = smallest.len();
        while end > 0 && attempts > 0 && smallest.len() > 1 {
            let start = end.saturating_sub(piece);
            let rest = [&smallest[..start], &smallest[end..]].concat();
            if !rest.is_empty() {
                attempts -= 1;
                if fails(&rest)? {
                    smallest = rest;
                }
            }
            end = start;
        }
        piece /= 2;
    }
    Ok(smallest)
}

#[cfg(test)]
mod tests {
    use super::super::fault::schedule;
    use super::*;

    #[test]
    fn one_or_two_that_are_to_blame_are_found() {
        let faults = schedule(1, 9, 3);
        for (one, other) in [(0, 0), (8, 8), (4, 4), (2, 7)] {
            let blamed: [Step; 2] = [faults[one], faults[other]];
            let fails = |rest: &[Step]| Ok(blamed.iter().all(|fault| rest.contains(fault)));
            let smallest = shrink(&faults, 100, fails).unwrap();
            assert_eq!(smallest.len(), if one == other { 1 } else { 2 }, "{smallest:?}");
            assert!(blamed.iter().all(|fault| smallest.contains(fault)));
        }
    }

    #[test]
    fn it_tries_no_more_often_than_it_may() {
        let (faults, mut tried) = (schedule(1, 9, 3), 0);
        let fails = |_: &[Step]| {
            tried += 1;
            Ok(false)
        };
        assert_eq!(shrink(&faults, 5, fails).unwrap(), faults);
        assert_eq!(tried, 5);
    }
}
