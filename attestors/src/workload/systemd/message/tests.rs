use proptest::prelude::*;

use super::*;
use crate::fuzz::changed;

/// What dbus-daemon 1.14 passed on from systemd 252 when it was asked for `ControlGroup`.
fn recorded() -> Vec<u8> {
    let mut message = vec![b'l', METHOD_RETURN, 1, VERSION];
    let mut body = vec![1, b's', 0, 0];
    put_string(&mut body, "/system.slice/planner.service");
    put_u32(&mut message, length(&body));
    put_u32(&mut message, 4097);
    put_u32(&mut message, 0);
    let number = |message: &mut Vec<u8>, code, value| {
        pad(message, 8);
        message.extend([code, 1, b'u', 0]);
        put_u32(message, value);
    };
    let text = |message: &mut Vec<u8>, code, value| {
        pad(message, 8);
        message.extend([code, 1, b's', 0]);
        put_string(message, value);
    };
    number(&mut message, 5, 3);
    text(&mut message, 6, ":1.42");
    pad(&mut message, 8);
    message.extend([8, 1, b'g', 0, 1, b'v', 0]);
    text(&mut message, 7, ":1.0");
    let fields = length(&message) - 16;
    message[12..16].copy_from_slice(&fields.to_le_bytes());
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn read(message: &[u8]) -> Result<Option<(u32, Answer)>, Malformed> {
    let head = message.first_chunk().ok_or(Malformed)?;
    Head::parse(head)?.answer(&message[Head::BYTES..])
}

#[test]
fn an_answer_is_told_with_the_call_that_it_answers() {
    let text = Answer::Text("/system.slice/planner.service".into());
    assert_eq!(read(&recorded()), Ok(Some((3, text))));
}

#[test]
fn a_call_has_the_bytes_that_the_specification_asks_for() {
    let call = Call { to: "a.b", object: "/c", interface: "d.e", method: "F", arguments: &["gh", ""] };
    let expected = b"l\x01\0\x01\x0d\0\0\0\x07\0\0\0\x48\0\0\0\
        \x01\x01o\0\x02\0\0\0/c\0\0\0\0\0\0\x02\x01s\0\x03\0\0\0d.e\0\0\0\0\0\
        \x03\x01s\0\x01\0\0\0F\0\0\0\0\0\0\0\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0\
        \x08\x01g\0\x02ss\0\x02\0\0\0gh\0\0\0\0\0\0\0";
    assert_eq!(call.encode(7), expected);
}

#[test]
fn signals_are_for_others_and_errors_have_names() {
    let mut signal = recorded();
    signal[1] = 4;
    assert_eq!(read(&signal), Ok(None));
    let mut error = recorded();
    error[1] = ERROR;
    assert_eq!(read(&error), Ok(Some((3, Answer::Refused))));
}

#[test]
fn whatever_is_cut_off_or_changed_is_read_without_a_panic() {
    let whole = recorded();
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end]), Err(Malformed), "cut off after {end} bytes");
    }
    for at in 0..whole.len() {
        for byte in 0..=u8::MAX {
            let mut changed = whole.clone();
            changed[at] = byte;
            // Few changes are harmless: a name in it, a number that is not looked at.
            let _ = read(&changed);
        }
    }
}

#[test]
fn no_more_is_read_than_such_an_answer_needs() {
    for (at, length) in [(4, LONGEST + 1), (12, LONGEST + 1), (4, usize::MAX), (12, usize::MAX)] {
        let mut message = recorded();
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        message[at..at + 4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(read(&message), Err(Malformed));
    }
}

proptest! {
    #[test]
    fn whatever_bytes_come_over_the_bus_are_read_or_refused(
        bytes in changed("dbus", &["l", "B", "\0", "\0\0\0\0", "\u{1}", "\u{7f}", "s\0", "v", "g\0", "\u{1}v\0"]),
    ) {
        if let Ok(Some((_, Answer::Text(text)))) = read(&bytes) {
            prop_assert!(text.len() < bytes.len() && !text.contains('\0'));
        }
    }
}
