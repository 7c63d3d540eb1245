//! Plots as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::{growth::Cost, report::Figures};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const SIZE: (u32, u32) = (900, 420);
const WANTED: RGBColor = RGBColor(200, 120, 30);
const GRANTED: RGBColor = RGBColor(30, 100, 180);

/// What was wanted and what was granted over the day, a second.
pub(super) fn day(figures: &Figures, file: &Path) -> Result<(), Failed> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    // The last minute is only begun.
    let minutes = figures.wanted.len().saturating_sub(1);
    let top = figures.wanted.iter().max().copied().unwrap_or(1) as f64 / 60.0 * 1.1;
    let hours = minutes as f64 / 60.0;
    let mut chart = ChartBuilder::on(&root)
        .caption("Requests a second, wanted and leased", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..hours, 0.0..top)?;
    chart.configure_mesh().x_desc("hour of the day").y_desc("a second").x_labels(13).draw()?;
    let series = |of: &[u64]| -> Vec<(f64, f64)> {
        // Ten minutes are one point.
        let points = of[..minutes].chunks(10).enumerate();
        points
            .map(|(at, part)| {
                let mean = part.iter().sum::<u64>() as f64 / (60.0 * part.len() as f64);
                ((at * 10 + part.len() / 2) as f64 / 60.0, mean)
            })
            .collect()
    };
    chart
        .draw_series(LineSeries::new(series(&figures.wanted), WANTED.stroke_width(2)))?
        .label("wanted")
        .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], WANTED.stroke_width(2)));
    chart
        .draw_series(LineSeries::new(series(&figures.granted), GRANTED.stroke_width(2)))?
        .label("leased")
        .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], GRANTED.stroke_width(2)));
    let allowed = figures.capacity as f64 / 60.0;
    chart
        .draw_series(LineSeries::new([(0.0, allowed), (hours, allowed)], BLACK.stroke_width(1)))?
        .label("allowed by the quota")
        .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], BLACK.stroke_width(1)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

/// What a lease costs the kernel by the number of projects in the pool.
pub(super) fn growth(costs: &[Cost], file: &Path) -> Result<(), Failed> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let points: Vec<(f64, f64)> =
        costs.iter().map(|cost| (cost.projects as f64, cost.nanoseconds / 1_000.0)).collect();
    let top = points.iter().map(|point| point.1).fold(1.0, f64::max) * 1.3;
    let mut chart = ChartBuilder::on(&root)
        .caption("Microseconds of the kernel for a lease and its report", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((8.0..12_000.0).log_scale(), 0.0..top)?;
    chart.configure_mesh().x_desc("projects in the pool").y_desc("microseconds").draw()?;
    chart.draw_series(LineSeries::new(points.clone(), GRANTED.stroke_width(2)))?;
    chart.draw_series(points.into_iter().map(|point| Circle::new(point, 4, GRANTED.filled())))?;
    root.present()?;
    Ok(())
}
