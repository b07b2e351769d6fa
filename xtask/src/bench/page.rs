//! The parts of a page that a bench writes, between two markers: `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

use std::fs;

use anyhow::{Context, ensure};

use crate::tools::root;

/// The page, relative to the workspace.
pub(super) const PAGE: &str = "docs/benchmarks.md";

/// Puts a text between the markers of that name on [`PAGE`].
pub(super) fn write(name: &str, text: &str) -> anyhow::Result<()> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let page = replace(&page, name, text).with_context(|| format!("cannot write into {PAGE}"))?;
    fs::write(&path, page).with_context(|| format!("cannot write {PAGE}"))?;
    eprintln!("wrote {name} of {PAGE}");
    Ok(())
}

fn replace(page: &str, name: &str, text: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    for marker in [&begin, &end] {
        let times = page.matches(marker.as_str()).count();
        ensure!(times == 1, "{marker} stands {times} times there, not once");
    }
    let (before, rest) = page.split_once(&begin).expect("it stands there");
    let (_, after) = rest.split_once(&end).with_context(|| format!("{end} stands before {begin}"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page =
            "# A\n<!-- x: begin -->\nold\n<!-- x: end -->\n<!-- y: begin -->\nkept\n<!-- y: end -->\nB\n";
        let once = replace(page, "x", "new\n").unwrap();
        assert!(
            once.starts_with("# A\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\n<!-- y: begin -->\nkept")
        );
        assert!(once.ends_with("B\n") && !once.contains("old"));
        assert_eq!(replace(&once, "x", "new").unwrap(), once, "again, and nothing changes");
    }

    #[test]
    fn missing_doubled_or_swapped_markers_are_errors() {
        for page in [
            "",
            "<!-- x: begin -->",
            "<!-- x: end --><!-- x: begin -->",
            "<!-- x: begin --><!-- x: begin --><!-- x: end -->",
        ] {
            assert!(replace(page, "x", "new").is_err(), "{page}");
        }
    }
}
