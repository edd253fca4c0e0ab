//! What an entry must be, and what is worth a warning.

use humantime::format_duration;
use spiffe::{SpiffeId, Timestamp};

use crate::{
    decide::Refusal,
    objects::{Entry, well_known},
    registry::Registry,
    settings::Settings,
};

/// The longest hint, in bytes (SPIFFE Workload API, section 5.2).
const MAX_HINT_BYTES: usize = 1024;
const MAX_SELECTORS: usize = 128;
const MAX_DNS_NAMES: usize = 128;
const MAX_FEDERATES_WITH: usize = 128;
/// The most that an entry's texts have together, in bytes.
const MAX_TEXT_BYTES: usize = 32 * 1024;
/// SPIRE's API counts seconds in 32 bits with a sign.
const MAX_TTL_SECONDS: u32 = i32::MAX as u32;

/// Refuses what may not be, naming the field and the value.
pub(super) fn check(entry: &Entry, registry: &Registry, now: Timestamp) -> Result<(), Refusal> {
    check_ids(entry, registry)?;
    check_sizes(entry)?;
    entry.dns_names.iter().try_for_each(|name| check_dns_name(name))?;
    if entry.expires_at.is_some_and(|end| end <= now) {
        return invalid("expires_at lies in the past; name a later time, or leave it out");
    }
    if entry.store_svid && !is_of_one_kind(entry) {
        return invalid("with store_svid, all selectors must be of one kind");
    }
    for trust_domain in &entry.federates_with {
        if trust_domain == registry.trust_domain() {
            return invalid(format!("federates_with names {trust_domain}, which is this trust domain"));
        }
        if registry.bundle(trust_domain).is_none() {
            let why = format!(
                "unable to find federated bundle {:?}; set it first, with: writ bundle set",
                trust_domain.id().as_str()
            );
            return Err(Refusal::Precondition(why));
        }
    }
    Ok(())
}

/// What the asker should know although the entry is allowed.
pub(super) fn warnings(entry: &Entry, settings: &Settings) -> Vec<String> {
    let asked = std::time::Duration::from_secs(entry.x509_svid_ttl.into());
    let longest = settings.longest_svid_ttl();
    if asked <= longest {
        return Vec::new();
    }
    vec![format!(
        "x509_svid_ttl of {} is more than a sixth of ca_ttl ({}), so its SVIDs live {}",
        format_duration(asked),
        format_duration(settings.ca_ttl),
        format_duration(longest),
    )]
}

fn check_ids(entry: &Entry, registry: &Registry) -> Result<(), Refusal> {
    check_member("parent_id", &entry.parent_id, registry)?;
    match is_alias(entry, registry) {
        true => Ok(()),
        false => check_workload_id(&entry.spiffe_id, registry),
    }
}

/// Refuses an ID that no workload may have.
pub fn check_workload_id(id: &SpiffeId, registry: &Registry) -> Result<(), Refusal> {
    check_member("spiffe_id", id, registry)?;
    if is_under(id, "spire") || is_under(id, "writ") {
        return invalid(format!("spiffe_id {id} is reserved; choose a path outside /spire and /writ"));
    }
    if id.path().split('/').any(|segment| segment == "task") {
        return invalid(format!(
            "spiffe_id {id} has a segment `task`, which is reserved for the SVIDs of tasks"
        ));
    }
    Ok(())
}

fn check_member(field: &str, id: &SpiffeId, registry: &Registry) -> Result<(), Refusal> {
    let trust_domain = registry.trust_domain();
    if !id.is_in(trust_domain) {
        let why = format!(
            "{field} {id} is not in the trust domain {trust_domain}; write only its path, {}",
            id.path()
        );
        return invalid(why);
    }
    match id.path().is_empty() {
        true => invalid(format!("{field} {id} has no path; add one, for example {id}/web")),
        false => Ok(()),
    }
}

/// An alias that Writ itself makes for node selectors: its ID is their digest, so it claims nothing.
fn is_alias(entry: &Entry, registry: &Registry) -> bool {
    entry.parent_id == registry.well_known.server
        && entry.spiffe_id == well_known::node_alias(registry.trust_domain(), &entry.selectors)
}

fn is_under(id: &SpiffeId, first_segment: &str) -> bool {
    id.path().split('/').nth(1) == Some(first_segment)
}

fn check_sizes(entry: &Entry) -> Result<(), Refusal> {
    if entry.selectors.is_empty() {
        return invalid("an entry needs at least one selector, for example unix:uid:1000");
    }
    for (field, count, most) in [
        ("selectors", entry.selectors.len(), MAX_SELECTORS),
        ("dns_names", entry.dns_names.len(), MAX_DNS_NAMES),
        ("federates_with", entry.federates_with.len(), MAX_FEDERATES_WITH),
    ] {
        if count > most {
            return invalid(format!("{field} has {count} items; at most {most} are allowed"));
        }
    }
    for (field, seconds) in [("x509_svid_ttl", entry.x509_svid_ttl), ("jwt_svid_ttl", entry.jwt_svid_ttl)] {
        if seconds > MAX_TTL_SECONDS {
            return invalid(format!("{field} of {seconds} seconds is more than {MAX_TTL_SECONDS}"));
        }
    }
    if entry.hint.len() > MAX_HINT_BYTES {
        return invalid(format!("hint of {} bytes is longer than {MAX_HINT_BYTES}", entry.hint.len()));
    }
    let selectors = entry.selectors.iter().map(|selector| selector.as_str().len());
    let names = entry.dns_names.iter().map(String::len);
    let trust_domains = entry.federates_with.iter().map(|name| name.as_str().len());
    let text = selectors.chain(names).chain(trust_domains).sum::<usize>();
    if text > MAX_TEXT_BYTES {
        return invalid(format!(
            "selectors and names have {text} bytes; at most {MAX_TEXT_BYTES} are allowed"
        ));
    }
    Ok(())
}

/// RFC 1123 host names, with underscores as they are used, and a wildcard as the whole first label.
pub fn check_dns_name(name: &str) -> Result<(), Refusal> {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A last label of digits alone would be read as an IP address.
    let last_is_number =
        labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if name.len() > 253 || last_is_number || !labels.split('.').all(is_label) {
        return invalid(format!(
            "dns_names: {name:?} is not a DNS name, such as web.acme.example or *.acme.example"
        ));
    }
    Ok(())
}

fn is_of_one_kind(entry: &Entry) -> bool {
    let mut kinds = entry.selectors.iter().map(spiffe::Selector::kind);
    let first = kinds.next();
    kinds.all(|kind| Some(kind) == first)
}

fn invalid(why: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::Invalid(why.into()))
}
