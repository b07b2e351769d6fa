//! Records to decode, always the same ones.

use std::fmt;

use puddle_ingest::schema::SchemaDecl;

/// How many records of a shape differ.
const RECORDS: usize = 2_000;

/// One kind of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Flights,
    FlightsWithSpaces,
    FlightsInTwoOrders,
    FlightsInAnyOrder,
    FlightsLackingFields,
    FlightsHalfNull,
    FlightsWithEscapes,
    FlightsOneFieldKept,
    FlightsRejected,
    FieldsFive,
    FieldsHundred,
    FieldsTenOfHundred,
    Bytes1k,
    Bytes10k,
    Bytes10kBeyondAscii,
    LongNumbers,
    Floats,
    Times,
    Nested,
    Lists,
}

pub(crate) const ALL: [Shape; 20] = [
    Shape::Flights,
    Shape::FlightsWithSpaces,
    Shape::FlightsInTwoOrders,
    Shape::FlightsInAnyOrder,
    Shape::FlightsLackingFields,
    Shape::FlightsHalfNull,
    Shape::FlightsWithEscapes,
    Shape::FlightsOneFieldKept,
    Shape::FlightsRejected,
    Shape::FieldsFive,
    Shape::FieldsHundred,
    Shape::FieldsTenOfHundred,
    Shape::Bytes1k,
    Shape::Bytes10k,
    Shape::Bytes10kBeyondAscii,
    Shape::LongNumbers,
    Shape::Floats,
    Shape::Times,
    Shape::Nested,
    Shape::Lists,
];

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Shape {
    pub(crate) fn schema(self) -> SchemaDecl {
        let hundred =
            || fields((0..100).map(|n| (format!("column_{n}"), ["int64", "float64", "string"][n % 3])));
        let text = match self {
            Shape::FlightsOneFieldKept => r#"{ "distance": "json" }"#.to_owned(),
            Shape::FlightsRejected => FLIGHTS.replace(r#""dest": "string""#, r#""dest": "int64""#),
            Shape::FieldsFive => {
                r#"{ "id": "int64", "at": "timestamp", "kind": "string", "ok": "bool", "value": "float64" }"#
                    .to_owned()
            }
            Shape::FieldsHundred | Shape::FieldsTenOfHundred => hundred(),
            Shape::Bytes1k | Shape::Bytes10k | Shape::Bytes10kBeyondAscii => {
                r#"{ "id": "int64", "title": "string", "body": "string" }"#.to_owned()
            }
            Shape::LongNumbers => fields((0..10).map(|n| (format!("n{n}"), "int64"))),
            Shape::Floats => fields((0..10).map(|n| (format!("f{n}"), "float64"))),
            Shape::Times => {
                fields(["utc", "offset", "fraction", "millis"].map(|name| (name.to_owned(), "timestamp")))
            }
            Shape::Nested => {
                r#"{ "id": "int64", "place": { "lat": "float64", "lon": "float64", "name": "string" },
                "legs": [{ "from": "string", "to": "string", "km": "int64" }] }"#
                    .to_owned()
            }
            Shape::Lists => {
                r#"{ "id": "int64", "values": ["int64"], "weights": ["float64"], "tags": ["string"] }"#
                    .to_owned()
            }
            _ => FLIGHTS.to_owned(),
        };
        serde_json::from_str(&text).expect("a schema")
    }

    /// Whether the records do not fit.
    pub(crate) fn rejected(self) -> bool {
        self == Shape::FlightsRejected
    }

    pub(crate) fn values(self) -> Vec<String> {
        let random = &mut Random(2013);
        (0..RECORDS).map(|n| self.value(n, random)).collect()
    }

    fn value(self, n: usize, random: &mut Random) -> String {
        let mut fields = match self {
            Shape::FieldsFive => event(random),
            Shape::FieldsHundred => wide(0..100, random),
            Shape::FieldsTenOfHundred => {
                let first = random.below(10);
                wide((0..10).map(|column| 10 * column + first), random)
            }
            Shape::Bytes1k => article(900, "The quick brown fox jumps over the lazy dog. "),
            Shape::Bytes10k => article(10_000, "The quick brown fox jumps over the lazy dog. "),
            Shape::Bytes10kBeyondAscii => {
                article(10_000, "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. ")
            }
            Shape::LongNumbers => numbered("n", |_| (random.next() >> (1 + n % 30)).to_string()),
            Shape::Floats => numbered("f", |field| match field {
                0..5 => format!("{}.{}", random.below(1000), random.below(100)),
                _ => format!("{:?}", random.next() as f64 / 1e17),
            }),
            Shape::Times => times(random),
            Shape::Nested => nested(random),
            Shape::Lists => lists(random),
            _ => flight(random),
        };
        let (mut comma, mut colon) = (",", ":");
        match self {
            Shape::FlightsWithSpaces => (comma, colon) = (", ", ": "),
            Shape::FlightsInTwoOrders if n % 2 == 1 => fields.reverse(),
            Shape::FlightsInAnyOrder => random.shuffle(&mut fields),
            Shape::FlightsLackingFields => fields.retain(|_| random.below(5) > 0),
            Shape::FlightsHalfNull => {
                for (_, value) in fields.iter_mut().filter(|_| random.below(2) == 0) {
                    *value = "null".to_owned();
                }
            }
            Shape::FlightsWithEscapes if n % 2 == 1 => fields[11].1 = r#""N\u00e9\"42""#.to_owned(),
            _ => {}
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\"{colon}{value}")).collect();
        format!("{{{}}}", fields.join(comma))
    }
}

type Fields = Vec<(String, String)>;

/// As in the data set, in which every fortieth flight is cancelled.
fn flight(random: &mut Random) -> Fields {
    let (month, day, hour) = (random.below(12) + 1, random.below(28) + 1, random.below(18) + 5);
    let minute = random.below(60);
    let cancelled = random.below(40) == 0;
    let unless_cancelled = |value: i64| if cancelled { "null".to_owned() } else { value.to_string() };
    let delay = random.below(320) - 20;
    let departure = hour * 100 + minute;
    let airport = |random: &mut Random| {
        format!("\"{}\"", ["EWR", "JFK", "LGA", "IAH", "BQN"][random.below(5) as usize])
    };
    [
        ("year", "2013".to_owned()),
        ("month", month.to_string()),
        ("day", day.to_string()),
        ("dep_time", unless_cancelled(departure + 3)),
        ("sched_dep_time", departure.to_string()),
        ("dep_delay", unless_cancelled(delay)),
        ("arr_time", unless_cancelled(departure + 130)),
        ("sched_arr_time", (departure + 125).to_string()),
        ("arr_delay", unless_cancelled(delay + 5 - random.below(30))),
        ("carrier", format!("\"{}\"", ["UA", "AA", "B6", "DL"][random.below(4) as usize])),
        ("flight", random.below(6000).to_string()),
        ("tailnum", format!("\"N{:05}\"", random.below(99_999))),
        ("origin", airport(random)),
        ("dest", airport(random)),
        ("air_time", unless_cancelled(random.below(400) + 30)),
        ("distance", (random.below(2500) + 100).to_string()),
        ("hour", hour.to_string()),
        ("minute", minute.to_string()),
        ("time_hour", format!("\"2013-{month:02}-{day:02}T{hour:02}:00:00Z\"")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn event(random: &mut Random) -> Fields {
    let second = random.below(60);
    [
        ("id", random.below(10_000_000).to_string()),
        ("at", format!("\"2013-01-01T05:15:{second:02}Z\"")),
        ("kind", format!("\"{}\"", ["click", "view", "purchase"][random.below(3) as usize])),
        ("ok", (random.below(2) == 0).to_string()),
        ("value", format!("{}.{}", random.below(1000), random.below(100))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn wide(columns: impl Iterator<Item = i64>, random: &mut Random) -> Fields {
    let value = |column: i64, random: &mut Random| match column % 3 {
        0 => random.below(100_000).to_string(),
        1 => format!("{}.{}", random.below(1000), random.below(100)),
        _ => format!("\"value {}\"", random.below(1000)),
    };
    columns.map(|column| (format!("column_{column}"), value(column, random))).collect()
}

fn article(bytes: usize, sentence: &str) -> Fields {
    let body = sentence.repeat(bytes.div_ceil(sentence.len()));
    let fields =
        [("id", "42".to_owned()), ("title", "\"A fox\"".to_owned()), ("body", format!("\"{body}\""))];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

fn numbered(name: &str, mut value: impl FnMut(usize) -> String) -> Fields {
    (0..10).map(|n| (format!("{name}{n}"), value(n))).collect()
}

fn times(random: &mut Random) -> Fields {
    let day = random.below(28) + 1;
    [
        ("utc", format!("\"2013-01-{day:02}T05:15:00Z\"")),
        ("offset", format!("\"2013-01-{day:02}T05:15:00+01:00\"")),
        ("fraction", format!("\"2013-01-{day:02}T05:15:00.{:06}Z\"", random.below(1_000_000))),
        ("millis", (1_357_000_000_000 + random.below(1_000_000_000)).to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn nested(random: &mut Random) -> Fields {
    let leg = |random: &mut Random| format!(r#"{{"from":"EWR","to":"IAH","km":{}}}"#, random.below(10_000));
    let legs: Vec<String> = (0..random.below(4)).map(|_| leg(random)).collect();
    let (lat, lon) = (random.below(90), random.below(180));
    [
        ("id", random.below(1_000_000).to_string()),
        ("place", format!(r#"{{"lat":{lat}.25,"lon":{lon}.125,"name":"Newark"}}"#)),
        ("legs", format!("[{}]", legs.join(","))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn lists(random: &mut Random) -> Fields {
    let mut list = |value: fn(i64) -> String| {
        let values: Vec<String> = (0..random.below(16)).map(|_| value(random.below(10_000))).collect();
        format!("[{}]", values.join(","))
    };
    [
        ("values", list(|n| n.to_string())),
        ("weights", list(|n| format!("{n}.5"))),
        ("tags", list(|n| format!("\"t{n}\""))),
        ("id", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn fields(fields: impl IntoIterator<Item = (String, &'static str)>) -> String {
    let fields: Vec<_> = fields.into_iter().map(|(name, kind)| format!("\"{name}\":\"{kind}\"")).collect();
    format!("{{{}}}", fields.join(","))
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: i64) -> i64 {
        (self.next() >> 1) as i64 % bound
    }

    fn shuffle(&mut self, fields: &mut Fields) {
        for last in (1..fields.len()).rev() {
            fields.swap(last, self.below(last as i64 + 1) as usize);
        }
    }
}

const FLIGHTS: &str = r#"{
    "year": "int64", "month": "int64", "day": "int64", "dep_time": "int64", "sched_dep_time": "int64",
    "dep_delay": "int64", "arr_time": "int64", "sched_arr_time": "int64", "arr_delay": "int64",
    "carrier": "string", "flight": "int64", "tailnum": "string", "origin": "string", "dest": "string",
    "air_time": "int64", "distance": "int64", "hour": "int64", "minute": "int64", "time_hour": "timestamp"
}"#;
