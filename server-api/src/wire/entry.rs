//! Entries as SPIRE's API carries them.

use proto::spire::types::{Entry as WireEntry, EntryMask, entry::AdditionalAttributes};
use registry::objects::{Entry, EntryId, EntryPatch};
use spiffe::Timestamp;

use super::{WireError, id, selector};

/// Every field of an entry.
pub const WHOLE: EntryMask = EntryMask {
    spiffe_id: true,
    parent_id: true,
    selectors: true,
    x509_svid_ttl: true,
    federates_with: true,
    admin: true,
    downstream: true,
    expires_at: true,
    dns_names: true,
    revision_number: true,
    store_svid: true,
    jwt_svid_ttl: true,
    hint: true,
    created_at: true,
    additional_attributes: true,
};

/// A whole entry from the wire. Its own name and age are the caller's to say, never the wire's.
pub fn from_wire(mut wire: WireEntry, id: EntryId, created_at: Timestamp) -> Result<Entry, WireError> {
    let bare = Entry {
        id,
        created_at,
        spiffe_id: id::from_wire("spiffe_id", wire.spiffe_id.take())?,
        parent_id: id::from_wire("parent_id", wire.parent_id.take())?,
        selectors: Default::default(),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Default::default(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: String::new(),
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    };
    let rest = EntryMask { spiffe_id: false, parent_id: false, ..WHOLE };
    Ok(patch_from_wire(wire, &rest)?.applied_to(&bare))
}

/// An update of the fields that the mask names, taken from the wire.
pub fn patch_from_wire(wire: WireEntry, mask: &EntryMask) -> Result<EntryPatch, WireError> {
    let mut patch = EntryPatch::default();
    if mask.spiffe_id {
        patch.spiffe_id = Some(id::from_wire("spiffe_id", wire.spiffe_id)?);
    }
    if mask.parent_id {
        patch.parent_id = Some(id::from_wire("parent_id", wire.parent_id)?);
    }
    if mask.selectors {
        patch.selectors = Some(selector::from_wire("selectors", wire.selectors)?);
    }
    if mask.x509_svid_ttl {
        patch.x509_svid_ttl = Some(seconds("x509_svid_ttl", wire.x509_svid_ttl)?);
    }
    if mask.jwt_svid_ttl {
        patch.jwt_svid_ttl = Some(seconds("jwt_svid_ttl", wire.jwt_svid_ttl)?);
    }
    if mask.federates_with {
        let names = wire.federates_with.iter().map(|name| id::trust_domain("federates_with", name));
        patch.federates_with = Some(names.collect::<Result<_, _>>()?);
    }
    if mask.admin {
        patch.admin = Some(wire.admin);
    }
    if mask.downstream {
        patch.downstream = Some(wire.downstream);
    }
    if mask.expires_at {
        patch.expires_at = Some(match wire.expires_at {
            0 => None,
            past if past < 0 => return Err(WireError::field("expires_at", "it is negative")),
            moment => Some(Timestamp::from_unix_seconds(moment)),
        });
    }
    if mask.dns_names {
        patch.dns_names = Some(wire.dns_names);
    }
    if mask.store_svid {
        patch.store_svid = Some(wire.store_svid);
    }
    if mask.hint {
        patch.hint = Some(wire.hint);
    }
    if mask.additional_attributes {
        let attributes = wire.additional_attributes.unwrap_or_default();
        patch.disable_x509_svid_prefetch = Some(attributes.disable_x509_svid_prefetch);
        patch.jwt_svid_include_jti = Some(attributes.jwt_svid_include_jti);
    }
    Ok(patch)
}

/// Everything about an entry. SPIRE counts an entry's changes from 0.
pub fn to_wire(entry: &Entry, version: u64) -> WireEntry {
    let attributes = AdditionalAttributes {
        disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
        jwt_svid_include_jti: entry.jwt_svid_include_jti,
    };
    WireEntry {
        id: entry.id.as_str().to_owned(),
        spiffe_id: Some(id::to_wire(&entry.spiffe_id)),
        parent_id: Some(id::to_wire(&entry.parent_id)),
        selectors: selector::to_wire(&entry.selectors),
        x509_svid_ttl: i32::try_from(entry.x509_svid_ttl).unwrap_or(i32::MAX),
        federates_with: entry.federates_with.iter().map(|td| td.as_str().to_owned()).collect(),
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: entry.expires_at.map_or(0, Timestamp::unix_seconds),
        dns_names: entry.dns_names.clone(),
        revision_number: i64::try_from(version.saturating_sub(1)).unwrap_or(i64::MAX),
        store_svid: entry.store_svid,
        jwt_svid_ttl: i32::try_from(entry.jwt_svid_ttl).unwrap_or(i32::MAX),
        hint: entry.hint.clone(),
        created_at: entry.created_at.unix_seconds(),
        additional_attributes: (attributes != AdditionalAttributes::default()).then_some(attributes),
    }
}

/// Keeps only what the mask names, and the id; without a mask everything stays.
pub fn masked(entry: WireEntry, mask: Option<&EntryMask>) -> WireEntry {
    let Some(mask) = mask else { return entry };
    // Field by field, each with its own line: the bug class of a neighbour's flag shows in review.
    WireEntry {
        id: entry.id,
        spiffe_id: kept(mask.spiffe_id, entry.spiffe_id),
        parent_id: kept(mask.parent_id, entry.parent_id),
        selectors: kept(mask.selectors, entry.selectors),
        x509_svid_ttl: kept(mask.x509_svid_ttl, entry.x509_svid_ttl),
        federates_with: kept(mask.federates_with, entry.federates_with),
        admin: kept(mask.admin, entry.admin),
        downstream: kept(mask.downstream, entry.downstream),
        expires_at: kept(mask.expires_at, entry.expires_at),
        dns_names: kept(mask.dns_names, entry.dns_names),
        revision_number: kept(mask.revision_number, entry.revision_number),
        store_svid: kept(mask.store_svid, entry.store_svid),
        jwt_svid_ttl: kept(mask.jwt_svid_ttl, entry.jwt_svid_ttl),
        hint: kept(mask.hint, entry.hint),
        created_at: kept(mask.created_at, entry.created_at),
        additional_attributes: kept(mask.additional_attributes, entry.additional_attributes),
    }
}

fn kept<T: Default>(keep: bool, value: T) -> T {
    if keep { value } else { T::default() }
}

fn seconds(name: &str, value: i32) -> Result<u32, WireError> {
    u32::try_from(value).map_err(|_| WireError::field(name, "it is negative"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One setter for each field but `id`, so that field i can be set alone.
    type Setter = fn(&mut WireEntry);
    type Naming = fn(&mut EntryMask);
    const SETTERS: [(&str, Setter, Naming); 13] = [
        ("spiffe_id", |e| e.spiffe_id = wire_id("/w"), |m| m.spiffe_id = true),
        ("parent_id", |e| e.parent_id = wire_id("/p"), |m| m.parent_id = true),
        ("selectors", |e| e.selectors = vec![uid(7)], |m| m.selectors = true),
        ("x509_svid_ttl", |e| e.x509_svid_ttl = 1, |m| m.x509_svid_ttl = true),
        ("federates_with", |e| e.federates_with = vec!["other.example".into()], |m| m.federates_with = true),
        ("admin", |e| e.admin = true, |m| m.admin = true),
        ("downstream", |e| e.downstream = true, |m| m.downstream = true),
        ("expires_at", |e| e.expires_at = 99, |m| m.expires_at = true),
        ("dns_names", |e| e.dns_names = vec!["a.example".into()], |m| m.dns_names = true),
        ("store_svid", |e| e.store_svid = true, |m| m.store_svid = true),
        ("jwt_svid_ttl", |e| e.jwt_svid_ttl = 2, |m| m.jwt_svid_ttl = true),
        ("hint", |e| e.hint = "h".into(), |m| m.hint = true),
        ("attributes", |e| e.additional_attributes = Some(ATTRIBUTES), |m| m.additional_attributes = true),
    ];
    const ATTRIBUTES: AdditionalAttributes =
        AdditionalAttributes { disable_x509_svid_prefetch: true, jwt_svid_include_jti: false };

    fn wire_id(path: &str) -> Option<proto::spire::types::Spiffeid> {
        Some(proto::spire::types::Spiffeid { trust_domain: "acme.example".into(), path: path.into() })
    }

    fn uid(uid: u32) -> proto::spire::types::Selector {
        proto::spire::types::Selector { r#type: "unix".into(), value: format!("uid:{uid}") }
    }

    /// What is always there, so that an entry can exist, and different from what the setters set.
    fn least() -> WireEntry {
        WireEntry { spiffe_id: wire_id("/0"), parent_id: wire_id("/0"), ..WireEntry::default() }
    }

    fn read(wire: &WireEntry) -> Entry {
        from_wire(wire.clone(), "e1".parse().unwrap(), Timestamp::from_unix_seconds(5)).unwrap()
    }

    /// What arrives at the other end, without the fields that the server makes.
    fn round_trip(wire: &WireEntry) -> WireEntry {
        WireEntry { id: String::new(), created_at: 0, ..to_wire(&read(wire), 1) }
    }

    proptest! {
        #[test]
        fn a_field_arrives_if_and_only_if_it_is_set(bits in 0_u32..1 << 13) {
            let mut sent = least();
            for (n, (_, set, _)) in SETTERS.iter().enumerate() {
                if bits & (1 << n) != 0 { set(&mut sent) }
            }
            prop_assert_eq!(round_trip(&sent), sent);
        }

        #[test]
        fn an_update_changes_the_fields_of_its_mask_and_no_other(there in 0_u32..1 << 13, named in 0_u32..1 << 13) {
            let (mut mask, mut sent, mut expected) = (EntryMask::default(), least(), least());
            for (n, (_, set, name)) in SETTERS.iter().enumerate() {
                if there & (1 << n) != 0 { set(&mut sent) }
                if named & (1 << n) != 0 { name(&mut mask) }
                if there & named & (1 << n) != 0 { set(&mut expected) }
            }
            let patch = patch_from_wire(sent, &mask).unwrap();
            prop_assert_eq!(patch.applied_to(&read(&least())), read(&expected));
        }

        /// Not all fields are there, or one that is shown for another would look like it.
        #[test]
        fn a_mask_shows_the_fields_it_names_and_no_other(there in 0_u32..1 << 13, named in 0_u32..1 << 13) {
            let (mut mask, mut whole) = (EntryMask::default(), WireEntry::default());
            let mut expected = WireEntry::default();
            for (n, (_, set, name)) in SETTERS.iter().enumerate() {
                if there & (1 << n) != 0 { set(&mut whole) }
                if named & (1 << n) != 0 { name(&mut mask) }
                if there & named & (1 << n) != 0 { set(&mut expected) }
            }
            prop_assert_eq!(masked(whole, Some(&mask)), expected);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_name_of_the_field() {
        for (spoil, name) in [
            ((|e| e.spiffe_id = None) as Setter, "spiffe_id"),
            (|e| e.parent_id = wire_id("/a//b"), "parent_id"),
            (|e| e.x509_svid_ttl = -1, "x509_svid_ttl"),
            (|e| e.jwt_svid_ttl = i32::MIN, "jwt_svid_ttl"),
            (|e| e.expires_at = -1, "expires_at"),
            (|e| e.federates_with = vec!["UPPER".into()], "federates_with"),
            (|e| e.selectors = vec![proto::spire::types::Selector::default()], "selectors"),
        ] {
            let mut wire = least();
            spoil(&mut wire);
            let error = from_wire(wire, "e1".parse().unwrap(), Timestamp::default()).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
