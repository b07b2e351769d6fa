//! A small bar chart for a terminal.

/// One line a bar: label, bar of at most `width` characters, value. Bars are proportional to the largest value.
pub(crate) fn bars(rows: &[(String, f64)], width: usize, unit: &str) -> String {
    let top = rows.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let labels = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    rows.iter()
        .map(|(label, value)| {
            format!("{label:>labels$}  {:<width$}  {value:>5.1}{unit}\n", bar(value / top, width))
        })
        .collect()
}

/// A bar in eighths of a character.
fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if !share.is_finite() || share <= 0.0 {
        return String::new();
    }
    let eighths = (share.min(1.0) * width as f64 * 8.0).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_proportional_and_aligned() {
        let chart = bars(&[("a".into(), 10.0), ("bb".into(), 5.0), ("c".into(), 0.0)], 4, "%");
        assert_eq!(chart, " a  ████   10.0%\nbb  ██      5.0%\n c          0.0%\n");
    }

    #[test]
    fn nothing_at_all_makes_empty_bars() {
        assert_eq!(bars(&[("a".into(), 0.0)], 4, ""), "a          0.0\n");
    }
}
