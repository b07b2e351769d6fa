//! Charts as SVG, without a library: a few bars, or a few points on lines.
//!
//! A chart brings its own white ground, so that it reads the same on a light and on a dark page.

use std::fmt::Write;

const WIDTH: f64 = 820.0;
const FONT: &str = "font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#24292f\"";
const GRID: &str = "stroke=\"#d0d7de\" stroke-width=\"1\"";

/// A horizontal bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    /// Shown behind the bar.
    pub(super) text: String,
    pub(super) color: &'static str,
}

/// Horizontal bars below a title, longest value across.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let (left, right, top, step) = (300.0, 150.0, 46.0, 28.0);
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(title, top + step * bars.len() as f64 + 14.0);
    for (i, bar) in bars.iter().enumerate() {
        let y = top + step * i as f64;
        let width = (bar.value / most * (WIDTH - left - right)).max(1.0);
        let (middle, end) = (y + 15.0, left + width + 8.0);
        text(&mut svg, left - 10.0, middle, "end", &bar.label);
        let color = bar.color;
        let _ = writeln!(
            svg,
            r#"<rect x="{left}" y="{y:.1}" width="{width:.1}" height="20" rx="2" fill="{color}"/>"#
        );
        text(&mut svg, end, middle, "start", &bar.text);
    }
    svg + "</svg>\n"
}

/// One quantity over the points of another; each panel has a scale of its own that begins at zero.
pub(super) struct Panel {
    pub(super) title: String,
    /// A value for each point.
    pub(super) values: Vec<f64>,
    pub(super) show: fn(f64) -> String,
}

/// Panels side by side below a title, over the same points, which stand at equal distances.
pub(super) fn panels(title: &str, points: &[String], panels: &[Panel]) -> String {
    let (top, height, gap) = (78.0, 150.0, 26.0);
    let width = (WIDTH - gap * (panels.len() + 1) as f64) / panels.len() as f64;
    let bottom = top + height;
    let mut svg = open(title, bottom + 36.0);
    for (p, panel) in panels.iter().enumerate() {
        let left = gap + (width + gap) * p as f64;
        text(&mut svg, left, top - 24.0, "start", &panel.title);
        let right = left + width;
        let _ = writeln!(svg, r#"<line x1="{left:.1}" y1="{bottom}" x2="{right:.1}" y2="{bottom}" {GRID}/>"#);
        // Room above the highest point for its value.
        let most = panel.values.iter().copied().fold(f64::MIN_POSITIVE, f64::max) * 1.12;
        let step = width / points.len() as f64;
        let place = |i: usize, value: f64| (left + step * (i as f64 + 0.5), bottom - value / most * height);
        let line: Vec<String> = panel
            .values
            .iter()
            .enumerate()
            .map(|(i, v)| place(i, *v))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="#0969da" stroke-width="2"/>"##,
            line.join(" ")
        );
        for (i, value) in panel.values.iter().enumerate() {
            let (x, y) = place(i, *value);
            let _ = writeln!(svg, r##"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="#0969da"/>"##);
            text(&mut svg, x, y - 8.0, "middle", &(panel.show)(*value));
            text(&mut svg, x, bottom + 18.0, "middle", &points[i]);
        }
    }
    svg + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\">\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{1}\" height=\"{2}\" rx=\"6\" fill=\"#ffffff\" stroke=\"#d0d7de\"/>\n",
        escaped(title),
        WIDTH - 1.0,
        height - 1.0,
    );
    let _ = writeln!(
        svg,
        r##"<text x="20" y="28" font-weight="600" font-family="system-ui, sans-serif" font-size="15" fill="#24292f">{}</text>"##,
        escaped(title)
    );
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" {FONT}>{text}</text>"#);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_room_and_others_are_in_proportion() {
        let bar = |label: &str, value| Bar { label: label.into(), value, text: "x".into(), color: "#000000" };
        let svg = bars("A & B", &[bar("one", 100.0), bar("<two>", 25.0), bar("none", 0.0)]);
        for part in ["width=\"370.0\"", "width=\"92.5\"", "width=\"1.0\"", "A &amp; B", "&lt;two&gt;"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn points_lie_as_high_as_their_values_say() {
        let panel = Panel { title: "t".into(), values: vec![56.0, 112.0, 0.0], show: |v| format!("{v}") };
        let svg = panels("t", &["1".into(), "8".into(), "64".into()], &[panel]);
        // 150 high for 112 * 1.12, above a bottom at 228.
        assert!(svg.contains("154.0,161.0 410.0,94.1 666.0,228.0"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
    }
}
