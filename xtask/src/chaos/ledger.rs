//! The checker: what was produced against what a reader found, record by record.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::records::{Fate, Record};

/// So many findings are told in words; the rest only in numbers.
const TOLD: usize = 10;

/// How a finding in words ends that tells of a missing record.
const IS_LOST: &str = "is lost";

/// What is not as it should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// Records that should be in a table and are not.
    pub(super) lost: u64,
    /// Rows beyond a record's first.
    pub(super) doubled: u64,
    /// Whatever else is wrong: other values, rows that should not be, a broken promise in words.
    pub(super) wrong: u64,
    /// The first of them, in words.
    pub(super) words: Vec<String>,
}

impl Findings {
    pub(super) fn is_empty(&self) -> bool {
        self.lost + self.doubled + self.wrong == 0
    }

    /// Adds a finding that is neither a loss nor a double.
    pub(super) fn add_wrong(&mut self, words: String) {
        self.wrong += 1;
        self.tell(words);
    }

    /// These, but for records that are missing: of a table that is still being filled.
    pub(super) fn without_lost(mut self) -> Self {
        self.lost = 0;
        self.words.retain(|words| !words.ends_with(IS_LOST));
        self
    }

    /// Adds what another reader of the same table found. The same record is not lost twice: the larger number counts.
    pub(super) fn merge(&mut self, other: Findings) {
        self.lost = self.lost.max(other.lost);
        self.doubled = self.doubled.max(other.doubled);
        self.wrong += other.wrong;
        other.words.into_iter().for_each(|words| self.tell(words));
    }

    fn tell(&mut self, words: String) {
        if self.words.len() < 2 * TOLD {
            self.words.push(words);
        }
    }
}

/// Compares the rows of both tables, as JSON, with the known records. A rejected row is told by its `_value`: the
/// record's bytes as text or, where not all of them are text, in hexadecimal digits.
pub(super) fn compare(reader: &str, known: &[Record], rows: &[Value]) -> Findings {
    let mut findings = Findings::default();
    let broken: HashMap<&[u8], usize> = (known.iter().enumerate())
        .filter(|(_, record)| record.fate == Fate::Rejected)
        .map(|(number, record)| (&*record.line, number))
        .collect();
    let mut seen = vec![0_u32; known.len()];
    let mut places = HashSet::new();
    for row in rows {
        let place = (row["_partition"].as_i64(), row["_offset"].as_i64());
        let number = match row.get("_value") {
            Some(value) => {
                let text = value.as_str().unwrap_or_default();
                let by_digits = || broken.get(&*bytes(text)?);
                broken.get(text.as_bytes()).or_else(by_digits).copied()
            }
            None => row["id"].as_u64().and_then(|id| usize::try_from(id).ok()),
        };
        let Some((number, record)) = number.and_then(|n| known.get(n).map(|record| (n, record))) else {
            findings.add_wrong(format!("{reader}: a row that no record became: {row}"));
            continue;
        };
        match &record.fate {
            Fate::Written(expected) if !agrees(row, expected) => {
                findings.add_wrong(format!("{reader}: record {number} became {row}, not {expected}"));
            }
            Fate::Filtered => findings.add_wrong(format!("{reader}: record {number} should be left out")),
            Fate::Rejected if row.get("_value").is_none() => {
                findings.add_wrong(format!("{reader}: record {number} should be rejected"));
                continue;
            }
            _ => {}
        }
        seen[number] += 1;
        let is_new_place = places.insert(place);
        if seen[number] > 1 {
            findings.doubled += 1;
            // A producer that sent it twice would have given it another place.
            let how = if is_new_place { "at a second offset" } else { "from the same offset" };
            findings.tell(format!("{reader}: record {number} is doubled, {how}: {place:?}"));
        } else if !is_new_place {
            findings.add_wrong(format!("{reader}: record {number} has the offset of another: {place:?}"));
        }
    }
    for (number, record) in known.iter().enumerate() {
        if seen[number] == 0 && record.fate != Fate::Filtered {
            findings.lost += 1;
            findings.tell(format!("{reader}: record {number} {IS_LOST}"));
        }
    }
    findings
}

/// Whether the row has these values; it may have more, of where it came from.
fn agrees(row: &Value, expected: &Value) -> bool {
    expected.as_object().is_some_and(|fields| fields.iter().all(|(name, value)| row.get(name) == Some(value)))
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hexadecimal.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::records::record;
    use super::*;

    fn known() -> Vec<Record> {
        (0..200).map(|number| record(5, number)).collect()
    }

    /// The rows that a faultless run makes.
    fn rows(known: &[Record]) -> Vec<Value> {
        let row = |(number, record): (usize, &Record)| {
            let mut row = match &record.fate {
                Fate::Written(row) => row.clone(),
                Fate::Filtered => return None,
                Fate::Rejected => {
                    let digits: String = record.line.iter().map(|byte| format!("{byte:02x}")).collect();
                    json!({"_value": digits})
                }
            };
            row["_partition"] = json!(number % 4);
            row["_offset"] = json!(number / 4);
            Some(row)
        };
        known.iter().enumerate().filter_map(row).collect()
    }

    fn numbers(findings: &Findings) -> (u64, u64, u64) {
        (findings.lost, findings.doubled, findings.wrong)
    }

    #[test]
    fn a_faultless_table_has_no_findings() {
        let known = known();
        assert_eq!(compare("test", &known, &rows(&known)), Findings::default());
    }

    #[test]
    fn rejected_bytes_may_be_shown_as_text() {
        let known = known();
        let mut rows = rows(&known);
        for value in rows.iter_mut().filter_map(|row| row.get_mut("_value")) {
            if let Ok(text) = String::from_utf8(bytes(value.as_str().unwrap()).unwrap()) {
                *value = json!(text);
            }
        }
        assert_eq!(compare("test", &known, &rows), Findings::default());
    }

    #[test]
    fn each_row_that_is_missing_is_lost_and_each_that_is_there_again_is_doubled() {
        let known = known();
        for index in 0..rows(&known).len() {
            let mut missing = rows(&known);
            let row = missing.remove(index);
            assert_eq!(numbers(&compare("test", &known, &missing)), (1, 0, 0), "{row}");
            let mut again = rows(&known);
            again.push(row.clone());
            assert_eq!(numbers(&compare("test", &known, &again)), (0, 1, 0), "{row}");
        }
    }

    #[test]
    fn a_record_that_was_produced_twice_is_told_apart() {
        let known = known();
        let mut rows = rows(&known);
        let mut row = rows[5].clone();
        row["_offset"] = json!(9999);
        rows.push(row);
        let findings = compare("test", &known, &rows);
        assert_eq!(numbers(&findings), (0, 1, 0));
        assert!(findings.words[0].contains("at a second offset"), "{:?}", findings.words);
    }

    #[test]
    fn a_changed_value_a_stranger_and_a_filtered_record_are_wrong() {
        let known = known();
        let written = rows(&known).iter().position(|row| row.get("id").is_some()).unwrap();
        let mut changed = rows(&known);
        changed[written]["twice"] = json!(1);
        assert_eq!(numbers(&compare("test", &known, &changed)), (0, 0, 1));

        let mut stranger = rows(&known);
        stranger.push(json!({"_value": "00", "_partition": 0, "_offset": 999}));
        stranger.push(json!({"id": 1_000_000, "_partition": 0, "_offset": 998}));
        assert_eq!(numbers(&compare("test", &known, &stranger)), (0, 0, 2));

        let filtered = known.iter().position(|record| record.fate == Fate::Filtered).unwrap();
        let mut kept = rows(&known);
        kept.push(json!({"id": filtered, "_partition": 0, "_offset": 997}));
        assert_eq!(numbers(&compare("test", &known, &kept)), (0, 0, 1));
    }
}
