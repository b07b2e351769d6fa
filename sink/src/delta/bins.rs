//! Which files of a table are worth joining: a bin is some small files of one partition, together at most as big as
//! the target.

use std::collections::BTreeMap;

/// A file is small below this part of the target: joining bigger ones costs more than it gains.
const SMALL: f64 = 0.75;

/// The values of the partition columns, as the log spells them; null is `None`.
pub(super) type Values = Vec<Option<String>>;

/// A file of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its path, as the log spells it.
    pub(super) path: String,
    pub(super) partition: Values,
    pub(super) bytes: u64,
    /// Its rows, if the log says.
    pub(super) rows: Option<u64>,
    /// When it was written, in milliseconds since 1970 (UTC).
    pub(super) modified: i64,
}

/// The bins worth joining, partition by partition, in each the oldest files first.
///
/// Files are taken in the order in which they were written, and a bin is closed when the next one does not fit: so what
/// was written together stays together, which is what makes a file's statistics worth reading.
pub(super) fn bins(files: Vec<File>, target: u64) -> Vec<Vec<File>> {
    let small = (target as f64 * SMALL) as u64;
    let mut partitions: BTreeMap<Values, Vec<File>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.bytes < small) {
        partitions.entry(file.partition.clone()).or_default().push(file);
    }
    let mut bins = Vec::new();
    for mut files in partitions.into_values() {
        // Files of one commit share their time, and stay as the log has them.
        files.sort_by_key(|file| file.modified);
        let (mut bin, mut bytes): (Vec<File>, u64) = (Vec::new(), 0);
        for file in files {
            if bytes.saturating_add(file.bytes) > target {
                bins.push(std::mem::take(&mut bin));
                bytes = 0;
            }
            bytes += file.bytes;
            bin.push(file);
        }
        bins.push(bin);
    }
    bins.retain(|bin| bin.len() > 1);
    bins
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, partition: &str, bytes: u64, modified: i64) -> File {
        let partition = vec![Some(partition.to_owned())];
        File { path: name.to_owned(), partition, bytes, rows: None, modified }
    }

    fn names(bins: &[Vec<File>]) -> Vec<Vec<&str>> {
        bins.iter().map(|bin| bin.iter().map(|file| file.path.as_str()).collect()).collect()
    }

    #[test]
    fn small_files_of_a_partition_are_joined_oldest_first() {
        let files = vec![
            file("c", "x", 40, 3),
            file("b", "x", 30, 1),
            file("a", "x", 30, 1),
            file("big", "x", 80, 2),
            file("d", "x", 40, 4),
            file("alone", "y", 10, 1),
        ];
        assert_eq!(names(&bins(files, 100)), [vec!["b", "a", "c"]]);
    }

    proptest! {
        #[test]
        fn bins_are_of_one_partition_fit_the_target_and_share_no_file(
            sizes in prop::collection::vec((0u64..120, 0u8..3, 0i64..5), 0..60),
            target in 1u64..200,
        ) {
            let files: Vec<File> = sizes
                .iter()
                .enumerate()
                .map(|(n, (bytes, partition, time))| file(&n.to_string(), &partition.to_string(), *bytes, *time))
                .collect();
            let bins = bins(files.clone(), target);
            let mut seen = std::collections::HashSet::new();
            for bin in &bins {
                prop_assert!(bin.len() > 1);
                prop_assert!(bin.iter().map(|file| file.bytes).sum::<u64>() <= target);
                prop_assert!(bin.iter().all(|file| file.partition == bin[0].partition && files.contains(file)));
                prop_assert!(bin.is_sorted_by_key(|file| file.modified));
                prop_assert!(bin.iter().all(|file| seen.insert(file.path.clone())));
            }
            // Two neighbours that are left over would not have fitted together, so the next time finds nothing.
            let left: Vec<File> = files.into_iter().filter(|file| !seen.contains(&file.path)).collect();
            for bin in super::bins(left, target) {
                prop_assert!(bin.iter().any(|file| bins.iter().any(|other| other[0].partition == file.partition)));
            }
        }
    }
}
