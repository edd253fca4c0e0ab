//! What keeps each published flaw out, and which test must fail without it. In the order of
//! `docs/flaws.md` and `docs/authority-attacks.md`, so far as a few words can take a fix out.

mod authority;
mod rooms;
mod spiffe;

use super::attacks::Out;

/// One way in which a fix can be taken out.
pub(super) struct Fix {
    /// The class of flaw, in a few words.
    pub(super) against: &'static str,
    /// What takes it out; several where one defence stands behind another.
    pub(super) out: &'static [Out],
    /// The package of the test.
    pub(super) package: &'static str,
    /// Where in the package: the suite, as cargo is asked for it.
    pub(super) suite: &'static [&'static str],
    /// The test that must fail then.
    pub(super) test: &'static str,
}

/// Every fix that can be taken out.
pub(super) fn all() -> impl Iterator<Item = &'static Fix> {
    spiffe::FIXES.iter().chain(rooms::FIXES).chain(authority::FIXES)
}
