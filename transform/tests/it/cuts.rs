//! The promise itself: however the records are cut into batches, the rows are the same.

use crate::common::{records, reference, schema};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use puddle_transform::Transform;

const SQLS: [&str; 9] = [
    "SELECT * FROM t",
    "SELECT id, UPPER(name) AS upper, 1 AS one FROM t",
    "SELECT id FROM t WHERE id > 0 OR name LIKE 'a%'",
    "SELECT t.id, r.v FROM t LEFT JOIN r ON t.name = r.k",
    "SELECT t.id, r.v, q.v AS w FROM t JOIN r ON t.name = r.k LEFT JOIN r AS q ON SUBSTR(t.name, 2, 1) = q.k",
    "SELECT id, _offset FROM t WHERE name NOT IN (SELECT k FROM r)",
    "SELECT id, _offset FROM t WHERE name NOT IN (SELECT name FROM n) OR id IN (1, 2)",
    "WITH a AS (SELECT *, id % 3 AS m FROM t) SELECT _offset, m, CASE m WHEN 0 THEN name ELSE 'x' END AS c,
     nums[1] AS first, ARRAY_SUM(nums) AS sum, place.city, COALESCE(place.city, name, '-') AS known FROM a",
    "SELECT _offset, ts + small * INTERVAL '1 hour' AS at, STRFTIME(ts, '%Y-%m') AS month, day = DATE '1970-01-05' AS d,
     small IN (1, 2, NULL) AS some, TRY_CAST(name AS INT) AS number,
     TRY_CAST(name AS DATE) AS date, TRY_CAST(name AS TIMESTAMP) AS stamp, TRY_CAST(name AS TIME) AS time FROM t",
];

fn record() -> impl Strategy<Value = String> {
    let fields = (
        option::of(-5i64..5),
        option::of(0i64..9),
        option::of(prop_oneof![
            "[abc1]{0,2}",
            "20[0-2][0-9]-0[1-3]-[0-3][0-9]( 1[0-9]:00:00)?",
            "0[1-9][.]0[1-9][.]2013"
        ]),
        option::of(vec(0i64..5, 0..3)),
        option::of("[a-c]{1}"),
    );
    fields.prop_map(|(id, small, name, nums, city)| {
        let mut parts = Vec::new();
        parts.extend(id.map(|id| format!("\"id\":{id}")));
        parts.extend(small.map(|n| {
            format!(r#""small":{n},"day":"1970-01-{:02}","ts":"2013-{:02}-01T00:00:00Z""#, n + 1, n + 1)
        }));
        parts.extend(name.map(|name| format!("\"name\":{name:?}")));
        parts.extend(nums.map(|nums| format!("\"nums\":{nums:?}")));
        parts.extend(city.map(|city| format!("\"place\":{{\"city\":{city:?}}}")));
        format!("{{{}}}", parts.join(","))
    })
}

fn parts(rows: &RecordBatch, cuts: &[usize]) -> Vec<RecordBatch> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (rows.num_rows() + 1)).collect();
    ends.push(rows.num_rows());
    ends.sort_unstable();
    let mut from = 0;
    ends.into_iter()
        .map(|end| {
            let part = rows.slice(from, end - from);
            from = end;
            part
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_the_rows_of_the_whole(lines in vec(record(), 0..30), cuts in vec(any::<usize>(), 0..5)) {
        let folder = tempfile::tempdir().unwrap();
        let keys = [["a", "1"], ["b", "2"], ["ab", "3"]];
        let keys: Vec<&[&str]> = keys.iter().map(|row| row.as_slice()).collect();
        let names: [&[&str]; 2] = [&["a"], &["b"]];
        let references = [
            reference(folder.path(), "r", &["k", "v"], &keys),
            reference(folder.path(), "n", &["name"], &names),
        ];
        let rows = records(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for sql in SQLS {
            let mut transform = Transform::new("t", schema(), sql, &references).unwrap();
            let whole = transform.apply(&rows).unwrap();
            let pieces: Vec<RecordBatch> =
                parts(&rows, &cuts).iter().map(|part| transform.apply(part).unwrap()).collect();
            prop_assert_eq!(concat_batches(&transform.output_schema(), &pieces).unwrap(), whole, "{}", sql);
        }
    }
}
