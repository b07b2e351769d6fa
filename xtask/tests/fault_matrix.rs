//! Keeps `docs/fault-matrix.md` true: each row names the tests that say they are its.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The tests of each row.
type Rows = BTreeMap<u32, BTreeSet<String>>;

const MARK: &str = "Fault matrix ";

#[test]
fn every_row_has_its_tests_and_every_test_its_row() {
    let mut by_tests = Rows::new();
    enter_folder(&root(), &mut by_tests);
    let page = std::fs::read_to_string(root().join("docs/fault-matrix.md")).unwrap();
    let by_page = page_rows(&page);
    for row in 1..=50 {
        let (tests, page) = (by_tests.get(&row).cloned(), by_page.get(&row).cloned());
        assert!(page.is_some(), "row {row} is not in docs/fault-matrix.md");
        assert_eq!(tests.unwrap_or_default(), page.unwrap_or_default(), "row {row}: tests, and the page");
    }
    assert_eq!(by_tests.keys().filter(|row| !(1..=50).contains(*row)).count(), 0);
}

/// Finds `/// Fault matrix 7, 8.` above `fn name(`.
fn enter_source(source: &str, rows: &mut Rows) {
    let mut marked: Vec<u32> = Vec::new();
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("///") {
            marked.extend(line.split(MARK).skip(1).flat_map(numbers));
        } else if let Some(name) = function(line) {
            for row in marked.drain(..) {
                rows.entry(row).or_default().insert(name.to_owned());
            }
        }
    }
}

/// The name of the function whose first line this is.
fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub(super) ")).unwrap_or(line);
    line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?.split(['(', '<']).next()
}

/// The numbers at the beginning of a text: `7, 8. Words.` and `1 to 6, words.`
fn numbers(text: &str) -> Vec<u32> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut numbers: Vec<u32> = Vec::new();
    let mut to = false;
    for word in words {
        match word.parse() {
            Ok(last) if to => numbers.extend(numbers.last().map_or(last, |first| first + 1)..=last),
            Ok(number) => numbers.push(number),
            Err(_) if word == "to" || word == "and" => {}
            Err(_) => break,
        }
        to = word == "to";
    }
    numbers
}

fn enter_folder(folder: &Path, rows: &mut Rows) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            enter_folder(&path, rows);
        } else if name.ends_with(".rs") && path != root().join(file!()) {
            enter_source(&std::fs::read_to_string(&path).unwrap(), rows);
        }
    }
}

/// Reads `| 7 | fault | what happens | `test`, `test` |`.
fn page_rows(page: &str) -> Rows {
    let mut rows = Rows::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(Ok(row)) = cells.get(1).map(|cell| cell.parse::<u32>()) else { continue };
        let tests = cells[cells.len() - 2].split('`').skip(1).step_by(2);
        rows.entry(row).or_default().extend(tests.map(str::to_owned));
    }
    rows
}

#[test]
fn marks_and_rows_are_read() {
    let mut rows = Rows::new();
    enter_source(&format!("/// {MARK}7, 8. Twice.\n#[test]\nfn both() {{}}\nfn neither() {{}}"), &mut rows);
    assert_eq!(rows, page_rows("| row |\n| 7 | a | b | `both` |\n| 8 | a | b | `both` |"));
    assert_eq!(numbers("1 to 3, 5 and 9: at 12"), [1, 2, 3, 5, 9]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}
