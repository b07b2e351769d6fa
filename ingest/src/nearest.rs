//! "Did you mean": the known names that look most like a wrong one.

/// How alike two names must be (Jaro-Winkler, 0 to 1) before one is offered in place of the other.
const ALIKE: f64 = 0.7;

/// The known name most like `wanted`, if any is alike at all.
pub(crate) fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let alike = |name: &str| strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase());
    known
        .into_iter()
        .map(|name| (alike(name), name))
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn offers_what_looks_alike_and_nothing_else() {
        let known = ["flights", "weather", "airports"];
        assert_eq!(nearest("flihgts", known).as_deref(), Some("flights"));
        assert_eq!(nearest("FLIGHT", known).as_deref(), Some("flights"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("flights", []), None);
    }
}
