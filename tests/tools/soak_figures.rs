//! What the soak computes from its samples, on samples made for the purpose; and this process as the kernel sees it.

use crate::figures::{AppliedFault, Phase, Sample, csv, growth, least_squares, slope, table, theil_sen};
use crate::process::{Usage, parse};

/// Two rounds of ten seconds a phase, of a daemon that stays as it is.
fn sound() -> Vec<Sample> {
    let phases = [Phase::Steady, Phase::Faults, Phase::Recovered];
    let phases = (1..=2).flat_map(|round| phases.map(|phase| (round, phase)));
    let seconds = phases.flat_map(|each| [each; 10]).enumerate();
    seconds
        .map(|(at, (round, phase))| Sample {
            at: at as f64 + 1.0,
            round,
            phase,
            resident: 60.0,
            files: 40,
            threads: 20,
            latency: Some((50.0, 110.0)),
            commit: Some(7.0),
        })
        .collect()
}

#[test]
fn a_daemon_that_stays_as_it_is_has_not_grown() {
    assert_eq!(growth(&sound()), [""; 0]);
    let slope = slope(&sound()).unwrap();
    assert_eq!((slope.theil_sen, slope.least_squares, slope.height), (0.0, 0.0, 60.0));
    assert_eq!(
        (slope.samples, slope.from, slope.to),
        (20, 31.0, 60.0),
        "the first round and the faults are not counted"
    );
}

/// What `growth` reports when something grows in the last recovery.
fn growth_when(of: impl Fn(&mut Sample)) -> Vec<String> {
    let mut samples = sound();
    samples[50..].iter_mut().for_each(of);
    growth(&samples)
}

#[test]
fn the_growth_that_an_unclosed_client_leaves_is_found() {
    let found = growth_when(|sample| sample.files += 9);
    assert_eq!(found, ["open files: 49 after the last recovery, 40 at first, at most 48 are allowed"]);
    assert_eq!(growth_when(|sample| sample.files += 8), [""; 0]);
    assert!(growth_when(|sample| sample.threads += 4)[0].starts_with("threads: 24"));
    assert_eq!(growth_when(|sample| sample.threads += 3), [""; 0]);
    assert!(growth_when(|sample| sample.resident = 185.0)[0].starts_with("resident memory, MB: 185"));
    assert_eq!(growth_when(|sample| sample.resident = 184.0), [""; 0]);
}

#[test]
fn a_soak_that_did_not_reach_its_last_recovery_is_not_sound() {
    assert_eq!(growth(&sound()[..50]).len(), 3);
    assert_eq!(growth(&[]).len(), 3);
}

#[test]
fn the_slope_of_a_line_is_found_and_an_outlier_does_not_move_it() {
    let mut points: Vec<(f64, f64)> = (0..21).map(|at| (f64::from(at), 60.0 + 0.5 * f64::from(at))).collect();
    assert!((theil_sen(&points).unwrap() - 0.5).abs() < 1e-9);
    assert!((least_squares(&points).unwrap() - 0.5).abs() < 1e-9);
    points[20].1 = 500.0;
    assert!((theil_sen(&points).unwrap() - 0.5).abs() < 1e-9);
    assert!(least_squares(&points).unwrap() > 5.0);
    assert_eq!((theil_sen(&points[..1]), least_squares(&points[..1])), (None, None));
    assert_eq!((theil_sen(&[]), least_squares(&[])), (None, None));
}

#[test]
fn the_slope_of_memory_is_per_hour() {
    let mut samples = sound();
    samples.iter_mut().for_each(|sample| sample.resident += sample.at / 3_600.0);
    let slope = slope(&samples).unwrap();
    assert!((slope.theil_sen - 1.0).abs() < 1e-6 && (slope.least_squares - 1.0).abs() < 1e-6, "{slope:?}");
}

#[test]
fn the_table_has_a_row_for_each_phase_and_the_csv_a_line_for_each_sample() {
    let mut samples = sound();
    samples[12].latency = None;
    samples[12].commit = None;
    samples[20].phase = Phase::Recovering;
    let text = table(&samples);
    assert_eq!(text.lines().count(), 2 + 6, "recovery is one phase:\n{text}");
    assert!(text.lines().nth(2).unwrap().starts_with("1     steady"), "{text}");
    let fault = AppliedFault { name: "cut off", from: 12.2, to: 12.4 };
    let text = csv(&samples, &[fault]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + samples.len());
    assert_eq!(lines[12], "12.000,1,faults,,60.000,40,20,50.000,110.000,7.000");
    assert_eq!(lines[13], "13.000,1,faults,cut off,60.000,40,20,,,", "the second in which it was on");
}

#[test]
fn a_status_file_names_memory_and_threads() {
    let text = "Name:\tsandpiper\nVmRSS:\t   62500 kB\nRssAnon:\t 1 kB\nThreads:\t31\n";
    assert_eq!(parse(text), Some((64.0, 31)));
    assert_eq!(parse("Name:\tsandpiper\nState:\tZ (zombie)\nThreads:\t1\n"), None, "what has ended");
}

#[cfg(target_os = "linux")]
#[test]
fn this_process_has_memory_files_and_threads() {
    let before = Usage::of(std::process::id()).unwrap();
    assert!(before.resident > 1.0 && before.threads >= 1 && before.files >= 3, "{before:?}");
    assert!(Usage::of(u32::MAX).is_err());
}
