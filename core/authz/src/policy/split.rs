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

/// Whether a text is short and flat enough to be parsed: what parses, validates and evaluates it goes as deep as
/// the text does, on one stack.
pub(super) fn check_size(text: &str, most: Size) -> Result<(), String> {
    if text.len() > most.bytes {
        return Err(format!("it has {} bytes, and {} are allowed", text.len(), most.bytes));
    }
    let (mut depth, mut operators, mut at) = (0_usize, 0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().take_while(|byte| !matches!(byte, b'\n' | b'\r')).count();
                continue;
            }
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            // A bracket opened is an operator, too: `a["b"]["c"]` is as deep as `a.b.c`.
            b'(' | b'[' | b'{' => (depth, operators) = (depth + 1, operators + 1),
            b'<' if most.angles => depth += 1,
            b'>' if most.angles => depth = depth.saturating_sub(1),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'.' | b'+' | b'-' | b'*' | b'|' | b'&' | b'!' | b'=' | b'<' | b'>' => operators += 1,
            _ => {}
        }
        if operators > most.operators {
            return Err(format!("it has more than {} characters that are operators", most.operators));
        }
        if depth > DEEPEST {
            return Err(format!("it nests brackets deeper than {DEEPEST} levels"));
        }
        at += 1;
    }
    Ok(())
}

/// The most of a text that is parsed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) bytes: usize,
    /// Characters that can chain expressions to one another.
    pub(super) operators: usize,
    /// Whether angle brackets nest, as in a schema, and do not compare.
    pub(super) angles: bool,
}

/// Brackets inside one another.
const DEEPEST: usize = 32;

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
