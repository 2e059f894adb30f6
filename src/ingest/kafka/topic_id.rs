//! The id of a topic, which tells it from a later topic of the same name.
//!
//! librdkafka knows it, and its Rust binding does not pass it on yet.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};

use crate::error::{Error, Result};

/// Asks a broker for the id of `topic`, base64; `None` where it knows no ids (before Kafka 2.8).
///
/// Fails if there is no such topic, or the broker does not answer within `timeout`.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    broker: i32,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>> {
    let name = CString::new(topic)
        .map_err(|_| Error::invalid_input(format!("'{topic}' is not the name of a topic")))?;
    let mut names = [name.as_ptr()];
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the handle lives as long as `client`, which is borrowed. Each object is made, used and destroyed here, and the names
    // outlive the collection. What the result points to belongs to the event, which is destroyed last; its texts are copied before.
    unsafe {
        let queue = native::rd_kafka_queue_new(client.native_ptr());
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = native::rd_kafka_AdminOptions_new(
            client.native_ptr(),
            native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        // Any broker knows; without a name the controller would be looked for.
        native::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        native::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
        let event = native::rd_kafka_queue_poll(queue, milliseconds);
        let found = if event.is_null() {
            Err(Error::storage("the broker does not answer"))
        } else {
            described(event)
        };
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_TopicCollection_destroy(topics);
        native::rd_kafka_queue_destroy(queue);
        found.map_err(|e| e.context(format!("topic '{topic}'")))
    }
}

/// Reads the answer.
///
/// # Safety
///
/// `event` has to be a live event of a queue.
unsafe fn described(event: *mut native::rd_kafka_event_t) -> Result<Option<String>> {
    // SAFETY: `event` is alive; the pointers that it gives are checked for NULL, and none outlives this function.
    unsafe {
        let text = |text: *const std::ffi::c_char| match text.is_null() {
            true => String::new(),
            false => CStr::from_ptr(text).to_string_lossy().into_owned(),
        };
        if native::rd_kafka_event_error(event) != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Error::storage(text(native::rd_kafka_event_error_string(event))));
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(Error::internal("the answer is not one to this question"));
        }
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count != 1 {
            return Err(Error::internal(format!("the answer has {count} topics")));
        }
        let error = native::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null()
            && native::rd_kafka_error_code(error) != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(Error::storage(text(native::rd_kafka_error_string(error))));
        }
        let id = native::rd_kafka_TopicDescription_topic_id(*topics);
        if id.is_null() {
            return Ok(None);
        }
        let none = native::rd_kafka_Uuid_most_significant_bits(id) == 0
            && native::rd_kafka_Uuid_least_significant_bits(id) == 0;
        Ok((!none).then(|| text(native::rd_kafka_Uuid_base64str(id))))
    }
}
