//! What the demo shows at its end: summary, audit, a few rows, a chart, and what to try next.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use puddle_pipeline::verify::Report;
use puddle_pipeline::{Summary, ask};

use crate::output;

const ROWS: &str = "SELECT scheduled_departure, airline, origin, dest_airport, dep_delay, arr_delay \
                    FROM flights WHERE dep_delay IS NOT NULL ORDER BY dep_delay DESC LIMIT 5";
const LATE: &str = "SELECT month, AVG(CASE WHEN late THEN 100.0 ELSE 0.0 END) AS share \
                    FROM flights WHERE late IS NOT NULL GROUP BY month ORDER BY month";
const BAR_WIDTH: usize = 40;

/// The whole text.
pub(super) fn text(lake: &Path, summaries: &[Summary], reports: &[Report]) -> anyhow::Result<String> {
    let mut text = String::new();
    text.push_str(&output::summaries(summaries));
    text.push_str("\nAudit\n");
    for report in reports {
        text.push_str(&format!("  {}", output::verdict(report)));
    }
    text.push_str("\nThe five longest delays\n");
    text.push_str(&output::table(&ask(lake, ROWS)?, 5)?);
    text.push_str("\n\nFlights that arrived 15 minutes late or more, by month\n");
    text.push_str(&output::bars(&months(&ask(lake, LATE)?)?, BAR_WIDTH, "%"));
    let option =
        if lake == Path::new("lake") { String::new() } else { format!(" --lake '{}'", lake.display()) };
    text.push_str(&format!(
        "\nNext (`puddle` is `cargo run --` in the checkout)\n  \
         puddle query{option} 'SELECT airline, avg(arr_delay) AS delay FROM flights GROUP BY airline ORDER BY delay'\n  \
         puddle verify flights{option}\n  \
         edit pipelines/flights/transform.sql, then run it into a table of its own:\n  \
         puddle run flights{option} --set sink.table=mine --until-caught-up\n",
    ));
    Ok(text)
}

fn months(rows: &[RecordBatch]) -> anyhow::Result<Vec<(String, f64)>> {
    let mut months = Vec::new();
    for batch in rows {
        let (names, shares) =
            (cast(batch.column(0), &DataType::Utf8)?, cast(batch.column(1), &DataType::Float64)?);
        let (names, shares) = (names.as_string::<i32>(), shares.as_primitive::<Float64Type>());
        months.extend((0..batch.num_rows()).map(|row| (names.value(row).to_owned(), shares.value(row))));
    }
    Ok(months)
}
