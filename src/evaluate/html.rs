//! The page: one file with everything in it, nothing loaded from elsewhere, no script.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::page::{Block, Sample, Section, Table};
use crate::basics::escaped;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2733;--dim:#5b6b7b;--line:#d5dde5;--paper:#fff;--band:#f4f7fa;--one:#1f6fb4;--two:#d9822b}\
@media(prefers-color-scheme:dark){:root{--ink:#e4eaf0;--dim:#9fb0c0;--line:#33414f;--paper:#141b22;--band:#1c2630;--one:#5aa9e6;--two:#f0a860}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1040px;margin:2em auto;padding:0 1em}\
h1{font-size:1.6em;margin-bottom:.2em}h2{border-bottom:1px solid var(--line);margin-top:2em;padding-bottom:.2em}h3{font-size:1em;margin:1.4em 0 .4em}\
p.n{color:var(--dim);font-size:.9em;margin:.3em 0 1em;max-width:80ch}p.w{border-left:4px solid var(--two);padding:.4em .8em;background:var(--band)}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92em}th,td{padding:.25em .8em;text-align:right;border-bottom:1px solid \
var(--line)}th{font-weight:600;background:var(--band)}th:first-child,td:first-child{text-align:left}.x{overflow-x:auto}\
span.x{display:inline-block;max-width:100%}.plot{display:block;margin:.8em 1.5em .8em 0}.plot text{font-size:12px;fill:var(--ink)}.plot .t{font-weight:600;font-size:13px}\
.plot .s{fill:var(--dim);font-size:10px}.c0{fill:var(--one)}.c1{fill:var(--two)}.l{fill:none;stroke:var(--one);stroke-width:2}\
.d{stroke:var(--dim);stroke-dasharray:4 4}.f{fill:none;stroke:var(--line)}\
article{border:1px solid var(--line);border-radius:6px;padding:.8em 1em;margin:1em 0;display:grid;grid-template-columns:auto 1fr;gap:0 1.4em}\
article h3{grid-column:1/-1;margin:.1em 0 .6em;font-family:ui-monospace,monospace;font-weight:500;font-size:.85em;color:var(--dim);overflow-wrap:anywhere}\
figure{margin:0 .6em .6em 0;display:inline-block;vertical-align:top}figure img{display:block;width:220px;max-width:100%;background:#000}\
figcaption{font-size:.8em;color:var(--dim);max-width:220px}dl{margin:0}dt{font-weight:600;font-size:.85em;color:var(--dim)}dd{margin:0 0 .6em}\
@media(max-width:700px){article{display:block}}\
@media print{body{max-width:none;margin:0}.x{overflow:visible}.plot{max-width:100%;height:auto}\
article,.plot,tr,p.w{break-inside:avoid}h2,h3{break-after:avoid}}";

/// The whole page. `facts` are shown below the title, `warning` in a box.
pub fn page(title: &str, facts: &str, warnings: &[&str], sections: &[Section]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main><h1>{title}</h1><p class=\"n\">{}</p>",
        escaped(facts),
        title = escaped(title),
    );
    for warning in warnings {
        let _ = write!(out, "<p class=\"w\">{}</p>", escaped(warning));
    }
    for section in sections {
        let _ = write!(out, "\n<h2>{}</h2>", escaped(&section.title));
        for block in &section.blocks {
            match block {
                Block::Table(table) => put_table(table, &mut out),
                // As large as it is drawn: made to fit a telephone, its words could not be read.
                Block::Plot(svg) => {
                    let _ = write!(out, "<span class=\"x\">{svg}</span>");
                }
                Block::Samples(samples) => samples.iter().for_each(|sample| put_sample(sample, &mut out)),
            }
        }
    }
    out.push_str("\n</main></body></html>\n");
    out
}

fn put_table(table: &Table, out: &mut String) {
    if !table.title.is_empty() {
        let _ = write!(out, "<h3>{}</h3>", escaped(&table.title));
    }
    let line = |cells: &[String], open: &str, close: &str| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("{open}{}{close}", escaped(cell)))
            .collect();
        format!("<tr>{cells}</tr>")
    };
    // A head of its own stands on every sheet of a long table that is printed.
    let head = line(&table.columns, "<th scope=\"col\">", "</th>");
    let _ = write!(out, "<div class=\"x\"><table><thead>{head}</thead><tbody>");
    for row in &table.rows {
        out.push_str(&line(row, "<td>", "</td>"));
    }
    out.push_str("</tbody></table></div>");
    if !table.note.is_empty() {
        let _ = write!(out, "<p class=\"n\">{}</p>", escaped(&table.note));
    }
}

fn put_sample(sample: &Sample, out: &mut String) {
    let _ = write!(out, "\n<article><h3>{}</h3><div>", escaped(&sample.title));
    for (caption, png) in sample.figures.iter().filter(|f| !f.1.is_empty()) {
        let _ = write!(
            out,
            "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{}\"><figcaption>{caption}</figcaption></figure>",
            STANDARD.encode(png),
            caption = escaped(caption)
        );
    }
    out.push_str("</div><dl>");
    for (heading, text) in &sample.texts {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escaped(heading), escaped(text));
    }
    out.push_str("</dl></article>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_wrote_cannot_become_markup_and_nothing_is_loaded_from_elsewhere() {
        let sample = Sample {
            title: "a".to_owned(),
            figures: vec![("b".to_owned(), vec![1, 2, 3])],
            texts: vec![("generated".to_owned(), "<script>alert(\"x\")</script>".to_owned())],
        };
        let section = Section {
            title: "S".to_owned(),
            blocks: vec![Block::Samples(vec![sample]), Block::Plot("<svg></svg>".to_owned())],
        };
        let shown = page("T", "f", &["w"], &[section]);
        assert!(shown.contains("<span class=\"x\"><svg></svg></span>"), "a plot scrolls");
        assert!(!shown.contains("<script") && shown.contains("&lt;script&gt;"));
        assert!(shown.contains("data:image/png;base64,AQID"));
        assert_eq!(
            (shown.matches("<main>").count(), shown.matches("</main>").count()),
            (1, 1)
        );
        assert!(!shown.contains("http://") && !shown.contains("https://") && !shown.contains("src=\"/"));
    }
}
