//! Two targets in alternating slices, and the ratio within each pair.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Error,
    case::{Load, Shape},
    cost::Cost,
    load::Slice,
    plan::Plan,
    target::Target,
};

/// The median of some numbers, with the least and the greatest.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    pub(super) fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let median = match numbers.len() {
            0 => return None,
            odd if odd % 2 == 1 => numbers[middle],
            _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
        };
        Some(Self { median, least: numbers[0], greatest: *numbers.last()? })
    }
}

/// What one side of a comparison did.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Side {
    /// Leases a second, the median of the slices.
    pub rate: f64,
    /// Half of all loops took at most this, in microseconds.
    pub p50: f64,
    /// 99 of 100 took at most this.
    pub p99: f64,
    /// Leases taken.
    pub leases: u64,
    /// What they cost in all.
    pub cost: Cost,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Comparison {
    /// What was measured against.
    pub base: Side,
    /// What was measured.
    pub case: Side,
    /// Alone: the case's median time over the base's. Saturated: the case's rate over the base's.
    pub ratio: Spread,
}

#[derive(Default)]
struct Slices {
    all: Vec<Slice>,
    cost: Cost,
}

impl Slices {
    async fn take(
        &mut self,
        target: &Target,
        shape: Shape,
        tasks: usize,
        length: Duration,
    ) -> Result<f64, Error> {
        let before = target.meter.read()?;
        let slice = target.callers.run(shape, tasks, length).await?;
        self.cost += target.meter.read()?.since(before);
        if slice.leases == 0 {
            return Err("a slice in which nothing was answered".into());
        }
        let figure = if tasks == 1 { slice.latencies.value_at_quantile(0.5) as f64 } else { slice.rate() };
        self.all.push(slice);
        Ok(figure)
    }

    fn side(self) -> Result<Side, Error> {
        let rates = self.all.iter().map(Slice::rate).collect();
        let mut latencies = Histogram::<u64>::new(3)?;
        for slice in &self.all {
            latencies.add(&slice.latencies)?;
        }
        let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Side {
            rate: Spread::of(rates).ok_or("no slices")?.median,
            p50: micros(0.5),
            p99: micros(0.99),
            leases: latencies.len(),
            cost: self.cost,
        })
    }
}

/// Alternates slices of the base and the case, after a warm-up of both.
pub(super) async fn compare(
    base: &Target,
    case: &Target,
    shape: Shape,
    load: Load,
    plan: &Plan,
) -> Result<Comparison, Error> {
    let (tasks, length) = match load {
        Load::Alone => (1, plan.alone_slice),
        Load::Saturated => (plan.tasks, plan.saturated_slice),
    };
    for target in [base, case] {
        target.callers.run(shape, tasks, length / 2).await?;
    }
    let (mut of_base, mut of_case, mut ratios) = (Slices::default(), Slices::default(), Vec::new());
    for _ in 0..plan.pairs {
        let first = of_base.take(base, shape, tasks, length).await?;
        let second = of_case.take(case, shape, tasks, length).await?;
        ratios.push(second / first);
    }
    let ratio = Spread::of(ratios).ok_or("no pairs")?;
    Ok(Comparison { base: of_base.side()?, case: of_case.side()?, ratio })
}
