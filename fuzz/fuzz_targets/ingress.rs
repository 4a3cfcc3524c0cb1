//! The service port: requests of gateways and publishers, and what answers them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_wire::ingress::{ANSWER_HEAD_LEN, AnswerHead, HEAD_LEN, Head, NameList, Request, Verb};

fuzz_target!(|bytes: &[u8]| {
    if let Some((front, body)) = bytes.split_at_checked(HEAD_LEN)
        && let Ok(head) = Head::parse(front)
    {
        assert_eq!(head.emit()[..], *front);
        if let Ok(request) = Request::parse(head, body) {
            assert_eq!(request.emit().as_deref(), Some(bytes), "one value, one spelling");
        }
    }
    if let Some((front, list)) = bytes.split_at_checked(ANSWER_HEAD_LEN) {
        for verb in [Verb::Publish, Verb::Names] {
            if let Ok(head) = AnswerHead::parse(front, verb) {
                assert_eq!(head.emit()[..], *front);
            }
        }
        if let Ok(names) = NameList::parse(list) {
            assert_eq!(names.emit().as_deref(), Some(list), "one list, one spelling");
        }
    }
});
