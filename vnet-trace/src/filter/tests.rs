//! Expressions against libpcap's own interpreter.

use super::*;

#[test]
fn what_libpcap_refuses_is_refused_with_its_words() {
    let error = Expression::compile("tcp and").expect_err("half a sentence");
    assert!(matches!(&error, FilterError::Refused { message, .. } if message.contains("syntax error")), "{error:?}");
}
