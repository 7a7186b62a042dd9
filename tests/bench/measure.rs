//! Clocks, medians, and sides that take turns.

use std::time::Duration;

/// CPU time of this process, all threads, user and system; children are not in it.
pub fn process_cpu() -> Duration {
    // SAFETY: a structure of zeros is a valid one, ours and whole.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The value below which that share of the values lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied().unwrap_or(f64::NAN)
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The median of one side over the other, round by round: what changes slowly falls out.
pub fn ratio(over: &[f64], under: &[f64]) -> f64 {
    let ratios: Vec<f64> = over.iter().zip(under).map(|(over, under)| over / under).collect();
    median(&ratios)
}

/// Lets the sides take turns, `rounds` times each: A B C A B C …; answers each side's values by round.
pub fn take_turns<E>(rounds: usize, sides: &mut [&mut dyn FnMut(usize) -> Result<f64, E>]) -> Result<Vec<Vec<f64>>, E> {
    let mut values = vec![Vec::with_capacity(rounds); sides.len()];
    for round in 0..rounds {
        for (side, values) in sides.iter_mut().zip(&mut values) {
            values.push(side(round)?);
        }
    }
    Ok(values)
}
