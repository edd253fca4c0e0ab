//! Agent path templates: how a node's ID follows from what was proved about it, written as in SPIRE's
//! configuration (`/{{ .PluginName }}/{{ .Fingerprint }}`). Only plain fields, no functions.
//!
//! INVARIANT: other fields give another path. A segment holds at most one field, and what a field gives
//! stays in its segment, so nobody can be named like another by moving a slash or a dash.

use std::collections::BTreeMap;

/// A template whose fields are known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    first: String,
    rest: Vec<Segment>,
}

/// What the fields of a template stand for.
pub(super) type Fields = BTreeMap<String, String>;

#[derive(Clone, Debug, Eq, PartialEq)]
struct Segment {
    before: String,
    field: Option<String>,
    after: String,
}

/// What an attestor lets a template say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The attestor, which `.PluginName` stands for.
    pub(super) attestor: &'static str,
    /// The fields that there are; `Claims.*` stands for all that begin so.
    pub(super) fields: &'static [&'static str],
    /// The fields whose value is a path and not a segment.
    pub(super) paths: &'static [&'static str],
}

/// A template that cannot be used, or a value that does not fit one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// It has to begin with a slash.
    #[error("agent_path_template {0:?} does not begin with a slash")]
    NoSlash(String),
    /// Something in braces that is not a plain field.
    #[error(
        "agent_path_template: {{{{{0}}}}} is not a plain field such as {{{{ .PluginName }}}}; functions are not known here"
    )]
    NoField(String),
    /// A field that this attestor does not have.
    #[error("agent_path_template: there is no field .{0} here; there are {1}")]
    UnknownField(String, String),
    /// Two fields in one segment can be read in two ways.
    #[error(
        "agent_path_template: the segment {0:?} has two fields, which could be told apart in two ways; put a slash between them"
    )]
    TwoFields(String),
    /// A path among other text.
    #[error("agent_path_template: .{0} is a path, so it stands alone between slashes")]
    PathInSegment(String),
    /// The first segment says which nodes these are.
    #[error(
        "agent_path_template has to begin with a fixed word that is not the name of another attestor, such as /{0}/"
    )]
    First(&'static str),
    /// A value that is missing, or that would reach beyond its segment.
    #[error("the field .{0} of agent_path_template is missing, or is not one segment of a path")]
    Value(String),
}

/// Attestors of SPIRE's and of ours, each with its own place below `/spire/agent/`.
const ATTESTORS: [&str; 13] = [
    "join_token",
    "x509pop",
    "k8s_psat",
    "oidc",
    "k8s_sat",
    "sshpop",
    "tpm_devid",
    "aws_iid",
    "azure_msi",
    "azure_imds",
    "gcp_iit",
    "http_challenge",
    "launch",
];

impl Template {
    /// Reads a template under the rules of its attestor.
    pub(super) fn parse(text: &str, rules: Rules) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or_else(|| TemplateError::NoSlash(text.to_owned()))?;
        let mut segments = Vec::new();
        for segment in segments_of(path) {
            segments.push(Segment::parse(segment, rules)?);
        }
        let fixed = TemplateError::First(rules.attestor);
        let mut segments = segments.into_iter();
        let first = segments.next().filter(|first| first.field.is_none()).ok_or(fixed.clone())?.before;
        let rest: Vec<_> = segments.collect();
        let is_others = ATTESTORS.contains(&first.as_str()) && first != rules.attestor;
        match first.is_empty() || is_others || rest.is_empty() {
            true => Err(fixed),
            false => Ok(Self { first, rest }),
        }
    }

    /// The path below `/spire/agent` that these fields give. Whether its letters may stand in a SPIFFE
    /// ID is asked when that is made.
    pub(super) fn path(&self, fields: &Fields, rules: Rules) -> Result<String, TemplateError> {
        let mut path = format!("/{}", self.first);
        for Segment { before, field, after } in &self.rest {
            path.push('/');
            path.push_str(before);
            if let Some(field) = field {
                let is_path = rules.paths.contains(&field.as_str());
                let fits = |value: &&String| !value.is_empty() && (is_path || !value.contains('/'));
                let value = fields.get(field).filter(fits);
                path.push_str(value.ok_or_else(|| TemplateError::Value(field.clone()))?);
            }
            path.push_str(after);
        }
        Ok(path)
    }
}

impl Segment {
    fn parse(segment: &str, rules: Rules) -> Result<Self, TemplateError> {
        let mut read = Self { before: String::new(), field: None, after: String::new() };
        let mut rest = segment;
        while let Some((text, opened)) = rest.split_once("{{") {
            read.write(text);
            let (inside, after) =
                opened.split_once("}}").ok_or_else(|| TemplateError::NoField(opened.to_owned()))?;
            rest = after;
            match field(inside)? {
                "PluginName" => read.write(rules.attestor),
                name if !rules.knows(name) => {
                    let known = rules.fields.iter().map(|field| format!(".{field}"));
                    let known = known.collect::<Vec<_>>().join(", ");
                    return Err(TemplateError::UnknownField(name.to_owned(), known));
                }
                name if read.field.is_none() => read.field = Some(name.to_owned()),
                _ => return Err(TemplateError::TwoFields(segment.to_owned())),
            }
        }
        if rest.contains("}}") {
            return Err(TemplateError::NoField(rest.to_owned()));
        }
        read.write(rest);
        match &read.field {
            Some(field) if rules.paths.contains(&field.as_str()) && !read.is_alone() => {
                Err(TemplateError::PathInSegment(field.clone()))
            }
            _ => Ok(read),
        }
    }

    fn write(&mut self, text: &str) {
        match self.field {
            None => self.before.push_str(text),
            Some(_) => self.after.push_str(text),
        }
    }

    fn is_alone(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

impl Rules {
    fn knows(&self, name: &str) -> bool {
        self.fields.iter().any(|field| match field.strip_suffix('*') {
            Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()),
            None => *field == name,
        })
    }
}

/// `.Name` or `.Name.Of.Parts`, with space around it; Go lets a dash eat the space outside.
fn field(inside: &str) -> Result<&str, TemplateError> {
    let wrong = || TemplateError::NoField(inside.to_owned());
    let name = inside.trim().strip_prefix('.').ok_or_else(wrong)?;
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if name.split('.').all(part) { Ok(name) } else { Err(wrong()) }
}

/// The segments of a template's path; a slash inside of braces separates nothing.
fn segments_of(path: &str) -> Vec<&str> {
    let (mut segments, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'/' if depth == 0 => {
                segments.push(&path[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    segments.push(&path[begin..]);
    segments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        attestor: "x509pop",
        fields: &["Fingerprint", "Subject.CommonName", "SVIDPathTrimmed", "URISanSelectors.*"],
        paths: &["SVIDPathTrimmed"],
    };

    fn parse(text: &str) -> Result<Template, String> {
        Template::parse(text, RULES).map_err(|error| error.to_string())
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn plain_fields_are_replaced_as_spire_does() {
        let known = fields(&[
            ("Fingerprint", "ab"),
            ("Subject.CommonName", "web-1"),
            ("SVIDPathTrimmed", "a/b"),
            ("URISanSelectors.rack", "r1"),
        ]);
        for (template, path) in [
            ("/{{ .PluginName }}/{{ .Fingerprint }}", "/x509pop/ab"),
            ("/{{.PluginName}}/{{ .SVIDPathTrimmed }}", "/x509pop/a/b"),
            ("/cn/{{ .Subject.CommonName }}", "/cn/web-1"),
            ("/dc-{{ .PluginName }}/node-{{ .URISanSelectors.rack }}.x", "/dc-x509pop/node-r1.x"),
        ] {
            let made = parse(template).unwrap().path(&known, RULES);
            assert_eq!(made.as_deref(), Ok(path), "{template}");
        }
    }

    #[test]
    fn what_is_not_a_plain_field_is_refused_with_a_sentence() {
        for (template, says) in [
            ("cn/{{ .Fingerprint }}", "does not begin with a slash"),
            ("/cn/{{ lower .Subject.CommonName }}", "functions are not known"),
            ("/cn/{{ .Subject.CommonName | lower }}", "functions are not known"),
            ("/cn/{{ index .URISanSelectors \"a/b\" }}", "functions are not known"),
            ("/cn/{{ .Fingerprint", "is not a plain field"),
            ("/cn/.Fingerprint }}", "is not a plain field"),
            ("/cn/{{ .Serial }}", "there is no field .Serial here; there are .Fingerprint"),
            ("/cn/{{ .URISanSelectors }}", "no field"),
            ("/cn/{{ .Fingerprint }}-{{ .Subject.CommonName }}", "two fields"),
            ("/cn/x{{ .SVIDPathTrimmed }}", "stands alone"),
            ("/{{ .Fingerprint }}/x", "fixed word"),
            ("/join_token/{{ .Fingerprint }}", "another attestor"),
            ("/oidc/{{ .Fingerprint }}", "another attestor"),
            ("/cn", "fixed word"),
            ("//{{ .Fingerprint }}", "fixed word"),
        ] {
            let error = parse(template).expect_err(template);
            assert!(error.contains(says), "{template}: {error}");
        }
    }

    #[test]
    fn a_value_stays_in_its_segment() {
        let template = parse("/cn/{{ .Subject.CommonName }}").unwrap();
        for wrong in ["", "a/b", "/"] {
            assert!(template.path(&fields(&[("Subject.CommonName", wrong)]), RULES).is_err(), "{wrong:?}");
        }
        assert!(template.path(&Fields::new(), RULES).is_err());
    }

    proptest! {
        #[test]
        fn other_fields_give_another_path(
            one in "[a-z./-]{1,6}", two in "[a-z./-]{1,6}", three in "[a-z./-]{1,6}", four in "[a-z./-]{1,6}",
        ) {
            let template = parse("/cn/a-{{ .Subject.CommonName }}/{{ .Fingerprint }}-b").unwrap();
            let path = |cn: &str, fingerprint: &str| {
                template.path(&fields(&[("Subject.CommonName", cn), ("Fingerprint", fingerprint)]), RULES).ok()
            };
            let (first, second) = (path(&one, &two), path(&three, &four));
            prop_assert!(first.is_none() || first != second || (one, two) == (three, four));
        }

        #[test]
        fn no_text_panics(text in ".{0,64}") {
            let _ = parse(&text);
        }
    }
}
