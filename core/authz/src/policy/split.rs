//! A Cedar text cut into its policies, so that what did not change is not parsed again.

/// The policies of a text, each with its comments. A policy ends with a semicolon, and Cedar has no other use
/// for one outside of texts and comments. What follows the last is left out where it is only comments.
pub(super) fn split(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    let mut has_code = false;
    while at < bytes.len() {
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                // Cedar's comments end where a line does.
                at += bytes[at..].iter().take_while(|byte| !matches!(byte, b'\n' | b'\r')).count();
                continue;
            }
            b'"' => {
                has_code = true;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b';' => {
                parts.push(&text[begin..=at]);
                begin = at + 1;
                has_code = false;
            }
            byte if !byte.is_ascii_whitespace() => has_code = true,
            _ => {}
        }
        at += 1;
    }
    if has_code {
        parts.push(&text[begin..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use cedar_policy::PolicySet;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn semicolons_in_texts_and_comments_end_nothing() {
        let text = "// a; b\n@id(\"x;\\\";\") permit(principal, action, resource);\n\nforbid(principal, action, \
                    resource) when { context.a == \";\" }; // end;\n // and out";
        let parts = split(text);
        assert_eq!(parts.len(), 2);
        assert!(parts[0].starts_with("// a; b") && parts[1].ends_with("};"));
        assert!(parts.iter().all(|part| PolicySet::from_str(part).is_ok()));
    }

    #[test]
    fn what_is_no_policy_stays_for_the_parser_to_refuse() {
        assert_eq!(split("permit(principal, action, resource)").len(), 1);
        assert_eq!(split("\"open").len(), 1);
        assert_eq!(split("\"open\\").len(), 1);
        assert!(split("  // nothing\n").is_empty());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_nothing_is_lost(text in r#"([a-z;/"\\\n é]|//|permit|\{|\}){0,80}"#) {
            let joined: String = split(&text).concat();
            prop_assert!(text.starts_with(&joined));
        }
    }
}
