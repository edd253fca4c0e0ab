//! Name constraints (RFC 5280 section 4.2.1.10): which names an authority may vouch for.
//!
//! A name of a kind that is constrained, but that cannot be compared, counts as a violation.

use x509_parser::{
    asn1_rs::{Any, Class, FromDer, Tag},
    extensions::GeneralName,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::Certificate;

/// The name spaces of one authority. Owned, because a trust anchor keeps them between handshakes.
#[derive(Clone, Debug)]
pub(super) struct Constraints {
    permitted: Vec<Base>,
    excluded: Vec<Base>,
}

/// How much work name constraints may still make; one unit is a name, or its comparison with a name space.
pub(super) type Budget = usize;

/// The root of a name space.
#[derive(Clone, Debug)]
enum Base {
    /// A domain and everything below it; with a leading dot, only what is below it.
    Dns(String),
    /// A mailbox, a host, or with a leading dot everything below a domain.
    Email(String),
    /// Address and mask, of equal length.
    Ip(Vec<u8>, Vec<u8>),
    /// A host, or with a leading dot everything below a domain.
    Uri(String),
    /// The first parts of a distinguished name.
    Directory(Vec<Part>),
    /// A kind of name that is not compared here, by its tag.
    Other(u32),
}

/// One relative distinguished name, comparable: its attributes sorted, texts in one case and spacing.
type Part = Vec<(Vec<u8>, Vec<u8>)>;

/// A name to hold against constraints.
#[derive(Clone, Copy)]
enum Name<'n> {
    Dns(&'n str),
    Email(&'n str),
    Ip(&'n [u8]),
    Uri(&'n str),
    Directory(&'n [Part]),
    Other(u32),
}

impl Constraints {
    /// Parses the extension's value; `None` if it breaks a rule of the section.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let mut rest = contents(value, Tag::Sequence)?;
        let mut subtrees = [Vec::new(), Vec::new()];
        let mut next = 0;
        while !rest.is_empty() {
            let (after, any) = Any::from_der(rest).ok()?;
            let index = any.tag().0 as usize;
            if any.class() != Class::ContextSpecific || index < next || index > 1 {
                return None;
            }
            subtrees[index] = bases(any.data)?;
            (next, rest) = (index + 1, after);
        }
        let [permitted, excluded] = subtrees;
        (next > 0).then_some(Self { permitted, excluded })
    }

    /// Whether every DNS constraint is a host name; a leading dot is common, but not allowed.
    pub(super) fn is_conforming(&self) -> bool {
        let dotted = |base: &Base| matches!(base, Base::Dns(domain) if domain.starts_with('.'));
        !self.permitted.iter().chain(&self.excluded).any(dotted)
    }

    /// Whether all names of `certificate` lie in permitted and none in excluded name spaces.
    pub(super) fn allow(&self, certificate: &Certificate<'_>, budget: &mut Budget) -> bool {
        let names = certificate.names();
        if !names.iter().all(|name| self.allow_general(name, budget)) {
            return false;
        }
        let subject = certificate.subject();
        let parts = parts(subject);
        if !parts.is_empty() && !self.allow_name(Name::Directory(&parts), budget) {
            return false;
        }
        // "When a certificate has no alternative names, the constraint applies to mail addresses in its subject."
        names.is_empty().then(|| subject.iter_email()).into_iter().flatten().all(|address| {
            address.as_str().is_ok_and(|address| self.allow_name(Name::Email(address), budget))
        })
    }

    fn allow_general(&self, name: &GeneralName<'_>, budget: &mut Budget) -> bool {
        let directory;
        let name = match name {
            GeneralName::DNSName(name) => Name::Dns(name),
            GeneralName::RFC822Name(address) => Name::Email(address),
            GeneralName::IPAddress(address) => Name::Ip(address),
            GeneralName::URI(uri) => Name::Uri(uri),
            GeneralName::DirectoryName(name) => {
                directory = parts(name);
                Name::Directory(&directory)
            }
            other => Name::Other(tag(other)),
        };
        self.allow_name(name, budget)
    }

    fn allow_name(&self, name: Name<'_>, budget: &mut Budget) -> bool {
        let cost = 1 + self.permitted.len() + self.excluded.len();
        let Some(left) = budget.checked_sub(cost) else { return false };
        *budget = left;
        let mut permitted = self.permitted.iter().filter(|base| base.is_kind_of(name)).peekable();
        let inside = permitted.peek().is_none() || permitted.any(|base| base.holds(name) == Some(true));
        let mut excluded = self.excluded.iter().filter(|base| base.is_kind_of(name));
        inside && excluded.all(|base| base.touches(name) == Some(false))
    }
}

impl Base {
    fn parse(name: &GeneralName<'_>) -> Option<Self> {
        Some(match name {
            GeneralName::DNSName(domain) => Self::Dns(domain.to_ascii_lowercase()),
            GeneralName::RFC822Name(base) => {
                let parts: Vec<_> = base.split('@').collect();
                let (host, local) = (*parts.last()?, &parts[..parts.len() - 1]);
                if host.is_empty() || local.len() > 1 || local.first().is_some_and(|local| local.is_empty()) {
                    return None;
                }
                Self::Email((*base).to_owned())
            }
            GeneralName::IPAddress(range) if matches!(range.len(), 8 | 32) => {
                let (address, mask) = range.split_at(range.len() / 2);
                let ones = mask.iter().map(|byte| byte.leading_ones()).take_while(|ones| *ones > 0);
                let prefix: u32 = ones.sum();
                let total: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
                if prefix != total {
                    return None; // RFC 4632: the ones of a mask stand together
                }
                Self::Ip(address.to_vec(), mask.to_vec())
            }
            GeneralName::URI(host) => Self::Uri(host.to_ascii_lowercase()),
            GeneralName::DirectoryName(name) => Self::Directory(parts(name)),
            GeneralName::IPAddress(_) | GeneralName::Invalid(..) => return None,
            other => Self::Other(tag(other)),
        })
    }

    fn is_kind_of(&self, name: Name<'_>) -> bool {
        match (self, name) {
            (Self::Dns(_), Name::Dns(_))
            | (Self::Email(_), Name::Email(_))
            | (Self::Ip(..), Name::Ip(_))
            | (Self::Uri(_), Name::Uri(_))
            | (Self::Directory(_), Name::Directory(_)) => true,
            (Self::Other(base), Name::Other(name)) => *base == name,
            _ => false,
        }
    }

    /// Whether everything that `name` stands for lies in this name space; `None` if that cannot be told.
    fn holds(&self, name: Name<'_>) -> Option<bool> {
        match (self, name) {
            (Self::Dns(base), Name::Dns(name)) => {
                let name = domain(name);
                match name.strip_prefix("*.") {
                    Some(parent) if !parent.contains('*') => {
                        Some(within(parent, base) || base.strip_prefix('.') == Some(parent))
                    }
                    None if !name.contains('*') => Some(within(&name, base)),
                    _ => None,
                }
            }
            (Self::Email(base), Name::Email(address)) => holds_address(base, address),
            (Self::Ip(base, mask), Name::Ip(address)) => {
                let masked = |(n, byte): (usize, &u8)| byte & mask[n] == base[n] & mask[n];
                match address.len() {
                    4 | 16 => Some(address.len() == base.len() && address.iter().enumerate().all(masked)),
                    _ => None,
                }
            }
            (Self::Uri(base), Name::Uri(uri)) => Some(is_host_in(&host(uri)?, base)),
            (Self::Directory(base), Name::Directory(name)) => Some(name.starts_with(base)),
            _ => None,
        }
    }

    /// Whether anything that `name` stands for lies in this name space; `None` if that cannot be told.
    fn touches(&self, name: Name<'_>) -> Option<bool> {
        match (self, name) {
            (Self::Dns(base), Name::Dns(name)) => {
                let (base, name) = (base.trim_start_matches('.'), domain(name));
                match name.strip_prefix("*.") {
                    // An asterisk stands for one label: `*.a` touches `b.a`, not `c.b.a`.
                    Some(parent) if !parent.contains('*') => {
                        let child = base.strip_suffix(parent).and_then(|label| label.strip_suffix('.'));
                        Some(within(parent, base) || child.is_some_and(|label| !label.contains('.')))
                    }
                    None if !name.contains('*') => Some(within(&name, base)),
                    _ => None,
                }
            }
            _ => self.holds(name),
        }
    }
}

/// A domain name in one case, without the dot of the root.
fn domain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether `name` is `base` or below it; if `base` has a leading dot, only below it.
fn within(name: &str, base: &str) -> bool {
    if base.is_empty() || base.starts_with('.') {
        return name.ends_with(base);
    }
    name.strip_suffix(base).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// For mail and URIs, a base without a leading dot means that one host.
fn is_host_in(host: &str, base: &str) -> bool {
    if base.starts_with('.') { host.ends_with(base) } else { host == base }
}

fn holds_address(base: &str, address: &str) -> Option<bool> {
    let (local, host) = address.split_once('@')?;
    if local.is_empty() || host.is_empty() || host.contains('@') {
        return None;
    }
    let host = domain(host);
    Some(match base.split_once('@') {
        Some((base_local, base_host)) => local == base_local && host == domain(base_host),
        None => is_host_in(&host, &domain(base)),
    })
}

/// The host of a URI; `None` if it has none that a name space could hold.
fn host(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    if authority.starts_with('[') {
        return None; // an IPv6 address
    }
    let host = authority.split(':').next()?;
    (!host.is_empty()).then(|| domain(host))
}

fn parts(name: &X509Name<'_>) -> Vec<Part> {
    let part = |attributes: Vec<&AttributeTypeAndValue<'_>>| {
        let mut part: Part = attributes.into_iter().map(comparable).collect();
        part.sort();
        part
    };
    name.iter_rdn().map(|rdn| part(rdn.iter().collect())).collect()
}

/// RFC 5280 section 7.1: texts are compared without regard to case, encoding or repeated spaces.
fn comparable(attribute: &AttributeTypeAndValue<'_>) -> (Vec<u8>, Vec<u8>) {
    let value = match attribute.as_str() {
        Ok(text) => text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ").into_bytes(),
        Err(_) => attribute.as_slice().to_vec(),
    };
    (attribute.attr_type().as_bytes().to_vec(), value)
}

fn bases(mut rest: &[u8]) -> Option<Vec<Base>> {
    let mut bases = Vec::new();
    while !rest.is_empty() {
        let (after, subtree) = Any::from_der(rest).ok()?;
        let (left, name) = GeneralName::from_der(subtree.data).ok()?;
        // Nothing follows the base: "minimum MUST be zero, and maximum MUST be absent".
        if subtree.tag() != Tag::Sequence || !left.is_empty() {
            return None;
        }
        bases.push(Base::parse(&name)?);
        rest = after;
    }
    (!bases.is_empty()).then_some(bases)
}

fn contents(der: &[u8], tag: Tag) -> Option<&[u8]> {
    match Any::from_der(der) {
        Ok(([], any)) if any.tag() == tag => Some(any.data),
        _ => None,
    }
}

/// The tags of RFC 5280's GeneralName.
fn tag(name: &GeneralName<'_>) -> u32 {
    match name {
        GeneralName::OtherName(..) => 0,
        GeneralName::RFC822Name(_) => 1,
        GeneralName::DNSName(_) => 2,
        GeneralName::X400Address(_) => 3,
        GeneralName::DirectoryName(_) => 4,
        GeneralName::EDIPartyName(_) => 5,
        GeneralName::URI(_) => 6,
        GeneralName::IPAddress(_) => 7,
        GeneralName::RegisteredID(_) => 8,
        GeneralName::Invalid(tag, _) => tag.0,
    }
}

#[cfg(test)]
mod tests;
