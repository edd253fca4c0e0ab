//! `writ attest test`: attestation tests that administrators keep beside their entries.
//!
//! A file holds tests (`file`). Each is about facts that were recorded (`recorded`) or about something
//! that is started for it and that the agent here is asked about (`live`); which identities follow from the
//! facts is found by the agent's own matching (`entries`). `judge` compares, and is pure; `report` and
//! `junit` say it.

pub(crate) mod entries;
pub(crate) mod file;
pub(crate) mod judge;
pub(crate) mod junit;
pub(crate) mod live;
pub(crate) mod recorded;
pub(crate) mod report;
