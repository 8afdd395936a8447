//! Small plots as inline SVG, in the page's own colours.

use std::fmt::Write;

use crate::basics::escaped;

/// Shares of 0 … 1 as bars, one or two for each name. `legend` names the bars.
pub fn bars(title: &str, legend: &[&str], rows: &[(String, Vec<Option<f64>>)]) -> String {
    let per_row = legend.len().max(1) as f64;
    let (left, width, bar) = (190.0, 340.0, 11.0);
    let step = bar * per_row + 7.0;
    let height = 44.0 + step * rows.len() as f64;
    let mut out = format!(
        "<svg class=\"plot\" role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 600 {height}\" width=\"600\" height=\"{height}\"><text x=\"0\" \
         y=\"14\" class=\"t\">{title}</text>",
        title = escaped(title)
    );
    for (at, name) in legend.iter().enumerate().filter(|_| legend.len() > 1) {
        let x = left + at as f64 * 150.0;
        let _ = write!(
            out,
            "<rect x=\"{x}\" y=\"20\" width=\"10\" height=\"10\" class=\"c{at}\"/><text x=\"{}\" y=\"29\">{}</text>",
            x + 15.0,
            escaped(name)
        );
    }
    for (number, (name, values)) in rows.iter().enumerate() {
        let top = 38.0 + step * number as f64;
        let middle = top + bar * per_row / 2.0 + 4.0;
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            escaped(name)
        );
        for (at, value) in values.iter().enumerate() {
            let y = top + bar * at as f64;
            if let Some(value) = value {
                let long = width * value.clamp(0.0, 1.0);
                let _ = write!(
                    out,
                    "<rect x=\"{left}\" y=\"{y}\" width=\"{long:.1}\" height=\"{}\" class=\"c{at}\"/><text x=\"{:.1}\" y=\"{}\" \
                     class=\"s\">{value:.2}</text>",
                    bar - 1.5,
                    left + long + 5.0,
                    y + bar - 2.0
                );
            }
        }
    }
    out.push_str("</svg>");
    out
}

/// A curve in the unit square with its diagonal: a ROC curve, or shares by probability.
pub fn square(title: &str, (x_name, y_name): (&str, &str), points: &[(f64, f64)], dots: bool) -> String {
    let (left, top, side) = (46.0, 26.0, 240.0);
    let at = |(x, y): (f64, f64)| (left + side * x.clamp(0.0, 1.0), top + side * (1.0 - y.clamp(0.0, 1.0)));
    let mut out = format!(
        "<svg class=\"plot\" role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 320 310\" width=\"320\" height=\"310\"><text x=\"0\" y=\"14\" \
         class=\"t\">{title}</text><rect x=\"{left}\" y=\"{top}\" width=\"{side}\" height=\"{side}\" class=\"f\"/>",
        title = escaped(title)
    );
    let ((x0, y0), (x1, y1)) = (at((0.0, 0.0)), at((1.0, 1.0)));
    let _ = write!(
        out,
        "<line x1=\"{x0}\" y1=\"{y0}\" x2=\"{x1}\" y2=\"{y1}\" class=\"d\"/>"
    );
    for tick in [0.0, 0.5, 1.0] {
        let ((x, _), (_, y)) = (at((tick, 0.0)), at((0.0, tick)));
        let _ = write!(
            out,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" class=\"s\">{tick}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\" \
             class=\"s\">{tick}</text>",
            y0 + 13.0,
            left - 5.0,
            y + 4.0
        );
    }
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text transform=\"translate(12,{}) rotate(-90)\" \
         text-anchor=\"middle\">{}</text><polyline class=\"l\" points=\"",
        left + side / 2.0,
        y0 + 30.0,
        escaped(x_name),
        top + side / 2.0,
        escaped(y_name)
    );
    for &point in points {
        let (x, y) = at(point);
        let _ = write!(out, "{x:.1},{y:.1} ");
    }
    out.push_str("\"/>");
    for &point in points.iter().filter(|_| dots) {
        let (x, y) = at(point);
        let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" class=\"c0\"/>");
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_escape_names_and_stay_within_their_frame() {
        let rows = [
            ("a < b".to_owned(), vec![Some(2.0), None]),
            ("c".to_owned(), vec![Some(0.5), Some(f64::NAN)]),
        ];
        let plot = bars("F1 & more", &["own", "blind"], &rows);
        assert!(plot.contains("a &lt; b") && plot.contains("F1 &amp; more") && plot.contains("width=\"340.0\""));
        let plot = square("ROC", ("x", "y"), &[(0.0, 0.0), (0.5, 3.0)], true);
        assert!(plot.contains("points=\"46.0,266.0 166.0,26.0 \""), "{plot}");
    }
}
