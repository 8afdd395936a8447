//! Loss curves as one SVG: a small plot for each quantity.

use std::fmt::Write;

use crate::basics::escaped;

/// Values of a quantity by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name of the quantity.
    pub name: String,
    /// (step, value), steps rising.
    pub points: Vec<(u64, f64)>,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 200.0;
const MARGIN: (f64, f64, f64, f64) = (56.0, 28.0, 12.0, 24.0);
const COLUMNS: usize = 3;
/// More points than this in a plot are averaged in groups.
const MOST_POINTS: usize = 400;

/// Draws every series with at least two finite points.
pub fn svg(title: &str, series: &[Series]) -> String {
    let drawn: Vec<Series> = series.iter().map(thinned).filter(|s| s.points.len() > 1).collect();
    let rows = drawn.len().div_ceil(COLUMNS).max(1);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64 + 32.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"12\" y=\"21\" font-size=\"14\">{}</text>",
        escaped(title)
    );
    for (number, series) in drawn.iter().enumerate() {
        let (column, row) = (number % COLUMNS, number / COLUMNS);
        let _ = write!(
            out,
            "<g transform=\"translate({},{})\">",
            column as f64 * WIDTH,
            row as f64 * HEIGHT + 32.0
        );
        plot(&mut out, series);
        out.push_str("</g>");
    }
    out.push_str("</svg>\n");
    out
}

fn plot(out: &mut String, series: &Series) {
    let (left, top, right, bottom) = MARGIN;
    let (inner_width, inner_height) = (WIDTH - left - right, HEIGHT - top - bottom);
    let values = || series.points.iter().map(|p| p.1);
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(f64::NEG_INFINITY, f64::max),
    );
    let (low, high) = if high > low {
        (low, high)
    } else {
        (low - 0.5, high + 0.5)
    };
    let first = series.points.first().map_or(0, |p| p.0);
    let last = series.points.last().map_or(1, |p| p.0).max(first + 1);
    let x = |step: u64| left + inner_width * (step - first) as f64 / (last - first) as f64;
    let y = |value: f64| top + inner_height * (high - value) / (high - low);
    let _ = write!(
        out,
        "<text x=\"{left}\" y=\"16\" font-weight=\"bold\">{}</text>",
        escaped(&series.name)
    );
    for tick in 0..=4 {
        let value = low + (high - low) * f64::from(tick) / 4.0;
        let _ = write!(
            out,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" \
             fill=\"#555\">{}</text>",
            left + inner_width,
            left - 4.0,
            y(value) + 4.0,
            short(value),
            y = y(value),
        );
    }
    let base = HEIGHT - 8.0;
    let _ = write!(
        out,
        "<text x=\"{left}\" y=\"{base}\" fill=\"#555\">{first}</text><text x=\"{}\" y=\"{base}\" text-anchor=\"end\" \
         fill=\"#555\">step {last}</text><polyline fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"1.5\" points=\"",
        left + inner_width
    );
    for &(step, value) in &series.points {
        let _ = write!(out, "{:.1},{:.1} ", x(step), y(value));
    }
    out.push_str("\"/>");
}

fn thinned(series: &Series) -> Series {
    let finite: Vec<(u64, f64)> = series.points.iter().copied().filter(|p| p.1.is_finite()).collect();
    let group = finite.len().div_ceil(MOST_POINTS).max(1);
    let points = finite
        .chunks(group)
        .map(|g| (g[g.len() - 1].0, g.iter().map(|p| p.1).sum::<f64>() / g.len() as f64))
        .collect();
    Series {
        name: series.name.clone(),
        points,
    }
}

fn short(value: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e5) {
        format!("{value:.1e}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_holds_its_curve_within_its_frame_and_a_lone_point_or_nan_draws_nothing() {
        let series = |name: &str, points: Vec<(u64, f64)>| Series {
            name: name.to_owned(),
            points,
        };
        let many = (0..5000).map(|i| (i, 1.0 / (i + 1) as f64)).collect();
        let text = svg(
            "a < b",
            &[
                series("falls", many),
                series("one", vec![(1, 1.0)]),
                series("nan", vec![(1, f64::NAN), (2, f64::NAN)]),
                series("flat", vec![(1, 2.0), (9, 2.0)]),
            ],
        );
        assert!(text.contains("a &lt; b") && text.contains("falls") && text.contains("flat"));
        assert!(!text.contains(">one<") && !text.contains("NaN"));
        let points: Vec<&str> = text
            .split("points=\"")
            .skip(1)
            .filter_map(|t| t.split('"').next())
            .collect();
        assert_eq!(points.len(), 2);
        assert!(points[0].split_whitespace().count() <= MOST_POINTS);
        for pair in points.iter().flat_map(|p| p.split_whitespace()) {
            let (x, y) = pair.split_once(',').unwrap();
            assert!((0.0..=WIDTH).contains(&x.parse().unwrap()) && (0.0..=HEIGHT).contains(&y.parse().unwrap()));
        }
    }
}
