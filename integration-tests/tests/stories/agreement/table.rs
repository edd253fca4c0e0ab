//! Where Writ and go-spiffe differ, and the clause that decides.
//!
//! TDB is the standard on trust domains and bundles. Whoever reads the same clause differently changes
//! a row here, in the open.

use serde_json::Value;

use super::judge::Answer;

/// What explains a difference, if anything does.
pub(super) fn explain(op: &str, ours: &Answer, theirs: &Answer) -> Option<&'static str> {
    let row = ROWS.iter().find(|(row_op, who, _)| *row_op == op && who.fits(ours, theirs));
    row.map(|(.., clause)| *clause)
}

/// The explanations.
pub(super) fn clauses() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(.., clause)| *clause)
}

/// Which of the two differs, and how: by the words of the refusal.
enum Who {
    WritRefuses(&'static str),
    GoRefuses(&'static str),
    /// Both accept, but this member is not the same, and perhaps others of which there is such a row.
    Reads(&'static str),
}

impl Who {
    fn fits(&self, ours: &Answer, theirs: &Answer) -> bool {
        match (self, &ours.value, &theirs.value) {
            (WritRefuses(words), Err(error), Ok(_)) | (GoRefuses(words), Ok(_), Err(error)) => {
                error.contains(words)
            }
            (Reads(name), Ok(Value::Object(ours)), Ok(Value::Object(theirs))) => {
                let mut differing = theirs.iter().filter(|(member, value)| ours.get(*member) != Some(value));
                let explained =
                    |member: &str| ROWS.iter().any(|(_, who, _)| matches!(who, Reads(it) if *it == member));
                ours.get(*name) != theirs.get(*name) && differing.all(|(member, _)| explained(member))
            }
            _ => false,
        }
    }
}

use Who::{GoRefuses, Reads, WritRefuses};

/// Operation, difference, clause.
const ROWS: &[(&str, Who, &str)] = &[
    ("spiffe_id", WritRefuses("bytes long; at most 2048"), "SPIFFE-ID 2.3: no longer ID need be supported"),
    ("spiffe_id", WritRefuses("bytes long; at most 255"), TD_LENGTH),
    ("trust_domain", WritRefuses("bytes long; at most 255"), TD_LENGTH),
    (
        "trust_domain",
        WritRefuses("trust domain characters"),
        "SPIFFE-ID 2.1: a name is no ID; go-spiffe's constructor takes either",
    ),
    // bundles: Writ is stricter
    ("bundle_parse", WritRefuses("not unambiguous JSON: invalid unicode"), JSON),
    ("bundle_parse", WritRefuses("is there twice"), JSON),
    (
        "bundle_parse",
        WritRefuses("x5c holds another key than the JWK"),
        "RFC 7517 4.7: the first certificate's key is that of the other members",
    ),
    (
        "bundle_parse",
        WritRefuses("no list of keys"),
        "TDB 4.1.3: keys must be there; JSON names are case-sensitive (RFC 8259 8.3)",
    ),
    ("bundle_parse", WritRefuses("have the kid"), "RFC 7517 4.5: keys of a set have different names"),
    (
        "bundle_parse",
        WritRefuses("begins with a zero byte"),
        "RFC 7518 2: a number has no more bytes than it needs",
    ),
    ("bundle_parse", WritRefuses("n or e is even, or e is 1"), "RFC 8017 3.1: e is odd and at least 3"),
    (
        "bundle_parse",
        WritRefuses("not a number in base64url"),
        "RFC 7515 2: base64url without padding, white space and stray bits",
    ),
    ("bundle_parse", WritRefuses("CVE-2017-15361"), "CVE-2017-15361: such a key can be factored"),
    (
        "bundle_parse",
        WritRefuses("spiffe_refresh_hint is not a whole number"),
        "TDB 4.1.2: a number of seconds",
    ),
    // bundles: go-spiffe is stricter
    (
        "bundle_parse",
        GoRefuses("expected a single certificate"),
        "X509-SVID 6.2: without x5c a key is ignored, and so is all but its first certificate",
    ),
    ("bundle_parse", GoRefuses("error adding authority"), NO_JWT_KEY),
    ("bundle_parse", GoRefuses("error adding WIT authority"), TDB_USE),
    ("bundle_parse", GoRefuses("unsupported key type"), TDB_TYPE),
    ("bundle_parse", GoRefuses("missing json web key type"), TDB_TYPE),
    ("bundle_parse", GoRefuses("unsupported elliptic curve"), TDB_TYPE),
    ("bundle_parse", GoRefuses("into Go value of type"), TDB_USE),
    ("bundle_parse", GoRefuses("invalid EC"), X5C),
    ("bundle_parse", GoRefuses("invalid RSA"), X5C),
    ("bundle_parse", GoRefuses("illegal base64 data"), X5C),
    ("bundle_parse", GoRefuses("failed to unmarshal x5c"), OPTIONAL),
    ("bundle_parse", GoRefuses("x5t header"), OPTIONAL),
    ("bundle_parse", GoRefuses("invalid x5u"), OPTIONAL),
    ("bundle_parse", GoRefuses("key and x5c fields do not match"), OPTIONAL),
    ("bundle_parse", GoRefuses("spiffe_refresh_hint of type int64"), REFRESH_HINT),
    // bundles: read differently
    (
        "bundle_parse",
        Reads("x509_authorities"),
        "TDB 4.1.3: go-spiffe counts a certificate that is listed twice once",
    ),
    ("bundle_parse", Reads("jwt_authorities"), NO_JWT_KEY),
    ("bundle_parse", Reads("refresh_hint"), REFRESH_HINT),
    // tokens
    ("jwtsvid_validate", GoRefuses("token header missing key id"), "JWT-SVID 2.2: kid is optional"),
    ("jwtsvid_validate", WritRefuses("meant for another audience"), AUDIENCE),
    (
        "jwtsvid_validate",
        WritRefuses("claim exp is not a date"),
        "RFC 3339 5.6: a date after the year 9999 cannot be shown",
    ),
    ("jwtsvid_validate", WritRefuses("claim iat is not a date"), NUMBER),
    ("jwtsvid_validate", WritRefuses("claim nbf is not a date"), NUMBER),
    (
        "jwtsvid_validate",
        WritRefuses("claim iss is not a text"),
        "RFC 7519 4.1.1 and 4.1.7: iss and jti are texts, and null is none",
    ),
    (
        "jwtsvid_validate",
        WritRefuses("claim jti is not a text"),
        "RFC 7519 4.1.1 and 4.1.7: iss and jti are texts, and null is none",
    ),
    ("jwtsvid_validate", WritRefuses("claim aud is missing"), AUDIENCE),
    (
        "jwtsvid_validate",
        WritRefuses("names a trust domain and no workload"),
        "JWT-SVID 3.1: sub is the ID of a workload",
    ),
    ("jwtsvid_validate", WritRefuses("has something beside alg, kid and typ"), HEADER),
    ("jwtsvid_validate", WritRefuses("asks for an extension"), HEADER),
    ("jwtsvid_validate", WritRefuses("brings its own key"), HEADER),
    ("jwtsvid_validate", WritRefuses("encrypted or compressed"), HEADER),
    (
        "jwtsvid_validate",
        WritRefuses("neither JWT nor JOSE"),
        "JWT-SVID 2.3: typ is JWT or JOSE, and null is neither",
    ),
    (
        "jwtsvid_validate",
        WritRefuses("is not in base64url"),
        "RFC 7515 2: base64url without padding, white space and stray bits",
    ),
    // chains
    (
        "x509svid_verify",
        WritRefuses("certificates are more than 8"),
        "RFC 5280 6 sets no bound; Writ's is eight certificates (docs/limits.md)",
    ),
    (
        "x509svid_verify",
        WritRefuses("serial number is not positive"),
        "RFC 5280 4.1.2.2: serial numbers are positive and have 20 bytes at most",
    ),
    (
        "x509svid_verify",
        WritRefuses("no certificate authority's"),
        "X509-SVID 4.1: whoever signs has the CA flag, roots included",
    ),
    (
        "x509svid_verify",
        WritRefuses("its SPIFFE ID is not a trust domain's"),
        "X509-SVID 3.2: a signing certificate's SPIFFE ID has no path",
    ),
    (
        "x509svid_verify",
        WritRefuses("allows neither servers nor clients"),
        "RFC 5280 4.2.1.12: an authority's purposes confine those below it",
    ),
    ("x509svid_verify", WritRefuses("key usage is missing"), "X509-SVID 4.3: key usage must be set"),
    (
        "x509svid_verify",
        WritRefuses("key usage is not marked critical"),
        "X509-SVID 4.3: and marked critical",
    ),
    (
        "x509svid_verify",
        WritRefuses("key usage lacks digitalSignature"),
        "X509-SVID 4.3: a leaf must have digitalSignature",
    ),
    (
        "x509svid_verify",
        WritRefuses("lacks server or client authentication"),
        "X509-SVID 4.4: extended key usage, if there, has both",
    ),
    (
        "x509svid_verify",
        WritRefuses("names a trust domain and no workload"),
        "X509-SVID 5.2: a leaf's SPIFFE ID has a path",
    ),
    (
        "x509svid_verify",
        WritRefuses("does not begin with spiffe://"),
        "RFC 3986 6.2.2.1: the normal form of a scheme is lower case; another text is another name in every log and policy",
    ),
    ("x509svid_verify", WritRefuses("of the first, it is not an X.509 certificate in DER"), ANCHOR),
    ("x509svid_verify", GoRefuses("authority: x509"), ANCHOR),
];

const AUDIENCE: &str = "JWT-SVID 3.2: whoever validates names itself; nobody is meant by no audience";
const NO_JWT_KEY: &str =
    "JWT-SVID 2.1: secrets and Ed25519 keys verify no JWT-SVID, so they are not taken for authorities";
const JSON: &str = "TDB 6.3, RFC 7517 4, RFC 8259 8.1: JSON has one reading only: UTF-8, member names unique";
const ANCHOR: &str = "RFC 5280 6.1.1 d: a trust anchor is a name and a key; a damaged one is read whole, in part or not at all";
const TD_LENGTH: &str = "SPIFFE-ID 2.3: a trust domain has 255 bytes at most";
const TDB_USE: &str = "TDB 4.2.2: a key without known use is ignored, whatever else it holds";
const TDB_TYPE: &str = "TDB 4.2.1: a key of unknown type is ignored";
const X5C: &str = "X509-SVID 6.2, TDB 4.2.2: what counts of an X.509 authority is its certificate; other keys of no known use are ignored";
const OPTIONAL: &str =
    "RFC 7517 4.6 to 4.9: x5u, x5c, x5t are optional, and JWT-SVID 6 gives them no meaning";
const REFRESH_HINT: &str =
    "TDB 4.1.2: an integer; how many bits a Go duration has is not the document's concern";
const NUMBER: &str = "RFC 7519 4.1.5 and 4.1.6: nbf and iat are numbers, and null is none";
const HEADER: &str = "JWT-SVID 2: a header beside alg, kid and typ must not be there";
