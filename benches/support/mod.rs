//! Measures things against a control in the same run.
//!
//! Times taken minutes apart cannot be compared on a machine that others use. So the things compared take turns,
//! round by round; what counts is the median of the rounds' ratios to a control.

use std::{
    env,
    time::{Duration, Instant},
};

pub mod fill;
pub mod gate;
pub mod process;

/// How long to measure.
pub struct Plan {
    /// Rounds; every series runs once in each.
    pub rounds: usize,
    /// About how long one series runs in one round.
    pub slice: Duration,
    /// True under `cargo bench`. False when only tried, as `cargo test --benches` does; the figures are worthless then.
    pub is_real: bool,
}

impl Plan {
    /// Reads it from the arguments: cargo passes `--bench` when it is to be a measurement.
    pub fn from_args() -> Self {
        if env::args().any(|argument| argument == "--bench") {
            Self {
                rounds: 15,
                slice: Duration::from_millis(50),
                is_real: true,
            }
        } else {
            Self {
                rounds: 1,
                slice: Duration::from_millis(1),
                is_real: false,
            }
        }
    }
}

/// Something to measure.
pub struct Series<'a> {
    name: String,
    /// Does it that many times; answers how long that took.
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
}

impl<'a> Series<'a> {
    /// An operation, timed from outside. It keeps the compiler from leaving anything out (`std::hint::black_box`).
    pub fn of(name: impl Into<String>, mut operation: impl FnMut() + 'a) -> Self {
        Self::timed(name, move |times| {
            let start = Instant::now();
            for _ in 0..times {
                operation();
            }
            start.elapsed()
        })
    }

    /// A measurement that sets up and times itself: does a thing `times` times and answers how long that took.
    pub fn timed(name: impl Into<String>, run: impl FnMut(u64) -> Duration + 'a) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }

    /// How often it fits in the slice, which also warms it up.
    fn calibrate(&mut self, slice: Duration) -> u64 {
        let mut times = 1_u64;
        loop {
            let took = (self.run)(times);
            if took >= slice / 2 {
                let fitting = u128::from(times) * slice.as_nanos() / took.as_nanos().max(1);
                return u64::try_from(fitting).unwrap_or(u64::MAX).max(1);
            }
            times = times.saturating_mul(2);
        }
    }
}

/// Measures the series in turns and prints a table; the first `controls` of them are what the others are compared with.
#[expect(clippy::cast_precision_loss, reason = "nothing is done 2^52 times")]
pub fn compare(plan: &Plan, title: &str, controls: usize, mut series: Vec<Series<'_>>) {
    let times: Vec<u64> = series
        .iter_mut()
        .map(|one| one.calibrate(plan.slice))
        .collect();
    let mut costs = vec![Vec::with_capacity(plan.rounds); series.len()];
    for round in 0..plan.rounds {
        // Each round begins with another series, so that none always follows the same one.
        for turn in 0..series.len() {
            let at = (round + turn) % series.len();
            let took = (series[at].run)(times[at]);
            costs[at].push(nanoseconds(took) / times[at] as f64);
        }
    }

    print!("\n| {title} | ns (least – most) |");
    for control in &series[..controls] {
        print!(" ÷ {} |", control.name);
    }
    println!("\n|---|---|{}", "---|".repeat(controls));
    for (one, cost) in series.iter().zip(&costs) {
        let (least, most) = cost.iter().fold((f64::MAX, 0.0_f64), |(least, most), &c| {
            (least.min(c), most.max(c))
        });
        print!(
            "| {} | {:.1} ({least:.1} – {most:.1}) |",
            one.name,
            median(cost.clone())
        );
        for control in &costs[..controls] {
            let ratios = cost.iter().zip(control).map(|(own, its)| own / its);
            print!(" {:.2} |", median(ratios.collect()));
        }
        println!();
    }
}

/// A duration in nanoseconds, fraction and all.
pub fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// The middle value; of an even number of them the mean of the two in the middle.
///
/// # Panics
/// If there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
