//! Whether topics are still the ones that they were: a topic that is deleted and made again gets another id.
//!
//! Offsets say nothing about that. A topic that was made again and filled beyond where we are looks as if it had only
//! grown, and its first records would never be read.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::slice;
use std::time::{Duration, Instant};

use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;

use crate::client::{self, ClientSettings, Context, REQUEST_TIMEOUT};
use crate::error::Error;
use crate::source::START_PATIENCE;

/// The pause between two attempts at a start.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The two halves of a topic's UUID.
type TopicId = (i64, i64);

/// The ids that topics had when a run began.
pub struct TopicIds {
    client: BaseConsumer<Context>,
    ids: BTreeMap<String, TopicId>,
    /// How long the brokers may take to answer. A commit waits for it.
    patience: Duration,
}

impl TopicIds {
    /// Notes the ids of these topics.
    ///
    /// # Errors
    /// [`Error::Setting`]; [`Error::Kafka`] when the brokers do not tell for [`START_PATIENCE`].
    pub fn note(brokers: &str, settings: &ClientSettings, topics: &[String]) -> Result<Self, Error> {
        let client = client::create(&settings.config(brokers)?, Context::default())?;
        let given = settings.get("socket.timeout.ms").and_then(|millis| millis.parse().ok());
        let patience = given.map_or(REQUEST_TIMEOUT, Duration::from_millis).min(REQUEST_TIMEOUT);
        let begin = Instant::now();
        let ids = loop {
            match ids(&client, topics, REQUEST_TIMEOUT) {
                // A broker that went away a moment ago is asked anew, as for everything else at a start.
                Err(_) if begin.elapsed() < START_PATIENCE => std::thread::sleep(RETRY_AFTER),
                ids => break ids?,
            }
        };
        Ok(Self { client, ids, patience })
    }

    /// Checks that the topics still have these ids. A topic that is missing is not an error of this kind.
    ///
    /// # Errors
    /// [`Error::Replaced`]; [`Error::Kafka`] when the brokers do not tell now.
    pub fn check(&self) -> Result<(), Error> {
        let topics: Vec<String> = self.ids.keys().cloned().collect();
        match ids(&self.client, &topics, self.patience)?
            .into_iter()
            .find(|(topic, id)| self.ids[topic] != *id)
        {
            Some((topic, _)) => Err(Error::Replaced { topic }),
            None => Ok(()),
        }
    }
}

/// What the cluster says now, of those topics that exist. rdkafka's safe interface does not offer this request.
fn ids(
    client: &BaseConsumer<Context>,
    topics: &[String],
    patience: Duration,
) -> Result<BTreeMap<String, TopicId>, Error> {
    let failed = |reason: String| Error::Kafka { doing: "ask for the ids of the topics".to_owned(), reason };
    let names: Vec<CString> = topics
        .iter()
        .map(|topic| CString::new(topic.as_str()).map_err(|_| failed(format!("{topic:?} has a NUL"))))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout = patience.as_millis() as i32;
    let mut ids = BTreeMap::new();
    // SAFETY: `names` outlives the collection made of it, `client` the queue. Each object is made here, checked for
    // null where librdkafka may return it, used until the event is read, and destroyed once.
    unsafe {
        let rk = client.client().native_ptr();
        let queue = ffi::rd_kafka_queue_new(rk);
        let options =
            ffi::rd_kafka_AdminOptions_new(rk, ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, timeout, ptr::null_mut(), 0);
        let collection = ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        ffi::rd_kafka_DescribeTopics(rk, collection, options, queue);
        // A little longer than the request may take, so that its own answer comes first.
        let event = ffi::rd_kafka_queue_poll(queue, timeout + 1_000);
        let outcome = if event.is_null() {
            Err(failed("no answer came in time".to_owned()))
        } else if ffi::rd_kafka_event_error(event) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            Err(failed(
                CStr::from_ptr(ffi::rd_kafka_event_error_string(event)).to_string_lossy().into_owned(),
            ))
        } else {
            let mut count = 0;
            let result = ffi::rd_kafka_event_DescribeTopics_result(event);
            let first = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            let found = if count == 0 { &[] } else { slice::from_raw_parts(first, count) };
            for &topic in found {
                let error = ffi::rd_kafka_TopicDescription_error(topic);
                if error.is_null()
                    || ffi::rd_kafka_error_code(error) == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
                {
                    let name = CStr::from_ptr(ffi::rd_kafka_TopicDescription_name(topic));
                    let id = ffi::rd_kafka_TopicDescription_topic_id(topic);
                    let halves = (
                        ffi::rd_kafka_Uuid_most_significant_bits(id),
                        ffi::rd_kafka_Uuid_least_significant_bits(id),
                    );
                    ids.insert(name.to_string_lossy().into_owned(), halves);
                }
            }
            Ok(())
        };
        if !event.is_null() {
            ffi::rd_kafka_event_destroy(event);
        }
        ffi::rd_kafka_TopicCollection_destroy(collection);
        ffi::rd_kafka_AdminOptions_destroy(options);
        ffi::rd_kafka_queue_destroy(queue);
        outcome?;
    }
    Ok(ids)
}
